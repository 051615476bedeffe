/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkctl: adds devices to a running "ublkd serve --socket", deletes, resizes and shows them. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "build.h"
#include "client-device.h"
#include "client-files.h"
#include "exit.h"
#include "log.h"
#include "option.h"
#include "use.h"
#include "util/clock.h"
#include "util/macros.h"
#include "util/parse.h"

#define OWNER_TEXT 64
/* Calls, each at a connection of its own. */
#define AT_ONCE 8

struct ctl_config {
	char *socket, *name;
	uint64_t timeout;
	bool all, backing, shrink, json, force, unmount, when_unused, persist, unprivileged, help,
		version;
	int open; /* enum opener */
};

enum opener { OPEN_BY_CLIENT, OPEN_BY_SERVER };
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

struct ctl {
	struct ctl_config config;
	struct options set;
	struct connection server;
	bool late; /* it has not answered in time */
	struct client_files files; /* to go with the next call */
	json_t *devices; /* with --backing: all, whose names are among args */
	char (*paths)[CLIENT_DEVICE_SIZE]; /* else: of devices, that are among args */
	char **args; /* behind the command, options left out */
	int nr_args;
};

/* ---- the server --------------------------------------------------------------------- */

static const char *socket_path(const struct ctl *ctl)
{
	const char *given = getenv("UBLKD_SOCKET");

	return ctl->config.socket ? ctl->config.socket : given && *given ? given : DEFAULT_SOCKET;
}

/* await: one that is not there yet, too. An exit status. */
static int connect_to_server(const struct ctl *ctl, struct connection *server, bool await)
{
	int ret = client_open(server, socket_path(ctl), (double)ctl->config.timeout, await);

	return ret == -EACCES || ret == -EPERM ? EXIT_KERNEL :
	       ret == -ETIMEDOUT	       ? EXIT_TIMEOUT :
	       ret			       ? EXIT_RUNTIME :
						 EXIT_DONE;
}

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
		ublkd_error("expected a device's name, number, path or UUID, got '%s'",
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
	if (!strcmp(error, "io.ublkd.TooManyFiles")) {
		ublkd_error("the server takes at most %" JSON_INTEGER_FORMAT " files at once, and not so many "
			    "of all clients", json_integer_value(json_object_get(parameters, "most")));
		return EXIT_USAGE;
	}
	ublkd_error("the server answers with the error '%s'", error);
	return EXIT_RUNTIME;
}

/* The parameters of the answer, a reference; NULL after an error text, and *status is set. */
static json_t *parameters_of(json_t *answer, int *status)
{
	const char *error = json_string_value(json_object_get(answer, "error"));
	json_t *result = json_object_get(answer, "parameters");

	if (error)
		*status = report(error, result);
	else
		json_incref(result);
	json_decref(answer);
	return error ? NULL : result;
}

static json_t *call(struct ctl *ctl, const char *method, json_t *parameters, int *status)
{
	json_t *answer;

	/* An answer that comes later is not that of the next call. */
	if (ctl->late) {
		client_close(&ctl->server);
		*status = connect_to_server(ctl, &ctl->server, false);
		if (*status) {
			json_decref(parameters);
			return NULL;
		}
	}
	answer = client_call(&ctl->server, method, parameters, ctl->files.fds, ctl->files.count,
			     status);
	ctl->late = !answer && *status == EXIT_TIMEOUT;
	return answer ? parameters_of(answer, status) : NULL;
}

static int print_json(const json_t *answer)
{
	if (json_dumpf(answer, stdout, JSON_COMPACT) || putchar('\n') == EOF) {
		ublkd_error("cannot print the answer: %s", strerror(errno));
		return EXIT_RUNTIME;
	}
	return EXIT_DONE;
}

/*
 * Prints an answer, which is taken over, as JSON or by the function. more: looks at it, too;
 * NULL: nothing does. status is that of a NULL.
 */
static int tell(const struct ctl *ctl, json_t *answer, int status,
		void (*print)(const json_t *answer), int (*more)(const json_t *answer))
{
	if (!answer)
		return status;
	status = EXIT_DONE;
	if (ctl->config.json)
		status = print_json(answer);
	else
		print(answer);
	if (more && !status)
		status = more(answer);
	json_decref(answer);
	return status;
}

