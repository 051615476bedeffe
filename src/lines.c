/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "lines.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "exit.h"
#include "log.h"

void lines_fail(struct lines *lines, int status)
{
	if (!lines->status)
		lines->status = status;
}

const char *lines_place(const struct lines *lines, unsigned number, char *text, size_t size)
{
	if (number)
		snprintf(text, size, "%s:%u", lines->path, number);
	else
		snprintf(text, size, "%s", lines->path);
	return text;
}

void lines_error(struct lines *lines, unsigned number, const char *format, ...)
{
	char where[512], text[512];
	const char *before;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	before = log_switch(lines_place(lines, number, where, sizeof(where)));
	ublkd_error("%s", text);
	log_switch(before);
	lines_fail(lines, EXIT_USAGE);
}

/* The parser's fgets(); it would take the rest of a long line for another one. */
static char *read_line(char *buffer, int size, void *stream)
{
	struct lines *lines = stream;
	int c;

	if (!fgets(buffer, size, lines->file))
		return NULL;
	lines->number++;
	if (strchr(buffer, '\n') || strlen(buffer) < (size_t)size - 1) {
		/* It would take an indented line for more of the last value. */
		size_t blanks = strspn(buffer, " \t");

		memmove(buffer, buffer + blanks, strlen(buffer + blanks) + 1);
		return buffer;
	}
	lines_error(lines, lines->number, "expected a line of at most %d characters", size - 2);
	do
		c = fgetc(lines->file);
	while (c != '\n' && c != EOF);
	strcpy(buffer, "\n");
	return buffer;
}

static void wrong_section(struct lines *lines, const char *section, const char *key)
{
	if (*section)
		lines_error(lines, lines->number, "expected settings in the section [%s] alone, got '%s' in "
			    "[%s]", lines->section, key, section);
	else
		lines_error(lines, lines->number, "expected [%s] before the settings, got '%s'",
			    lines->section, key);
}

static int on_line(void *user, const char *section, const char *key, const char *value)
{
	struct lines *lines = user;
	struct line *more, *line;

	if (strcmp(section, lines->section)) {
		if (!lines->status)
			wrong_section(lines, section, key);
		return 1;
	}
	more = realloc(lines->lines, (lines->count + 1) * sizeof(*more));
	if (!more) {
		lines_fail(lines, EXIT_RUNTIME);
		return 1;
	}
	lines->lines = more;
	line = &more[lines->count++];
	*line = (struct line){ lines->number, strdup(key), strdup(value) };
	if (!line->key || !line->value)
		lines_fail(lines, EXIT_RUNTIME);
	return 1;
}

void lines_read(struct lines *lines)
{
	int number;

	lines->file = fopen(lines->path, "re");
	if (!lines->file) {
		ublkd_error("cannot open '%s': %s", lines->path, strerror(errno));
		lines_fail(lines, EXIT_USAGE);
		return;
	}
	number = ini_parse_stream(read_line, lines, on_line, lines);
	if (ferror(lines->file)) {
		ublkd_error("cannot read '%s': %s", lines->path, strerror(errno));
		lines_fail(lines, EXIT_USAGE);
	} else if (number) {
		lines_error(lines, (unsigned)number, "expected KEY = VALUE, [%s] or a comment, which begins "
			    "with '#' or ';'", lines->section);
	}
	fclose(lines->file);
}

void lines_free(struct lines *lines)
{
	for (unsigned i = 0; i < lines->count; i++) {
		free(lines->lines[i].key);
		free(lines->lines[i].value);
	}
	free(lines->lines);
	lines->lines = NULL;
	lines->count = 0;
}
