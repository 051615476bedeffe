/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd run: serves one device until it is told to stop. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "backend.h"
#include "command.h"
#include "device.h"
#include "exit.h"
#include "log.h"
#include "process.h"
#include "spec.h"
#include "util/child.h"
#include "util/macros.h"
#include "util/uuid.h"

struct run_config {
	struct process_config process;
};

static const struct ublkd_option run_options[] = {
	PROCESS_OPTIONS(struct run_config, process),
	{ .name = "help", .type = UBLKD_OPT_BOOL, .flag = true,
	  .offset = PROCESS_FIELD(struct run_config, process, help),
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
	struct process process;
	ev_child child;
	bool child_running;
	int child_status;
	int status;
};

/* ---- command line -------------------------------------------------------------- */

static int parse_setting(struct run *run, const char *arg)
{
	size_t length = strcspn(arg, "=");

	return spec_set(&run->spec, arg, length, arg[length] ? arg + length + 1 : NULL);
}

static int parse_arguments(struct run *run, int argc, char **argv)
{
	/* Who asks for help need not have a whole command line yet. */
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		run->config.process.help |= !strcmp(argv[i], "--help");
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
			status = process_flag(&run->run_set, argv[i], "run");
		else if (!run->spec.nr_layers)
			status = spec_set_backend(&run->spec, argv[i], run->config.process.help);
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
	if (run->config.process.background && run->child_argv) {
		ublkd_error("--background: expected no command behind '--', got '%s'",
			    run->child_argv[0]);
		return EXIT_USAGE;
	}
	if (spec_check_unkept(&run->spec, "with 'run'"))
		return EXIT_USAGE;
	return spec_check(&run->spec);
}

/* ---- signals and the command -------------------------------------------------------- */

static void child_ended(struct ev_loop *loop, ev_child *watcher, int events)
{
	struct run *run = container_of(watcher, struct run, child);
	int status = watcher->rstatus;

	(void)events;
	ev_child_stop(loop, watcher);
	run->child_running = false;
	if (run->process.stops < 2) /* then we killed it, and know what for */
		run->child_status = WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) :
							  WEXITSTATUS(status);
	device_stop(&run->device, false);
}

static void start_child(struct run *run)
{
	char id[16];
	pid_t pid;
	int ret;

	snprintf(id, sizeof(id), "%u", run->device.id);
	setenv("UBLKD_DEVICE", run->device.node.path, 1);
	setenv("UBLKD_DEVICE_ID", id, 1);
	setenv("UBLKD_DEVICE_UUID", run->device.entry.uuid, 1);
	ret = guard_command_start(&run->process.guard, run->process.files, run->child_argv, &pid);
	if (ret) {
		ublkd_error("cannot start a process for '%s': %s", run->child_argv[0],
			    strerror(-ret));
		run->child_status = EXIT_NOT_EXECUTABLE;
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

/* The first signal may be the command's, whose end stops. */
static void on_stop(struct process *process, int signal)
{
	struct run *run = container_of(process, struct run, process);

	if (process->stops > 1 && run->child_running) {
		run->child_status = EXIT_SIGNAL + signal;
		child_signal(&run->child, SIGKILL);
	} else if (run->child_running) {
		if (signal != SIGINT || !terminal_signals_us())
			child_signal(&run->child, signal);
		return;
	}
	device_stop(&run->device, process->stops > 1);
	notify_state(&process->notify, NOTIFY_STOPPING);
}

static void describe(struct notify *notify, char text[NOTIFY_TEXT])
{
	const struct run *run = container_of(notify, struct run, process.notify);

	snprintf(text, NOTIFY_TEXT, "%s %s",
		 run->device.stopping ? "deleting" :
		 run->device.live     ? "serving" :
					"starting",
		 run->device.node.path[0] ? run->device.node.path : "a device");
}

static void on_stats(struct process *process)
{
	device_log_stats(&container_of(process, struct run, process)->device);
}

/* ---- the device ------------------------------------------------------------------------ */

static void on_live(struct device *device)
{
	struct run *run = device->owner;
	char line[NODE_NAME_MAX + 1];

	if (process_ready(&run->process)) {
		run->child_status = EXIT_RUNTIME;
		device_stop(device, false);
		return;
	}
	if (run->child_argv) {
		start_child(run);
		return;
	}
	snprintf(line, sizeof(line), "%s\n", device->node.path);
	process_print(&run->process, line);
}

static void on_gone(struct device *device, int status)
{
	struct run *run = device->owner;

	if (run->config.process.stats)
		device_log_stats(device);
	run->status = status ? status : run->child_status;
	ev_break(run->loop, EVBREAK_ALL);
}

static void set_uuid(struct run *run)
{
	const char *given = run->spec.device.uuid;

	if (given)
		snprintf(run->device.entry.uuid, UUID_SIZE, "%s", given);
	else
		uuid_make(run->device.entry.uuid);
}

static int serve(struct run *run)
{
	int status;

	run->loop = process_loop(&run->process, &run->far);
	if (!run->loop)
		return EXIT_RUNTIME;
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
	process_watch_signals(&run->process, run->loop);
	run->device.loop = run->loop;
	run->device.ctrl = &run->ctrl;
	run->device.pool = &run->pool;
	run->device.config = &run->spec.device;
	run->device.target = run->target;
	run->device.uid = run->spec.uid;
	run->device.gid = run->spec.gid;
	set_uuid(run);
	run->device.on_live = on_live;
	run->device.on_gone = on_gone;
	run->device.owner = run;
	log_switch(run->device.about);
	device_start(&run->device);
	if (!run->device.gone)
		ev_run(run->loop, 0);
	process_end(&run->process);
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

static int run_main(int argc, char **argv)
{
	struct run run = { 0 };
	int status;

	options_init(&run.run_set, run_options, &run.config);
	run.process.config = &run.config.process;
	run.process.on_stop = on_stop;
	run.process.on_stats = on_stats;
	run.process.notify.describe = describe;
	spec_init(&run.spec);
	status = parse_arguments(&run, argc, argv);
	if (!status && run.config.process.help) {
		if (run.spec.nr_layers)
			backend_print_help(run.spec.layers[0].backend);
		else
			command_print_help(&run_command);
	} else if (!status) {
		status = check_settings(&run);
		if (!status)
			status = process_begin(&run.process);
		if (status < 0)
			status = serve(&run);
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
