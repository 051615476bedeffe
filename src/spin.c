/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "spin.h"

#include <time.h>

void spin_open(struct spin *spin, uint64_t limit)
{
	*spin = (struct spin){ .limit = limit, .over = true };
}

void spin_again(struct spin *spin, uint64_t completions)
{
	if (completions == spin->seen)
		return;
	spin->seen = completions;
	spin->end = 0;
	spin->over = !spin_limit(spin);
}

/* From the vDSO: no system call. */
static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* The CPU's other half may have the time. */
static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

bool spin_on(struct spin *spin)
{
	if (spin->over)
		return false;
	relax();
	if (!spin->end)
		spin->end = now() + spin_limit(spin);
	else if (now() >= spin->end)
		spin->over = true;
	return !spin->over;
}
