/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd run: serves one device until it is told to stop. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "backend.h"
#include "background.h"
#include "command.h"
#include "device.h"
#include "exit.h"
#include "log.h"
#include "spec.h"
#include "util/loop.h"
#include "util/macros.h"

extern char **environ;

struct run_config {
	bool background, stats, verbose, help;
	char *pid_file;
	int log; /* enum log_destination */
};

enum log_destination { LOG_TO_STDERR, LOG_TO_SYSLOG };

static const char *const log_names[] = { "stderr", "syslog", NULL };

#define FIELD(name) offsetof(struct run_config, name)

static const struct ublkd_option run_options[] = {
	{ .name = "background", .type = UBLKD_OPT_BOOL, .offset = FIELD(background), .flag = true,
	  .help = "return when the device is usable, and serve on" },
	{ .name = "pid-file", .type = UBLKD_OPT_STRING, .offset = FIELD(pid_file), .arg = "PATH",
	  .help = "write the process id to this file" },
	{ .name = "stats", .type = UBLKD_OPT_BOOL, .offset = FIELD(stats), .flag = true,
	  .help = "log the counters of every queue at the end (on SIGUSR1 always)" },
	{ .name = "verbose", .type = UBLKD_OPT_BOOL, .offset = FIELD(verbose), .flag = true,
	  .help = "log every step" },
	{ .name = "log", .type = UBLKD_OPT_ENUM, .offset = FIELD(log), .values = log_names,
	  .preset = "stderr", .arg = "WHERE", .help = "where messages go" },
	{ .name = "help", .type = UBLKD_OPT_BOOL, .offset = FIELD(help), .flag = true,
	  .help = "explain this command, or the backend that is named" },
	{ 0 },
};

struct run {
	struct run_config config;
	struct options run_set;
	struct spec spec;
	char **child_argv; /* NULL: no command */

	struct ev_loop *loop;
	ev_periodic far; /* see loop_rest_undisturbed() */
	struct ctrl ctrl;
	struct pool pool;
	struct ublkd_target *target;
	struct device device;
	struct background background;
	ev_signal signals[4];
	ev_child child;
	bool child_running;
	int child_status;
	char *pid_file;    /* absolute; written: must go in the end */
	rlim_t files;      /* the soft limit that we came with */
	unsigned stops;    /* signals to stop that came */
	int status;
};

/* ---- command line -------------------------------------------------------------- */

static int parse_flag(struct run *run, const char *arg)
{
	size_t length = strcspn(arg + 2, "=");
	const struct ublkd_option *option = option_find(run_options, arg + 2, length);

	if (!option) {
		ublkd_error("expected an option of 'run', got '%s'; 'ublkd help run' lists them",
			    arg);
		return EXIT_USAGE;
	}
	return options_set(&run->run_set, option, arg[2 + length] ? arg + 3 + length : NULL) ?
		       EXIT_USAGE : EXIT_DONE;
}

static int parse_setting(struct run *run, const char *arg)
{
	size_t length = strcspn(arg, "=");

	return spec_set(&run->spec, arg, length, arg[length] ? arg + length + 1 : NULL);
}

static int parse_arguments(struct run *run, int argc, char **argv)
{
	/* Who asks for help need not have a whole command line yet. */
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		run->config.help |= !strcmp(argv[i], "--help");
	for (int i = 1; i < argc; i++) {
		int status;

		if (!strcmp(argv[i], "--")) {
			run->child_argv = argv + i + 1;
			if (!run->child_argv[0]) {
				ublkd_error("expected a command behind '--', got none");
				return EXIT_USAGE;
			}
			break;
		}
		if (!strncmp(argv[i], "--", 2))
			status = parse_flag(run, argv[i]);
		else if (!run->spec.nr_layers)
			status = spec_set_backend(&run->spec, argv[i], run->config.help);
		else
			status = parse_setting(run, argv[i]);
		if (status)
			return status;
	}
	return EXIT_DONE;
}

static int check_settings(struct run *run)
{
	if (!run->spec.nr_layers) {
		ublkd_error("run: expected a backend, got none; 'ublkd help' lists them");
		return EXIT_USAGE;
	}
	if (run->config.background && run->child_argv) {
		ublkd_error("--background: expected no command behind '--', got '%s'",
			    run->child_argv[0]);
		return EXIT_USAGE;
	}
	return spec_check(&run->spec);
}

