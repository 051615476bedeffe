/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "schedule.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/macros.h"

/* The shortest that the kernel takes (__setparam_fair() of kernel/sched/fair.c). */
#define SHORT_NS 100000u
/* A request may take so many of them. */
#define SLICES_FOR_ONE 4
/* A look at fewer would be a guess. */
#define REQUESTS_TO_LOOK_AT 32
/* Another way is tried in one of so many looks, which takes little from the gain. */
#define LOOKS_BETWEEN_TRIALS 40
/* Requests at a time; with fewer, patience gains nothing. */
#define BURST 4
/*
 * Making a request takes a client up to three times as long as it takes the
 * thread to serve it (copy mode, a file in memory), and the thread waits for
 * that. Where it was left at two, such a load lost a fifth of its speed. More
 * is somebody else's time, or time in which a request could be under way.
 */
#define MOST_DELAY 4 /* times the time that the thread ran, */
#define STRIKES 2    /* in so many looks that follow each other */
/*
 * One who makes a request at a time makes it in less than the thread takes for
 * it. Where another program never slept, the thread waited 2.5 times and the
 * short slice cost a tenth of the speed, or 1.2 times and it still gained.
 */
#define MOST_DELAY_OF_ONE 2
/* Reading it at each look would cost half a per cent. */
#define LOOKS_BETWEEN_READS 8
/* Looks until it is tried again. */
#define LEAST_PAUSE 8
#define MOST_PAUSE 2048

static bool get(struct sched_attr *attr)
{
	return !syscall(SYS_sched_getattr, 0, attr, sizeof(*attr), 0);
}

void schedule_open(struct schedule *schedule, bool adapt)
{
	struct sched_attr attr = { 0 };

	*schedule = (struct schedule){ .delay_fd = -1 };
	if (!adapt || !get(&attr) || attr.sched_policy != SCHED_NORMAL)
		return;
	/* Kernels that know no slice of a thread's own say 0. */
	schedule->has_slice = attr.sched_runtime > SHORT_NS;
	schedule->slice = attr.sched_runtime;
	schedule->delay_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	schedule->adapts = schedule->has_slice || schedule->delay_fd >= 0;
}

void schedule_close(struct schedule *schedule)
{
	if (schedule->delay_fd >= 0)
		close(schedule->delay_fd);
	schedule->delay_fd = -1;
}

static void set(struct schedule *schedule, enum schedule_way way)
{
	struct sched_attr attr = { 0 };
	uint32_t ours = schedule->way == SCHEDULE_PATIENT ? SCHED_BATCH : SCHED_NORMAL;

	/* Afresh, as the thread's nice value may be another by now. */
	if (get(&attr) && attr.sched_policy == ours) {
		attr.sched_policy = way == SCHEDULE_PATIENT ? SCHED_BATCH : SCHED_NORMAL;
		attr.sched_runtime = way == SCHEDULE_EAGER ? SHORT_NS : schedule->slice;
		if (!syscall(SYS_sched_setattr, 0, &attr, 0)) {
			schedule->way = way;
			return;
		}
	}
	schedule->adapts = false;
}

/* The second number in the file. Each look reads it while there is patience, so not by sscanf(). */
static void read_delay(struct schedule *schedule, struct schedule_counts *now)
{
	char text[80], *second, *end;
	ssize_t n = pread(schedule->delay_fd, text, sizeof(text) - 1, 0);
	uint64_t delay;

	text[MAX(n, 0)] = 0;
	now->delay_ran = now->ran;
	strtoull(text, &second, 10);
	delay = strtoull(second, &end, 10);
	if (end == second)
		schedule_close(schedule);
	else
		now->delay = delay;
}

static bool waited(const struct schedule_counts *came, unsigned most)
{
	return came->delay > most * came->delay_ran;
}

static void pause_way(struct schedule *schedule, struct schedule_pause *pause)
{
	/* If it was right for longer than the last pause, it was worth it. */
	if (schedule->looks > pause->last)
		pause->last = 0;
	pause->left = pause->last = MIN(MAX(2 * pause->last, LEAST_PAUSE), MOST_PAUSE);
	schedule->strikes = 0;
}

static bool stays_patient(struct schedule *schedule, const struct schedule_counts *came)
{
	if (schedule->delay_fd < 0)
		return false;
	/* What was tried without a sign of bursts has to make them. */
	if (schedule->looks == 1 && came->requests < BURST * came->arrivals)
		return false;
	schedule->strikes = waited(came, MOST_DELAY) ? schedule->strikes + 1 : 0;
	return schedule->strikes < STRIKES;
}

