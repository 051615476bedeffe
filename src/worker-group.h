/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices of one worker: those that name it by worker=, or a single one. Its process is
 * there while one of them is served. Main thread.
 */
#ifndef WORKER_GROUP_H
#define WORKER_GROUP_H

#include "log-limit.h"
#include "worker-process.h"

struct supervisor;
struct worker;

struct worker_group {
	char *name;    /* of the worker, or of the only device */
	bool named;    /* by worker= */
	char *user;    /* whose devices they are all, see worker; NULL: nobody's */
	struct supervisor *supervisor;
	struct worker_group *next;
	struct worker *members;
	struct worker_process process;
	bool ends;     /* the process takes no more: it was told to end, says so, or died */
	bool stays;    /* while we hand over */
	bool remains;  /* when its process has ended, what that failed to make may be left */
	ev_timer late; /* a user's process that was told to end */
	struct log_limit lines; /* of a user's process */
	bool silent;            /* it has not answered List the last time */
};

/* Of this name, by worker=, but not of this user, or nobody; NULL: there is none. */
const struct worker_group *worker_group_of_others(const struct supervisor *supervisor,
						  const char *name, const char *user);
/* The worker's, by its settings and user, made if it is the first. false: no memory. */
bool worker_group_join(struct worker *worker, const struct worker_process *callbacks);
/* While it has no process: the one of its settings by now, if there is memory. */
void worker_group_change(struct worker *worker, const struct worker_process *callbacks);
/* The last one's end is that of the group, once that has no process. */
void worker_group_leave(struct worker *worker);
void worker_group_free_unused(struct worker_group *group);
/* It has a process that takes one more, or none. */
bool worker_group_takes(const struct worker_group *group);
/* A device for its process, which is started for the first. -errno: it is not given. */
int worker_group_give(struct worker_group *group, const struct worker *worker);
/* Its process ends if it serves nothing, and nothing is on its way to it. */
void worker_group_release(struct worker_group *group);
/*
 * A process that ends, but has what the driver did not let go of, may take any time for it. The
 * group is that of the others then, for the next process, and what is left of it is for itself.
 */
void worker_group_split(struct worker_group *group, const struct worker_process *callbacks);
/*
 * To its process, if there is one; such a signal that the process ends. A user's that does not is
 * killed, as whoever waits for it is not to wait for that user.
 */
void worker_group_end(struct worker_group *group, int signal);

#endif
