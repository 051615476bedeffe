/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Notices when a device was used and its last user is gone. Programs that
 * open a node are counted by inotify; file systems, swap and stacked devices
 * claim the device inside the kernel, which use.c finds, or else a helper's
 * exclusive open. Main thread.
 */
#ifndef AUTOCLEAR_H
#define AUTOCLEAR_H

#include <ev.h>
#include <stdbool.h>

#include "helper.h"

struct autoclear {
	/* Set by the caller. */
	struct ev_loop *loop;
	const char *node; /* /dev/ublkbN; its partitions are watched too */
	bool used;        /* it was opened; autoclear.c's, once the watch has begun */
	/*
	 * Nobody has the device open, has mounted or claimed it. It is called
	 * again after a while as long as that is so and the watch goes on.
	 */
	void (*unused)(struct autoclear *watch);

	const char *about; /* see log_about() */
	int inotify_fd;
	int dev_watch;    /* of /dev, for partitions that appear */
	ev_io on_event;
	ev_timer tick;
	unsigned opens;   /* by programs, now */
	bool wanted;      /* see autoclear_want() */
	bool quiet;       /* unused at the last tick */
	unsigned pause, pauses; /* ticks until the next probe, and between two */
	bool probing;
	bool paused, used_before; /* used, when it was paused */
	struct helper probe;
};

/* 0, or -errno after an error text. */
int autoclear_start(struct autoclear *watch);
/* No program has it open by now, as far as is known. */
bool autoclear_is_unused(struct autoclear *watch);
/* Whether it was used before is all the same from now on, or matters again. */
void autoclear_want(struct autoclear *watch, bool wanted);
/* What opens and closes the device in between is no use of it, and nobody looks for one. */
void autoclear_pause(struct autoclear *watch);
void autoclear_go_on(struct autoclear *watch);
void autoclear_stop(struct autoclear *watch);

#endif
