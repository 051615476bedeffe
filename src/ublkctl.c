/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkctl: adds devices to a running "ublkd serve --socket", deletes, resizes and shows them. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "build.h"
#include "client.h"
#include "exit.h"
#include "log.h"
#include "option.h"
#include "util/macros.h"
#include "util/parse.h"

#define DEFAULT_SOCKET "/run/ublkd/socket"

struct ctl_config {
	char *socket, *name;
	uint64_t timeout;
	bool shrink, json, force, when_unused, persist, help, version;
};

#define FIELD(name) offsetof(struct ctl_config, name)

static const struct ublkd_option ctl_options[] = {
	{ .name = "socket", .type = UBLKD_OPT_PATH, .offset = FIELD(socket), .arg = "PATH",
	  .help = "of the server; UBLKD_SOCKET, or " DEFAULT_SOCKET ", if not given" },
	{ .name = "name", .type = UBLKD_OPT_STRING, .offset = FIELD(name), .arg = "NAME",
	  .help = "add: what the device is called; the server chooses if not given" },
	{ .name = "shrink", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(shrink),
	  .help = "resize: also to a smaller size" },
	{ .name = "json", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(json),
	  .help = "print the server's answers, a JSON object in each line" },
	{ .name = "timeout", .type = UBLKD_OPT_UINT, .offset = FIELD(timeout), .min = 1,
	  .max = 86400, .preset = "120", .arg = "SECONDS",
	  .help = "how long to wait for each answer" },
	{ .name = "force", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(force),
	  .help = "del, gc: delete also what is in use" },
	{ .name = "when-unused", .type = UBLKD_OPT_BOOL, .flag = true,
	  .offset = FIELD(when_unused), .help = "del: wait until nobody uses it, then delete it" },
	{ .name = "persist", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(persist),
	  .help = "add: write a file that describes it, too; del: remove that file, too" },
	{ .name = "help", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(help),
	  .help = "explain the program" },
	{ .name = "version", .type = UBLKD_OPT_BOOL, .flag = true, .offset = FIELD(version),
	  .help = "print the version" },
	{ 0 },
};

struct ctl {
	struct ctl_config config;
	struct options set;
	struct connection server;
	char **args; /* behind the command, options left out */
	int nr_args;
};

/* ---- answers ------------------------------------------------------------------------ */

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "-";
}

/* That the server gives to a failure. */
static int failed_status(const json_t *failure)
{
	json_int_t status = json_integer_value(json_object_get(failure, "status"));

	return status > EXIT_DONE && status <= EXIT_TIMEOUT ? (int)status : EXIT_RUNTIME;
}

/* Of an error that the server's answer is. */
static int report(const char *error, const json_t *parameters)
{
	if (!strcmp(error, "io.ublkd.Failed")) {
		ublkd_error("%s", text_of(parameters, "message"));
		return failed_status(parameters);
	}
	if (!strcmp(error, "io.ublkd.NotFound")) {
		ublkd_error("expected a device's name, number or path, got '%s'",
			    text_of(parameters, "device"));
		return EXIT_USAGE;
	}
	if (!strcmp(error, "io.ublkd.InUse")) {
		ublkd_error("'%s' is in use: %s", text_of(parameters, "device"),
			    text_of(parameters, "holder"));
		return EXIT_TAKEN;
	}
	if (!strcmp(error, "org.varlink.service.PermissionDenied")) {
		ublkd_error("the server serves root, its own user and its --socket-group alone");
		return EXIT_KERNEL;
	}
	if (!strcmp(error, "org.varlink.service.InvalidParameter")) {
		ublkd_error("the server expects something else as '%s'",
			    text_of(parameters, "parameter"));
		return EXIT_USAGE;
	}
	ublkd_error("the server answers with the error '%s'", error);
	return EXIT_RUNTIME;
}

/* The parameters of the answer, a reference; NULL after an error text, and *status is set. */
static json_t *call(struct ctl *ctl, const char *method, json_t *parameters, int *status)
{
	json_t *answer = client_call(&ctl->server, method, parameters, status), *result;
	const char *error = json_string_value(json_object_get(answer, "error"));

	if (!answer)
		return NULL;
	result = json_object_get(answer, "parameters");
	if (error)
		*status = report(error, result);
	else
		json_incref(result);
	json_decref(answer);
	return error ? NULL : result;
}

static int print_json(const json_t *answer)
{
	if (json_dumpf(answer, stdout, JSON_COMPACT) || putchar('\n') == EOF) {
		ublkd_error("cannot print the answer: %s", strerror(errno));
		return EXIT_RUNTIME;
	}
	return EXIT_DONE;
}

