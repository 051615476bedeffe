/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that came to nothing, of which nobody was told who had asked: how each ended, for who
 * waits for it later. Those that a file describes, and that could not be started, are seen as
 * well, and can be tried again, and so are those that were given up. Main thread.
 */
#ifndef SERVICE_FAILED_H
#define SERVICE_FAILED_H

#include "service-methods.h"

struct failure {
	int status; /* an exit status */
	/* How it was to be, to be seen; config NULL: it is not. error "": the log says why. */
	const char *error, *uuid, *backend;
	json_t *config;
};

void failed_note(struct manager *manager, const char *name, const struct failure *failure);
/* It is usable by now, or nobody is to know of it any more. */
void failed_forget(struct manager *manager, const char *name);

/* Why one could not be started that is to be seen; NULL: there is none of this name. */
const char *failed_error(const struct manager *manager, const char *name);
/* How it was to be. */
const char *failed_backend(const struct manager *manager, const char *name);
json_t *failed_config(const struct manager *manager, const char *name);
/* The name of the one that has this UUID; NULL: none has. */
const char *failed_find_uuid(const struct manager *manager, const char *uuid);
/* Adds them to what List tells. */
void failed_list(const struct manager *manager, json_t *devices);

/* Methods that are about one. false: it is none of them, and the call is not answered. */
bool failed_show(struct service_call *call);
bool failed_wait(struct service_call *call);
/* Delete, and FailIo: it is not there, and is forgotten. */
bool failed_delete(struct service_call *call);
/* All that is for a device which is served. */
bool failed_refuse(struct service_call *call);
/* Recover of a device of a file begins with this: what that says by now. NULL: the call was told why not. */
struct conf_device *failed_read(struct service_call *call);

#endif
