/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a reactor's thread asks to be scheduled, which decides what a request
 * costs where the thread shares a CPU with the client that makes the requests.
 *
 * EAGER    A thread with a shorter time slice than the one that runs takes the
 *          CPU from it as soon as it wakes (EEVDF; for a slice of its own,
 *          Linux 6.12). Where a client waits for each request before it makes
 *          the next, the request is done before the client even starts to
 *          wait: neither of them has to be woken, a sixth of what such a
 *          request costs. Where more are made at once the same would serve
 *          them one by one, at two thirds of the speed.
 * PATIENT  Under SCHED_BATCH a thread that wakes waits until the one that runs
 *          sleeps or has had its time. Where requests come in bursts, all of
 *          one are there when the thread gets the CPU: at depth 16 and more
 *          that is 4 % of what each costs on a fast disk, and 40 % where there
 *          is none. But beside a program that does not sleep the thread waits
 *          for a tick, and a client that computes while it has requests under
 *          way has them begun only when it sleeps.
 * USUAL    Neither.
 *
 * The first fits while each request finds the thread asleep. That shows only
 * without it, as with it nearly all do; and where the thread is quick, even
 * without it the first of many is done before the client makes the next. So
 * patience is tried from time to time: if it makes bursts, there were many.
 * Both fit while the thread does not wait for a CPU for much longer than it has
 * one: else somebody who does not sleep wants it too, who has it whenever the
 * short slice has taken it from the client. What did not fit is tried again
 * later and later.
 *
 * Workers that the kernel makes for the thread's ring meanwhile (io-wq) keep
 * what they were made with.
 */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

enum schedule_way { SCHEDULE_USUAL, SCHEDULE_EAGER, SCHEDULE_PATIENT };

/* All that came, or the difference between two looks. */
struct schedule_counts {
	uint64_t requests;
	uint64_t arrivals; /* times at which some came */
	uint64_t sleeps;   /* of the thread */
	uint64_t ran;      /* ns that the thread had a CPU */
	uint64_t delay;    /* and waited for one, when that was read last, */
	uint64_t delay_ran; /* and what it had run then */
};

/* Looks until it is tried again, and how many it was then. */
struct schedule_pause {
	unsigned left, last;
};

struct schedule {
	enum schedule_way way;
	bool adapts;         /* the kernel and the thread's policy allow it */
	bool has_slice;      /* EAGER can be had */
	int delay_fd;        /* the scheduler's account, -1: PATIENT cannot be had */
	uint64_t slice;      /* the usual one, ns */
	unsigned looks;      /* since it is this way */
	unsigned strikes;    /* of them, the last that found PATIENT too dear */
	struct schedule_pause eager, patient;
	struct schedule_counts last;
};

/* On the thread. adapt: false leaves it as it is. */
void schedule_open(struct schedule *schedule, bool adapt);
void schedule_close(struct schedule *schedule);
/*
 * On the thread, from time to time while it is busy: goes the way that fits
 * the requests since it last looked. requests: all that came so far, arrivals:
 * how often some came.
 */
void schedule_adapt(struct schedule *schedule, uint64_t requests, uint64_t arrivals);
/* What schedule_adapt() decides, from what came since the last look. */
enum schedule_way schedule_next(struct schedule *schedule, const struct schedule_counts *came);

#endif
