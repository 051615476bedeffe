/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An io_uring and the eventfd that libev watches for it. Everything here
 * belongs to the thread that opened the ring.
 */
#ifndef RING_H
#define RING_H

#include <assert.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* How the kernel runs a request's completion work in the ring's thread. */
enum ring_mode {
	RING_AUTO,  /* the first of the following that the kernel takes */
	RING_DEFER, /* IORING_SETUP_DEFER_TASKRUN: inside our own io_uring_enter (6.1) */
	RING_COOP,  /* IORING_SETUP_COOP_TASKRUN: at the next system call (5.19) */
	RING_PLAIN, /* at once, by interrupting the thread */
};

/*
 * The memory of SQEs is in two parts, to which the SQ's index array points:
 * one that is used in turn, and behind it slots that belong to somebody.
 */
struct ring {
	struct io_uring uring;
	enum ring_mode mode; /* as granted, never RING_AUTO */
	int event_fd;
	unsigned sqes;       /* used in turn */
	unsigned next;       /* of these */
	unsigned room;       /* how many more can be queued before a submit */
	unsigned own;        /* slots behind them, for ring_sqe_own() */
	unsigned large;      /* 1: SQEs are of 128 bytes (SQE128), 0: of 64 */
	unsigned enter_flags; /* of each enter, IORING_ENTER_* */
	uint64_t enters;     /* system calls made to submit or to fetch completions */
	uint64_t cqes;
};

/*
 * sqes: most SQEs that are queued between two submits. own: slots for
 * ring_sqe_own(). extra_flags: IORING_SETUP_* that must be granted, SQE128
 * for example. Returns -errno with nothing left open.
 */
int ring_open(struct ring *ring, unsigned sqes, unsigned own, enum ring_mode mode,
	      unsigned extra_flags);
void ring_close(struct ring *ring);
const char *ring_mode_name(enum ring_mode mode);

/* For the two below: the SQE at this index of the memory becomes the SQ's next entry. */
static inline struct io_uring_sqe *ring_sqe_at(struct ring *ring, unsigned index)
{
	struct io_uring_sq *sq = &ring->uring.sq;
	struct io_uring_sqe *sqe = &sq->sqes[index << ring->large];

	assert(ring->room);
	ring->room--;
	sq->array[sq->sqe_tail++ & sq->ring_mask] = index;
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

/* A cleared SQE; there must be room. */
static inline struct io_uring_sqe *ring_sqe(struct ring *ring)
{
	unsigned index = ring->next;

	ring->next = index + 1 < ring->sqes ? index + 1 : 0;
	return ring_sqe_at(ring, index);
}

/*
 * The same in a slot, 0…own-1, that nobody else uses. For a URING_CMD behind
 * a link: io_uring of Linux 6.10 to 6.14 reads such a command from the SQE
 * when its turn comes, long after the submit (io_uring_cmd_prep_setup() of
 * io_uring/uring_cmd.c does not copy it), and would find whatever SQE took
 * its place: another tag's command. The slot is free again when the chain
 * has posted its completion.
 */
static inline struct io_uring_sqe *ring_sqe_own(struct ring *ring, unsigned slot)
{
	assert(slot < ring->own);
	return ring_sqe_at(ring, ring->sqes + slot);
}

/*
 * Hands the queued SQEs to the kernel and lets pending completion work run.
 * Does not wait. 0, or -errno: -EAGAIN, -EBUSY, -EINTR and -ENOMEM leave the
 * SQEs queued for a later call, others mean that the ring is of no use.
 */
int ring_submit(struct ring *ring);
/* The same, and waits until there are so many completions. */
int ring_submit_and_wait(struct ring *ring, unsigned completions);
/* Something that ring_submit() would move on. */
bool ring_needs_enter(struct ring *ring);
/* Something that ring_submit() or reaping would move on. */
bool ring_has_work(struct ring *ring);

/*
 * Commands that select a buffer of this group have these, whose number is a
 * power of two; at page-aligned memory, theirs until it is taken back or the
 * ring is closed. 0 or -errno.
 */
int ring_lend(struct ring *ring, unsigned group, struct io_uring_buf_ring *buffers,
	      unsigned entries);
void ring_take_back(struct ring *ring, unsigned group);

/*
 * Whether new completions make the eventfd readable; at first they do. 0 or
 * -errno (ENOMEM), which leaves it as it was. A system call: a mere flag for
 * the kernel (io_uring_cq_eventfd_toggle) costs 1 % of the CPU of each I/O at
 * depth 1, as the kernel gets as far as the eventfd several times for it.
 */
int ring_notify(struct ring *ring, bool on);

#endif
