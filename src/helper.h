/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening the block device that we serve can wait for our own reactors, and
 * holding it open while we exit can deadlock. So no thread of ours does:
 * what needs an open is done by a process of its own, which shares nothing
 * with us, and may get stuck without harm.
 */
#ifndef HELPER_H
#define HELPER_H

#include <ev.h>
#include <stdbool.h>

/* Main thread, and only with libev's default loop (child watchers). */
struct helper {
	void (*done)(struct helper *helper, bool success); /* no success: failed or too late */
	struct ev_loop *loop;
	ev_child child;
	ev_timer timer;
};

#define HELPER_RESCAN "rescan"           /* read the partition table */
#define HELPER_DROP "drop-partitions"    /* forget the partitions */
#define HELPER_PROBE "probe-use"         /* fails while something has claimed the device */

/* Starts the helper on a device node. 0, and done() follows, or -errno. */
int helper_start(struct helper *helper, struct ev_loop *loop, const char *verb, const char *node,
		 double deadline);

/* Kills it; done() is not called. */
void helper_abandon(struct helper *helper);

/* The process itself: "ublkd --helper VERB NODE". */
int helper_main(int argc, char **argv);

#endif