/* Asks and prints, as JSON or by the function. more: looks at the answer; NULL: nothing does. */
static int ask_for(struct ctl *ctl, const char *method, json_t *parameters,
		   void (*print)(const json_t *answer), int (*more)(const json_t *answer))
{
	int status = EXIT_DONE;
	json_t *answer = call(ctl, method, parameters, &status);

	if (answer && ctl->config.json)
		status = print_json(answer);
	else if (answer)
		print(answer);
	if (answer && more && !status)
		status = more(answer);
	json_decref(answer);
	return status;
}

static int ask(struct ctl *ctl, const char *method, json_t *parameters,
	       void (*print)(const json_t *answer))
{
	return ask_for(ctl, method, parameters, print, NULL);
}

/* ---- add ---------------------------------------------------------------------------- */

/* The option of this name in an array of options. */
static json_t *find_in(json_t *options, const char *name)
{
	json_t *option;
	size_t i;

	json_array_foreach(options, i, option) {
		if (!strcmp(text_of(option, "name"), name))
			return option;
	}
	return NULL;
}

static bool is_layer(const char *layers, const char *name)
{
	size_t length = strlen(name);

	for (;; layers++) {
		if (!strncmp(layers, name, length) && (!layers[length] || layers[length] == '+'))
			return true;
		layers = strchr(layers, '+');
		if (!layers)
			return false;
	}
}

/* Whether the server takes the option for a path; known: its answer to Backends. */
static bool is_path(json_t *known, const char *layers, const char *name)
{
	json_t *option = find_in(json_object_get(known, "device"), name), *backend;
	size_t i;

	json_array_foreach(json_object_get(known, "backends"), i, backend) {
		if (!option && is_layer(layers, text_of(backend, "name")))
			option = find_in(json_object_get(backend, "options"), name);
	}
	return option && !strcmp(text_of(option, "type"), "path");
}

static json_t *value_of(json_t *known, const char *layers, const char *name, const char *value)
{
	_cleanup_free_ char *here = NULL;

	if (*value == '/' || !*value || !is_path(known, layers, name))
		return json_string(value);
	here = realpath(".", NULL);
	return here ? json_sprintf("%s/%s", here, value) : NULL;
}

/* KEY=VALUE…; NULL after an error text. */
static json_t *read_options(const struct ctl *ctl, json_t *known)
{
	json_t *options = json_object();

	for (int i = 1; i < ctl->nr_args; i++) {
		_cleanup_free_ char *name = strdup(ctl->args[i]);
		char *value = name ? strchr(name, '=') : NULL;
		const char *wrong = NULL;

		if (value)
			*value++ = 0;
		if (!value)
			wrong = "expected KEY=VALUE behind the backend, got";
		else if (json_object_get(options, name))
			wrong = "expected an option once, given twice:";
		else if (json_object_set_new(options, name,
					     value_of(known, ctl->args[0], name, value)))
			wrong = "expected UTF-8, got";
		if (wrong) {
			ublkd_error("%s '%s'", wrong, ctl->args[i]);
			json_decref(options);
			return NULL;
		}
	}
	return options;
}

static void print_path(const json_t *answer)
{
	printf("%s\n", text_of(answer, "path"));
}

static int run_add(struct ctl *ctl)
{
	int status = EXIT_USAGE;
	json_t *known = call(ctl, "io.ublkd.Backends", NULL, &status), *options, *parameters;

	if (!known)
		return status;
	options = read_options(ctl, known);
	json_decref(known);
	if (!options)
		return EXIT_USAGE;
	parameters = json_pack("{s:s, s:o}", "backend", ctl->args[0], "options", options);
	if (parameters && ctl->config.name)
		json_object_set_new(parameters, "name", json_string(ctl->config.name));
	if (parameters && ctl->config.persist)
		json_object_set_new(parameters, "persist", json_true());
	return ask(ctl, "io.ublkd.Add", parameters, print_path);
}

/* ---- del, resize, wait, gc, list, show, features --------------------------------------- */

static void print_users(const json_t *answer)
{
	if (json_is_string(json_object_get(answer, "holder")))
		ublkd_note("'%s' was in use: %s", text_of(answer, "name"), text_of(answer, "holder"));
	if (json_is_true(json_object_get(answer, "lingers")))
		ublkd_note("'%s' is deleted, but still open or mounted: its number is free when its "
			   "last user is gone", text_of(answer, "name"));
	if (json_is_string(json_object_get(answer, "file")))
		ublkd_note("'%s' brings '%s' back at the next start; del --persist removes it, where it "
			   "is in the folder that the server was given", text_of(answer, "file"),
			   text_of(answer, "name"));
}

/* Where it was to be removed. */
static int file_status(const json_t *answer)
{
	return json_is_string(json_object_get(answer, "file")) ? EXIT_RUNTIME : EXIT_DONE;
}

