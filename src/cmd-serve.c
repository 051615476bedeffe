/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd serve: serves the devices that files describe, until it is told to stop. */
#define _GNU_SOURCE
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "exit.h"
#include "log.h"
#include "preflight.h"
#include "serve.h"
#include "serve-settings.h"
#include "util/parse.h"

/* All files are read, so that all that is wrong is said at once. */
static int read_files(struct serve *serve, int argc, char **argv)
{
	int status = EXIT_DONE;

	serve->conf.kept = serve->config.state;
	serve->conf.shared = serve->config.reactors > 0;
	serve->conf.workers = serve->config.workers;
	serve->conf.may_be_empty = serve->config.socket;
	for (int i = 1; i < argc; i++) {
		int ret = strncmp(argv[i], "--", 2) ? conf_read(&serve->conf, argv[i]) : EXIT_DONE;

		if (!status)
			status = ret;
	}
	return conf_check(&serve->conf) ? EXIT_USAGE : status;
}

static bool are_files(int argc, char **argv)
{
	int i = 1;

	while (i < argc && !strncmp(argv[i], "--", 2))
		i++;
	return i < argc;
}

/* As far as is known before the table is ours; one of another boot's says nothing. */
static bool devices_wait(const char *state)
{
	struct table table;
	bool wait = false;

	if (table_look(&table, state))
		return false;
	for (unsigned i = 0; i < table.count; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/class/ublk-char/ublkc%u",
			 (unsigned)table.entries[i].id);
		wait |= table.entries[i].state == TABLE_WAITS && !access(path, F_OK);
	}
	table_close(&table);
	return wait;
}

/*
 * Where nothing is served as long as a file is wrong, the I/O of all devices that wait for a
 * server waits for somebody who mends it. Who asks whether all is right, or lets another server
 * go on, loses nothing by being refused.
 */
static bool goes_on_without(struct serve *serve, int status)
{
	const struct serve_config *config = &serve->config;

	if (status == EXIT_RUNTIME || config->check || config->preflight || config->takeover ||
	    !config->state || !devices_wait(config->state))
		return false;
	conf_drop_same(&serve->conf);
	ublkd_error("%u file(s) that describe devices are wrong; as devices wait for a server, what is "
		    "right is served all the same, and nothing is deleted that may be described",
		    serve->conf.wrong);
	return true;
}

static int find_devices(struct serve *serve, int argc, char **argv)
{
	int status;

	if (!are_files(argc, argv) && !serve->config.socket) {
		ublkd_error("serve: expected files or folders that describe devices, or --socket, "
			    "got none");
		return EXIT_USAGE;
	}
	status = read_files(serve, argc, argv);
	return status && goes_on_without(serve, status) ? EXIT_DONE : status;
}

static int check_state(const struct serve_config *config)
{
	const char *given = config->workers   ? "workers" :
			    config->keep      ? "keep" :
			    config->takeover  ? "takeover" :
			    config->preflight ? "preflight" :
			    config->drop      ? "drop" :
						NULL;

	if (config->workers && config->reactors) {
		ublkd_error("workers: expected without --reactors, as no device has its threads in "
			    "common with others then");
		return EXIT_USAGE;
	}
	if (!given || config->state)
		return EXIT_DONE;
	ublkd_error("%s: expected only with --state, which says what waits", given);
	return EXIT_USAGE;
}

/* What the command line says, and what it leaves to the file of settings. */
static int read_settings(struct serve *serve)
{
	int status = serve_read_settings(serve);

	if (status)
		return status;
	status = check_state(&serve->config);
	if (status && serve->settings)
		ublkd_note("the settings of '%s' count, too", serve->settings);
	return status;
}

static int parse_flags(struct serve *serve, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		serve->config.process.help |= !strcmp(argv[i], "--help");
	for (int i = 1; i < argc && !serve->config.process.help; i++) {
		int status;

		if (strncmp(argv[i], "--", 2))
			continue;
		status = serve_flag(serve, argv[i]);
		if (status)
			return status;
	}
	return serve->config.process.help ? EXIT_DONE : read_settings(serve);
}

static int find_group(const char *text, gid_t *gid)
{
	const struct group *group = text ? getgrnam(text) : NULL;
	uint64_t number = 0;

	if (text && !group && (parse_uint(text, &number) || number >= UINT32_MAX)) {
		ublkd_error("socket-group: expected a group that exists, or its number, got '%s'",
			    text);
		return EXIT_USAGE;
	}
	*gid = !text ? (gid_t)-1 : group ? group->gr_gid : (gid_t)number;
	return EXIT_DONE;
}

static int serve_main(int argc, char **argv)
{
	struct serve serve;
	int status;

	serve_init(&serve);
	status = parse_flags(&serve, argc, argv);
	if (!status && serve.config.process.help) {
		command_print_help(&serve_command);
	} else if (!status) {
		status = find_devices(&serve, argc, argv);
		if (!status)
			status = find_group(serve.config.socket_group,
					    &serve.manager.service.group);
		/* Before the other server is asked to leave, as it would go on otherwise. */
		if (!status && (serve.config.preflight || serve.config.takeover))
			status = preflight(&serve.conf, serve.config.state);
		if (!status && !serve.config.check && !serve.config.preflight) {
			serve.mode = serve.config.workers ? &serve_supervisor : &serve_alone;
			serve.process.serves_elsewhere = serve.config.workers;
			status = process_begin(&serve.process);
			if (status < 0)
				status = serve_all(&serve);
		}
	}
	serve_free(&serve);
	return status;
}

static void serve_help(void)
{
	printf("\nOptions:\n");
	options_print(stdout, serve_options, "--");
	printf("\nIn the file of settings they are KEY = VALUE in the section [" SERVE_SECTION "]; the\n"
	       "command line overrides them.\n");
	printf("\nA FILE describes one device, a FOLDER holds such files, *.conf:\n\n"
	       "  [device]\n"
	       "  name = web                 before its messages; the file's name if not given\n"
	       "  backend = file             or FILTER+BACKEND\n"
	       "  path = /srv/web.img        and any other KEY = VALUE that 'run' takes\n"
	       "  depth = 32\n"
	       "\nFor each device that is usable, a line NAME PATH is printed. 'ublkd help run' and\n"
	       "'ublkd help BACKEND' list the keys.\n");
}

const struct command serve_command = {
	.name = "serve",
	.usage = "[--OPTION…] [FILE|FOLDER]…",
	.summary = "Serve all devices that files describe, until it is told to stop.",
	.run = serve_main,
	.help = serve_help,
};