static int ask_for(struct ctl *ctl, const char *method, json_t *parameters,
		   void (*print)(const json_t *answer), int (*more)(const json_t *answer))
{
	int status = EXIT_DONE;
	json_t *answer = call(ctl, method, parameters, &status);

	return tell(ctl, answer, status, print, more);
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

/* One that is a file's, as the server knows it; NULL: none. known: its answer to Backends. */
static json_t *find_option(json_t *known, const char *layers, const char *name)
{
	json_t *option = find_in(json_object_get(known, "device"), name), *backend;
	size_t i;

	json_array_foreach(json_object_get(known, "backends"), i, backend) {
		if (!option && is_layer(layers, text_of(backend, "name")))
			option = find_in(json_object_get(backend, "options"), name);
	}
	return option;
}

static bool is_path(const json_t *option)
{
	return !strcmp(text_of(option, "type"), "path");
}

static bool makes(const json_t *option)
{
	return json_is_true(json_object_get(option, "makes"));
}

static json_t *value_of(json_t *known, const char *layers, const char *name, const char *value)
{
	_cleanup_free_ char *here = NULL;

	if (*value == '/' || !*value || !is_path(find_option(known, layers, name)))
		return json_string(value);
	here = realpath(".", NULL);
	return here ? json_sprintf("%s/%s", here, value) : NULL;
}

/* KEY=VALUE…; NULL after an error text. known NULL: none of them is a path. */
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
			wrong = "expected KEY=VALUE, got";
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

/* One that is given makes a file, other than by being its path. */
static bool makes_new(json_t *known, const char *layers, json_t *options)
{
	const char *name;
	json_t *value;

	json_object_foreach(options, name, value) {
		const json_t *option = find_option(known, layers, name);

		if (makes(option) && !is_path(option))
			return true;
	}
	return false;
}

static bool is_read_only(json_t *options)
{
	const char *value = json_string_value(json_object_get(options, "read-only"));
	bool read_only = false;

	return value && !parse_bool(value, &read_only) && read_only;
}

/* Opens what they name; *numbers: which is which, by name. An exit status. */
static int open_files(struct ctl *ctl, json_t *known, json_t *options, json_t **numbers)
{
	const char *layers = ctl->args[0], *name;
	bool new = makes_new(known, layers, options);
	int status = EXIT_DONE;
	json_t *value;

	*numbers = json_object();
	json_object_foreach(options, name, value) {
		const json_t *option = find_option(known, layers, name);

		if (status || !is_path(option) || !*json_string_value(value))
			continue;
		json_object_set_new(*numbers, name, json_integer(ctl->files.count));
		status = client_files_open(&ctl->files, json_string_value(value),
					   is_read_only(options), new ? MAKES_NEW : makes(option) ?
					   MAKES_MISSING : MAKES_NONE);
	}
	return status;
}

static void print_path(const json_t *answer)
{
	printf("%s\n", text_of(answer, "path"));
}

static int add(struct ctl *ctl, json_t *options, json_t *numbers)
{
	json_t *parameters = json_pack("{s:s, s:O}", "backend", ctl->args[0], "options", options);

	/* A server that is older does not know them. */
	if (parameters && json_object_size(numbers))
		json_object_set(parameters, "files", numbers);
	if (parameters && ctl->config.name)
		json_object_set_new(parameters, "name", json_string(ctl->config.name));
	if (parameters && ctl->config.persist)
		json_object_set_new(parameters, "persist", json_true());
	if (parameters && ctl->config.unprivileged)
		json_object_set_new(parameters, "unprivileged", json_true());
	return ask(ctl, "io.ublkd.Add", parameters, print_path);
}

/* The device may be there, or come yet, although all is not well. */
static bool is_unused(const struct ctl *ctl, int status)
{
	bool unclear = status == EXIT_RUNTIME || status == EXIT_TIMEOUT;

	for (unsigned i = 0; unclear && i < ctl->files.count; i++) {
		if (ctl->files.made[i])
			ublkd_note("'%s' was made, and is left", ctl->files.made[i]);
	}
	return status && !unclear;
}

static int run_add(struct ctl *ctl)
{
	int status = EXIT_USAGE;
	json_t *known = call(ctl, "io.ublkd.Backends", json_pack("{s:b}", "files", true), &status);
	json_t *options, *numbers = NULL;

	if (!known)
		return status;
	options = read_options(ctl, known);
	status = !options			      ? EXIT_USAGE :
		 ctl->config.open == OPEN_BY_CLIENT ? open_files(ctl, known, options, &numbers) :
						      EXIT_DONE;
	if (!status)
		status = add(ctl, options, numbers);
	client_files_close(&ctl->files, is_unused(ctl, status));
	json_decref(known);
	json_decref(options);
	json_decref(numbers);
	return status;
}

/* ---- del, resize, wait, gc, list, show, features --------------------------------------- */

static void print_users(const json_t *answer)
{
	if (json_is_string(json_object_get(answer, "holder")))
		ublkd_note("'%s' was in use: %s", text_of(answer, "name"), text_of(answer, "holder"));
	if (json_is_true(json_object_get(answer, "lingers")))
		ublkd_note("'%s' is deleted, but still open or mounted: its number is free when its "
			   "last user is gone", text_of(answer, "name"));
}

static void print_deleted(const json_t *answer)
{
	print_users(answer);
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

/* How a device is to go. A server that is older knows none of them. */
static json_t *deletion(const struct ctl *ctl)
{
	json_t *deletion = json_object();

	if (ctl->config.force)
		json_object_set_new(deletion, "force", json_true());
	if (ctl->config.when_unused)
		json_object_set_new(deletion, "when_unused", json_true());
	if (ctl->config.persist)
		json_object_set_new(deletion, "persist", json_true());
	return deletion;
}

/* Before once more, as who uses it may let it go. Microseconds. */
#define UNMOUNT_PAUSE 250000
/* Seconds from the last time on until what is waited for is late. */
#define UNMOUNT_MARGIN 0.5

/*
 * In a process of its own, which ends with this one, and does not keep the server from seeing
 * that. What is busy is tried until then, unless it is over.
 */
static int end_use(const struct ctl *ctl, const char *node, double until)
{
	char place[USE_PLACE_SIZE];
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	close(ctl->server.fd);
	while ((ret = use_end_node(node, place)) == -EBUSY && clock_now() < until)
		usleep(UNMOUNT_PAUSE);
	if (ret)
		ublkd_note("cannot unmount '%s': %s", place, strerror(-ret));
	return ret ? EXIT_RUNTIME : EXIT_DONE;
}

static bool is_in_state(const json_t *device, const char *state)
{
	return !strcmp(text_of(device, "state"), state);
}

/* Its node, if somebody serves it: else an unmount would wait for that. */
static bool node_of(const json_t *device, char node[32])
{
	unsigned number;

	if (!is_in_state(device, "live") ||
	    sscanf(text_of(device, "path"), "/dev/ublkb%u", &number) != 1)
		return false;
	snprintf(node, 32, "/dev/ublkb%u", number);
	return true;
}

/*
 * Each device by a process, as it takes as long as the backing does; what is not done in time is
 * left to it. With --when-unused the server waits for the end of its use meanwhile.
 */
static void unmount(const struct ctl *ctl, const json_t *devices)
{
	double timeout = (double)ctl->config.timeout, until = clock_now() + timeout;
	json_t *device;
	char node[32];
	size_t i;

	json_array_foreach(devices, i, device) {
		if (!node_of(device, node))
			continue;
		if (!fork())
			_exit(end_use(ctl, node, ctl->config.when_unused ? until - UNMOUNT_MARGIN : 0));
	}
	while (!ctl->config.when_unused && clock_now() < until) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0)
			return;
		if (!pid)
			usleep(UNMOUNT_PAUSE / 10);
	}
}

