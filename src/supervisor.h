/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that are served by processes of their own, workers, which are started again
 * when they die: the next one takes the devices over, whose I/O has waited. A worker has
 * one device, or those of a group (worker-group.h). Here
 * is no device, no ring and no I/O, so nothing that a backend or the driver
 * does to a worker reaches the others. Main thread.
 *
 * The process is "ublkd --worker", see serve-worker.c. Through its channel it gets devices,
 * and sockets on which it is asked about them; when that closes, as it has none or we are
 * gone, it leaves what it has, and ends. It says by lines (worker-process.h) what becomes of
 * each device, and logs to us.
 */
#ifndef SUPERVISOR_H
#define SUPERVISOR_H

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "spare.h"
#include "spec.h"
#include "stuck.h"
#include "table.h"
#include "worker-group.h"

#define WORKER_FILES SPEC_MOST_FILES

enum worker_state {
	WORKER_WAITS,  /* to be started, in its turn */
	WORKER_STARTS, /* was given to its process */
	WORKER_LIVE,
	WORKER_STUCK,  /* not served, but its process has it, as the driver did not let go of it */
	WORKER_RESTS,  /* died, and is started again after a while */
	WORKER_FAILED, /* died too often; its device waits until worker_again() */
	WORKER_QUIESCED, /* has left its device, which waits until worker_again() */
	WORKER_ENDS,   /* has died, and somebody else deletes its device, see worker_hold() */
};

/* A device, as it is served by a worker. */
struct worker {
	char *name;       /* of its device */
	char *backend;    /* [FILTER+…]BACKEND */
	json_t *settings; /* as they were given: texts */
	bool added;       /* at run time: no file describes it */
	char *user;       /* an ordinary user's, by identity_text(); NULL: it is served as we are */
	bool quiet;       /* how it ends is somebody's answer, and not the supervisor's status */
	bool asked;       /* that somebody waits for its first start */
	bool seen;        /* when its device comes to nothing, that is to be seen */
	bool prepared;    /* a file that is to describe its device; see persist.h */
	struct ublkd_passed passed[WORKER_FILES + 1]; /* for each that serves it; option NULL behind them */

	struct supervisor *supervisor; /* supervisor.c's from here on; others may read */
	struct worker *next;
	struct worker_group *group;
	struct worker *next_member;
	enum worker_state state, held; /* held: before worker_hold() */
	ev_timer timer;   /* until it is started again */
	ev_tstamp began, ended;
	unsigned deaths;  /* in a row */
	bool settled;     /* was usable, or has failed */
	bool was_live;
	bool given_up;    /* by give-up=: when its device is gone, that was no wish of anybody */
	char path[64];    /* of the device, once it was usable */
	char error[512];  /* the last of its device, or how its process died */
	bool killed;      /* its process, by worker_kill() */
	bool pauses;      /* is leaving its device, see worker_pause() */
	bool last;        /* is started only to be stopped */
	int status;       /* of its end in its last process: an exit status */
};

struct supervisor {
	/* Set by the caller. */
	struct ev_loop *loop;
	const struct table *table;
	struct stuck_list *stuck; /* while it has a command for a device, no process is started for that */
	char *const *options; /* of ublkd serve, NULL behind them, for each worker */
	char *const *options_of_users; /* those of them that a user's worker has */
	double patience; /* seconds for the process of a user's devices to end when it was told to */
	bool stays; /* also without a device, until supervisor_stop() */
	/* The device is usable, for the first time or again. */
	void (*on_live)(struct worker *worker);
	/* Each device has been usable or has failed. Called once, unless the stop comes first. */
	void (*on_settled)(struct supervisor *supervisor);
	/* It died too often, or was told to leave its device, which waits for worker_again(). */
	void (*on_failed)(struct worker *worker);
	/* Behind that: by give-up= its device is not to wait. */
	void (*on_given_up)(struct worker *worker);
	/* Its device is gone, or could not be made; it is freed then. */
	void (*on_end)(struct worker *worker);
	/* All that it had has heard of it. */
	void (*on_process_end)(struct supervisor *supervisor, pid_t pid);
	/* A user's process has ended that could not delete its device; NULL: nobody asks. */
	void (*on_remains)(struct supervisor *supervisor);
	/* See supervisor_hand_over(): those that are left go on for a while. */
	void (*on_handed)(struct supervisor *supervisor);
	/* Of a worker: what it is doing is another thing now. */
	void (*on_change)(struct supervisor *supervisor);
	/* No worker is left, and none will come. */
	void (*on_gone)(struct supervisor *supervisor);
	void *owner;