/* ---- what the process is given and leaves ------------------------------------------- */

/*
 * A reactor takes five files, a device two. Programs that we start may count
 * on the limit that they would have without us. Returns the old soft limit.
 */
static rlim_t set_file_limit(rlim_t files)
{
	struct rlimit limit;
	rlim_t old;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 0;
	old = limit.rlim_cur;
	limit.rlim_cur = MIN(files, limit.rlim_max);
	setrlimit(RLIMIT_NOFILE, &limit);
	return old;
}

/* The daemon changes its directory before it removes the file. */
static char *absolute_path(const char *path)
{
	_cleanup_free_ char *directory = *path == '/' ? strdup("") : realpath(".", NULL);
	char *absolute;

	if (!directory || asprintf(&absolute, "%s%s%s", directory, *path == '/' ? "" : "/", path) < 0)
		return NULL;
	return absolute;
}

static int leave_pid_file(struct run *run)
{
	char *path = run->config.pid_file ? absolute_path(run->config.pid_file) : NULL;
	int ret = path ? pid_file_write(path) : 0;

	if (ret)
		free(path);
	else
		run->pid_file = path;
	return ret;
}

static void remove_pid_file(struct run *run)
{
	if (run->pid_file)
		unlink(run->pid_file);
	free(run->pid_file);
	run->pid_file = NULL;
}

/* ---- signals and the command -------------------------------------------------------- */

static void child_ended(struct ev_loop *loop, ev_child *watcher, int events)
{
	struct run *run = container_of(watcher, struct run, child);
	int status = watcher->rstatus;

	(void)events;
	ev_child_stop(loop, watcher);
	run->child_running = false;
	if (run->stops < 2) /* then we killed it, and know what for */
		run->child_status = WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) :
							  WEXITSTATUS(status);
	device_stop(&run->device, false);
}

static int spawn(char **argv, pid_t *pid)
{
	posix_spawnattr_t attr;
	sigset_t all;
	int ret;

	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigdefault(&attr, &all);
	ret = posix_spawnp(pid, argv[0], NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	return ret;
}

static void start_child(struct run *run)
{
	char id[16];
	pid_t pid;
	int error;

	snprintf(id, sizeof(id), "%u", run->device.id);
	setenv("UBLKD_DEVICE", run->device.node.path, 1);
	setenv("UBLKD_DEVICE_ID", id, 1);
	set_file_limit(run->files);
	error = spawn(run->child_argv, &pid);
	set_file_limit(RLIM_INFINITY);
	if (error) {
		ublkd_error("cannot run '%s': %s", run->child_argv[0], strerror(error));
		run->child_status = error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
		device_stop(&run->device, false);
		return;
	}
	run->child_running = true;
	ev_child_init(&run->child, child_ended, pid, 0);
	ev_child_start(run->loop, &run->child);
}

/* What is typed at the terminal goes to the command as well as to us. */
static bool terminal_signals_us(void)
{
	return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

/*
 * The first signal stops, or is the command's, whose end stops; the second
 * fails what is left; the third gives up.
 */
static void on_stop_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
	struct run *run = watcher->data;

	(void)loop;
	(void)events;
	switch (++run->stops) {
	case 1:
		if (!run->child_running)
			device_stop(&run->device, false);
		else if (watcher->signum != SIGINT || !terminal_signals_us())
			kill(run->child.pid, watcher->signum);
		break;
	case 2:
		ublkd_note("stopping by force: the I/O that is left is failed");
		if (run->child_running) {
			run->child_status = EXIT_SIGNAL + watcher->signum;
			kill(run->child.pid, SIGKILL);
		}
		device_stop(&run->device, true);
		break;
	default:
		ublkd_error("giving up: the next ublkd removes the device's remains");
		remove_pid_file(run);
		_exit(EXIT_RUNTIME);
	}
}

static void on_stats_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
	struct run *run = watcher->data;

	(void)loop;
	(void)events;
	device_log_stats(&run->device);
}

static void watch_signals(struct run *run)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1 };

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		ev_signal *watcher = &run->signals[i];

		ev_signal_init(watcher, numbers[i] == SIGUSR1 ? on_stats_signal : on_stop_signal,
			       numbers[i]);
		watcher->data = run;
		ev_signal_start(run->loop, watcher);
	}
}