/*
 * Asks about each device that is named. All are tried; the status is that of the first that
 * failed. more: parameters for all, taken over; judge: as in ask_for().
 */
static int ask_each(struct ctl *ctl, const char *method, json_t *more,
		    void (*print)(const json_t *answer), int (*judge)(const json_t *answer))
{
	int status = EXIT_DONE;

	for (int i = 0; i < ctl->nr_args; i++) {
		json_t *parameters = json_copy(more);
		int ret;

		json_object_set_new(parameters, "device", json_string(ctl->args[i]));
		ret = ask_for(ctl, method, parameters, print, judge);
		if (!status)
			status = ret;
	}
	json_decref(more);
	return status;
}

static int run_del(struct ctl *ctl)
{
	json_t *more = json_object();

	/* A server that is older knows neither. */
	if (ctl->config.force)
		json_object_set_new(more, "force", json_true());
	if (ctl->config.when_unused)
		json_object_set_new(more, "when_unused", json_true());
	if (ctl->config.persist)
		json_object_set_new(more, "persist", json_true());
	return ask_each(ctl, "io.ublkd.Delete", more, print_users,
			ctl->config.persist ? file_status : NULL);
}

static int run_wait(struct ctl *ctl)
{
	return ask_each(ctl, "io.ublkd.Wait", json_object(), print_path, NULL);
}

static void print_collected(const json_t *answer)
{
	json_t *one;
	size_t i;

	json_array_foreach(json_object_get(answer, "deleted"), i, one) {
		printf("%s\n", text_of(one, "name"));
		print_users(one);
	}
	json_array_foreach(json_object_get(answer, "kept"), i, one)
		ublkd_error("'%s' is left: %s", text_of(one, "name"), text_of(one, "reason"));
}

/* That of the first that is left, though it ought to go. */
static int kept_status(const json_t *answer)
{
	const json_t *kept = json_array_get(json_object_get(answer, "kept"), 0);

	return kept ? failed_status(kept) : EXIT_DONE;
}

static int run_gc(struct ctl *ctl)
{
	json_t *force = ctl->config.force ? json_pack("{s:b}", "force", true) : NULL;

	return ask_for(ctl, "io.ublkd.Collect", force, print_collected, kept_status);
}

static int run_fail_io(struct ctl *ctl)
{
	return ask_each(ctl, "io.ublkd.FailIo", json_object(), print_users, NULL);
}

static void print_nothing(const json_t *answer)
{
	(void)answer;
}

static int run_quiesce(struct ctl *ctl)
{
	return ask_each(ctl, "io.ublkd.Quiesce", json_object(), print_nothing, NULL);
}

static int run_resume(struct ctl *ctl)
{
	return ask_each(ctl, "io.ublkd.Resume", json_object(), print_nothing, NULL);
}

static int run_recover(struct ctl *ctl)
{
	return ask_each(ctl, "io.ublkd.Recover", json_object(), print_nothing, NULL);
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
	return ask(ctl, "io.ublkd.Resize", parameters, print_size);
}

static const char *size_of(const json_t *device, char text[SIZE_TEXT_MAX])
{
	const json_t *size = json_object_get(device, "size");

	return json_is_integer(size) ? format_size(text, (uint64_t)json_integer_value(size)) : "-";
}

static void print_list(const json_t *answer)
{
	static const char line[] = "%-20s %-14s %-9s %10s %s\n";
	char size[SIZE_TEXT_MAX];
	json_t *device;
	size_t i;

	/* A program that reads the lines does not want to leave out the first. */
	if (isatty(STDOUT_FILENO))
		printf(line, "NAME", "PATH", "STATE", "SIZE", "BACKEND");
	json_array_foreach(json_object_get(answer, "devices"), i, device)
		printf(line, text_of(device, "name"), text_of(device, "path"),
		       text_of(device, "state"), size_of(device, size), text_of(device, "backend"));
}

static int run_list(struct ctl *ctl)
{
	return ask(ctl, "io.ublkd.List", NULL, print_list);
}

static void print_members(const char *prefix, json_t *object)
{
	const char *name;
	json_t *value;

	json_object_foreach(object, name, value) {
		char left[64];

		snprintf(left, sizeof(left), "%s%s", prefix, name);
		if (json_is_string(value))
			printf("%-24s %s\n", left, json_string_value(value));
		else if (json_is_integer(value))
			printf("%-24s %" JSON_INTEGER_FORMAT "\n", left, json_integer_value(value));
	}
}

static void print_details(const json_t *answer)
{
	json_t *all = json_copy((json_t *)(uintptr_t)answer);

	print_members("", json_object_get(all, "device"));
	print_members("", all);
	print_members("config.", json_object_get(all, "config"));
	print_members("counters.", json_object_get(all, "counters"));
	json_decref(all);
}

