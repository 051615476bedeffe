/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A worker's process that is started before there is a device for it: the next device that
 * needs a process gets this one, and waits for no program to be started, nor does the I/O of
 * one whose worker has died. Main thread.
 */
#ifndef SPARE_H
#define SPARE_H

#include <ev.h>
#include <stdbool.h>

#include "worker-process.h"

struct supervisor;

struct spare {
	struct supervisor *supervisor;
	struct worker_process process;
	ev_timer timer; /* until it is started */
	unsigned pauses;
	bool ends;      /* it is of no use any more */
};

void spare_init(struct spare *spare, struct supervisor *supervisor);
/* There is to be one, soon, unless there is. */
void spare_want(struct spare *spare);
/* It is this process from now on. false: there is none. */
bool spare_take(struct spare *spare, struct worker_process *process);
/* Kills it; supervisor_go_on() follows when it has ended. false: there is none. */
bool spare_end(struct spare *spare);
/* It ends without a word. */
void spare_close(struct spare *spare);

#endif