/* ---- the device ------------------------------------------------------------------------ */

static void on_live(struct device *device)
{
	struct run *run = device->owner;
	char line[NODE_NAME_MAX + 1];

	if (leave_pid_file(run)) {
		run->child_status = EXIT_RUNTIME;
		device_stop(device, false);
		return;
	}
	if (run->child_argv) {
		start_child(run);
		return;
	}
	snprintf(line, sizeof(line), "%s\n", device->node.path);
	if (run->background.report_fd >= 0)
		background_ready(&run->background, line);
	else if (write(STDOUT_FILENO, line, strlen(line)) < 0)
		ublkd_error("cannot print '%s': %s", device->node.path, strerror(errno));
}

static void on_gone(struct device *device, int status)
{
	struct run *run = device->owner;

	if (run->config.stats)
		device_log_stats(device);
	run->status = status ? status : run->child_status;
	ev_break(run->loop, EVBREAK_ALL);
}

static int serve(struct run *run)
{
	int status;

	run->loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
	if (!run->loop) {
		ublkd_error("cannot make the event loop");
		return EXIT_RUNTIME;
	}
	loop_rest_undisturbed(run->loop, &run->far);
	run->files = set_file_limit(RLIM_INFINITY);
	if (ctrl_open(&run->ctrl, run->loop))
		return EXIT_KERNEL;
	if (pool_open(&run->pool, run->loop, 0)) {
		ctrl_close(&run->ctrl);
		return EXIT_RUNTIME;
	}
	status = spec_open(&run->spec, &run->target);
	if (status) {
		pool_close(&run->pool);
		ctrl_close(&run->ctrl);
		return status;
	}
	watch_signals(run);
	run->device.loop = run->loop;
	run->device.ctrl = &run->ctrl;
	run->device.pool = &run->pool;
	run->device.config = &run->spec.device;
	run->device.target = run->target;
	run->device.uid = run->spec.uid;
	run->device.gid = run->spec.gid;
	run->device.on_live = on_live;
	run->device.on_gone = on_gone;
	run->device.owner = run;
	log_switch(run->device.about);
	device_start(&run->device);
	if (!run->device.gone)
		ev_run(run->loop, 0);
	remove_pid_file(run);
	/* A command that is stuck in the driver still owns what we would free. */
	if (run->status == EXIT_TIMEOUT)
		_exit(EXIT_TIMEOUT);
	pool_close(&run->pool);
	backend_close(run->target, run->device.live);
	log_switch(NULL);
	device_free(&run->device);
	ctrl_close(&run->ctrl);
	return run->status;
}

static int serve_as_asked(struct run *run)
{
	int status;

	log_set_verbose(run->config.verbose);
	run->background.report_fd = -1;
	if (run->config.background) {
		status = background_start(&run->background);
		if (status >= 0)
			return status;
	}
	if (run->config.log == LOG_TO_SYSLOG)
		log_to_syslog();
	return serve(run);
}

static int run_main(int argc, char **argv)
{
	struct run run = { 0 };
	int status;

	options_init(&run.run_set, run_options, &run.config);
	spec_init(&run.spec);
	status = parse_arguments(&run, argc, argv);
	if (!status && run.config.help) {
		if (run.spec.nr_layers)
			backend_print_help(run.spec.layers[0].backend);
		else
			command_print_help(&run_command);
	} else if (!status) {
		status = check_settings(&run);
		if (!status)
			status = serve_as_asked(&run);
	}
	options_free(&run.run_set);
	spec_free(&run.spec);
	return status;
}

static void run_help(void)
{
	printf("\nOptions of the program:\n");
	options_print(stdout, run_options, "--");
	printf("\nOptions of the device:\n");
	options_print(stdout, device_options, "");
	printf("\n'ublkd help BACKEND' lists the options of a backend.\n");
}

const struct command run_command = {
	.name = "run",
	.usage = "[--OPTION…] [FILTER+]BACKEND [KEY=VALUE…] [-- COMMAND [ARG…]]",
	.summary = "Serve one device until it is told to stop.",
	.run = run_main,
	.help = run_help,
};
