/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "wait.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <unistd.h>

#include "dispatch.h"
#include "util/loop.h"
#include "util/macros.h"

/*
 * Rounds of submitting and reaping before the thread looks how its requests come.
 * libev's watchers get a turn unasked then, where the ring does not poll libev's
 * descriptor. Where it does, what shows there completes in the ring like any I/O,
 * in the order in which it came: each round enters the kernel, which runs what has
 * completed, and dispatches all that it found. So a full load keeps no watcher
 * from its turn.
 */
#define ROUNDS_PER_LOOK 64
/*
 * The same in time, whatever is polled. The reactor rests after a tick in which
 * nothing completed. Short enough for ev_timer, long enough to cost next to
 * nothing. A test that is to rest often has it shorter.
 */
#ifndef TICK_NS
#define TICK_NS 4000000
#endif
static const struct __kernel_timespec tick = { .tv_nsec = TICK_NS };

/* ---- a turn: submit, perhaps wait, dispatch what has completed --------------- */

static void on_tick(struct reactor *reactor)
{
	/* The tick before this one was a completion as well. */
	reactor->quiet = reactor->ring.cqes - reactor->tick_cqes <= 1;
	reactor->tick_cqes = reactor->ring.cqes;
	reactor->own_cqes++;
	reactor->ticking = false;
	reactor->loop_due = true;
}

static void on_loop(struct reactor *reactor, int result)
{
	reactor->own_cqes++;
	reactor->polled = false;
	reactor->loop_due = true;
	reactor->loop_ready = result > 0;
	/* A kernel that does not poll it: the clock must do. */
	if (result == -EINVAL || result == -EBADF || result == -EOPNOTSUPP || result == -EPERM)
		reactor->loop_fd = -1;
}

static void dispatch(struct reactor *reactor, const struct io_uring_cqe *cqe)
{
	void *whose = dispatch_pointer(cqe->user_data);

	if (cqe->user_data == DISPATCH_NOBODY)
		return;
	switch (dispatch_kind(cqe->user_data)) {
	case DISPATCH_IO:
		io_command_done(whose, cqe->res);
		break;
	case DISPATCH_PART:
		io_part_done(whose, cqe->res);
		break;
	case DISPATCH_REGISTER:
		io_registered(whose, cqe->res);
		break;
	case DISPATCH_UNREGISTER:
		io_unregister_failed(whose, cqe->res);
		break;
	case DISPATCH_LOOP:
		on_loop(reactor, cqe->res);
		break;
	case DISPATCH_TICK:
		on_tick(reactor);
		break;
	case DISPATCH_BATCH:
		batch_command_done(whose, cqe->res, cqe->flags);
		break;
	}
}

/*
 * What comes while these are dispatched is the next turn's, which will not wait.
 * io_uring_for_each_cqe() looks for the end again with each.
 */
static void reap(struct reactor *reactor)
{
	const struct io_uring_cq *cq = &reactor->ring.uring.cq;
	unsigned head = *cq->khead, n = io_uring_cq_ready(&reactor->ring.uring);

	reactor->burst = n;
	for (unsigned i = 0; i < n; i++)
		dispatch(reactor, &cq->cqes[(head + i) & cq->ring_mask]);
	io_uring_cq_advance(&reactor->ring.uring, n);
	reactor->ring.cqes += n;
}

static bool has_ended(const struct reactor *reactor)
{
	return reactor->error || reactor->stopping;
}

/* Buffers whose commit is in the kernel go to those who wait for one. */
static void release_buffers(struct reactor *reactor)
{
	struct queue *queue = reactor->due;

	reactor->due = NULL;
	while (queue) {
		struct queue *next_queue = queue->next_due;
		struct io *io = buffers_release(&queue->buffers);

		queue->due = false;
		queue = next_queue;
		while (io) {
			struct io *next = io->next;

			io_resume(io);
			io = next;
		}
	}
}

static void resume_parked(struct reactor *reactor)
{
	struct io *io = reactor->parked_first;

	reactor->parked_first = NULL;
	reactor->parked_last = &reactor->parked_first;
	while (io) {
		struct io *next = io->next;

		io_resume(io);
		io = next;
	}
}

/* Somebody waits for what becomes free with the next submit. */
static bool others_wait(const struct reactor *reactor)
{
	if (reactor->parked_first)
		return true;
	for (const struct queue *queue = reactor->due; queue; queue = queue->next_due) {
		if (buffers_due(&queue->buffers))
			return true;
	}
	return false;
}

/* A system call would move something on, without waiting. */
static bool needs_enter(struct reactor *reactor)
{
	return ring_needs_enter(&reactor->ring) || reactor->batches;
}

/* One system call: hands over what is queued, and waits if told to. */
static void enter(struct reactor *reactor, bool wait)
{
	unsigned answers = 0;
	int ret;

	if (reactor->batches) {
		answers = batches_give(&reactor->batches);
		wait = wait && !reactor->batches;
	}
	/* The answers are there at once and nothing to wait for: what counts is one more. */
	ret = wait ? ring_submit_and_wait(&reactor->ring, 1 + answers) :
		     ring_submit(&reactor->ring);

	if (ret && ret != -EAGAIN && ret != -EBUSY && ret != -EINTR && ret != -ENOMEM) {
		reactor_fail(reactor, ret, "the ring takes no more I/O");
		return;
	}
	if (reactor->due && !io_uring_sq_ready(&reactor->ring.uring))
		release_buffers(reactor);
	if (reactor->parked_first && !ret)
		resume_parked(reactor);
}

