/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "ctl.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "util/parse.h"

#define OWNER_TEXT 64

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
			   ctl_text(stuck, "command"), ctl_text(stuck, "device"), device, text,
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
		printf(line, ctl_text(device, "name"), ctl_text(device, "path"),
		       ctl_text(device, "state"), size_of(device, size), ctl_text(device, "backend"),
		       owner_of(device, owner));
	warn_of_stuck(answer);
}

int ctl_list(struct ctl *ctl)
{
	return ctl_ask(ctl, "io.ublkd.List", NULL, print_list);
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

int ctl_show(struct ctl *ctl)
{
	return ctl_ask(ctl, "io.ublkd.Show", json_pack("{s:s}", "device", ctl->args[0]), print_details);
}

static void print_features(const json_t *answer)
{
	json_t *feature;
	size_t i;

	json_array_foreach(json_object_get(answer, "features"), i, feature)
		printf("%-20s %-4s since %-5s %s\n", ctl_text(feature, "name"),
		       json_is_true(json_object_get(feature, "offered")) ? "yes" : "no",
		       ctl_text(feature, "since"), ctl_text(feature, "what"));
}

int ctl_features(struct ctl *ctl)
{
	return ctl_ask(ctl, "io.ublkd.Features", NULL, print_features);
}