static int run_show(struct ctl *ctl)
{
	return ask(ctl, "io.ublkd.Show", json_pack("{s:s}", "device", ctl->args[0]), print_details);
}

static void print_features(const json_t *answer)
{
	json_t *feature;
	size_t i;

	json_array_foreach(json_object_get(answer, "features"), i, feature)
		printf("%-20s %-4s since %-5s %s\n", text_of(feature, "name"),
		       json_is_true(json_object_get(feature, "offered")) ? "yes" : "no",
		       text_of(feature, "since"), text_of(feature, "what"));
}

static int run_features(struct ctl *ctl)
{
	return ask(ctl, "io.ublkd.Features", NULL, print_features);
}

/* ---- the command line ------------------------------------------------------------------ */

static const struct ctl_command {
	const char *name, *usage, *summary;
	int least, most; /* arguments */
	int (*run)(struct ctl *ctl);
} ctl_commands[] = {
	{ "add", "BACKEND [KEY=VALUE]…", "Add a device, and print its path when it is usable.", 1,
	  INT32_MAX, run_add },
	{ "del", "DEVICE…", "Delete devices that nobody uses.", 1, INT32_MAX, run_del },
	{ "resize", "DEVICE [SIZE]", "Change a device's size, to that of its backing without SIZE.", 1,
	  2, run_resize },
	{ "list", "", "List the devices.", 0, 0, run_list },
	{ "show", "DEVICE", "Print all about a device.", 1, 1, run_show },
	{ "recover", "DEVICE…", "Start another process for devices whose last one died.", 1,
	  INT32_MAX, run_recover },
	{ "wait", "DEVICE…", "Wait until devices are usable, and print their paths.", 1, INT32_MAX,
	  run_wait },
	{ "gc", "", "Delete devices that wait for a server and that nothing describes.", 0, 0,
	  run_gc },
	{ "fail-io", "DEVICE…", "Fail the I/O that waits for a server, and delete the devices.", 1,
	  INT32_MAX, run_fail_io },
	{ "quiesce", "DEVICE…", "Let the I/O of devices wait, and leave their backings alone.", 1,
	  INT32_MAX, run_quiesce },
	{ "resume", "DEVICE…", "Go on with devices that were quiesced.", 1, INT32_MAX, run_resume },
	{ "features", "", "Print what the server's ublk driver offers.", 0, 0, run_features },
};

static void print_help(void)
{
	printf("Usage: ublkctl [--OPTION…] COMMAND …\n\n"
	       "Adds devices to a running 'ublkd serve --socket', deletes, resizes and shows\n"
	       "them.\n\n"
	       "Commands:\n");
	for (size_t i = 0; i < ARRAY_SIZE(ctl_commands); i++)
		printf("  %-8s %-20s %s\n", ctl_commands[i].name, ctl_commands[i].usage,
		       ctl_commands[i].summary);
	printf("\nOptions:\n");
	options_print(stdout, ctl_options, "--");
	printf("\nA DEVICE is named by its name, its number or its path. 'ublkd help run' and\n"
	       "'ublkd help BACKEND' list the keys; ublkctl(8) says more.\n");
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
	return ctl->config.name && command->run != run_add ? "name" :
	       ctl->config.force && command->run != run_del && command->run != run_gc ? "force" :
	       ctl->config.when_unused && command->run != run_del ? "when-unused" :
	       ctl->config.persist && command->run != run_add && command->run != run_del ? "persist" :
	       ctl->config.shrink && command->run != run_resize	  ? "shrink" :
								    NULL;
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
	} else if (--ctl->nr_args < command->least || ctl->nr_args > command->most) {
		ublkd_error("expected %s%s%s, got %d argument(s)", name, *command->usage ? " " : "",
			    command->usage, ctl->nr_args);
		command = NULL;
	} else if (wrong_option(ctl, command)) {
		ublkd_error("%s: expected none with '%s'", wrong_option(ctl, command), name);
		command = NULL;
	} else if (ctl->config.force && ctl->config.when_unused) {
		ublkd_error("when-unused: expected none with --force");
		command = NULL;
	}
	ctl->args++;
	return command;
}

static const char *socket_path(const struct ctl *ctl)
{
	const char *given = getenv("UBLKD_SOCKET");

	return ctl->config.socket ? ctl->config.socket : given && *given ? given : DEFAULT_SOCKET;
}

static int run(struct ctl *ctl, const struct ctl_command *command)
{
	int ret = client_open(&ctl->server, socket_path(ctl), (double)ctl->config.timeout,
			      command->run == run_wait), status;

	if (ret)
		return ret == -EACCES || ret == -EPERM ? EXIT_KERNEL : EXIT_RUNTIME;
	status = command->run(ctl);
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