/*
 * Busy polling: submits, and looks for completions until there are some, or the
 * time for it is over and the thread is to sleep in the ring. What else may wake
 * it there shows here as well: it all completes in the ring.
 */
static bool found_by_looking(struct reactor *reactor)
{
	struct ring *ring = &reactor->ring;
	bool looked = false;

	if (needs_enter(reactor))
		enter(reactor, false);
	while (!io_uring_cq_ready(&ring->uring) && !others_wait(reactor) && !has_ended(reactor) &&
	       spin_on(&reactor->spin)) {
		looked = true;
		/* Work that only our enter can run. */
		if (needs_enter(reactor))
			enter(reactor, false);
	}
	if (!io_uring_cq_ready(&ring->uring))
		return has_ended(reactor);
	if (looked)
		reactor->spin.caught++;
	return true;
}

static void turn(struct reactor *reactor, bool wait)
{
	uint64_t arrived = reactor->arrived;

	if (!wait || reactor->spin.over || !found_by_looking(reactor))
		enter(reactor, wait && !others_wait(reactor));
	reap(reactor);
	if (reactor->arrived != arrived)
		reactor->arrivals++;
}

void wait_turn(struct reactor *reactor)
{
	turn(reactor, false);
}

/* ---- busy: the thread waits in the ring --------------------------------- */

/*
 * All that may wake it completes in the ring: I/O, a poll of libev's own
 * descriptor for the watchers, a clock for what shows on no descriptor and for
 * the end of the busy time.
 */
static void arm(struct reactor *reactor)
{
	struct io_uring_sqe *sqe;

	while (reactor->ring.room < 2 && !has_ended(reactor))
		turn(reactor, false);
	if (has_ended(reactor))
		return;
	if (!reactor->polled && reactor->loop_fd >= 0) {
		sqe = ring_sqe(&reactor->ring);
		/* Once: the next one looks first whether something is left. */
		io_uring_prep_poll_add(sqe, reactor->loop_fd, POLLIN);
		sqe->user_data = dispatch_to_reactor(reactor, DISPATCH_LOOP);
		reactor->polled = true;
	}
	if (!reactor->ticking) {
		sqe = ring_sqe(&reactor->ring);
		io_uring_prep_timeout(sqe, (struct __kernel_timespec *)(uintptr_t)&tick, 0, 0);
		sqe->user_data = dispatch_to_reactor(reactor, DISPATCH_TICK);
		reactor->ticking = true;
	}
}

/*
 * The watchers get their turn. What one of them starts or stops is known to
 * libev's poll only after another pass, which follows at once where a watcher
 * is known to have been served.
 */
static void pass(struct reactor *reactor)
{
	ev_run(reactor->loop, EVRUN_NOWAIT);
	if (reactor->loop_ready)
		ev_run(reactor->loop, EVRUN_NOWAIT);
	reactor_close_over(reactor);
	reactor->loop_due = reactor->loop_ready = false;
	schedule_adapt(&reactor->schedule, reactor->arrived, reactor->arrivals);
}

/* While the thread rests, a poll would add to the ring what it reports. */
static void take_poll_back(struct reactor *reactor)
{
	struct io_uring_sqe *sqe;

	while (!reactor->ring.room && !has_ended(reactor))
		turn(reactor, false);
	if (!reactor->polled || has_ended(reactor))
		return;
	sqe = ring_sqe(&reactor->ring);
	io_uring_prep_poll_remove(sqe, dispatch_to_reactor(reactor, DISPATCH_LOOP));
	sqe->user_data = DISPATCH_NOBODY;
	while (reactor->polled && !has_ended(reactor))
		turn(reactor, true);
}

static void look(struct reactor *reactor)
{
	if (reactor->loop_fd < 0)
		reactor->loop_due = true;
	else
		schedule_adapt(&reactor->schedule, reactor->arrived, reactor->arrivals);
}

static void wait_in_ring(struct reactor *reactor)
{
	unsigned rounds = 0;

	reactor->quiet = false;
	reactor->loop_due = true;
	while (!(reactor->quiet && reactor->spin.over) && !has_ended(reactor)) {
		if (++rounds == ROUNDS_PER_LOOK) {
			look(reactor);
			rounds = 0;
		}
		if (reactor->loop_due) {
			pass(reactor);
			arm(reactor);
			rounds = 0;
		}
		if (spin_limit(&reactor->spin))
			spin_again(&reactor->spin, reactor->ring.cqes - reactor->own_cqes);
		/* Not where arm() found the ring broken: nothing would end the wait. */
		turn(reactor, !has_ended(reactor));
	}
	take_poll_back(reactor);
}

