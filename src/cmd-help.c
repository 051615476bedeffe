/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd help: everything it prints comes from the tables. */
#include <stdio.h>
#include <string.h>

#include "backend.h"
#include "command.h"
#include "exit.h"
#include "log.h"
#include "option.h"

void program_print_help(void)
{
	printf("Usage: ublkd COMMAND …\n\n"
	       "Serves files and memory as Linux block devices through the ublk driver.\n\n"
	       "Commands:\n");
	for (unsigned i = 0; commands[i]; i++)
		printf("  %-12s %s\n", commands[i]->name, commands[i]->summary);
	printf("\nBackends:\n");
	for (unsigned i = 0; backends[i]; i++) {
		if (!backends[i]->filter)
			printf("  %-12s %s\n", backends[i]->name, backends[i]->summary);
	}
	printf("\nFilters, put before a backend with '+':\n");
	for (unsigned i = 0; backends[i]; i++) {
		if (backends[i]->filter)
			printf("  %-12s %s\n", backends[i]->name, backends[i]->summary);
	}
	printf("\n'ublkd help COMMAND' and 'ublkd help BACKEND' say more; so does ublkd(8).\n");
}

void command_print_help(const struct command *command)
{
	printf("Usage: ublkd %s%s%s\n\n%s\n", command->name, *command->usage ? " " : "",
	       command->usage, command->summary);
	if (command->help)
		command->help();
}

void backend_print_help(const struct ublkd_backend *backend)
{
	printf("%s %s: %s\n\nOptions:\n", backend->filter ? "Filter" : "Backend",
	       backend->name, backend->summary);
	options_print(stdout, backend->options, "");
}

static int help_main(int argc, char **argv)
{
	const struct command *command;
	const struct ublkd_backend *backend;

	if (argc == 1) {
		program_print_help();
		return EXIT_DONE;
	}
	command = command_find(argv[1]);
	backend = backend_find(argv[1]);
	if (argc > 2 || (!command && !backend)) {
		ublkd_error("help: expected one command or backend, got '%s'",
			    argc > 2 ? argv[2] : argv[1]);
		return EXIT_USAGE;
	}
	if (command)
		command_print_help(command);
	else
		backend_print_help(backend);
	return EXIT_DONE;
}

const struct command help_command = {
	.name = "help",
	.usage = "[COMMAND | BACKEND]",
	.summary = "Explain a command or a backend.",
	.run = help_main,
};
