/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Busy polling: for some time after the last I/O a reactor looks for the next
 * completion instead of sleeping until there is one. That saves what it takes
 * to wake a thread, at the price of a CPU. The clock is read only in between.
 */
#ifndef SPIN_H
#define SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct spin {
	_Atomic(uint64_t) limit; /* ns after the last I/O; 0: never; main may change it */
	uint64_t end;    /* of this time, by CLOCK_MONOTONIC; 0: it has not begun */
	uint64_t seen;   /* completions of I/O up to it */
	bool over;       /* until the next I/O */
	uint64_t caught; /* times that a completion came while it looked */
};

void spin_open(struct spin *spin, uint64_t limit);
static inline uint64_t spin_limit(const struct spin *spin)
{
	return atomic_load_explicit(&spin->limit, memory_order_relaxed);
}
/* completions: of I/O, all in all. After new ones the time begins anew. */
void spin_again(struct spin *spin, uint64_t completions);
/* Whether to look once more; if not, the time is over. */
bool spin_on(struct spin *spin);

#endif
