/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the methods of the control socket do with the devices of a host; the
 * interface is io.ublkd.varlink. Main thread.
 */
#ifndef SERVICE_METHODS_H
#define SERVICE_METHODS_H

#include "feature.h"
#include "host.h"
#include "service.h"

struct manager {
	/* Set by the caller. */
	struct host *host;
	/* A device is about to be started, and is among the host's. */
	void (*on_more)(struct manager *manager);

	struct service service; /* .loop, .group, .most_clients and .patience are the caller's */
	struct job *jobs;       /* calls that are not answered yet */
	unsigned numbered;      /* names that were made up */
	bool knows;             /* the last server's devices, where there is a table */
	json_t *failed;         /* exit statuses by name, of devices that nobody was told of */
};

/* Opens the socket. -errno after an error text. */
int manager_open(struct manager *manager, const char *path);
void manager_close(struct manager *manager);

/*
 * Adds again what the last server's clients had added and what waits to be taken over.
 * Whoever describes a device of that name comes first.
 */
void manager_take_over(struct manager *manager, const struct table *table);

/* The service's callbacks, as objects for tests that have no socket. */
void manager_call(struct service_call *call);
void manager_hang_up(struct service_call *call);

/* To be called by the host's callbacks of these names. */
void manager_live(struct manager *manager, struct hosted *hosted);
void manager_ended(struct manager *manager, struct hosted *hosted);
void manager_counted(struct manager *manager, struct hosted *hosted);
void manager_in_use(struct manager *manager, struct hosted *hosted);

#endif