	struct worker *workers; /* supervisor.c's from here on; others may read */
	struct worker_group *groups;
	struct spare spare;
	unsigned starting;
	int folder; /* that we were started in, which relative paths are relative to */
	int status; /* of the first that failed, and that nobody asked for */
	bool begun, settled, stopped, hurries, leaves, gone;
	bool hands_over, handed;
	/*
	 * The caller's: another server has the devices, and has back those that we have of them if we
	 * end; so a worker that dies has failed.
	 */
	bool one_by_one;
	int signal; /* that it was stopped by */
};

/* Before anything else of a supervisor. -errno after an error text. */
int supervisor_open(struct supervisor *supervisor);
/* Ends what is left of the workers without a word to them. */
void supervisor_close(struct supervisor *supervisor);

/*
 * settings: a reference for it to keep. passed: has the files that a client has opened, of which
 * it keeps descriptors of its own; NULL: none. user: of whom it is, which the process is not to
 * be trusted more than; NULL: nobody. Started with the others, or now. NULL: no memory, or no
 * descriptors.
 */
struct worker *supervisor_add(struct supervisor *supervisor, const char *name, const char *backend,
			      json_t *settings, bool added, const struct spec *passed,
			      const char *user);
/* Of its device; NULL: none is known yet. */
static inline const char *worker_uuid(const struct worker *worker)
{
	return json_string_value(json_object_get(worker->settings, "uuid"));
}

/* By its device's name or path, or its number. NULL: none. */
struct worker *supervisor_find(const struct supervisor *supervisor, const char *text);
void supervisor_start(struct supervisor *supervisor);
/* As far as that goes by now: one more was added. */
void supervisor_go_on(struct supervisor *supervisor);
/*
 * What the signal means to ublkd serve, see leaves; may be called again. on_gone
 * follows.
 */
void supervisor_stop(struct supervisor *supervisor, int signal, bool leaves);
/*
 * supervisor_stop() to leave, by this signal, of those only that cannot be left later: that
 * are not usable, do not outlive their server, or are asked something. on_handed follows
 * when they have ended; the others are told by somebody else. supervisor_stop() leaves the
 * rest.
 */
void supervisor_hand_over(struct supervisor *supervisor, int signal,
			  bool (*is_asked)(const struct worker *worker));
/* A process has it; its number, or 0. */
bool worker_has_process(const struct worker *worker);
pid_t worker_pid(const struct worker *worker);
/* It is not started, and is freed, as one that could not make its device. */
void worker_refuse(struct worker *worker, int status);
/*
 * While it has no process: another was added by its name meanwhile, or it has changed. added: no
 * file says that.
 */
void worker_renew(struct worker *worker, const char *backend, json_t *settings, bool added);
/* Behind on_handed: the devices are ours again, and those that nobody serves are served again. */
void supervisor_take_back(struct supervisor *supervisor);
/* Workers that are not started again by themselves. */
size_t supervisor_failures(const struct supervisor *supervisor);
/* To all of them, as for SIGUSR1. */
void supervisor_signal(const struct supervisor *supervisor, int signal);

/*
 * A live one is leaving its device, as it was told: when its process has ended none
 * is started, and on_failed follows.
 */
void worker_pause(struct worker *worker);
/* One that rests, has failed or is quiesced is started now; one that pauses would be. */
void worker_again(struct worker *worker);
/*
 * Its process is killed, whatever it does, and all that it has is given to the next one at once,
 * or goes if it cannot wait. -errno: it has none, or that cannot be done.
 */
int worker_kill(struct worker *worker);
/*
 * One that rests, has failed or is quiesced is not started until worker_let_go(), by who
 * deletes its device meanwhile: gone, and the worker is as well, or it is what it was.
 * false: there is, or may be, a process.
 */
bool worker_hold(struct worker *worker);
void worker_let_go(struct worker *worker, bool gone);
/* A connection to where it is served, at which calls are answered; -errno: there is none. */
int worker_connect(const struct worker *worker);

#endif
