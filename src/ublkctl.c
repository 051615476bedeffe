/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkctl: adds devices to a running "ublkd serve --socket", deletes, resizes and shows them. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "build.h"
#include "ctl.h"
#include "exit.h"
#include "log.h"
#include "util/macros.h"
#include "util/parse.h"

static const char *const opener_names[] = { "client", "server", NULL };

#define FIELD(name) offsetof(struct ctl_config, name)

static const struct ublkd_option ctl_options[] = {
	{ .name = "socket", .type = UBLKD_OPT_PATH, .offset = FIELD(socket), .arg = "PATH",
	  .help = "of the server; UBLKD_SOCKET, or " DEFAULT_SOCKET ", if not given" },
	{ .name = "name", .type = UBLKD_OPT_STRING, .offset = FIELD(name), .arg = "NAME",
	  .help = "add: what the device is called; the server chooses if not given" },
	{ .name = "backing", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(backing),
	  .help = "a DEVICE is named by a file that it stands on" },
	{ .name = "shrink", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(shrink),
	  .help = "resize: also to a smaller size" },
	{ .name = "json", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(json),
	  .help = "print the server's answers, a JSON object in each line" },
	{ .name = "timeout", .type = UBLKD_OPT_UINT, .offset = FIELD(timeout), .min = 1,
	  .max = 86400, .preset = "120", .arg = "SECONDS",
	  .help = "how long to wait for each answer" },
	{ .name = "force", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(force),
	  .help = "del, gc: delete also what is in use; recover: kill a process that hangs" },
	{ .name = "all", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(all),
	  .help = "del: all devices that the server has" },
	{ .name = "when-unused", .type = UBLKD_OPT_BOOL, .flag = true,
	  .offset = FIELD(when_unused), .help = "del: wait until nobody uses it, then delete it" },
	{ .name = "unmount", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(unmount),
	  .help = "del: unmount what is on it first, and switch swap off" },
	{ .name = "persist", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(persist),
	  .help = "add: write a file that describes it, too; set: change it; del: remove it" },
	{ .name = "open", .type = UBLKD_OPT_ENUM, .values = opener_names, .offset = FIELD(open),
	  .preset = "client", .arg = "WHO", .help = "add: who opens the files that KEYs name" },
	{ .name = "unprivileged", .type = UBLKD_OPT_BOOL, .flag = true,
	  .offset = FIELD(unprivileged),
	  .help = "add: the device is yours, and served by a process that has your rights alone" },
	{ .name = "help", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(help),
	  .help = "explain the program" },
	{ .name = "version", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(version),
	  .help = "print the version" },
	{ 0 },
};

/* ---- commands ---------------------------------------------------------------------------- */

static int run_wait(struct ctl *ctl)
{
	return ctl_ask_each(ctl, "io.ublkd.Wait", json_object(), ctl_print_path, NULL);
}

static int run_quiesce(struct ctl *ctl)
{
	return ctl_ask_each(ctl, "io.ublkd.Quiesce", json_object(), ctl_print_nothing, NULL);
}

static int run_resume(struct ctl *ctl)
{
	return ctl_ask_each(ctl, "io.ublkd.Resume", json_object(), ctl_print_nothing, NULL);
}

/* A process is killed once, whichever of its devices are named: then it is another. */
static void name_one_of_each_process(struct ctl *ctl)
{
	json_t *devices = ctl_list_named(ctl), *named = json_object();
	int left = 0;

	for (int i = 0; i < ctl->nr_args; i++) {
		const json_t *pid = json_object_get(json_array_get(devices, (size_t)i), "pid");
		char text[24];

		snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(pid));
		if (json_is_integer(pid) && json_object_get(named, text))
			continue;
		if (json_is_integer(pid))
			json_object_set_new(named, text, json_true());
		ctl->args[left++] = ctl->args[i];
	}
	ctl->nr_args = left;
	json_decref(devices);
	json_decref(named);
}

static int run_recover(struct ctl *ctl)
{
	json_t *force = ctl->config.force ? json_pack("{s:b}", "force", true) : json_object();

	if (ctl->config.force && ctl->nr_args > 1)
		name_one_of_each_process(ctl);
	return ctl_ask_each(ctl, "io.ublkd.Recover", force, ctl_print_nothing, NULL);
}

static void print_size(const json_t *answer)
{
	printf("%" JSON_INTEGER_FORMAT "\n", json_integer_value(json_object_get(answer, "size")));
}

