/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A reactor: one thread, one io_uring, one libev loop, and the queues that it
 * serves, all of one device. Everything of its queues is its own; no lock is
 * taken and nothing is allocated on the I/O path. The main thread and the
 * reactor talk through mailboxes.
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

#define REACTOR_ZEROS (1u << 20)

struct reactor {
	/* Set by the main thread before reactor_start(), constant then. */
	unsigned id;
	char name[16];          /* of the thread */
	cpu_set_t cpus;         /* where it may run; empty: anywhere */
	enum ring_mode ring_mode;
	bool schedule_adapts;
	uint64_t poll_ns;       /* see spin.h */
	struct queue **queues;
	unsigned nr_queues;
	struct mailbox *main_box;
	/* On the main thread. started: error says whether; ended: its last word. */
	void (*on_started)(struct reactor *reactor);
	void (*on_ended)(struct reactor *reactor);
	void (*on_stats)(struct reactor *reactor);
	void (*on_failure)(struct queue_failure *failure);
	void *owner;

	/* The reactor's. */
	pthread_t thread;
	struct ev_loop *loop;
	struct ring ring;
	struct io *parked_first, **parked_last; /* wait for room in the ring */
	const void *zeros;      /* REACTOR_ZEROS bytes, read-only */
	int zero_fd;            /* /dev/zero, for pages that only the ring reaches */
	unsigned burst;         /* completions that came at once, this time */
	unsigned queues_ended;
	bool pooled;            /* requests borrow their buffers */
	bool batches;           /* its queues are in batch mode */
	bool draining;          /* answer everything with -EIO */

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
	int io_flusher_error;   /* errno of PR_SET_IO_FLUSHER, 0: set */
	bool loop_not_polled;   /* libev's descriptor cannot be had */

	/* Orders to the reactor and reports from it. */
	struct mailbox inbox;
	struct message started, ended, drain, stats;
	bool running;           /* main: from reactor_start() until on_ended */
	bool stats_due;         /* main: a stats order is out */
	uint64_t stats_enters, stats_cqes, stats_polled;
};

/* main. Starts the thread; on_started and on_ended follow. 0 or -errno. */
int reactor_start(struct reactor *reactor);
/* main, once on_ended was called. */
void reactor_join(struct reactor *reactor);
/* main: fails all requests from now on and cancels what is in the ring. */
void reactor_drain(struct reactor *reactor);
/* main: on_stats is called when the counters in queue->stats may be read. */
void reactor_ask_stats(struct reactor *reactor);

/* ---- for io.c, on the reactor ------------------------------------------ */

/* The request goes on by io_resume() when the ring has room. */
void reactor_park(struct reactor *reactor, struct io *io);
/* The kernel aborted a tag of the queue. */
void reactor_tag_ended(struct reactor *reactor, struct queue *queue);
/* The queue cannot be served any more: ends the reactor. */
void reactor_fail(struct reactor *reactor, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Tells the main thread about a failed request, at most one at a time. */
void reactor_report_failure(struct queue *queue, const struct ublkd_io *io, int error);

#endif
