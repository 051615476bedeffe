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
	/* Files that describe devices, see persist.h; NULL: none. */
	const struct conf *conf;
	bool worker; /* of one device, which a later process of ours goes on with */
	/* Answers a call that is right in another way than from the host; NULL: none. */
	bool (*route)(struct service_call *call);
	void *owner;

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
/* What the last server has left is known: calls that need it are not answered before. */
void manager_knows(struct manager *manager);

/* The service's callbacks, as objects for tests that have no socket. */
void manager_call(struct service_call *call);
void manager_hang_up(struct service_call *call);

/* To be called by the host's callbacks of these names. */
void manager_live(struct manager *manager, struct hosted *hosted);
void manager_ended(struct manager *manager, struct hosted *hosted);
void manager_counted(struct manager *manager, struct hosted *hosted);
void manager_resized(struct manager *manager, struct hosted *hosted);
void manager_in_use(struct manager *manager, struct hosted *hosted);

/* How a device that nobody was told of ended, for who waits for it later; 0: it is usable. */
void manager_note(struct manager *manager, const char *name, int status);

/* For whoever routes. The call is answered then. */
#define SERVICE_NAME_TAKEN "name: expected another than that of a device that is served"
#define SERVICE_NOT_WRITTEN "it is served, but no file describes it for the next start; the server's log " \
			    "says why"
#define SERVICE_IS_SERVED "expected a device that no process serves, got one that is served; 'ublkctl del' " \
			  "deletes it"
#define SERVICE_NOT_QUIESCED "expected a device that was quiesced, with serve --workers"
#define SERVICE_NOT_DEAD "expected a device whose process died, with serve --workers"
void service_failed(struct service_call *call, int status, const char *message);
void service_not_found(struct service_call *call, const char *device);
/* A file is known that describes a device of this name. */
bool service_is_described(const struct manager *manager, const char *name);
/* A name after the backend, "mem-1", where the caller has no wish. */
void service_make_name(char name[], size_t size, const char *backend, unsigned number);
/* NULL, or the name of a parameter that is wrong in a way that its type does not say. */
const char *service_wrong_in_add(const struct service_call *call);

#endif
