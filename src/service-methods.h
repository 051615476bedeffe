/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the methods of the control socket do with the devices of a host; the
 * interface is io.ublkd.varlink. Main thread.
 */
#ifndef SERVICE_METHODS_H
#define SERVICE_METHODS_H

#include "conf.h"
#include "feature.h"
#include "host.h"
#include "service.h"

struct manager {
	/* Set by the caller. */
	struct host *host;
	/* A device is about to be started, and is among the host's. */
	void (*on_more)(struct manager *manager);
	/* One that was listed as failed is not any more. */
	void (*on_forgotten)(struct manager *manager);
	/* Files that describe devices, see persist.h; NULL: none. */
	struct conf *conf;
	bool worker; /* for a supervisor, which has a device that we leave served again */
	/* Answers a call that is right in another way than from the host; NULL: none. */
	bool (*route)(struct service_call *call);
	/* As those of the host, of devices that are not the host's; NULL: there are none. */
	bool (*has_name)(const struct manager *manager, const char *name);
	const char *(*find_uuid)(const struct manager *manager, const char *uuid, const char *name);
	void *owner;

	struct service service; /* .loop, .group, .most_clients and .patience are the caller's */
	struct job *jobs;       /* calls that are not answered yet */
	unsigned numbered;      /* names that were made up */
	bool knows;             /* the last server's devices, where there is a table */
	json_t *failed;         /* by name; see service-failed.h */
	ev_timer look;          /* for programs that have open what a Delete is about */
	bool driver_refuses;    /* to stop what is open, so nobody has to look before; who has us says so */
};

/* Opens the socket. -errno after an error text. */
int manager_open(struct manager *manager, const char *path);
void manager_close(struct manager *manager);

/*
 * Adds again what the last server's clients had added and what waits to be taken over.
 * Whoever describes a device of that name comes first.
 */
void manager_take_over(struct manager *manager, const struct table *table);
/* What the last server has left is known: calls that need it are not answered before. */
void manager_knows(struct manager *manager);

/* A device of this name is served, or on its way to that, wherever that is. */
bool manager_has(const struct manager *manager, const char *name);
/* As host_find_uuid(), wherever the devices are served. */
const char *manager_find_uuid(const struct manager *manager, const char *uuid, const char *name);

/* The service's callbacks, as objects for tests that have no socket. */
void manager_call(struct service_call *call);
void manager_hang_up(struct service_call *call);

/* To be called by the host's callbacks of these names. */
void manager_live(struct manager *manager, struct hosted *hosted);
void manager_ended(struct manager *manager, struct hosted *hosted);
void manager_counted(struct manager *manager, struct hosted *hosted);
void manager_resized(struct manager *manager, struct hosted *hosted);
void manager_in_use(struct manager *manager, struct hosted *hosted);

/* The call comes again when the last server's devices are known; false: they are. */
bool service_defer(struct service_call *call);

#endif
