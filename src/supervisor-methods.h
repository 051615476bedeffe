/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket where each device has a process of its own: what is asked
 * about a device is passed on to its worker, and what is about all is put
 * together here. Main thread.
 */
#ifndef SUPERVISOR_METHODS_H
#define SUPERVISOR_METHODS_H

#include "service-methods.h"
#include "supervisor.h"

struct router {
	/* Set by the caller. */
	struct supervisor *supervisor;
	/* Its socket is where calls come from; it answers those about no device. */
	struct manager *manager;
	/* A device more is about to be started. */
	void (*on_more)(struct router *router);

	unsigned numbered; /* names that were made up */
	struct forward *forwards; /* what workers are asked just now */
	struct waiting *waiting;     /* calls that wait for a worker to be live */
};

/* Opens the socket of the manager. -errno after an error text. */
int router_open(struct router *router, const char *path);
/* Behind the end of the manager: no call is left without an answer. */
void router_close(struct router *router);
/* The supervisor is about to stop: nobody waits for a start any more. */
void router_stop(struct router *router);
/* A device is usable. */
void router_live(struct router *router, struct worker *worker);
/* It is not going to be, as its worker ended or failed. */
void router_failed(struct router *router, struct worker *worker);

#endif