static void be_busy(struct reactor *reactor)
{
	int ret;

	/* Where that fails the eventfd is signalled in vain, at some cost. */
	ring_notify(&reactor->ring, false);
	/* What woke the thread comes first. */
	turn(reactor, false);
	do {
		wait_in_ring(reactor);
		/* EBUSY: it is on. Else, such as without memory, there is no rest yet. */
		ret = ring_notify(&reactor->ring, true);
	} while (ret && ret != -EBUSY && !has_ended(reactor));
	/* See before_rest(). */
	atomic_thread_fence(memory_order_seq_cst);
	if (!has_ended(reactor))
		turn(reactor, false);
}

/* ---- resting: the thread sleeps in libev's poll ---------------------------- */

static bool has_work(struct reactor *reactor)
{
	return ring_has_work(&reactor->ring) || others_wait(reactor) || reactor->batches ||
	       reactor->over;
}

/*
 * libev calls this right before it waits. The thread may sleep in libev's
 * poll only when every completion that is still to come will make the eventfd
 * readable. That holds because
 *
 *  - the SQ is empty: what completions queued was submitted while busy, and
 *    what a watcher of this pass queued is seen here;
 *  - be_busy() registers the eventfd first, then enters the ring once more
 *    behind a full fence, and what that left or ran into is seen here. What
 *    comes so late that neither found it signals the eventfd, or ends the poll;
 *    why, depends on how it comes:
 *
 *    Work for our enter alone (DEFER_TASKRUN): all that completes. The kernel
 *    adds it to its list by an atomic exchange before it looks for an eventfd.
 *    So either it sees the eventfd and signals it, or the enter sees the work.
 *    It signals only when it adds to an empty list, which is why there must be
 *    nothing at all, not just no CQE; with TASKRUN_FLAG it shows in the SQ
 *    ring's flags that there is work, so has_work() sees it.
 *
 *    Work for the thread in whatever it does in the kernel next (the other
 *    modes: polls, timers, commands to the driver). The kernel looks for no
 *    eventfd when it adds this; it marks the thread as one with a signal. With
 *    COOP_TASKRUN either the flag of TASKRUN_FLAG is seen here, or the mark
 *    comes later; without it the thread is interrupted wherever it is. In the
 *    poll a mark lets nobody sleep: the work runs on the way out, which has the
 *    CQE posted and the eventfd signalled by ourselves, and rest() looks again.
 *
 *    A CQE that another thread posts (the other modes: a worker of io-wq, who
 *    sends from another ring). The kernel stores the CQ's tail, has a full
 *    barrier behind that, which it needs itself to look for who waits
 *    (wq_has_sleeper() in io_cqring_wake()), and then looks for an eventfd. We
 *    register, have the fence, and then look at the tail. So one of the two
 *    sees what the other did.
 *
 * The eventfd counter is level-triggered for the poll, so a signal that came
 * while the watchers ran is not lost either. If there is work, be_busy() does
 * it; a flag that stays behind with no work costs no more than two ticks there.
 */
static void before_rest(struct ev_loop *loop, ev_prepare *watcher, int events)
{
	struct reactor *reactor = container_of(watcher, struct reactor, before_rest);

	(void)events;
	if (!reactor->resting)
		return;
	/* An active idle watcher keeps libev from waiting. */
	if (has_work(reactor))
		ev_idle_start(loop, &reactor->keep_going);
	else
		ev_idle_stop(loop, &reactor->keep_going);
}

/* Until there is something in the ring. */
static void rest(struct reactor *reactor)
{
	reactor->resting = true;
	while (!has_work(reactor) && !has_ended(reactor))
		ev_run(reactor->loop, EVRUN_ONCE);
	reactor->resting = false;
	ev_idle_stop(reactor->loop, &reactor->keep_going);
}

/* It has woken the thread, which is all: rest() sees what there is. */
static void on_ring(struct ev_loop *loop, ev_io *watcher, int events)
{
	uint64_t count;

	(void)loop;
	(void)events;
	if (read(watcher->fd, &count, sizeof(count)) < 0)
		return;
}

static void keep_going(struct ev_loop *loop, ev_idle *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
}

void wait_start(struct reactor *reactor)
{
	reactor->loop_fd = loop_fd(reactor->loop);
	reactor->loop_not_polled = reactor->loop_fd < 0;
	ev_io_init(&reactor->on_ring, on_ring, reactor->ring.event_fd, EV_READ);
	ev_io_start(reactor->loop, &reactor->on_ring);
	/* Behind other such watchers, which may queue I/O. */
	ev_prepare_init(&reactor->before_rest, before_rest);
	ev_set_priority(&reactor->before_rest, EV_MINPRI);
	ev_prepare_start(reactor->loop, &reactor->before_rest);
	ev_idle_init(&reactor->keep_going, keep_going);
	schedule_open(&reactor->schedule, reactor->schedule_adapts);
	spin_open(&reactor->spin, reactor->poll_ns);
	loop_rest_undisturbed(reactor->loop, &reactor->far);
}

void wait_serve(struct reactor *reactor)
{
	while (!has_ended(reactor)) {
		be_busy(reactor);
		rest(reactor);
	}
	schedule_close(&reactor->schedule);
}
