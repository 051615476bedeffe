/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A call of Varlink that another process of ours is to answer, over a socket of
 * its own. Main thread; nothing here blocks.
 */
#ifndef FORWARD_H
#define FORWARD_H

#include <ev.h>
#include <jansson.h>

struct forward {
	/* Set by the caller, who keeps the structure until then. answer NULL: none comes, or no end of it. */
	void (*done)(struct forward *forward, json_t *answer);

	struct forward *next, **link; /* forward.c's from here on: of its list */
	struct ev_loop *loop;
	int fd;
	ev_io readable;
	ev_timer timer;
	char *input;
	size_t used, size;
};

/*
 * Into the list of those on their way. Takes the socket over, and closes it.
 * parameters: an object, the caller's. patience: seconds for the answer, 0: however
 * long it takes. 0, and done() follows, or -errno.
 */
int forward_start(struct forward *forward, struct forward **list, struct ev_loop *loop, int fd,
		  const char *method, json_t *parameters, double patience);
/* done() is not called. */
void forward_abandon(struct forward *forward);
/* None of the list is answered. */
void forward_end_all(struct forward **list);

#endif
