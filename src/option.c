/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "option.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "exit.h"
#include "util/macros.h"
#include "util/parse.h"
#include "util/uuid.h"

static void *value_of(const struct options *options, const struct ublkd_option *option)
{
	return (char *)options->values + option->offset;
}

static bool holds_string(const struct ublkd_option *option)
{
	return option->type == UBLKD_OPT_STRING || option->type == UBLKD_OPT_PATH ||
	       option->type == UBLKD_OPT_CPUS || option->type == UBLKD_OPT_UUID;
}

/* "1…4096" and the like: what the option takes, for error texts and help. */
static void describe(const struct ublkd_option *option, char *text, size_t size)
{
	char from[SIZE_TEXT_MAX], to[SIZE_TEXT_MAX], step[SIZE_TEXT_MAX];
	size_t used = 0;

	switch (option->type) {
	case UBLKD_OPT_BOOL:
		snprintf(text, size, "yes or no");
		break;
	case UBLKD_OPT_UINT:
		if (option->max)
			snprintf(text, size, "%" PRIu64 "…%" PRIu64, option->min, option->max);
		else
			snprintf(text, size, "a number of at least %" PRIu64, option->min);
		break;
	case UBLKD_OPT_INT:
		snprintf(text, size, "%" PRId64 "…%" PRId64, (int64_t)option->min,
			 (int64_t)option->max);
		break;
	case UBLKD_OPT_SIZE:
		format_size(from, option->min);
		format_size(to, option->max);
		format_size(step, option->step);
		if (option->max && option->max < INT64_MAX)
			snprintf(text, size, "a size of %s…%s", from, to);
		else if (option->min)
			snprintf(text, size, "a size of at least %s", from);
		else
			snprintf(text, size, "a size such as 512, 64K or 1.5G");
		used = strlen(text);
		if (option->step)
			snprintf(text + used, size - used, ", a multiple of %s", step);
		break;
	case UBLKD_OPT_STRING:
	case UBLKD_OPT_PATH:
		snprintf(text, size, "a text that is not empty");
		break;
	case UBLKD_OPT_ENUM:
		text[0] = 0;
		for (unsigned i = 0; option->values[i]; i++) {
			const char *glue = !i ? "" : option->values[i + 1] ? ", " : " or ";

			used += (size_t)snprintf(text + used, size - used, "%s%s", glue,
						 option->values[i]);
			assert(used < size);
		}
		break;
	case UBLKD_OPT_MODE:
		snprintf(text, size, "an octal mode up to 0777");
		break;
	case UBLKD_OPT_CPUS:
		snprintf(text, size, "a list of CPUs such as 0-3,8");
		break;
	case UBLKD_OPT_UUID:
		snprintf(text, size, "a UUID such as 1b4e28ba-2fa1-4ed2-883f-0016d3cca427");
		break;
	}
}

static bool in_range(const struct ublkd_option *option, uint64_t value)
{
	return value >= option->min && (!option->max || value <= option->max) &&
	       (!option->step || value % option->step == 0);
}

static int parse_signed(const struct ublkd_option *option, const char *text, int64_t *out)
{
	int64_t value;
	int ret = parse_int(text, &value);

	if (!ret && (value < (int64_t)option->min || value > (int64_t)option->max))
		ret = -ERANGE;
	if (!ret)
		*out = value;
	return ret;
}

