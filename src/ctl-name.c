/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "exit.h"
#include "log.h"
#include "util/macros.h"

/* ---- devices by paths -------------------------------------------------------------------- */

int ctl_name_by_path(struct ctl *ctl, int count)
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
		const char *name = ctl_text(device, "name");
		bool matches;

		/* One that cannot be shown, or is gone by now, is said to be, and is not it. */
		details = ctl_call(ctl, "io.ublkd.Show", json_pack("{s:s}", "device", name), status);
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

int ctl_name_by_backing(struct ctl *ctl, int count)
{
	int status = EXIT_DONE;

	ctl->devices = ctl_call(ctl, "io.ublkd.List", NULL, &status);
	for (int i = 0; !status && i < MIN(count, ctl->nr_args); i++)
		ctl->args[i] = (char *)(uintptr_t)find_by_backing(ctl, ctl->args[i], &status);
	return status;
}

/* ---- as the server lists them --------------------------------------------------------- */

/* Whether the server finds the device by that. */
static bool is_called(const json_t *device, const char *text)
{
	char number[24] = "-";

	if (json_is_integer(json_object_get(device, "number")))
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
			 json_integer_value(json_object_get(device, "number")));
	return !strcmp(ctl_text(device, "name"), text) || !strcmp(ctl_text(device, "path"), text) ||
	       !strcasecmp(ctl_text(device, "uuid"), text) || !strcmp(number, text);
}

json_t *ctl_list_named(struct ctl *ctl)
{
	json_t *named = json_array();
	int status;
	json_t *answer = ctl_call(ctl, "io.ublkd.List", NULL, &status), *device;
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
