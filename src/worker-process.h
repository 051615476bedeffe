/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process that serves devices for a supervisor: its start, what it says line by line, what
 * it is sent through its channel, and its end. It is "ublkd --worker", see serve-worker.c.
 * Main thread.
 */
#ifndef WORKER_PROCESS_H
#define WORKER_PROCESS_H

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include <ublkd/backend.h>

/* What its last argument says while it has had no device. No device, and no worker, is called so. */
#define WORKER_SPARE "(spare)"
/* An argument: the descriptor of its channel, */
#define WORKER_CHANNEL "3"
/* on which a byte says what the descriptors are that come with it: */
#define WORKER_CALL 'c'   /* a socket, for calls */
#define WORKER_DEVICE 'd' /* a socket, with what is to be served, and files for it */

/* Lines of it: "NAME /dev/ublkbN", the device is usable; NAME, one of these, and what follows: */
#define WORKER_SAYS_GONE "gone"   /* STATUS: it has none any more */
#define WORKER_SAYS_HELD "held"   /* STATUS: as the same, but the driver has not let go of it */
#define WORKER_SAYS_STUCK "stuck" /* PID COMMAND NUMBER SINCE: a command for it */
/* or, as it is going to end, this alone. */
#define WORKER_SAYS_ENDING "ending"

struct worker_stream {
	struct worker_process *process;
	ev_io readable;
	char text[1024];
	size_t used;
	void (*on_line)(struct worker_process *process, const char *line);
};

struct worker_process {
	/* Set by the caller. */
	struct ev_loop *loop;
	void (*on_line)(struct worker_process *process, const char *line);
	void (*on_log)(struct worker_process *process, const char *line);
	/* status: of waitpid(). All that it said was heard, and pid is that of the dead still. */
	void (*on_death)(struct worker_process *process, int status);

	pid_t pid;   /* worker-process.c's from here on; 0: there is no process */
	int pidfd;
	int channel; /* we write */
	ev_child child;
	struct worker_stream out, err;
};

/*
 * With these options, NULL behind them, in this folder. user: who it is to be, by identity_text();
 * NULL: as we are. name: as users know it, NULL: its first device says that. 0, and on_death()
 * follows, or -errno.
 */
int worker_process_start(struct worker_process *process, char *const *options, const char *user,
			 const char *name, int folder);
/* The other's process is this one's, whose callbacks hear of it from now on. */
void worker_process_move(struct worker_process *process, struct worker_process *other);
/*
 * A device for it to serve. What it says of it by a line follows, or its end. files: for the
 * device, at most SPEC_MOST_FILES, option NULL behind them.
 */
int worker_process_give(const struct worker_process *process, json_t *device,
			const struct ublkd_passed *files);
/* A connection to it, at which it answers calls; or -errno. */
int worker_process_connect(const struct worker_process *process);
/* Nothing more is sent: it leaves what it has, and ends. */
void worker_process_shut(struct worker_process *process);
/* -errno: it cannot be sent. SIGKILL ends it whatever it does, but for what it waits for in the kernel. */
int worker_process_signal(const struct worker_process *process, int signal);
/* It is shut, and not heard any more. */
void worker_process_close(struct worker_process *process);

#endif
