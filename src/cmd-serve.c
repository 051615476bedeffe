/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd serve: serves the devices that files describe, until it is told to stop. */
#define _GNU_SOURCE
#include <grp.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "exit.h"
#include "log.h"
#include "preflight.h"
#include "serve.h"
#include "util/parse.h"

/* All files are read, so that all that is wrong is said at once. */
static int read_files(struct serve *serve, int argc, char **argv)
{
	int status = EXIT_DONE;
	bool any = false;

	serve->conf.kept = serve->config.state;
	serve->conf.shared = serve->config.reactors > 0;
	serve->conf.may_be_empty = serve->config.socket;
	for (int i = 1; i < argc; i++) {
		int ret;

		if (!strncmp(argv[i], "--", 2))
			continue;
		any = true;
		ret = conf_read(&serve->conf, argv[i]);
		if (!status)
			status = ret;
	}
	if (!any && !serve->config.socket) {
		ublkd_error("serve: expected files or folders that describe devices, or --socket, "
			    "got none");
		return EXIT_USAGE;
	}
	if (conf_check(&serve->conf))
		return EXIT_USAGE;
	return status;
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
	return check_state(&serve->config);
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
		status = read_files(&serve, argc, argv);
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
