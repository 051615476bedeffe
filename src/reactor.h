/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A reactor: one thread, one io_uring, one libev loop, and the queues that it
 * serves at the time, of one device or of many. Everything of its queues is
 * its own; no lock is taken and nothing is allocated on the I/O path. The main
 * thread and the reactor talk through mailboxes.
 */
#ifndef REACTOR_H
#define REACTOR_H

#include <ev.h>
#include <pthread.h>
#include <sched.h>

#include "queue.h"
#include "ring.h"
#include "schedule.h"
#include "spin.h"
#include "util/mailbox.h"
#include "util/ranges.h"

#define REACTOR_ZEROS (1u << 20)

#define REACTOR_MOST_BUFFERS 16384u /* IORING_MAX_REG_BUFFERS, of a ring */

/* What a ring is made for; without room in it requests wait, or go another way. */
struct reactor_size {
	unsigned sqes;    /* most that are queued between two submits */
	unsigned own;     /* tags whose commit may be linked, see ring_sqe_own() */
	unsigned files;   /* slots; queues without use plain descriptors */
	unsigned buffers; /* slots; zero copy takes one for each tag */
};

struct reactor {
	/* Set by the main thread before reactor_start(), constant then. */
	char name[16];          /* of the thread */
	cpu_set_t cpus;         /* where it may run; empty: anywhere */
	enum ring_mode ring_mode;
	bool schedule_adapts;
	uint64_t poll_ns;       /* see spin.h */
	bool one_device;        /* all queues are of one, and end together */
	struct reactor_size size;
	struct mailbox *main_box;
	/* On the main thread. started: error says whether; ended: its last word. */
	void (*on_started)(struct reactor *reactor);
	void (*on_ended)(struct reactor *reactor);

	/* The reactor's. */
	pthread_t thread;
	struct ev_loop *loop;
	struct ring ring;
	struct queue *queues;
	struct queue *over;     /* whose tags have all ended, to be closed in a pass */
	struct queue *due;      /* to which buffers were returned since the last submit */
	struct batch *batches;  /* with something for the driver */
	struct io *parked_first, **parked_last; /* wait for room in the ring */
	struct ranges own, files, buffers, groups; /* free slots, numbers of buffer groups */
	bool with_files;        /* there is a table of files, */
	bool with_buffers;      /* and one of buffers */
	bool with_ring;
	const void *zeros;      /* REACTOR_ZEROS bytes, read-only */
	int zero_fd;            /* /dev/zero, for pages that only the ring reaches */
	unsigned burst;         /* completions that came at once, this time */
	bool stopping;

	/* wait.c's. */
	int loop_fd;            /* readable when the loop has something, -1: none */
	ev_io on_ring;
	ev_prepare before_rest;
	ev_idle keep_going;
	ev_periodic far;
	bool resting;           /* in libev's poll, not in the ring */
	bool polled, ticking;   /* SQEs on loop_fd and of the clock are in the ring */
	bool loop_due;          /* the loop's watchers are to have a turn, */
	bool loop_ready;        /* as one of them has something */
	bool quiet;             /* nothing came since the last tick */
	uint64_t tick_cqes;     /* ring.cqes then */
	uint64_t own_cqes;      /* of ring.cqes, those of the clock and of loop_fd */
	uint64_t arrived;       /* requests, all in all; counted by io.c */
	uint64_t arrivals;      /* turns that brought any */
	struct schedule schedule;
	struct spin spin;

	/* Written before started or ended is posted, read when it is delivered. */
	int error;              /* -errno, 0: none */
	char error_text[160];
	bool loop_not_polled;   /* libev's descriptor cannot be had */

	/* Orders to the reactor and reports from it. */
	struct mailbox inbox;
	struct message started, ended, stop;
	bool running;           /* main: from reactor_start() until reactor_join() */
	bool stop_asked;        /* main */
};

/* main. Starts the thread; on_started and on_ended follow. 0 or -errno. */
int reactor_start(struct reactor *reactor);
/* main: ends the thread; no queue is attached. May be called again. */
void reactor_stop(struct reactor *reactor);
/* main, once on_ended was called, or is sure to be. */
void reactor_join(struct reactor *reactor);

/* main, while it runs: as poll_ns and cpus are before the start. */
void reactor_set_poll(struct reactor *reactor, uint64_t poll_ns);
int reactor_set_cpus(struct reactor *reactor, const cpu_set_t *cpus);

/*
 * main: the reactor fetches all tags of the queue, whose id and shape are set,
 * and serves it until the device is stopped. on_attached and on_ended follow,
 * whatever happens, also where the reactor has ended.
 */
void reactor_attach(struct reactor *reactor, struct queue *queue);
/*
 * main, of a queue that was attached: fails all its requests from now on and
 * cancels what is in the ring. on_drained follows.
 */
void reactor_drain(struct queue *queue);
/*
 * main, of a queue that was attached, one at a time: it goes by this size from
 * now on. on_resized follows: what the main thread wrote before is seen by every
 * submit() that begins then, and those that began before have returned.
 */
void reactor_resize(struct queue *queue, uint64_t size);
/* main: on_stats follows, if it was attached. */
void reactor_ask_stats(struct queue *queue);

/* ---- for io.c, on the reactor ------------------------------------------ */

/* The request goes on by io_resume() when the ring has room. */
void reactor_park(struct reactor *reactor, struct io *io);
/* The kernel aborted a tag of the queue. */
void reactor_tag_ended(struct reactor *reactor, struct queue *queue);
/* The queue cannot be served any more; others can. */
void reactor_fail_queue(struct queue *queue, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Tells the main thread about a failed request, at most one at a time. */
void reactor_report_failure(struct queue *queue, const struct ublkd_io *io, int error);
/* For batch.c: see ring_lend(). The number of the group, or -errno. */
int reactor_lend(struct reactor *reactor, struct io_uring_buf_ring *buffers, unsigned entries);
void reactor_take_back(struct reactor *reactor, uint16_t group);
/* A buffer of the queue is free, or another request's, with the next submit. */
static inline void reactor_buffers_returned(struct reactor *reactor, struct queue *queue)
{
	if (queue->due)
		return;
	queue->due = true;
	queue->next_due = reactor->due;
	reactor->due = queue;
}

/* ---- for wait.c, on the reactor ---------------------------------------- */

/* The ring is broken: ends the reactor, and with it all its queues. */
void reactor_fail(struct reactor *reactor, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Lets go of the queues whose tags have all ended. */
void reactor_close_over(struct reactor *reactor);

#endif
