/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "ring.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/macros.h"

/* Linux 6.15. */
#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7)
#endif
#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17)
#endif

/*
 * TASKRUN_FLAG makes the kernel show in the SQ ring's flags that completion
 * work waits for an enter; without it a thread cannot tell an idle ring from
 * one that it must enter before it may sleep.
 */
static const unsigned mode_flags[] = {
	[RING_DEFER] = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
		       IORING_SETUP_TASKRUN_FLAG,
	[RING_COOP] = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	[RING_PLAIN] = 0,
};

const char *ring_mode_name(enum ring_mode mode)
{
	static const char *const names[] = { "auto", "defer", "coop", "plain" };

	return names[mode];
}

/*
 * By hand, as io_uring_queue_init_params() of newer liburing does without the
 * SQ's index array where the kernel can; ring_sqe_at() needs it. Older ones set
 * the descriptors and flags themselves.
 */
static int open_uring(struct ring *ring, unsigned sqes, enum ring_mode mode, unsigned extra_flags)
{
	struct io_uring_params params = { .flags = mode_flags[mode] | extra_flags };
	int fd = (int)syscall(__NR_io_uring_setup, sqes, &params);
	int ret;

	if (fd < 0)
		return -errno;
	ret = io_uring_queue_mmap(fd, &params, &ring->uring);
	if (ret) {
		close(fd);
		return ret;
	}
	ring->uring.ring_fd = ring->uring.enter_ring_fd = fd;
	ring->uring.flags = params.flags;
	ring->uring.features = params.features;
	ring->mode = mode;
	ring->large = !!(params.flags & IORING_SETUP_SQE128);
	return 0;
}

int ring_open(struct ring *ring, unsigned sqes, unsigned own, enum ring_mode mode,
	      unsigned extra_flags)
{
	int ret;

	*ring = (struct ring){ .event_fd = -1, .sqes = sqes, .room = sqes, .own = own };
	if (mode == RING_AUTO) {
		ret = -EINVAL;
		for (mode = RING_DEFER; ret == -EINVAL && mode <= RING_PLAIN; mode++)
			ret = open_uring(ring, sqes + own, mode, extra_flags);
	} else {
		ret = open_uring(ring, sqes + own, mode, extra_flags);
	}
	if (ret)
		return ret;
	ring->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ret = ring->event_fd < 0 ? -errno :
				   io_uring_register_eventfd(&ring->uring, ring->event_fd);
	if (ret) {
		ring_close(ring);
		return ret;
	}
	io_uring_ring_dontfork(&ring->uring);
	ring->enter_flags = IORING_ENTER_GETEVENTS;
	/* Saves the kernel a look-up with each enter; where it does not know that, nothing is lost. */
	if (io_uring_register_ring_fd(&ring->uring) == 1)
		ring->enter_flags |= IORING_ENTER_REGISTERED_RING;
	/*
	 * The thread waits for requests more than for a disk. As time for I/O it would
	 * show in iowait and in the pressure of its group (PSI) while nobody waits.
	 */
	if (ring->uring.features & IORING_FEAT_NO_IOWAIT)
		ring->enter_flags |= IORING_ENTER_NO_IOWAIT;
	return 0;
}

void ring_close(struct ring *ring)
{
	if (ring->event_fd >= 0)
		close(ring->event_fd);
	io_uring_queue_exit(&ring->uring);
	ring->event_fd = -1;
}

/*
 * The kernel adds work first and sets TASKRUN then. If we ran the work in
 * between, the flag stays behind with nothing to run, and no enter clears it:
 * a thread that believed it would spin until the next I/O. So it is cleared
 * by a submit that does not wait, which is about to run everything that it can
 * stand for. The kernel sets it again for what comes later and for what it
 * leaves, and never reads it.
 */
static void clear_taskrun(struct ring *ring)
{
	if (__atomic_load_n(ring->uring.sq.kflags, __ATOMIC_RELAXED) & IORING_SQ_TASKRUN)
		__atomic_fetch_and(ring->uring.sq.kflags, ~IORING_SQ_TASKRUN, __ATOMIC_SEQ_CST);
}

/* liburing's ways to submit know nothing of newer flags, and take longer over the others. */
static int enter(struct ring *ring, unsigned completions)
{
	struct io_uring_sq *sq = &ring->uring.sq;
	unsigned queued = sq->sqe_tail - *sq->khead;
	int ret = 0;

	ring->enters++;
	/* What the kernel reads it reads in our system call: the compiler must keep the order. */
	__atomic_store_n(sq->ktail, sq->sqe_tail, __ATOMIC_RELEASE);
	if (syscall(__NR_io_uring_enter, ring->uring.enter_ring_fd, queued, completions,
		    ring->enter_flags, NULL, 0) < 0)
		ret = -errno;
	ring->room = ring->sqes - (sq->sqe_tail - *sq->khead);
	return ret;
}

int ring_submit(struct ring *ring)
{
	clear_taskrun(ring);
	return enter(ring, 0);
}

int ring_submit_and_wait(struct ring *ring, unsigned completions)
{
	return enter(ring, completions);
}

bool ring_needs_enter(struct ring *ring)
{
	/* CQ_OVERFLOW: completions the kernel keeps until we enter. */
	const unsigned waiting = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;

	return io_uring_sq_ready(&ring->uring) ||
	       (__atomic_load_n(ring->uring.sq.kflags, __ATOMIC_RELAXED) & waiting);
}

bool ring_has_work(struct ring *ring)
{
	return ring_needs_enter(ring) || io_uring_cq_ready(&ring->uring);
}

int ring_lend(struct ring *ring, unsigned group, struct io_uring_buf_ring *buffers,
	      unsigned entries)
{
	struct io_uring_buf_reg reg = {
		.ring_addr = (uintptr_t)buffers,
		.ring_entries = entries,
		.bgid = (uint16_t)group,
	};

	return io_uring_register_buf_ring(&ring->uring, &reg, 0);
}

void ring_take_back(struct ring *ring, unsigned group)
{
	io_uring_unregister_buf_ring(&ring->uring, (int)group);
}

int ring_notify(struct ring *ring, bool on)
{
	return on ? io_uring_register_eventfd(&ring->uring, ring->event_fd) :
		    io_uring_unregister_eventfd(&ring->uring);
}
