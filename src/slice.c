/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "slice.h"

#include <linux/sched.h>
#include <linux/sched/types.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/macros.h"

/* The shortest that the kernel takes (__setparam_fair() of kernel/sched/fair.c). */
#define SHORT_NS 100000u
/* A look at fewer would be a guess. */
#define REQUESTS_TO_LOOK_AT 32
/* The usual slice is tried in one of so many looks, which takes little from the gain. */
#define LOOKS_BETWEEN_TRIALS 40

static bool get(struct sched_attr *attr)
{
	return !syscall(SYS_sched_getattr, 0, attr, sizeof(*attr), 0);
}

void slice_open(struct slice *slice, bool adapt)
{
	struct sched_attr attr = { 0 };

	*slice = (struct slice){ .adapts = false };
	if (!adapt || !get(&attr))
		return;
	/* Kernels that know no slice of a thread's own say 0. */
	slice->adapts = attr.sched_policy == SCHED_NORMAL && attr.sched_runtime > SHORT_NS;
	slice->usual = attr.sched_runtime;
}

static void set(struct slice *slice, bool to_short)
{
	struct sched_attr attr = { 0 };

	/* Afresh, as the thread's nice value may be another by now. */
	if (get(&attr) && attr.sched_policy == SCHED_NORMAL) {
		attr.sched_runtime = to_short ? SHORT_NS : slice->usual;
		if (!syscall(SYS_sched_setattr, 0, &attr, 0)) {
			slice->is_short = to_short;
			return;
		}
	}
	slice->adapts = false;
}

bool slice_next(struct slice *slice, uint64_t requests, uint64_t asleep)
{
	if (!slice->is_short) {
		slice->looks_left = LOOKS_BETWEEN_TRIALS;
		return asleep >= requests - requests / 8;
	}
	/* Not even the short slice keeps them apart. */
	if (asleep < requests - requests / 64)
		return false;
	return --slice->looks_left > 0;
}

void slice_adapt(struct slice *slice, uint64_t requests, uint64_t arrivals)
{
	uint64_t came = requests - slice->requests, times = arrivals - slice->arrivals, slept;
	struct rusage usage;
	bool next;

	if (!slice->adapts || came < REQUESTS_TO_LOOK_AT)
		return;
	getrusage(RUSAGE_THREAD, &usage);
	slept = (uint64_t)usage.ru_nvcsw - slice->sleeps;
	slice->requests = requests;
	slice->arrivals = arrivals;
	slice->sleeps = (uint64_t)usage.ru_nvcsw;
	/* It also sleeps until a backing's I/O is done, and requests come without a sleep. */
	next = slice_next(slice, came, MIN(slept, times));
	if (next != slice->is_short)
		set(slice, next);
}
