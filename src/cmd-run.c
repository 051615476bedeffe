/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd run: serves one device until it is told to stop. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <sched.h>
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
#include "util/loop.h"
#include "util/macros.h"
#include "util/parse.h"

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

#define MOST_LAYERS 4

/* A backend as it was named, or a filter before it. */
struct layer {
	const struct ublkd_backend *backend;
	void *config;
	struct options set;
};

struct run {
	struct run_config config;
	struct device_config device_config;
	struct options run_set, device_set;
	struct layer layers[MOST_LAYERS]; /* the topmost first */
	unsigned nr_layers;
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

static int unknown_option(const struct run *run, const char *name, size_t length)
{
	const char *backend = run->layers[run->nr_layers - 1].backend->name;

	ublkd_error("expected an option of 'run' or of the backend '%s', got '%.*s'; "
		    "'ublkd help run' and 'ublkd help %s' list them", backend, (int)length, name,
		    backend);
	return EXIT_USAGE;
}

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

static int add_layer(struct run *run, const char *name, bool last)
{
	struct layer *layer = &run->layers[run->nr_layers];

	if (run->nr_layers == MOST_LAYERS) {
		ublkd_error("expected at most %u filters before the backend", MOST_LAYERS - 1);
		return EXIT_USAGE;
	}
	layer->backend = backend_find(name);
	if (!layer->backend || layer->backend->filter == last) {
		ublkd_error("expected a %s, got '%s'; 'ublkd help' lists them",
			    last ? "backend" : "filter before '+'", name);
		return EXIT_USAGE;
	}
	layer->config = calloc(1, layer->backend->config_size);
	if (!layer->config) {
		ublkd_error("no memory");
		return EXIT_RUNTIME;
	}
	options_init(&layer->set, layer->backend->options, layer->config);
	run->nr_layers++;
	return EXIT_DONE;
}

/* FILTER+…+BACKEND; for --help a filter alone will do. */
static int parse_backend(struct run *run, const char *names)
{
	_cleanup_free_ char *copy = strdup(names);
	char *rest = copy;
	int status = copy ? EXIT_DONE : EXIT_RUNTIME;

	while (rest && !status) {
		const char *name = strsep(&rest, "+");

		status = add_layer(run, name, !rest && !run->config.help);
	}
	return status;
}

static int parse_setting(struct run *run, const char *arg)
{
	size_t length = strcspn(arg, "=");
	const char *value = arg[length] ? arg + length + 1 : NULL;
	const struct ublkd_option *option = option_find(device_options, arg, length);
	struct options *set = &run->device_set;

	for (unsigned i = 0; !option && i < run->nr_layers; i++) {
		set = &run->layers[i].set;
		option = option_find(set->table, arg, length);
	}
	if (!option)
		return unknown_option(run, arg, length);
	return options_set(set, option, value) ? EXIT_USAGE : EXIT_DONE;
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
		else if (!run->nr_layers)
			status = parse_backend(run, argv[i]);
		else
			status = parse_setting(run, argv[i]);
		if (status)
			return status;
	}
	return EXIT_DONE;
}

/* ---- settings that go together --------------------------------------------------- */

static int parse_owner(const char *text, uid_t *uid, gid_t *gid)
{
	_cleanup_free_ char *user = strdup(text);
	char *group = user ? strchr(user, ':') : NULL;
	uint64_t number;

	if (group)
		*group++ = 0;
	if (user && *user) {
		const struct passwd *entry = getpwnam(user);

		if (!entry && (parse_uint(user, &number) || number >= UINT32_MAX))
			goto unknown;
		*uid = entry ? entry->pw_uid : (uid_t)number;
	}
	if (group && *group) {
		const struct group *entry = getgrnam(group);

		if (!entry && (parse_uint(group, &number) || number >= UINT32_MAX))
			goto unknown;
		*gid = entry ? entry->gr_gid : (gid_t)number;
	}
	return EXIT_DONE;
unknown:
	ublkd_error("owner: expected USER[:GROUP] that exists, or numbers, got '%s'", text);
	return EXIT_USAGE;
}

static int check_cpus(const char *list)
{
	cpu_set_t asked, allowed;

	cpu_list_to_set(list, &asked);
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return EXIT_DONE;
	CPU_AND(&asked, &asked, &allowed);
	if (CPU_COUNT(&asked))
		return EXIT_DONE;
	ublkd_error("cpus: expected CPUs that this process may use, got '%s'", list);
	return EXIT_USAGE;
}

static int check_settings(struct run *run)
{
	struct device_config *config = &run->device_config;

	if (!run->nr_layers) {
		ublkd_error("run: expected a backend, got none; 'ublkd help' lists them");
		return EXIT_USAGE;
	}
	for (unsigned i = 0; i < run->nr_layers; i++) {
		if (options_check(&run->layers[i].set, run->layers[i].backend->name))
			return EXIT_USAGE;
	}
	if (config->reactors > config->queues) {
		ublkd_error("reactors: expected at most queues=%" PRIu64 ", got '%" PRIu64 "'",
			    config->queues, config->reactors);
		return EXIT_USAGE;
	}
	if (run->config.background && run->child_argv) {
		ublkd_error("--background: expected no command behind '--', got '%s'",
			    run->child_argv[0]);
		return EXIT_USAGE;
	}
	config->id_given = options_given(&run->device_set, "id");
	config->mode_given = options_given(&run->device_set, "mode");
	run->device.uid = (uid_t)-1;
	run->device.gid = (gid_t)-1;
	if (config->cpus && check_cpus(config->cpus))
		return EXIT_USAGE;
	return config->owner ? parse_owner(config->owner, &run->device.uid, &run->device.gid) :
			       EXIT_DONE;
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

/* From the lowest layer up. */
static int open_target(struct run *run)
{
	struct ublkd_wish wish = {
		.read_only = run->device_config.read_only,
		.block_size = (uint32_t)run->device_config.block_size,
	};
	int ret = 0;

	for (unsigned i = run->nr_layers; !ret && i-- > 0;)
		ret = backend_open(&run->target, run->layers[i].backend, run->layers[i].config,
				   &wish, run->target);
	return ret;
}

static int serve(struct run *run)
{
	int ret;

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
	ret = open_target(run);
	if (ret) {
		backend_close(run->target, false);
		pool_close(&run->pool);
		ctrl_close(&run->ctrl);
		return ret == -EINVAL ? EXIT_USAGE : EXIT_BACKING;
	}
	watch_signals(run);
	run->device.loop = run->loop;
	run->device.ctrl = &run->ctrl;
	run->device.pool = &run->pool;
	run->device.config = &run->device_config;
	run->device.target = run->target;
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
	options_init(&run.device_set, device_options, &run.device_config);
	status = parse_arguments(&run, argc, argv);
	if (!status && run.config.help) {
		if (run.nr_layers)
			backend_print_help(run.layers[0].backend);
		else
			command_print_help(&run_command);
	} else if (!status) {
		status = check_settings(&run);
		if (!status)
			status = serve_as_asked(&run);
	}
	options_free(&run.run_set);
	options_free(&run.device_set);
	for (unsigned i = 0; i < run.nr_layers; i++) {
		options_free(&run.layers[i].set);
		free(run.layers[i].config);
	}
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
