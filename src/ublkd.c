/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "become.h"
#include "build.h"
#include "command.h"
#include "exit.h"
#include "guard.h"
#include "helper.h"
#include "log.h"
#include "owner.h"
#include "serve.h"
#include "util/self.h"

const struct command *const commands[] = {
	&run_command, &serve_command, &features_command, &doctor_command, &help_command, NULL,
};

const struct command *command_find(const char *name)
{
	for (unsigned i = 0; commands[i]; i++) {
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	}
	return NULL;
}

int main(int argc, char **argv)
{
	const struct command *command;

	self_set_name("ublkd", NULL);
	if (argc < 2) {
		ublkd_error("expected a command, got none; 'ublkd help' lists them");
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--helper"))
		return helper_main(argc, argv);
	if (!strcmp(argv[1], "--worker"))
		return worker_main(argc, argv);
	if (!strcmp(argv[1], "--as"))
		return become_main(argc, argv);
	if (!strcmp(argv[1], "--command"))
		return guard_command_main(argc, argv);
	if (!strcmp(argv[1], "--owner-of"))
		return owner_main(argc, argv);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		program_print_help();
		return EXIT_DONE;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("ublkd %s\n", PACKAGE_VERSION);
		return EXIT_DONE;
	}
	command = command_find(argv[1]);
	if (!command) {
		ublkd_error("expected a command, got '%s'; 'ublkd help' lists them", argv[1]);
		return EXIT_USAGE;
	}
	return command->run(argc - 1, argv + 1);
}