/* Whether the server finds the device by that. */
static bool is_called(const json_t *device, const char *text)
{
	char number[24] = "-";

	if (json_is_integer(json_object_get(device, "number")))
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
			 json_integer_value(json_object_get(device, "number")));
	return !strcmp(text_of(device, "name"), text) || !strcmp(text_of(device, "path"), text) ||
	       !strcasecmp(text_of(device, "uuid"), text) || !strcmp(number, text);
}

/* What is known of those that are named, null of others: who asks for more hears of that. */
static json_t *list_named(struct ctl *ctl)
{
	json_t *named = json_array();
	int status;
	json_t *answer = call(ctl, "io.ublkd.List", NULL, &status), *device;
	size_t i;

	for (int k = 0; k < ctl->nr_args; k++) {
		json_t *found = NULL;

		json_array_foreach(json_object_get(answer, "devices"), i, device) {
			if (!found && is_called(device, ctl->args[k]))
				found = device;
		}
		json_array_append_new(named, found ? json_incref(found) : json_null());
	}
	json_decref(answer);
	return named;
}

/* One that has no process can go by force alone, and one that waits has no end of its use. */
static void begin_deletion(const struct ctl *ctl, struct connection *server, const json_t *device)
{
	bool fails = ctl->config.force &&
		     (is_in_state(device, "failed") || is_in_state(device, "recovering"));
	json_t *parameters = fails ? json_object() : deletion(ctl);

	if (is_in_state(device, "waiting"))
		json_object_del(parameters, "when_unused");
	json_object_set_new(parameters, "device", json_string(text_of(device, "name")));
	client_send(server, fails ? "io.ublkd.FailIo" : "io.ublkd.Delete", parameters, NULL, 0);
}

