/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server that has the table of devices now is asked to leave them. Its end is
 * waited for; or, where both have workers, for the table only: then it serves on what
 * its workers are not asked to leave, one by one, until handover_finish(). Main thread.
 */
#ifndef HANDOVER_H
#define HANDOVER_H

#include <ev.h>
#include <stdbool.h>

struct handover {
	/* Set by the caller. */
	struct ev_loop *loop;
	bool one_by_one; /* if it can */
	/* The table may be opened: it is gone, or hands its devices over, see handover_is_on(). */
	void (*done)(struct handover *handover);
	/* In that case: it has ended. */
	void (*gone)(struct handover *handover);

	int pid; /* handover.c's from here on; others may read it: of the one that was asked */
	int pid_fd; /* -1: nobody is asked */
	int claim;  /* see table_claim() */
	const char *path;
	bool ready; /* done() was called */
	ev_io on_end;
	ev_timer look, reminder;
	double asked; /* when, by CLOCK_MONOTONIC; no I/O of its devices waits for longer; 0: never */
};

void handover_init(struct handover *handover);

/*
 * path: of the table's folder, the caller's. 1: done() follows; 0: nobody has it; -errno after
 * an error text.
 */
int handover_start(struct handover *handover, const char *path);
/* The other has not ended yet. */
bool handover_is_on(const struct handover *handover);
/* What it still serves it leaves at once. */
void handover_finish(struct handover *handover);
/* done() and gone() are not called; the other leaves all the same. */
void handover_abandon(struct handover *handover);
/* The process that serves a device is asked to leave it, if it is a worker. */
void handover_ask_worker(int pid);

#endif
