/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands of the program: one file each, listed in ublkd.c. */
#ifndef COMMAND_H
#define COMMAND_H

struct ublkd_backend;

struct command {
	const char *name;
	const char *usage;   /* behind the name */
	const char *summary; /* one line */
	int (*run)(int argc, char **argv); /* argv[0] is the name; exit status */
	void (*help)(void);  /* what follows the usage; NULL: nothing */
};

extern const struct command run_command, serve_command, features_command, doctor_command,
	help_command;
/* NULL at the end. */
extern const struct command *const commands[];

const struct command *command_find(const char *name);
void command_print_help(const struct command *command);
void backend_print_help(const struct ublkd_backend *backend);
void program_print_help(void);

#endif
