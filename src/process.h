/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the commands that serve devices have in common as processes: their
 * options, the log, the terminal, the pid file, signals. Main thread.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include <ev.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>

#include "background.h"
#include "guard.h"
#include "notify.h"
#include "option.h"

/*
 * Files that are open: of a device its character device, its backing's, and what looks after it;
 * then its own reactors.
 */
#define FILES_PER_DEVICE (2 + UBLKD_TARGET_FILES)
#define FILES_PER_REACTOR 7
#define FILES_PER_PROCESS 64

struct process_config {
	bool background, stats, verbose, help;
	char *pid_file;
	int log; /* enum log_destination */
	int64_t oom_score;
};

extern const char *const process_log_names[];

#define PROCESS_FIELD(holder, part, field) \
	(offsetof(holder, part) + offsetof(struct process_config, field))

/* Lines of a command's table of options, for this part of its configuration; not --help. */
#define PROCESS_OPTIONS(holder, part) \
	{ .name = "background", .type = UBLKD_OPT_BOOL, .flag = true, \
	  .offset = PROCESS_FIELD(holder, part, background), \
	  .help = "return when the device is usable, and serve on" }, \
	{ .name = "pid-file", .type = UBLKD_OPT_STRING, .arg = "PATH", \
	  .offset = PROCESS_FIELD(holder, part, pid_file), \
	  .help = "write the process id to this file" }, \
	{ .name = "stats", .type = UBLKD_OPT_BOOL, .flag = true, \
	  .offset = PROCESS_FIELD(holder, part, stats), \
	  .help = "log the counters of every queue at the end (on SIGUSR1 always)" }, \
	{ .name = "verbose", .type = UBLKD_OPT_BOOL, .flag = true, \
	  .offset = PROCESS_FIELD(holder, part, verbose), .help = "log every step" }, \
	{ .name = "log", .type = UBLKD_OPT_ENUM, .values = process_log_names, \
	  .offset = PROCESS_FIELD(holder, part, log), .preset = "stderr", .arg = "WHERE", \
	  .help = "where messages go" }, \
	{ .name = "oom-score", .type = UBLKD_OPT_INT, .offset = PROCESS_FIELD(holder, part, oom_score), \
	  .min = (uint64_t)-1000, .max = 1000, .preset = "-1000", .arg = "N", \
	  .help = "how soon the kernel kills it when memory is short; -1000: never" }

/* Leave the devices to who sends it, see on_leave. */
#define SIGNAL_LEAVE SIGUSR2

struct process {
	/* Set by the caller. */
	const struct process_config *config;
	/* A signal to stop came, stops says which one: the first or the second. */
	void (*on_stop)(struct process *process, int signal);
	void (*on_hang_up)(struct process *process); /* SIGHUP; NULL: that is a signal to stop, too */
	void (*on_stats)(struct process *process);
	void (*on_leave)(struct process *process); /* another server wants our devices; NULL: no */
	bool serves_elsewhere; /* by other processes, and has no device itself */
	bool leaves; /* rather than that it stops: what is not done is another server's */
	struct notify notify; /* its describe is the caller's */

	struct guard guard;
	unsigned stops;
	struct background background;
	ev_signal signals[5];
	char *pid_file; /* absolute; written: must go in the end */
	rlim_t files;   /* the soft limit that we came with, which a command may count on */
};

/* Sets an option "--NAME[=VALUE]" of the command; an exit status. */
int process_flag(struct options *set, const char *arg, const char *command);
/* The log, and going to the background as asked: -1: go on, else an exit status. */
int process_begin(struct process *process);
/* The loop that all is watched in, and as many files as there may be; NULL after an error text. */
struct ev_loop *process_loop(struct process *process, ev_periodic *far);
void process_watch_signals(struct process *process, struct ev_loop *loop);
/*
 * What the process serves is usable: writes the pid file, and tells the service manager;
 * -errno after an error text.
 */
int process_ready(struct process *process);
/* Prints lines, and lets go of the terminal if we are in the background. */
void process_print(struct process *process, const char *lines);
bool process_in_background(const struct process *process);
/* So many may be open at once: raises the limit as far as we may, and says if that is not enough. */
void process_need_files(rlim_t files);
void process_end(struct process *process);

#endif
