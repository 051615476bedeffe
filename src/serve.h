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
	char *config; /* NULL: the usual file, if it is there */
};

struct member;

/* What a worker has of its supervisor. */
struct given {
	char *title;      /* the last argument, which ps shows */
	const char *name; /* of the devices, or of the only one; for messages; NULL: none came yet */
	int channel;
	ev_io on_channel;
	struct member *members; /* its devices */
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
	/* One of this process is gone, or stuck. NULL: nobody asks. */
	void (*ended)(struct serve *serve, struct hosted *hosted);
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
	const char *settings; /* the file that some are from; NULL: none are */
	struct conf conf;

	struct ev_loop *loop;
	ev_periodic far; /* see loop_rest_undisturbed() */
	struct ctrl ctrl;
	struct pool pool;
	struct host host;
	struct table table; /* where there is a state */
	struct recover recover;
	struct handover handover;
	bool waits; /* for the server that was asked to leave to let us have the table */
	int successor_fd; /* who takes our workers' devices over one by one; -1: nobody */
	ev_io on_successor_end;
	ev_timer listen; /* again, when the successor has ended */
	unsigned listens;
	struct manager manager; /* with a socket */
	struct features_query features; /* for it */
	struct supervisor supervisor; /* with workers, and then the host has no device */
	struct router router;
	struct orphan_hunt hunt; /* for what a worker left whose device could not wait */
	uint32_t hunt_next;
	bool hunting, hunt_again, ending;
	char *worker_options[5]; /* NULL behind them; the first is allocated */
	struct given given; /* in a worker */
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
/* The same when no device is left; status: of those. */
void serve_end_gone(struct serve *serve, int status);
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