static int run_resize(struct ctl *ctl)
{
	json_t *parameters = json_pack("{s:s, s:b}", "device", ctl->args[0], "shrink",
				       ctl->config.shrink);
	uint64_t size;

	if (ctl->nr_args > 1) {
		if (parse_size(ctl->args[1], &size) || size > INT64_MAX) {
			ublkd_error("expected a size such as 64M, got '%s'", ctl->args[1]);
			json_decref(parameters);
			return EXIT_USAGE;
		}
		json_object_set_new(parameters, "size", json_integer((json_int_t)size));
	}
	return ctl_ask(ctl, "io.ublkd.Resize", parameters, print_size);
}

/* ---- without a server ----------------------------------------------------------------- */

/* By the program that is installed beside this one. */
static int run_doctor(struct ctl *ctl)
{
	char path[PATH_MAX + sizeof("ublkd")];
	ssize_t length = readlink("/proc/self/exe", path, PATH_MAX);
	char *base = length > 0 ? memrchr(path, '/', (size_t)length) : NULL;

	strcpy(base ? base + 1 : path, "ublkd");
	execlp(path, "ublkd", "doctor", ctl->config.json ? "--json" : NULL, NULL);
	ublkd_error("cannot run '%s': %s", path, strerror(errno));
	return EXIT_RUNTIME;
}

/* ---- the command line ------------------------------------------------------------------ */

static const struct ctl_command {
	const char *name, *usage, *summary;
	int devices; /* of the arguments, the first */
	int least, most; /* arguments */
	int (*run)(struct ctl *ctl);
	bool alone; /* asks no server */
} ctl_commands[] = {
	{ "add", "BACKEND [KEY=VALUE]…", "Add a device, and print its path when it is usable.", 0, 1,
	  INT32_MAX, ctl_add },
	{ "del", "DEVICE…|--all", "Delete devices that nobody uses.", INT32_MAX, 1, INT32_MAX,
	  ctl_delete },
	{ "resize", "DEVICE [SIZE]", "Change a device's size, to that of its backing without SIZE.", 1,
	  1, 2, run_resize },
	{ "set", "DEVICE KEY=VALUE…", "Change settings of a device while it is used.", 1, 2,
	  INT32_MAX, ctl_set },
	{ "list", "", "List the devices.", 0, 0, 0, ctl_list },
	{ "show", "DEVICE", "Print all about a device.", 1, 1, 1, ctl_show },
	{ "recover", "DEVICE…", "Start devices again that have failed, or whose process died.", INT32_MAX,
	  1, INT32_MAX, run_recover },
	{ "wait", "DEVICE…", "Wait until devices are usable, and print their paths.", INT32_MAX, 1,
	  INT32_MAX, run_wait },
	{ "gc", "", "Delete devices that wait for a server and that nothing describes.", 0, 0, 0,
	  ctl_collect },
	{ "fail-io", "DEVICE…", "Fail the I/O that waits for a server, and delete the devices.",
	  INT32_MAX, 1, INT32_MAX, ctl_fail_io },
	{ "quiesce", "DEVICE…", "Let the I/O of devices wait, and leave their backings alone.",
	  INT32_MAX, 1, INT32_MAX, run_quiesce },
	{ "resume", "DEVICE…", "Go on with devices that were quiesced.", INT32_MAX, 1, INT32_MAX,
	  run_resume },
	{ "features", "", "Print what the server's ublk driver offers.", 0, 0, 0, ctl_features },
	{ "doctor", "", "Find out why devices cannot be served here, or not well.", 0, 0, 0,
	  run_doctor, true },
};

/* On a terminal, where a character beyond ASCII is more than a byte. */
static int width_of(const char *text)
{
	int width = 0;

	for (; *text; text++)
		width += (*text & 0xc0) != 0x80;
	return width;
}

static void print_help(void)
{
	printf("Usage: ublkctl [--OPTION…] COMMAND …\n\n"
	       "Adds devices to a running 'ublkd serve --socket', deletes, resizes and shows\n"
	       "them.\n\n"
	       "Commands:\n");
	for (size_t i = 0; i < ARRAY_SIZE(ctl_commands); i++)
		printf("  %-8s %s%*s %s\n", ctl_commands[i].name, ctl_commands[i].usage,
		       20 - width_of(ctl_commands[i].usage), "", ctl_commands[i].summary);
	printf("\nOptions:\n");
	options_print(stdout, ctl_options, "--");
	printf("\nA DEVICE is named by its name, its number, its UUID, a path that leads to it, or,\n"
	       "with --backing, by its file. 'ublkd help run' and 'ublkd help BACKEND' list the keys;\n"
	       "ublkctl(8) says more.\n");
}

