/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The numbers 0…count-1, given out in ranges: slots of a table that neighbours
 * share. The lowest that fits is taken. Not for several threads at once.
 */
#ifndef UTIL_RANGES_H
#define UTIL_RANGES_H

struct range {
	unsigned first, count;
};

struct ranges {
	struct range *free; /* in ascending order, none touches the next */
	unsigned nr_free, room;
	unsigned taken;     /* ranges that are out */
};

/* 0 or -ENOMEM. count may be 0. */
int ranges_open(struct ranges *ranges, unsigned count);
void ranges_close(struct ranges *ranges);
/* The first number of so many; -ENOSPC, -ENOMEM. */
int ranges_take(struct ranges *ranges, unsigned count);
/* What was taken, as it was taken. */
void ranges_give(struct ranges *ranges, unsigned first, unsigned count);

#endif
