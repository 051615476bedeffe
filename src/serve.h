/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ublkd serve: by itself (cmd-serve.c), as the supervisor of workers, or as one
 * of them (serve-workers.c). Main thread.
 */
#ifndef SERVE_H
#define SERVE_H

#include "conf.h"
#include "handover.h"
#include "host.h"
#include "process.h"
#include "recover.h"
#include "service-methods.h"
#include "supervisor.h"
#include "supervisor-methods.h"

struct serve_config {
	struct process_config process;
	uint64_t reactors; /* 0: one per queue */
	char *state; /* NULL: devices end with us */
	bool workers, keep, takeover, preflight, drop, check;
	char *socket, *socket_group;
};

/* What a worker serves. */
struct only {
	const char *name; /* NULL: this is no worker */
	bool added;
	struct spec spec;
	int channel; /* to the supervisor */
	ev_io on_channel;
};

struct serve {
	struct serve_config config;
	struct options set;
	struct conf conf;

	struct ev_loop *loop;
	ev_periodic far; /* see loop_rest_undisturbed() */
	struct ctrl ctrl;
	struct pool pool;
	struct host host;
	struct table table; /* where there is a state */
	struct recover recover;
	struct handover handover;
	bool waits; /* for the end of the server that was asked to leave */
	struct manager manager; /* with a socket */
	struct supervisor supervisor; /* with workers, and then the host has no device */
	struct router router;
	struct orphan_hunt hunt; /* for what a worker left whose device could not wait */
	uint32_t hunt_next;
	bool hunting, hunt_again, ending;
	char *worker_options[5]; /* NULL behind them; the first is allocated */
	struct only only; /* in a worker */
	struct process process;
	bool failed; /* we, not a device */
	int status;
};

/* The command line so far: its options only. An exit status. */
void serve_init(struct serve *serve);
int serve_flag(struct serve *serve, const char *arg);
/* From the event loop to the end of all. */
int serve_all(struct serve *serve);
void serve_free(struct serve *serve);
/* Ends the event loop. */
void serve_end(struct serve *serve, int status);
/* Each device is usable or has failed: the pid file, and what is printed from the background. */
void serve_settled(struct serve *serve);
/* A line NAME PATH, unless it comes with the others from the background. */
void serve_print(struct serve *serve, const char *name, const char *path);
void serve_leave(struct serve *serve);

/* serve-workers.c */
int workers_open(struct serve *serve);
void workers_close(struct serve *serve);
/* The devices are known by now, and the dead ones of others are gone. */
void workers_start(struct serve *serve);
/* All are told by the signal; serve_end() follows. */
void workers_stop(struct serve *serve, int signal);
/* What the last server's clients had added. */
void workers_take_over(struct serve *serve);
/* Opens the table and the channel of a worker. An exit status. */
int worker_open(struct serve *serve);
/* The process: "ublkd --worker", see supervisor.c. */
int worker_main(int argc, char **argv);

#endif