static int delete_some(const struct ctl *ctl, const json_t *devices, size_t first)
{
	size_t count = MIN(json_array_size(devices) - first, AT_ONCE);
	int statuses[AT_ONCE], status = EXIT_DONE;
	struct connection servers[AT_ONCE];

	for (size_t i = 0; i < count; i++)
		statuses[i] = connect_to_server(ctl, &servers[i], false);
	/* The server may do at once for all what it has to do for those that come together. */
	for (size_t i = 0; i < count; i++) {
		if (!statuses[i])
			begin_deletion(ctl, &servers[i], json_array_get(devices, first + i));
	}
	for (size_t i = 0; i < count; i++) {
		json_t *answer = statuses[i] ? NULL : client_receive(&servers[i], &statuses[i]);

		answer = parameters_of(answer, &statuses[i]);
		statuses[i] = tell(ctl, answer, statuses[i], print_users,
				   ctl->config.persist ? file_status : NULL);
		client_close(&servers[i]);
		if (!status)
			status = statuses[i];
	}
	return status;
}

/* That a file brings one back is no news to who deletes all. */
static int delete_all(struct ctl *ctl)
{
	int status = EXIT_DONE, last;
	json_t *answer = call(ctl, "io.ublkd.List", NULL, &status);
	json_t *devices = json_object_get(answer, "devices");

	if (ctl->config.unmount)
		unmount(ctl, devices);
	for (size_t i = 0; i < json_array_size(devices); i += AT_ONCE) {
		last = delete_some(ctl, devices, i);
		if (!status)
			status = last;
	}
	json_decref(answer);
	return status;
}