/* Each finds the thread asleep. Slices that end in the middle of a request would only cost switches. */
static bool one_by_one(const struct schedule *schedule, const struct schedule_counts *came,
		       uint64_t asleep)
{
	return schedule->has_slice && asleep >= came->requests - came->requests / 8 &&
	       came->ran <= came->requests * SLICES_FOR_ONE * SHORT_NS;
}

static bool may_be_patient(const struct schedule *schedule)
{
	return schedule->delay_fd >= 0 && !schedule->patient.left;
}

/* Where the thread is quick, the first of many requests is done before the client makes the next. */
static enum schedule_way trial(const struct schedule *schedule)
{
	return may_be_patient(schedule) && schedule->looks >= LOOKS_BETWEEN_TRIALS ?
		       SCHEDULE_PATIENT : SCHEDULE_USUAL;
}

static enum schedule_way after_eager(struct schedule *schedule, const struct schedule_counts *came,
				     uint64_t asleep)
{
	/* Not even the short slice keeps them apart. */
	if (asleep < came->requests - came->requests / 64)
		return SCHEDULE_USUAL;
	if (waited(came, MOST_DELAY_OF_ONE)) {
		pause_way(schedule, &schedule->eager);
		return SCHEDULE_USUAL;
	}
	if (schedule->looks < LOOKS_BETWEEN_TRIALS)
		return SCHEDULE_EAGER;
	schedule->eager.last = 0;
	return trial(schedule);
}

static enum schedule_way after_patient(struct schedule *schedule,
				       const struct schedule_counts *came, uint64_t asleep)
{
	if (one_by_one(schedule, came, asleep)) {
		if (waited(came, MOST_DELAY))
			pause_way(schedule, &schedule->patient);
		return SCHEDULE_EAGER;
	}
	if (stays_patient(schedule, came))
		return SCHEDULE_PATIENT;
	pause_way(schedule, &schedule->patient);
	return SCHEDULE_USUAL;
}

static enum schedule_way after_usual(struct schedule *schedule, const struct schedule_counts *came,
				     uint64_t asleep)
{
	if (one_by_one(schedule, came, asleep))
		return schedule->eager.left ? SCHEDULE_USUAL : SCHEDULE_EAGER;
	if (may_be_patient(schedule) && came->requests >= BURST * came->arrivals)
		return SCHEDULE_PATIENT;
	return trial(schedule);
}

enum schedule_way schedule_next(struct schedule *schedule, const struct schedule_counts *came)
{
	/* It also sleeps until a backing's I/O is done, and requests come without a sleep. */
	uint64_t asleep = MIN(came->sleeps, came->arrivals);

	schedule->looks++;
	schedule->eager.left -= !!schedule->eager.left;
	schedule->patient.left -= !!schedule->patient.left;
	switch (schedule->way) {
	case SCHEDULE_EAGER:
		return after_eager(schedule, came, asleep);
	case SCHEDULE_PATIENT:
		return after_patient(schedule, came, asleep);
	case SCHEDULE_USUAL:
		break;
	}
	return after_usual(schedule, came, asleep);
}

static uint64_t nanoseconds(const struct timeval *time)
{
	return (uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_usec * 1000;
}

/* Whether this look is one for which the delay is worth its price. */
static bool looks_at_delay(const struct schedule *schedule)
{
	switch (schedule->way) {
	case SCHEDULE_EAGER:
		return (schedule->looks + 1) % LOOKS_BETWEEN_READS == 0;
	case SCHEDULE_PATIENT:
		return true;
	case SCHEDULE_USUAL:
		break;
	}
	return false;
}

void schedule_adapt(struct schedule *schedule, uint64_t requests, uint64_t arrivals)
{
	const struct schedule_counts *last = &schedule->last;
	struct schedule_counts now = { .requests = requests, .arrivals = arrivals }, came;
	struct rusage usage;
	enum schedule_way next;

	if (!schedule->adapts || requests - last->requests < REQUESTS_TO_LOOK_AT)
		return;
	getrusage(RUSAGE_THREAD, &usage);
	now.sleeps = (uint64_t)usage.ru_nvcsw;
	now.ran = nanoseconds(&usage.ru_utime) + nanoseconds(&usage.ru_stime);
	now.delay = last->delay;
	now.delay_ran = last->delay_ran;
	if (looks_at_delay(schedule))
		read_delay(schedule, &now);
	came = (struct schedule_counts){
		.requests = now.requests - last->requests,
		.arrivals = now.arrivals - last->arrivals,
		.sleeps = now.sleeps - last->sleeps,
		.ran = now.ran - last->ran,
		.delay = now.delay - last->delay,
		.delay_ran = now.delay_ran - last->delay_ran,
	};
	next = schedule_next(schedule, &came);
	if (next != schedule->way) {
		set(schedule, next);
		schedule->looks = 0;
		if (next != SCHEDULE_USUAL)
			read_delay(schedule, &now);
	}
	schedule->last = now;
}