/* Options may stand anywhere. The words that are none are what is left of argv. */
static int read_words(struct ctl *ctl, int argc, char **argv)
{
	ctl->args = argv;
	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "--", 2)) {
			ctl->args[ctl->nr_args++] = argv[i];
		} else {
			int status = options_flag(&ctl->set, argv[i], "ublkctl", "ublkctl --help");

			if (status)
				return status;
		}
	}
	return EXIT_DONE;
}

/* An option that the command does not have; NULL: there is none. */
static const char *wrong_option(const struct ctl *ctl, const struct ctl_command *command)
{
	return ctl->config.name && command->run != ctl_add ? "name" :
	       ctl->config.all && command->run != ctl_delete	   ? "all" :
	       ctl->config.backing && !command->devices	   ? "backing" :
	       ctl->config.force && command->run != ctl_delete && command->run != ctl_collect &&
			       command->run != run_recover ? "force" :
	       ctl->config.when_unused && command->run != ctl_delete ? "when-unused" :
	       ctl->config.unmount && command->run != ctl_delete	   ? "unmount" :
	       ctl->config.persist && command->run != ctl_add && command->run != ctl_delete &&
			       command->run != ctl_set ? "persist" :
	       ctl->config.unprivileged && command->run != ctl_add ? "unprivileged" :
	       options_given(&ctl->set, "open") && command->run != ctl_add ? "open" :
	       ctl->config.shrink && command->run != run_resize	  ? "shrink" :
								    NULL;
}

/* So many arguments; all devices stand for those that would be named. */
static bool takes(const struct ctl *ctl, const struct ctl_command *command, int arguments)
{
	return ctl->config.all ? !arguments :
				 arguments >= command->least && arguments <= command->most;
}

static const struct ctl_command *find_command(struct ctl *ctl)
{
	const struct ctl_command *command = NULL;
	const char *name = ctl->nr_args ? ctl->args[0] : NULL;

	for (size_t i = 0; name && i < ARRAY_SIZE(ctl_commands); i++) {
		if (!strcmp(ctl_commands[i].name, name))
			command = &ctl_commands[i];
	}
	if (!name) {
		ublkd_error("expected a command, got none; 'ublkctl --help' lists them");
	} else if (!command) {
		ublkd_error("expected a command, got '%s'; 'ublkctl --help' lists them", name);
	} else if (wrong_option(ctl, command)) {
		ublkd_error("%s: expected none with '%s'", wrong_option(ctl, command), name);
		command = NULL;
	} else if (!takes(ctl, command, --ctl->nr_args)) {
		ublkd_error("expected %s%s%s, got %d argument(s)", name, *command->usage ? " " : "",
			    command->usage, ctl->nr_args);
		command = NULL;
	} else if (ctl->config.force && ctl->config.when_unused) {
		ublkd_error("when-unused: expected none with --force");
		command = NULL;
	}
	ctl->args++;
	return command;
}

static int run(struct ctl *ctl, const struct ctl_command *command)
{
	int status;

	if (command->alone)
		return command->run(ctl);
	status = ctl_connect(ctl, &ctl->server, command->run == run_wait);
	if (status)
		return status;
	status = ctl->config.backing ? ctl_name_by_backing(ctl, command->devices) :
				       ctl_name_by_path(ctl, command->devices);
	if (!status)
		status = command->run(ctl);
	json_decref(ctl->devices);
	free(ctl->paths);
	client_close(&ctl->server);
	if (fflush(stdout) && !status) {
		ublkd_error("cannot print the answer: %s", strerror(errno));
		status = EXIT_RUNTIME;
	}
	return status;
}

static int ctl_main(int argc, char **argv)
{
	struct ctl ctl = { 0 };
	int status;

	log_switch("ublkctl");
	options_init(&ctl.set, ctl_options, &ctl.config);
	status = read_words(&ctl, argc, argv);
	if (!status && ctl.config.help) {
		print_help();
	} else if (!status && ctl.config.version) {
		printf("ublkctl %s\n", PACKAGE_VERSION);
	} else if (!status) {
		const struct ctl_command *command = find_command(&ctl);

		status = command ? run(&ctl, command) : EXIT_USAGE;
	}
	options_free(&ctl.set);
	return status;
}

#ifndef UBLKCTL_TEST
int main(int argc, char **argv)
{
	return ctl_main(argc, argv);
}
#endif
