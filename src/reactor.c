/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "reactor.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "dispatch.h"
#include "util/macros.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/* Rounds of submitting and reaping before libev's other watchers get a turn. */
#define ROUNDS_PER_PASS 64

#define MAX_SQES 32768u /* IORING_MAX_ENTRIES */

/* ---- the ring ----------------------------------------------------------- */

static void dispatch(struct reactor *reactor, const struct io_uring_cqe *cqe)
{
	void *whose = dispatch_pointer(cqe->user_data);

	(void)reactor;
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
	}
}

static void reap(struct reactor *reactor)
{
	struct io_uring_cqe *cqes[64];
	unsigned n;

	while ((n = io_uring_peek_batch_cqe(&reactor->ring.uring, cqes, ARRAY_SIZE(cqes)))) {
		reactor->burst = n;
		for (unsigned i = 0; i < n; i++)
			dispatch(reactor, cqes[i]);
		io_uring_cq_advance(&reactor->ring.uring, n);
		reactor->ring.cqes += n;
	}
}

/* Buffers whose commit is in the kernel go to those who wait for one. */
static void release_buffers(struct reactor *reactor)
{
	for (unsigned q = 0; q < reactor->nr_queues; q++) {
		struct io *io = buffers_release(&reactor->queues[q]->buffers);

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

static void submit(struct reactor *reactor)
{
	int ret = ring_submit(&reactor->ring);

	if (ret && ret != -EAGAIN && ret != -EBUSY && ret != -EINTR && ret != -ENOMEM) {
		reactor_fail(reactor, ret, "the ring takes no more I/O");
		return;
	}
	if (!io_uring_sq_ready(&reactor->ring.uring))
		release_buffers(reactor);
	if (!ret)
		resume_parked(reactor);
}

static bool has_work(struct reactor *reactor)
{
	return !reactor->error && (ring_has_work(&reactor->ring) || reactor->parked_first);
}

/*
 * libev calls this right before it waits. The thread may sleep in libev's
 * poll only when every completion that is still to come will make the eventfd
 * readable. That holds because
 *
 *  - the SQ is empty: all that was queued, by completions here or by any
 *    other watcher of this pass, is submitted before the last check;
 *  - with TASKRUN_FLAG the kernel shows completion work that only our enter
 *    can run (without these ring modes it runs by itself), so has_work() sees
 *    it although no CQE exists yet;
 *  - notification is switched on first and the rings are looked at again
 *    behind a full fence. Work that the kernel added before it could see the
 *    switch is seen by that second look; work it adds afterwards signals the
 *    eventfd. The kernel signals only when it adds to an empty list, which is
 *    why the second look must find nothing at all, not just no CQE.
 *
 * The eventfd counter is level-triggered for the poll, so a signal that came
 * while the watchers ran is not lost either.
 */
static void before_wait(struct ev_loop *loop, ev_prepare *watcher, int events)
{
	struct reactor *reactor = container_of(watcher, struct reactor, before_wait);

	(void)events;
	ring_notify(&reactor->ring, false);
	for (unsigned round = 0; round < ROUNDS_PER_PASS; round++) {
		if (!has_work(reactor)) {
			ring_notify(&reactor->ring, true);
			atomic_thread_fence(memory_order_seq_cst);
			if (!has_work(reactor)) {
				ev_idle_stop(loop, &reactor->keep_going);
				return;
			}
			ring_notify(&reactor->ring, false);
		}
		if (ring_needs_enter(&reactor->ring) || reactor->parked_first)
			submit(reactor);
		reap(reactor);
	}
	/* An active idle watcher makes libev look at the others without waiting. */
	ev_idle_start(loop, &reactor->keep_going);
}

static void on_ring(struct ev_loop *loop, ev_io *watcher, int events)
{
	uint64_t count;

	(void)loop;
	(void)events;
	/* before_wait() does the work; nothing to read is fine. */
	if (read(watcher->fd, &count, sizeof(count)) < 0)
		return;
}

static void keep_going(struct ev_loop *loop, ev_idle *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
}

/* ---- services to io.c ----------------------------------------------------- */

void reactor_park(struct reactor *reactor, struct io *io)
{
	io->next = NULL;
	*reactor->parked_last = io;
	reactor->parked_last = &io->next;
}

void reactor_tag_ended(struct reactor *reactor, struct queue *queue)
{
	if (++queue->ended == queue->shape->depth &&
	    ++reactor->queues_ended == reactor->nr_queues)
		ev_break(reactor->loop, EVBREAK_ALL);
}

void reactor_fail(struct reactor *reactor, int error, const char *format, ...)
{
	size_t used;
	va_list args;

	if (reactor->error)
		return;
	va_start(args, format);
	vsnprintf(reactor->error_text, sizeof(reactor->error_text), format, args);
	va_end(args);
	used = strlen(reactor->error_text);
	snprintf(reactor->error_text + used, sizeof(reactor->error_text) - used, ": %s",
		 strerror(-error));
	reactor->error = error;
	if (reactor->loop)
		ev_break(reactor->loop, EVBREAK_ALL);
}

static void failure_delivered(struct message *message)
{
	struct queue_failure *failure = container_of(message, struct queue_failure, message);

	failure->queue->reactor->on_failure(failure);
	atomic_store_explicit(&failure->busy, false, memory_order_release);
}

void reactor_report_failure(struct queue *queue, const struct ublkd_io *io, int error)
{
	struct queue_failure *failure = &queue->failure;

	if (atomic_load_explicit(&failure->busy, memory_order_acquire)) {
		queue->unreported++;
		return;
	}
	atomic_store_explicit(&failure->busy, true, memory_order_relaxed);
	failure->queue = queue;
	failure->op = io->op;
	failure->length = io->length;
	failure->offset = io->offset;
	failure->error = error;
	failure->unreported = queue->unreported;
	queue->unreported = 0;
	failure->message.deliver = failure_delivered;
	mailbox_post(queue->reactor->main_box, &failure->message);
}

/* ---- orders from the main thread ------------------------------------------ */

static void on_drain(struct message *message)
{
	struct reactor *reactor = container_of(message, struct reactor, drain);

	reactor->draining = true;
	for (unsigned q = 0; q < reactor->nr_queues; q++) {
		struct queue *queue = reactor->queues[q];

		for (unsigned tag = 0; tag < queue->shape->depth; tag++)
			io_cancel(&queue->ios[tag]);
	}
}

static void stats_delivered(struct message *message)
{
	struct reactor *reactor = container_of(message, struct reactor, stats);

	reactor->stats_due = false;
	reactor->on_stats(reactor);
}

/* By the reactor when it is asked, by the main thread when the reactor has ended. */
static void copy_stats(struct reactor *reactor)
{
	for (unsigned q = 0; q < reactor->nr_queues; q++)
		reactor->queues[q]->stats_copy = reactor->queues[q]->stats;
	reactor->stats_enters = reactor->ring.enters;
	reactor->stats_cqes = reactor->ring.cqes;
}

static void on_stats(struct message *message)
{
	struct reactor *reactor = container_of(message, struct reactor, stats);

	copy_stats(reactor);
	reactor->stats.deliver = stats_delivered;
	mailbox_post(reactor->main_box, &reactor->stats);
}

void reactor_drain(struct reactor *reactor)
{
	reactor->drain.deliver = on_drain;
	mailbox_post(&reactor->inbox, &reactor->drain);
}

void reactor_ask_stats(struct reactor *reactor)
{
	if (reactor->stats_due)
		return;
	reactor->stats_due = true;
	reactor->stats.deliver = on_stats;
	mailbox_post(&reactor->inbox, &reactor->stats);
}

/* ---- the thread ------------------------------------------------------------ */

static int register_files(struct reactor *reactor)
{
	const struct queue_shape *shape = reactor->queues[0]->shape;
	unsigned nr_files = shape->target->nr_files;
	int fds[2 + UBLKD_TARGET_FILES] = { shape->char_fd };

	memcpy(&fds[1], shape->target->files, sizeof(shape->target->files));
	fds[1 + nr_files] = reactor->zero_fd;
	for (unsigned q = 0; q < reactor->nr_queues; q++) {
		reactor->queues[q]->file_base = 0;
		reactor->queues[q]->zero_file = 1 + nr_files;
	}
	return io_uring_register_files(&reactor->ring.uring, fds, 2 + nr_files);
}

/* A table with a slot for each tag, which the requests' pages come and go from. */
static int register_buffer_table(struct reactor *reactor, unsigned tags)
{
	if (!data_mode_zero_copy(reactor->queues[0]->shape->data))
		return 0;
	return io_uring_register_buffers_sparse(&reactor->ring.uring, tags);
}

static int open_ring(struct reactor *reactor)
{
	unsigned tags = 0, kept;
	int ret;

	for (unsigned q = 0; q < reactor->nr_queues; q++) {
		reactor->queues[q]->slot_base = tags;
		tags += reactor->queues[q]->shape->depth;
	}
	/*
	 * A request's SQE and its commit must fit for each tag at once, and
	 * each commit that is linked has an SQE of its own. Without room for
	 * these, nothing is linked.
	 */
	kept = tags <= MAX_SQES / 2 ? tags : 0;
	ret = ring_open(&reactor->ring, MIN(MAX(2 * tags, 64u), MAX_SQES - kept), kept,
			reactor->ring_mode, 0);
	if (ret) {
		reactor_fail(reactor, ret, "cannot make an io_uring (mode %s)",
			     ring_mode_name(reactor->ring_mode));
		return ret;
	}
	ret = register_files(reactor);
	if (ret)
		reactor_fail(reactor, ret, "cannot register the files with the ring");
	if (!ret) {
		ret = register_buffer_table(reactor, tags);
		if (ret)
			reactor_fail(reactor, ret, "cannot make a table of %u buffers in the ring",
				     tags);
	}
	if (ret)
		ring_close(&reactor->ring);
	return ret;
}

static int open_queues(struct reactor *reactor)
{
	for (unsigned q = 0; q < reactor->nr_queues; q++) {
		const char *what;
		int ret = queue_open(reactor->queues[q], &what);

		if (ret) {
			reactor_fail(reactor, ret, "queue %u: cannot %s", reactor->queues[q]->id,
				     what);
			return ret;
		}
	}
	return 0;
}

static void fetch_all(struct reactor *reactor)
{
	for (unsigned q = 0; q < reactor->nr_queues; q++) {
		struct queue *queue = reactor->queues[q];

		for (unsigned tag = 0; tag < queue->shape->depth; tag++) {
			while (!ring_room(&reactor->ring) && !reactor->error)
				submit(reactor);
			if (reactor->error)
				return;
			io_fetch(&queue->ios[tag]);
		}
	}
	submit(reactor);
	/* A FETCH that the driver refuses completes at once. */
	reap(reactor);
}

static void started_delivered(struct message *message)
{
	struct reactor *reactor = container_of(message, struct reactor, started);

	reactor->on_started(reactor);
}

static void ended_delivered(struct message *message)
{
	struct reactor *reactor = container_of(message, struct reactor, ended);

	reactor->on_ended(reactor);
}

static void serve(struct reactor *reactor)
{
	ev_io_init(&reactor->on_ring, on_ring, reactor->ring.event_fd, EV_READ);
	ev_io_start(reactor->loop, &reactor->on_ring);
	ev_prepare_init(&reactor->before_wait, before_wait);
	ev_prepare_start(reactor->loop, &reactor->before_wait);
	ev_idle_init(&reactor->keep_going, keep_going);
	mailbox_start(&reactor->inbox, reactor->loop);
	fetch_all(reactor);
	reactor->started.deliver = started_delivered;
	mailbox_post(reactor->main_box, &reactor->started);
	if (!reactor->error && reactor->queues_ended < reactor->nr_queues)
		ev_run(reactor->loop, 0);
	mailbox_stop(&reactor->inbox, reactor->loop);
}

static void *reactor_main(void *arg)
{
	struct reactor *reactor = arg;

	pthread_setname_np(pthread_self(), reactor->name);
	/* Memory reclaim on this thread must not wait for the device it serves. */
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
		reactor->io_flusher_error = errno;
	reactor->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
	reactor->zeros = mmap(NULL, REACTOR_ZEROS, PROT_READ,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	reactor->zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	if (!reactor->loop || reactor->zeros == MAP_FAILED || reactor->zero_fd < 0) {
		reactor_fail(reactor, -errno, "cannot make the event loop or open '/dev/zero'");
	} else if (!open_ring(reactor)) {
		if (!open_queues(reactor))
			serve(reactor);
		/*
		 * The ring first: closing it is what gives up commands that
		 * still refer to the descriptors and the buffers.
		 */
		ring_close(&reactor->ring);
	}
	for (unsigned q = 0; q < reactor->nr_queues; q++)
		queue_close(reactor->queues[q]);
	if (reactor->zeros && reactor->zeros != MAP_FAILED)
		munmap((void *)(uintptr_t)reactor->zeros, REACTOR_ZEROS);
	if (reactor->zero_fd >= 0)
		close(reactor->zero_fd);
	if (reactor->loop)
		ev_loop_destroy(reactor->loop);
	reactor->ended.deliver = ended_delivered;
	mailbox_post(reactor->main_box, &reactor->ended);
	return NULL;
}

int reactor_start(struct reactor *reactor)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int ret;

	reactor->parked_last = &reactor->parked_first;
	ret = mailbox_open(&reactor->inbox);
	if (ret)
		return ret;
	pthread_attr_init(&attr);
	if (CPU_COUNT(&reactor->cpus))
		pthread_attr_setaffinity_np(&attr, sizeof(reactor->cpus), &reactor->cpus);
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = -pthread_create(&reactor->thread, &attr, reactor_main, reactor);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (ret)
		mailbox_close(&reactor->inbox);
	reactor->running = !ret;
	return ret;
}

void reactor_join(struct reactor *reactor)
{
	pthread_join(reactor->thread, NULL);
	copy_stats(reactor);
	mailbox_close(&reactor->inbox);
	reactor->running = false;
}
