/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What ublkd serve is in each of its modes: alone, as the supervisor of workers,
 * or as one of them. The command (cmd-serve.c) or the worker's start chooses the
 * mode, and the mode uses what is here. Main thread.
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

struct serve;

typedef void serve_visitor(void *arg, const char *name, const char *path);

/* What differs. */
struct serve_mode {
	/* Its devices, before anything of them is started. An exit status. */
	int (*open)(struct serve *serve);
	/* To whoever may ask something from now on. An exit status. */
	int (*listen)(struct serve *serve);
	/* -errno after an error text. */
	int (*open_table)(struct serve *serve);
	/* Whether a device that waits is to be taken over. */
	bool (*wants)(const struct serve *serve, const char *name);
	/* Adds what the last server's clients had added. NULL: nothing. */
	void (*take_over)(struct serve *serve);
	/* The devices of this process have been usable or have failed. */
	void (*settled)(struct serve *serve);
	/* Calls visit for each device that is usable. */
	void (*visit_live)(const struct serve *serve, serve_visitor *visit, void *arg);
	/* May be called again, to hurry. leaves: to the next server. serve_end() follows. */
	void (*stop)(struct serve *serve, int signal, bool leaves);
	/* Leaves its devices, for serve_leave(). */
	void (*leave)(struct serve *serve);
	/* Frees what is its own. NULL: nothing. */
	void (*close)(struct serve *serve);
};

struct serve {
	const struct serve_mode *mode;
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

/* The command line so far: its options only. An exit status. The caller sets the mode. */
extern const struct ublkd_option serve_options[];
void serve_init(struct serve *serve);
int serve_flag(struct serve *serve, const char *arg);
/* From the event loop to the end of all. */
int serve_all(struct serve *serve);
void serve_free(struct serve *serve);

/* For the modes. Ends the event loop: */
void serve_end(struct serve *serve, int status);
/* Each device is usable or has failed: the pid file, and what is printed from the background. */
void serve_settled(struct serve *serve);
/* A line NAME PATH, unless it comes with the others from the background. */
void serve_print(struct serve *serve, const char *name, const char *path);
void serve_leave(struct serve *serve);

/* What a mode has in common with others: the devices are in files, and in one table; */
bool serve_describes(const struct serve *serve, const char *name);
int serve_open_table(struct serve *serve);
/* or they are of this process. */
void serve_visit_host(const struct serve *serve, serve_visitor *visit, void *arg);
void serve_stop_host(struct serve *serve, int signal, bool leaves);
void serve_leave_host(struct serve *serve);

extern const struct serve_mode serve_alone, serve_supervisor;
/* The process: "ublkd --worker", see supervisor.c. */
int worker_main(int argc, char **argv);

#endif
