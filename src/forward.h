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
	/* Set by the caller, who keeps the structure until then. answer NULL: none comes. */
	void (*done)(struct forward *forward, json_t *answer);

	struct ev_loop *loop; /* forward.c's from here on */
	int fd;
	ev_io readable;
	ev_timer timer;
	char *input;
	size_t used, size;
};

/*
 * parameters: an object, the caller's. Takes the socket over, and closes it. patience: seconds for the answer, 0:
 * however long it takes. 0, and done() follows, or -errno.
 */
int forward_start(struct forward *forward, struct ev_loop *loop, int fd, const char *method,
		  json_t *parameters, double patience);
/* done() is not called. */
void forward_abandon(struct forward *forward);

#endif
