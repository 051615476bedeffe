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
	/*
	 * A device that has failed is to be as this says by now: *worker NULL, and its worker is made
	 * and has yet to be started, or it has one without a process. An exit status, with an error
	 * text.
	 */
	int (*on_described)(struct router *router, const struct conf_device *device,
			    struct worker **worker);

	unsigned numbered; /* names that were made up */
	struct forward *forwards; /* what workers are asked just now */
	struct waiting *waiting;     /* calls that wait for a worker to be live */
	struct killing *killings;    /* calls that wait for a process to end */
	struct gathering *gathering, *listed; /* of List: under way, and calls for the next */
};

/* Of a call that came by the router's socket. */
struct router *router_of(const struct service_call *call);

/* Opens the socket of the manager. -errno after an error text. */
int router_open(struct router *router, const char *path);
/* Behind the end of the manager: no call is left without an answer. */
void router_close(struct router *router);
/* The supervisor is about to stop: nobody waits for a start any more. */
void router_stop(struct router *router);
/* As host_find_uuid(), of devices that have a worker. */
const char *router_find_uuid(const struct router *router, const char *uuid, const char *name);
/* A call is on its way to a worker. */
bool router_asks(const struct router *router, const struct worker *worker);
/* The driver has not answered a command for it; the call was told. */
bool router_is_stuck(struct service_call *call, const char *name);
/* The call is answered when its device is live, or with the error. NULL: it was told of no memory. */
struct waiting *router_wait_until_live(struct service_call *call, const struct worker *worker);
/* The call is answered, without a word, when its device is live, or with the error. */
void router_wait_in_silence(struct service_call *call, const struct worker *worker);
/* All that it had has heard of it; see supervisor-recover.c. */
void router_process_ended(struct router *router, pid_t pid);
/* Its device is to fail its I/O, and to go. */
void router_give_up(struct router *router, struct worker *worker);
/* A device is usable. */
void router_live(struct router *router, struct worker *worker);
/* It is not going to be, as its worker ended or failed. */
void router_failed(struct router *router, struct worker *worker);

#endif