static int run_del(struct ctl *ctl)
{
	json_t *devices;

	if (ctl->config.all)
		return delete_all(ctl);
	if (ctl->config.unmount) {
		devices = list_named(ctl);
		unmount(ctl, devices);
		json_decref(devices);
	}
	return ask_each(ctl, "io.ublkd.Delete", deletion(ctl), print_deleted,
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
		print_deleted(one);
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
	return ask_each(ctl, "io.ublkd.FailIo", json_object(), print_deleted, NULL);
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

/* A process is killed once, whichever of its devices are named: then it is another. */
static void name_one_of_each_process(struct ctl *ctl)
{
	json_t *devices = list_named(ctl), *named = json_object();
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
	return ask_each(ctl, "io.ublkd.Recover", force, print_nothing, NULL);
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

static int run_set(struct ctl *ctl)
{
	json_t *options = read_options(ctl, NULL), *parameters;

	if (!options)
		return EXIT_USAGE;
	parameters = json_pack("{s:s, s:o}", "device", ctl->args[0], "options", options);
	if (parameters && ctl->config.persist)
		json_object_set_new(parameters, "persist", json_true());
	return ask(ctl, "io.ublkd.Set", parameters, print_nothing);
}

static const char *size_of(const json_t *device, char text[SIZE_TEXT_MAX])
{
	const json_t *size = json_object_get(device, "size");

	return json_is_integer(size) ? format_size(text, (uint64_t)json_integer_value(size)) : "-";
}

/* Beside what was asked for, as it may be of another device. */
static void warn_of_stuck(const json_t *answer)
{
	json_t *stuck, *all = json_object_get(answer, "stuck");
	size_t i;

	if (json_array_size(all))
		ublkd_note("the driver is degraded: %zu command(s) have not ended in time",
			   json_array_size(all));
	json_array_foreach(all, i, stuck) {
		time_t since = (time_t)json_integer_value(json_object_get(stuck, "since"));
		json_t *number = json_object_get(stuck, "number");
		char text[32] = "", device[32] = "a new device";
		struct tm local;

		if (localtime_r(&since, &local))
			strftime(text, sizeof(text), "%F %T", &local);
		if (json_is_integer(number))
			snprintf(device, sizeof(device), "device %" JSON_INTEGER_FORMAT,
				 json_integer_value(number));
		ublkd_note("%s for '%s', %s, since %s, in process %" JSON_INTEGER_FORMAT,
			   text_of(stuck, "command"), text_of(stuck, "device"), device, text,
			   json_integer_value(json_object_get(stuck, "pid")));
	}
}

/* " OWNER", or nothing where it is root's. */
static const char *owner_of(const json_t *device, char text[OWNER_TEXT])
{
	json_t *uid = json_object_get(device, "owner_uid");
	const struct passwd *user;

	text[0] = 0;
	if (!json_is_integer(uid))
		return text;
	user = getpwuid((uid_t)json_integer_value(uid));
	if (user)
		snprintf(text, OWNER_TEXT, " %s", user->pw_name);
	else
		snprintf(text, OWNER_TEXT, " %" JSON_INTEGER_FORMAT, json_integer_value(uid));
	return text;
}

static void print_list(const json_t *answer)
{
	static const char line[] = "%-20s %-14s %-11s %10s %s%s\n";
	char size[SIZE_TEXT_MAX], owner[OWNER_TEXT];
	json_t *device;
	size_t i;

	/* A program that reads the lines does not want to leave out the first. */
	if (isatty(STDOUT_FILENO))
		printf(line, "NAME", "PATH", "STATE", "SIZE", "BACKEND", " [OWNER]");
	json_array_foreach(json_object_get(answer, "devices"), i, device)
		printf(line, text_of(device, "name"), text_of(device, "path"),
		       text_of(device, "state"), size_of(device, size), text_of(device, "backend"),
		       owner_of(device, owner));
	warn_of_stuck(answer);
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
		else if (json_is_boolean(value))
			printf("%-24s %s\n", left, json_is_true(value) ? "yes" : "no");
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
	warn_of_stuck(answer);
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

/* ---- devices by paths -------------------------------------------------------------------- */

/* The first of the arguments are devices: puts what the server calls them there instead. */
static int name_by_path(struct ctl *ctl, int count)
{
	count = MIN(count, ctl->nr_args);
	ctl->paths = calloc((size_t)count + 1, sizeof(*ctl->paths));
	if (!ctl->paths) {
		ublkd_error("no memory");
		return EXIT_RUNTIME;
	}
	for (int i = 0; i < count; i++) {
		const char *name = client_device_name("", ctl->args[i], ctl->paths[i]);

		if (!name)
			return EXIT_USAGE;
		ctl->args[i] = (char *)(uintptr_t)name;
	}
	return EXIT_DONE;
}

/* ---- devices by their backings ----------------------------------------------------------- */

/* Where one of them cannot be looked at, by their names. A device node is what its number says. */
static bool is_same_file(const char *a, const char *b)
{
	struct stat is, other;

	if (stat(a, &is) || stat(b, &other))
		return !strcmp(a, b);
	return S_ISBLK(is.st_mode) && S_ISBLK(other.st_mode) ?
		       is.st_rdev == other.st_rdev :
		       is.st_dev == other.st_dev && is.st_ino == other.st_ino;
}

/* Paths are absolute where they are not the server's own. */
static bool stands_on(json_t *config, const char *file)
{
	const char *key;
	json_t *value;

	json_object_foreach(config, key, value) {
		const char *text = json_string_value(value);

		if (text && *text == '/' && is_same_file(text, file))
			return true;
	}
	return false;
}

/* The name of the one that stands on it; NULL after an error text, and *status is set. */
static const char *find_by_backing(struct ctl *ctl, const char *file, int *status)
{
	const char *found = NULL;
	json_t *device, *details;
	size_t i;

	json_array_foreach(json_object_get(ctl->devices, "devices"), i, device) {
		const char *name = text_of(device, "name");
		bool matches;

		/* One that cannot be shown, or is gone by now, is said to be, and is not it. */
		details = call(ctl, "io.ublkd.Show", json_pack("{s:s}", "device", name), status);
		matches = stands_on(json_object_get(details, "config"), file);
		json_decref(details);
		if (matches && found) {
			ublkd_error("backing: expected a file of one device, got '%s', on which '%s' and "
				    "'%s' stand", file, found, name);
			*status = EXIT_USAGE;
			return NULL;
		}
		found = matches ? name : found;
	}
	if (found) {
		*status = EXIT_DONE;
		return found;
	}
	ublkd_error("backing: expected a file that a device stands on, got '%s'", file);
	*status = EXIT_USAGE;
	return NULL;
}

/* The first of the arguments are files: puts the names of their devices there instead. */
static int name_by_backing(struct ctl *ctl, int count)
{
	int status = EXIT_DONE;

	ctl->devices = call(ctl, "io.ublkd.List", NULL, &status);
	for (int i = 0; !status && i < MIN(count, ctl->nr_args); i++)
		ctl->args[i] = (char *)(uintptr_t)find_by_backing(ctl, ctl->args[i], &status);
	return status;
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
	  INT32_MAX, run_add },
	{ "del", "DEVICE…|--all", "Delete devices that nobody uses.", INT32_MAX, 1, INT32_MAX,
	  run_del },
	{ "resize", "DEVICE [SIZE]", "Change a device's size, to that of its backing without SIZE.", 1,
	  1, 2, run_resize },
	{ "set", "DEVICE KEY=VALUE…", "Change settings of a device while it is used.", 1, 2,
	  INT32_MAX, run_set },
	{ "list", "", "List the devices.", 0, 0, 0, run_list },
	{ "show", "DEVICE", "Print all about a device.", 1, 1, 1, run_show },
	{ "recover", "DEVICE…", "Start devices again that have failed, or whose process died.", INT32_MAX,
	  1, INT32_MAX, run_recover },
	{ "wait", "DEVICE…", "Wait until devices are usable, and print their paths.", INT32_MAX, 1,
	  INT32_MAX, run_wait },
	{ "gc", "", "Delete devices that wait for a server and that nothing describes.", 0, 0, 0,
	  run_gc },
	{ "fail-io", "DEVICE…", "Fail the I/O that waits for a server, and delete the devices.",
	  INT32_MAX, 1, INT32_MAX, run_fail_io },
	{ "quiesce", "DEVICE…", "Let the I/O of devices wait, and leave their backings alone.",
	  INT32_MAX, 1, INT32_MAX, run_quiesce },
	{ "resume", "DEVICE…", "Go on with devices that were quiesced.", INT32_MAX, 1, INT32_MAX,
	  run_resume },
	{ "features", "", "Print what the server's ublk driver offers.", 0, 0, 0, run_features },
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
	return ctl->config.name && command->run != run_add ? "name" :
	       ctl->config.all && command->run != run_del	   ? "all" :
	       ctl->config.backing && !command->devices	   ? "backing" :
	       ctl->config.force && command->run != run_del && command->run != run_gc &&
			       command->run != run_recover ? "force" :
	       ctl->config.when_unused && command->run != run_del ? "when-unused" :
	       ctl->config.unmount && command->run != run_del	   ? "unmount" :
	       ctl->config.persist && command->run != run_add && command->run != run_del &&
			       command->run != run_set ? "persist" :
	       ctl->config.unprivileged && command->run != run_add ? "unprivileged" :
	       options_given(&ctl->set, "open") && command->run != run_add ? "open" :
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
	status = connect_to_server(ctl, &ctl->server, command->run == run_wait);
	if (status)
		return status;
	status = ctl->config.backing ? name_by_backing(ctl, command->devices) :
				       name_by_path(ctl, command->devices);
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
