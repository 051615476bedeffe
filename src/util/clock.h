/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A clock that nobody sets, the same for all processes. */
#ifndef UTIL_CLOCK_H
#define UTIL_CLOCK_H

#include <time.h>

/* Seconds; more than 0. */
static inline double clock_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

#endif
