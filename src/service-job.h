/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the methods of the control socket have in common: the calls that wait for
 * something to happen to a device, parameters, and answers. Main thread.
 */
#ifndef SERVICE_JOB_H
#define SERVICE_JOB_H

#include "log.h"
#include "service-methods.h"
#include "use.h"
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
	JOB_AGAIN,  /* for one that has failed to be usable */
	JOB_EARLY,  /* of no device: for the last server's devices to be known */
	JOB_OPEN,   /* of no device: for who has it open to close it */
};

/* A call that waits for something to happen to a device. */
struct job {
	struct job *next;
	struct service_call *call;
	struct hosted *hosted;
	enum job_kind kind;
	char *holder; /* JOB_DELETE: who used it when it was deleted all the same; NULL: none known */
	struct use_open open; /* JOB_OPEN: what nobody is to have open */
	struct log_listener listener; /* about NULL: none; what is said of the device */
};

static inline struct manager *manager_of(const struct service_call *call)
{
	return container_of(call->service, struct manager, service);
}

/* Somebody waits for its end, as soon as nobody uses it. */
bool is_wanted_gone(const struct manager *manager, const struct hosted *hosted);
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
/*
 * The one that the parameter "device" names. NULL: the host has none that is called so.
 * Then *left is one that waits, or NULL, and the call was told that there is none.
 */
struct hosted *service_device(struct service_call *call, struct table_entry **left);

/* The answer, with the commands that are stuck in the driver. */
void service_reply_with_stuck(struct service_call *call, json_t *answer);

/* Errors, of methods that are answered here and by workers. The call is answered then. */
#define SERVICE_NAME_TAKEN "name: expected another than that of a device that is served"
#define SERVICE_NOT_WRITTEN "it is served, but no file describes it for the next start; the server's log " \
			    "says why"
#define SERVICE_NOT_CHANGED "it is changed, but the file that describes it is not; the server's log says " \
			    "why"
#define SERVICE_IS_SERVED "expected a device that no process serves, got one that is served; 'ublkctl del' " \
			  "deletes it"
#define SERVICE_NOT_QUIESCED "expected a device that was quiesced, with serve --workers"
#define SERVICE_NOT_DEAD "expected a device whose process died, with serve --workers"
#define SERVICE_NO_USERS "unprivileged: expected a server of root's with --workers, which alone can serve a " \
			 "device by a process of another user"
void service_failed(struct service_call *call, int status, const char *message);
void service_not_found(struct service_call *call, const char *device);

#define SERVICE_OPEN "open by a program"
/* Who uses a device with these flags, where no more is known than that somebody does. */
static inline const char *service_holder(uint64_t flags)
{
	return flags & UBLK_F_SAFE_STOP_DEV ? SERVICE_OPEN : "claimed";
}

/* The call's device is used. The call is answered then. */
void service_in_use(struct service_call *call, const char *holder);
/* The answer to Delete; holder may be NULL. What describes it goes as well if that was asked. */
json_t *deleted_json(const struct service_call *call, const char *name, const char *holder,
		     bool lingers);
/* The file that describes a device that was deleted, still or since it could not be removed; null. */
json_t *file_left_json(const struct service_call *call, const char *name);
json_t *text_or_null(const char *text);
/* The same of an error; what is no UTF-8, such as a path, the log alone can say. */
json_t *error_or_null(const char *error);

#endif
