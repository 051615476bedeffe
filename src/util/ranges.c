/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ranges.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Between and around the ranges that are out there is one more that is free, at most. */
static int make_room(struct ranges *ranges)
{
	unsigned needed = ranges->taken + 2;
	struct range *more;

	if (needed <= ranges->room)
		return 0;
	more = realloc(ranges->free, 2 * needed * sizeof(*more));
	if (!more)
		return -ENOMEM;
	ranges->free = more;
	ranges->room = 2 * needed;
	return 0;
}

int ranges_open(struct ranges *ranges, unsigned count)
{
	*ranges = (struct ranges){ .free = NULL };
	if (make_room(ranges))
		return -ENOMEM;
	if (count)
		ranges->free[ranges->nr_free++] = (struct range){ .first = 0, .count = count };
	return 0;
}

void ranges_close(struct ranges *ranges)
{
	free(ranges->free);
	*ranges = (struct ranges){ .free = NULL };
}

static void remove_at(struct ranges *ranges, unsigned i)
{
	ranges->nr_free--;
	memmove(&ranges->free[i], &ranges->free[i + 1],
		(ranges->nr_free - i) * sizeof(*ranges->free));
}

int ranges_take(struct ranges *ranges, unsigned count)
{
	if (make_room(ranges))
		return -ENOMEM;
	for (unsigned i = 0; i < ranges->nr_free; i++) {
		struct range *range = &ranges->free[i];
		unsigned first = range->first;

		if (range->count < count)
			continue;
		range->first += count;
		range->count -= count;
		if (!range->count)
			remove_at(ranges, i);
		ranges->taken++;
		return (int)first;
	}
	return -ENOSPC;
}

void ranges_give(struct ranges *ranges, unsigned first, unsigned count)
{
	unsigned i = 0;

	assert(ranges->taken);
	ranges->taken--;
	while (i < ranges->nr_free && ranges->free[i].first < first)
		i++;
	assert(ranges->nr_free < ranges->room);
	memmove(&ranges->free[i + 1], &ranges->free[i],
		(ranges->nr_free - i) * sizeof(*ranges->free));
	ranges->nr_free++;
	ranges->free[i] = (struct range){ .first = first, .count = count };
	if (i + 1 < ranges->nr_free && first + count == ranges->free[i + 1].first) {
		ranges->free[i].count += ranges->free[i + 1].count;
		remove_at(ranges, i + 1);
	}
	if (i && ranges->free[i - 1].first + ranges->free[i - 1].count == first) {
		ranges->free[i - 1].count += ranges->free[i].count;
		remove_at(ranges, i);
	}
}