static int parse_enum(const struct ublkd_option *option, const char *text, int *out)
{
	for (int i = 0; option->values[i]; i++) {
		if (!strcmp(option->values[i], text)) {
			*out = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_string(const char *text, char **out)
{
	char *copy;

	if (!*text)
		return -EINVAL;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(*out);
	*out = copy;
	return 0;
}

static int parse_value(const struct ublkd_option *option, const char *text, void *out)
{
	char uuid[UUID_SIZE];
	uint64_t number = 0;
	int ret;

	switch (option->type) {
	case UBLKD_OPT_BOOL:
		return parse_bool(text, out);
	case UBLKD_OPT_UINT:
	case UBLKD_OPT_SIZE:
		ret = option->type == UBLKD_OPT_UINT ? parse_uint(text, &number)
						     : parse_size(text, &number);
		if (!ret && !in_range(option, number))
			ret = -ERANGE;
		if (!ret)
			*(uint64_t *)out = number;
		return ret;
	case UBLKD_OPT_INT:
		return parse_signed(option, text, out);
	case UBLKD_OPT_STRING:
	case UBLKD_OPT_PATH:
		return parse_string(text, out);
	case UBLKD_OPT_ENUM:
		return parse_enum(option, text, out);
	case UBLKD_OPT_MODE:
		return parse_mode(text, out);
	case UBLKD_OPT_CPUS:
		ret = parse_cpu_list(text, NULL, NULL);
		return ret ? ret : parse_string(text, out);
	case UBLKD_OPT_UUID:
		ret = uuid_read(text, uuid);
		return ret ? ret : parse_string(uuid, out);
	}
	return -EINVAL;
}

int options_init(struct options *options, const struct ublkd_option *table, void *values)
{
	*options = (struct options){ .table = table, .values = values };
	for (const struct ublkd_option *o = table; o->name; o++) {
		assert(o - table < 64);
		if (o->preset && parse_value(o, o->preset, value_of(options, o)))
			assert(!"an option's preset must parse");
	}
	return 0;
}

void options_free(struct options *options)
{
	for (const struct ublkd_option *o = options->table; o && o->name; o++) {
		if (holds_string(o)) {
			char **text = value_of(options, o);

			free(*text);
			*text = NULL;
		}
	}
	options->given = 0;
}

const struct ublkd_option *option_find(const struct ublkd_option *table, const char *name,
				       size_t length)
{
	for (; table->name; table++) {
		if (strlen(table->name) == length && !memcmp(table->name, name, length))
			return table;
	}
	return NULL;
}

static uint64_t bit_of(const struct options *options, const struct ublkd_option *option)
{
	return 1ull << (option - options->table);
}

int options_set(struct options *options, const struct ublkd_option *option, const char *value)
{
	char expected[256];
	int ret;

	if (!value) {
		if (!option->flag) {
			describe(option, expected, sizeof(expected));
			ublkd_error("%s: expected %s=%s (%s), got no value", option->name,
				    option->name, option->arg, expected);
			return -EINVAL;
		}
		value = "yes";
	}
	if (options->given & bit_of(options, option)) {
		ublkd_error("%s: expected once, given twice", option->name);
		return -EINVAL;
	}
	ret = parse_value(option, value, value_of(options, option));
	if (ret == -ENOMEM) {
		ublkd_error("%s: no memory", option->name);
		return -ENOMEM;
	}
	if (ret) {
		describe(option, expected, sizeof(expected));
		ublkd_error("%s: expected %s, got '%s'", option->name, expected, value);
		return -EINVAL;
	}
	options->given |= bit_of(options, option);
	return 0;
}

void options_forget(struct options *options, const struct ublkd_option *option)
{
	options->given &= ~bit_of(options, option);
}

int options_flag(struct options *options, const char *arg, const char *whose, const char *help)
{
	size_t length = strcspn(arg + 2, "=");
	const struct ublkd_option *option = option_find(options->table, arg + 2, length);
	int ret;

	if (!option) {
		ublkd_error("expected an option of '%s', got '%s'; '%s' lists them", whose, arg, help);
		return EXIT_USAGE;
	}
	ret = options_set(options, option, arg[2 + length] ? arg + 3 + length : NULL);
	return ret ? EXIT_USAGE : EXIT_DONE;
}

int options_check(const struct options *options, const char *whose)
{
	for (const struct ublkd_option *o = options->table; o->name; o++) {
		if (o->required && !(options->given & bit_of(options, o))) {
			ublkd_error("%s: expected %s=%s, which is required, got none", whose,
				    o->name, o->arg);
			return -EINVAL;
		}
	}
	return 0;
}

bool options_given(const struct options *options, const char *name)
{
	const struct ublkd_option *option = option_find(options->table, name, strlen(name));

	assert(option);
	return options->given & bit_of(options, option);
}

const char *option_type_name(const struct ublkd_option *option)
{
	static const char *const names[] = {
		[UBLKD_OPT_BOOL] = "bool", [UBLKD_OPT_UINT] = "uint", [UBLKD_OPT_INT] = "int",
		[UBLKD_OPT_SIZE] = "size",
		[UBLKD_OPT_STRING] = "string", [UBLKD_OPT_PATH] = "path", [UBLKD_OPT_ENUM] = "enum",
		[UBLKD_OPT_MODE] = "mode", [UBLKD_OPT_CPUS] = "cpus",
		[UBLKD_OPT_UUID] = "uuid",
	};

	return names[option->type];
}

char *options_text(const struct options *options, const struct ublkd_option *option)
{
	const void *value = value_of(options, option);
	char *text = NULL, size[SIZE_TEXT_MAX];
	int length = 0;

	if (!option->preset && !(options->given & bit_of(options, option)))
		return NULL;
	switch (option->type) {
	case UBLKD_OPT_BOOL:
		text = strdup(*(const bool *)value ? "yes" : "no");
		break;
	case UBLKD_OPT_UINT:
		length = asprintf(&text, "%" PRIu64, *(const uint64_t *)value);
		break;
	case UBLKD_OPT_INT:
		length = asprintf(&text, "%" PRId64, *(const int64_t *)value);
		break;
	case UBLKD_OPT_SIZE:
		text = strdup(format_size(size, *(const uint64_t *)value));
		break;
	case UBLKD_OPT_STRING:
	case UBLKD_OPT_PATH:
	case UBLKD_OPT_CPUS:
	case UBLKD_OPT_UUID:
		text = strdup(*(char *const *)value);
		break;
	case UBLKD_OPT_ENUM:
		text = strdup(option->values[*(const int *)value]);
		break;
	case UBLKD_OPT_MODE:
		length = asprintf(&text, "%04o", *(const uint32_t *)value);
		break;
	}
	return length < 0 ? NULL : text;
}

void options_print(FILE *out, const struct ublkd_option *table, const char *prefix)
{
	for (; table->name; table++) {
		char left[64], expected[256];

		if (table->flag)
			snprintf(left, sizeof(left), "%s%s", prefix, table->name);
		else
			snprintf(left, sizeof(left), "%s%s=%s", prefix, table->name, table->arg);
		fprintf(out, "  %-26s %s", left, table->help);
		if (table->type != UBLKD_OPT_STRING && table->type != UBLKD_OPT_PATH &&
		    table->type != UBLKD_OPT_BOOL) {
			describe(table, expected, sizeof(expected));
			fprintf(out, "; %s", expected);
		}
		if (table->required)
			fprintf(out, " (required)");
		else if (table->preset)
			fprintf(out, " (default %s)", table->preset);
		fputc('\n', out);
	}
}
