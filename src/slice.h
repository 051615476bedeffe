/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The time slice that a reactor's thread asks the scheduler for.
 *
 * A thread with a shorter slice than the one that runs takes the CPU from it
 * as soon as it wakes (EEVDF; for a slice of its own, Linux 6.12). Where a
 * client waits for each request before it makes the next, and shares the CPU
 * with the thread that serves it, the request is done before the client even
 * starts to wait: neither of them has to be woken, which is a sixth of what
 * such a request costs. Where more are made at once the same would serve
 * them one by one, at two thirds of the speed: then the slice is the usual one.
 *
 * Which of both it is: whether each request finds the thread asleep. That
 * shows only with the usual slice, as with the short one nearly all do; so the
 * usual is tried again from time to time.
 *
 * Workers that the kernel makes for the thread's ring meanwhile (io-wq) keep
 * the slice that they were made with.
 */
#ifndef SLICE_H
#define SLICE_H

#include <stdbool.h>
#include <stdint.h>

struct slice {
	bool adapts;             /* the kernel and the thread's policy allow it */
	bool is_short;
	unsigned looks_left;     /* with the short slice, until the usual is tried */
	uint64_t usual;          /* ns */
	uint64_t requests, arrivals, sleeps; /* at the last look */
};

/* On the thread. adapt: false leaves its slice alone. */
void slice_open(struct slice *slice, bool adapt);
/*
 * On the thread, from time to time while it is busy: sets the slice that fits
 * the requests since it last looked. requests: all that came so far, arrivals:
 * how often some came.
 */
void slice_adapt(struct slice *slice, uint64_t requests, uint64_t arrivals);
/*
 * What slice_adapt() decides: whether the next slice is a short one, after so
 * many requests, of which so many found the thread asleep.
 */
bool slice_next(struct slice *slice, uint64_t requests, uint64_t asleep);

#endif
