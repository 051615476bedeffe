/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the methods of the control socket have in common: the calls that wait for
 * something to happen to a device, parameters, and answers. Main thread.
 */
#ifndef SERVICE_JOB_H
#define SERVICE_JOB_H

#include "log.h"
#include "service-methods.h"
#include "util/macros.h"

#define OURS "io.ublkd."
#define LOG_SAYS_WHY "the server's log says why"

enum job_kind {
	JOB_ADD,
	JOB_DELETE,
	JOB_SHOW,
	JOB_RESIZE,
	JOB_UNUSED, /* a deletion as soon as nobody uses it */
	JOB_WAIT,
	JOB_QUIESCE,
	JOB_EARLY,  /* of no device: for the last server's devices to be known */
};

/* A call that waits for something to happen to a device. */
struct job {
	struct job *next;
	struct service_call *call;
	struct hosted *hosted;
	enum job_kind kind;
	char *holder; /* JOB_DELETE: who used it when it was deleted all the same; NULL: none known */
	struct log_listener listener; /* about NULL: none; what is said of the device */
};

static inline struct manager *manager_of(const struct service_call *call)
{
	return container_of(call->service, struct manager, service);
}

/* NULL: there is no memory, and the call was told so. */
struct job *job_new(struct service_call *call, enum job_kind kind);
void job_begin(struct job *job, struct hosted *hosted);
/* Its listener hears what is said about it. */
void job_listen(struct job *job, const char *about);
void job_end(struct job *job);
/*
 * Those that wait for such an event, or, kind -1, for any of a device that is gone: an
 * answer may bring the next call, and so the next job.
 */
void jobs_answer(struct manager *manager, const struct hosted *hosted, int kind,
		 void (*answer)(struct job *job, const struct hosted *hosted));

/* Parameters; NULL or false where they were not given. */
const char *service_text(const struct service_call *call, const char *name);
bool service_flag(const struct service_call *call, const char *name);

/* The call's device is used. The call is answered then. */
void service_in_use(struct service_call *call, const char *holder);
/* The answer to Delete; holder may be NULL. What describes it goes as well if that was asked. */
json_t *deleted_json(const struct service_call *call, const char *name, const char *holder,
		     bool lingers);
/* The file that describes a device that was deleted, still or since it could not be removed; null. */
json_t *file_left_json(const struct service_call *call, const char *name);
json_t *text_or_null(const char *text);

#endif
