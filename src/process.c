/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "exit.h"
#include "log.h"
#include "util/loop.h"
#include "util/macros.h"

enum log_destination { LOG_TO_STDERR, LOG_TO_SYSLOG };

const char *const process_log_names[] = { "stderr", "syslog", NULL };

int process_flag(struct options *set, const char *arg, const char *command)
{
	char help[64];

	snprintf(help, sizeof(help), "ublkd help %s", command);
	return options_flag(set, arg, command, help);
}

int process_begin(struct process *process)
{
	int status;

	log_set_verbose(process->config->verbose);
	process->background.report_fd = -1;
	notify_take(&process->notify);
	if (process->config->background) {
		status = background_start(&process->background);
		if (status >= 0)
			return status;
	}
	if (process->config->log == LOG_TO_SYSLOG)
		log_to_syslog();
	guard_from_reclaim();
	guard_from_oom_killer((int)process->config->oom_score);
	guard_memory();
	process->guard.home = -1;
	return !process->serves_elsewhere && guard_from_mounts(&process->guard) ? EXIT_KERNEL : -1;
}

/* As many as may be. The soft limit that was. */
static rlim_t raise_file_limit(void)
{
	struct rlimit limit;
	rlim_t old;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 0;
	old = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return old;
}

void process_need_files(rlim_t files)
{
	struct rlimit limit = { .rlim_cur = files, .rlim_max = files }, now;

	if (getrlimit(RLIMIT_NOFILE, &now) || now.rlim_cur >= files)
		return;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		ublkd_note("%llu files may be needed, but no more than %llu may be open at once; "
			   "see RLIMIT_NOFILE in setrlimit(2)", (unsigned long long)files,
			   (unsigned long long)now.rlim_cur);
}

struct ev_loop *process_loop(struct process *process, ev_periodic *far)
{
	struct ev_loop *loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);

	if (!loop) {
		ublkd_error("cannot make the event loop");
		return NULL;
	}
	loop_rest_undisturbed(loop, far);
	process->files = raise_file_limit();
	notify_start(&process->notify, loop);
	return loop;
}

/* ---- signals ------------------------------------------------------------------------ */

/*
 * The first signal stops, the second fails what is left; the third gives up.
 */
static void on_stop_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
	struct process *process = watcher->data;

	(void)loop;
	(void)events;
	if (++process->stops == 2)
		ublkd_note("%s", process->leaves ? "leaving at once: the I/O that is left is the next "
						   "server's" :
						   "stopping by force: the I/O that is left is failed");
	if (process->stops <= 2) {
		process->on_stop(process, watcher->signum);
		return;
	}
	ublkd_error("giving up: the next ublkd removes the device's remains");
	process_end(process);
	_exit(EXIT_RUNTIME);
}

static void on_stats_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
	struct process *process = watcher->data;

	(void)loop;
	(void)events;
	process->on_stats(process);
}

static void on_leave_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
	struct process *process = watcher->data;

	(void)loop;
	(void)events;
	if (process->on_leave)
		process->on_leave(process);
	else
		ublkd_note("the signal to leave devices to another server is of no use here");
}

static void on_hang_up_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
	struct process *process = watcher->data;

	if (process->on_hang_up)
		process->on_hang_up(process);
	else
		on_stop_signal(loop, watcher, events);
}

void process_watch_signals(struct process *process, struct ev_loop *loop)
{
	static const struct {
		int number;
		void (*on_signal)(struct ev_loop *loop, ev_signal *watcher, int events);
	} signals[ARRAY_SIZE(process->signals)] = {
		{ SIGINT, on_stop_signal },   { SIGTERM, on_stop_signal },
		{ SIGHUP, on_hang_up_signal }, { SIGUSR1, on_stats_signal },
		{ SIGNAL_LEAVE, on_leave_signal },
	};

	sigset_t ours;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&ours);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		ev_signal *watcher = &process->signals[i];

		ev_signal_init(watcher, signals[i].on_signal, signals[i].number);
		watcher->data = process;
		ev_signal_start(loop, watcher);
		sigaddset(&ours, signals[i].number);
	}
	/* A worker is started with them blocked; what came meanwhile comes now. */
	sigprocmask(SIG_UNBLOCK, &ours, NULL);
}

/* ---- what is left for others ---------------------------------------------------------- */

/* The daemon changes its directory before it removes the file. */
static char *absolute_path(const char *path)
{
	_cleanup_free_ char *directory = *path == '/' ? strdup("") : realpath(".", NULL);
	char *absolute;

	if (!directory || asprintf(&absolute, "%s%s%s", directory, *path == '/' ? "" : "/", path) < 0)
		return NULL;
	return absolute;
}

static int leave_pid_file(struct process *process)
{
	char *path = process->config->pid_file ? absolute_path(process->config->pid_file) : NULL;
	int ret = path ? pid_file_write(path) : 0;

	if (ret)
		free(path);
	else
		process->pid_file = path;
	return ret;
}

int process_ready(struct process *process)
{
	int ret = leave_pid_file(process);

	if (!ret)
		notify_state(&process->notify, NOTIFY_READY);
	return ret;
}

bool process_in_background(const struct process *process)
{
	return process->background.report_fd >= 0;
}

void process_print(struct process *process, const char *lines)
{
	if (process_in_background(process))
		background_ready(&process->background, lines);
	else if (write(STDOUT_FILENO, lines, strlen(lines)) < 0)
		ublkd_error("cannot print '%.*s': %s", (int)strcspn(lines, "\n"), lines,
			    strerror(errno));
}

void process_end(struct process *process)
{
	if (process->pid_file)
		unlink(process->pid_file);
	free(process->pid_file);
	process->pid_file = NULL;
	notify_end(&process->notify);
}
