/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What may wait for I/O that our own reactors serve is not for this process.
 * Holding the block device open while we exit can deadlock; so can a control
 * command such as STOP_DEV: killed, we could not end before the command does,
 * which waits for requests that only our end gives up. So a process of its
 * own does these, which shares nothing with us and may get stuck without
 * harm. Signals to stop do not reach it; it is killed when we die.
 */
#ifndef HELPER_H
#define HELPER_H

#include <ev.h>

/* Main thread, and only with libev's default loop (child watchers). */
struct helper {
	/* status: its exit status; -1: it was killed or came too late. */
	void (*done)(struct helper *helper, int status);
	struct ev_loop *loop;
	const char *about; /* see log_about() */
	ev_child child;
	ev_timer timer;
};

#define HELPER_RESCAN "rescan"        /* NODE: read the partition table */
#define HELPER_DROP "drop-partitions" /* NODE: forget the partitions */
/* NODE: what is cached for it, its partitions and mounts; EXIT_BACKING: that failed, and is lost */
#define HELPER_WRITE_BACK "write-back"
#define HELPER_RELEASE "release"      /* NODE: the same, of what stands on it too; swap is taken off */
#define HELPER_PROBE "probe-use"      /* NODE: fails while something has claimed the device */
#define HELPER_SHRINK "shrink" /* NODE ID SECTORS: claims, writes back, sets the size; its errno */
#define HELPER_NOTHING "nothing" /* ends at once, with success */
#define HELPER_CONTROL "control" /* TITLE: control commands, see ctrl-helper.h */
#define HELPER_TITLE_SIZE 160 /* what it runs, see stuck_title() */
#define HELPER_SPARE "(spare)" /* nothing yet, and maybe for long */

/* PID NAME VERB …: one that ends when its parent, that process, does, and what its messages are about. */
#define HELPER_OF "of"
/* Before that: it logs to syslog, as its parent does, whose stderr may be nobody's by now. */
#define HELPER_LOGS "syslog"

#define HELPER_ARGS 4

/*
 * Starts it with a verb and its arguments, NULL behind them. deadline in
 * seconds, 0: none. 0, and done() follows, or -errno.
 */
int helper_start(struct helper *helper, struct ev_loop *loop, const char *const *args,
		 double deadline);
/* Kills it; done() is not called. */
void helper_abandon(struct helper *helper);
/* Kills it; done() is called when it has ended, or in a second where it waits in the kernel. */
void helper_cut(struct helper *helper);

/* helper-main.c, the process itself: "ublkd --helper [syslog] [of PID NAME] VERB ARGUMENT…". */
int helper_main(int argc, char **argv);

#endif
