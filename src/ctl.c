/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exit.h"
#include "log.h"

/* ---- the server --------------------------------------------------------------------- */

static const char *socket_path(const struct ctl *ctl)
{
	const char *given = getenv("UBLKD_SOCKET");

	return ctl->config.socket ? ctl->config.socket : given && *given ? given : DEFAULT_SOCKET;
}

int ctl_connect(const struct ctl *ctl, struct connection *server, bool await)
{
	int ret = client_open(server, socket_path(ctl), (double)ctl->config.timeout, await);

	return ret == -EACCES || ret == -EPERM ? EXIT_KERNEL :
	       ret == -ETIMEDOUT	       ? EXIT_TIMEOUT :
	       ret			       ? EXIT_RUNTIME :
						 EXIT_DONE;
}

/* ---- answers ------------------------------------------------------------------------ */

const char *ctl_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "-";
}

int ctl_failed_status(const json_t *failure)
{
	json_int_t status = json_integer_value(json_object_get(failure, "status"));

	return status > EXIT_DONE && status <= EXIT_TIMEOUT ? (int)status : EXIT_RUNTIME;
}

/* Of an error that the server's answer is. */
static int report(const char *error, const json_t *parameters)
{
	if (!strcmp(error, "io.ublkd.Failed")) {
		ublkd_error("%s", ctl_text(parameters, "message"));
		return ctl_failed_status(parameters);
	}
	if (!strcmp(error, "io.ublkd.NotFound")) {
		ublkd_error("expected a device's name, number, path or UUID, got '%s'",
			    ctl_text(parameters, "device"));
		return EXIT_USAGE;
	}
	if (!strcmp(error, "io.ublkd.InUse")) {
		ublkd_error("'%s' is in use: %s", ctl_text(parameters, "device"),
			    ctl_text(parameters, "holder"));
		return EXIT_TAKEN;
	}
	if (!strcmp(error, "org.varlink.service.PermissionDenied")) {
		ublkd_error("the server serves root, its own user and its --socket-group alone");
		return EXIT_KERNEL;
	}
	if (!strcmp(error, "org.varlink.service.InvalidParameter")) {
		ublkd_error("the server expects something else as '%s'",
			    ctl_text(parameters, "parameter"));
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

json_t *ctl_parameters_of(json_t *answer, int *status)
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

json_t *ctl_call(struct ctl *ctl, const char *method, json_t *parameters, int *status)
{
	json_t *answer;

	/* An answer that comes later is not that of the next call. */
	if (ctl->late) {
		client_close(&ctl->server);
		*status = ctl_connect(ctl, &ctl->server, false);
		if (*status) {
			json_decref(parameters);
			return NULL;
		}
	}
	answer = client_call(&ctl->server, method, parameters, ctl->files.fds, ctl->files.count,
			     status);
	ctl->late = !answer && *status == EXIT_TIMEOUT;
	return answer ? ctl_parameters_of(answer, status) : NULL;
}

static int print_json(const json_t *answer)
{
	if (json_dumpf(answer, stdout, JSON_COMPACT) || putchar('\n') == EOF) {
		ublkd_error("cannot print the answer: %s", strerror(errno));
		return EXIT_RUNTIME;
	}
	return EXIT_DONE;
}

int ctl_tell(const struct ctl *ctl, json_t *answer, int status,
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

int ctl_ask_for(struct ctl *ctl, const char *method, json_t *parameters,
		   void (*print)(const json_t *answer), int (*more)(const json_t *answer))
{
	int status = EXIT_DONE;
	json_t *answer = ctl_call(ctl, method, parameters, &status);

	return ctl_tell(ctl, answer, status, print, more);
}

int ctl_ask(struct ctl *ctl, const char *method, json_t *parameters,
	       void (*print)(const json_t *answer))
{
	return ctl_ask_for(ctl, method, parameters, print, NULL);
}

int ctl_ask_each(struct ctl *ctl, const char *method, json_t *more,
		    void (*print)(const json_t *answer), int (*judge)(const json_t *answer))
{
	int status = EXIT_DONE;

	for (int i = 0; i < ctl->nr_args; i++) {
		json_t *parameters = json_copy(more);
		int ret;

		json_object_set_new(parameters, "device", json_string(ctl->args[i]));
		ret = ctl_ask_for(ctl, method, parameters, print, judge);
		if (!status)
			status = ret;
	}
	json_decref(more);
	return status;
}

void ctl_print_path(const json_t *answer)
{
	printf("%s\n", ctl_text(answer, "path"));
}

void ctl_print_nothing(const json_t *answer)
{
	(void)answer;
}
