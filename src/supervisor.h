/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that are served by a process each, a worker, which is started again
 * when it dies: the next one takes the device over, whose I/O has waited. Here
 * is no device, no ring and no I/O, so nothing that a backend or the driver
 * does to a worker reaches the others. Main thread.
 *
 * A worker is "ublkd --worker", see serve-worker.c. It prints its device's line when
 * that is usable, logs to us, and ends with an exit status. Through its channel
 * it gets sockets on which it is asked about its device; when that closes, as we
 * are gone, it leaves its device to the next server.
 */
#ifndef SUPERVISOR_H
#define SUPERVISOR_H

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "table.h"

/* Arguments of a worker: its channel, and whether a file describes its device. */
#define WORKER_CHANNEL "3"
#define WORKER_DESCRIBED "described"
#define WORKER_ADDED "added"

enum worker_state {
	WORKER_WAITS,  /* to be started, in its turn */
	WORKER_STARTS,
	WORKER_LIVE,
	WORKER_RESTS,  /* died, and is started again after a while */
	WORKER_FAILED, /* died too often; its device waits until worker_again() */
	WORKER_QUIESCED, /* has left its device, which waits until worker_again() */
	WORKER_ENDS,   /* has died, and somebody else deletes its device, see worker_hold() */
};

/* What it says, line by line. */
struct worker_stream {
	struct ev_loop *loop;
	ev_io readable;
	char text[1024];
	size_t used;
	void (*on_line)(struct worker_stream *stream, const char *line);
};

struct worker {
	char *name;       /* of its device */
	char *backend;    /* [FILTER+…]BACKEND */
	json_t *settings; /* as they were given: texts */
	bool added;       /* at run time: no file describes it */
	bool quiet;       /* how it ends is somebody's answer, and not the supervisor's status */
	bool asked;       /* that somebody waits for its first start */
	bool prepared;    /* a file that is to describe its device; see persist.h */

	struct supervisor *supervisor; /* supervisor.c's from here on; others may read */
	struct worker *next;
	enum worker_state state, held; /* held: before worker_hold() */
	pid_t pid;        /* 0: there is no process */
	int channel;      /* we write */
	ev_child child;
	struct worker_stream out, err;
	ev_timer timer;   /* until it is started again */
	ev_tstamp began;
	unsigned deaths;  /* in a row */
	bool settled;     /* was usable, or has failed */
	bool was_live;
	char path[64];    /* of the device, once it was usable */
	char error[512];  /* the last thing that it said of its device */
	bool pauses;      /* is leaving its device, see worker_pause() */
	bool last;        /* is started only to be stopped */
	int status;       /* of its last process: an exit status */
};

struct supervisor {
	/* Set by the caller. */
	struct ev_loop *loop;
	const struct table *table;
	char *const *options; /* of ublkd serve, NULL behind them, for each worker */
	bool stays; /* also without a device, until supervisor_stop() */
	/* The device is usable, for the first time or again. */
	void (*on_live)(struct worker *worker);
	/* Each device has been usable or has failed. Called once, unless the stop comes first. */
	void (*on_settled)(struct supervisor *supervisor);
	/* It died too often, or was told to leave its device, which waits for worker_again(). */
	void (*on_failed)(struct worker *worker);
	/* Its device is gone, or could not be made; it is freed then. */
	void (*on_end)(struct worker *worker);
	/* No worker is left, and none will come. */
	void (*on_gone)(struct supervisor *supervisor);
	void *owner;

	struct worker *workers; /* supervisor.c's from here on; others may read */
	unsigned starting;
	int folder; /* that we were started in, which relative paths are relative to */
	int status; /* of the first that failed, and that nobody asked for */
	bool begun, settled, stopped, hurries, leaves, gone;
	int signal; /* that it was stopped by */
};

/* Before anything else of a supervisor. -errno after an error text. */
int supervisor_open(struct supervisor *supervisor);
/* Ends what is left of the workers without a word to them. */
void supervisor_close(struct supervisor *supervisor);

/* settings: a reference for it to keep. Started with the others, or now. NULL: no memory. */
struct worker *supervisor_add(struct supervisor *supervisor, const char *name, const char *backend,
			      json_t *settings, bool added);
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
 * One that rests, has failed or is quiesced is not started until worker_let_go(), by who
 * deletes its device meanwhile: gone, and the worker is as well, or it is what it was.
 * false: there is, or may be, a process.
 */
bool worker_hold(struct worker *worker);
void worker_let_go(struct worker *worker, bool gone);
/* A connection to a live worker, at which it answers calls; -errno: there is none. */
int worker_connect(struct worker *worker);

#endif
