/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "ctl.h"

#include <stdlib.h>
#include <string.h>

#include "exit.h"
#include "log.h"
#include "util/macros.h"
#include "util/parse.h"

/* The option of this name in an array of options. */
static json_t *find_in(json_t *options, const char *name)
{
	json_t *option;
	size_t i;

	json_array_foreach(options, i, option) {
		if (!strcmp(ctl_text(option, "name"), name))
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
		if (!option && is_layer(layers, ctl_text(backend, "name")))
			option = find_in(json_object_get(backend, "options"), name);
	}
	return option;
}

static bool is_path(const json_t *option)
{
	return !strcmp(ctl_text(option, "type"), "path");
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
	return ctl_ask(ctl, "io.ublkd.Add", parameters, ctl_print_path);
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

int ctl_add(struct ctl *ctl)
{
	int status = EXIT_USAGE;
	json_t *known = ctl_call(ctl, "io.ublkd.Backends", json_pack("{s:b}", "files", true), &status);
	json_t *options, *numbers = NULL;

	if (!known)
		return status;
	options = read_options(ctl, known);
	status = !options			      ? EXIT_USAGE :
		 ctl->config.open == CTL_OPENS ? open_files(ctl, known, options, &numbers) :
						      EXIT_DONE;
	if (!status)
		status = add(ctl, options, numbers);
	client_files_close(&ctl->files, is_unused(ctl, status));
	json_decref(known);
	json_decref(options);
	json_decref(numbers);
	return status;
}

int ctl_set(struct ctl *ctl)
{
	json_t *options = read_options(ctl, NULL), *parameters;

	if (!options)
		return EXIT_USAGE;
	parameters = json_pack("{s:s, s:o}", "device", ctl->args[0], "options", options);
	if (parameters && ctl->config.persist)
		json_object_set_new(parameters, "persist", json_true());
	return ctl_ask(ctl, "io.ublkd.Set", parameters, ctl_print_nothing);
}
