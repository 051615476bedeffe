/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server that has the table of devices now is asked to leave them, and its
 * end is waited for. Main thread.
 */
#ifndef HANDOVER_H
#define HANDOVER_H

#include <ev.h>

struct handover {
	/* Set by the caller. */
	struct ev_loop *loop;
	void (*done)(struct handover *handover); /* it is gone */

	int pid; /* handover.c's from here on; others may read it: of the one that was asked */
	int pid_fd;
	ev_io on_end;
	ev_timer reminder;
	ev_tstamp asked; /* when; its devices' I/O waits since then at the earliest */
};

/*
 * path: of the table's folder. 1: done() follows; 0: nobody has it; -errno after
 * an error text.
 */
int handover_start(struct handover *handover, const char *path);
/* done() is not called; the other leaves all the same. */
void handover_abandon(struct handover *handover);

#endif
