/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file of settings, KEY = VALUE in one section, as it is read: errors are said with file
 * and line, and reading goes on, so that all that is wrong is said. Main thread.
 */
#ifndef LINES_H
#define LINES_H

#include <stdio.h>

struct line {
	unsigned number;
	char *key, *value;
};

struct lines {
	/* Set by the caller. */
	const char *path;
	const char *section; /* that all of them are in */

	struct line *lines;
	unsigned count;
	int status; /* of the first error: an exit status */
	FILE *file;      /* lines.c's from here on */
	unsigned number; /* of the line that was read last */
};

void lines_read(struct lines *lines);
void lines_free(struct lines *lines);
/* The status is that of the first of them. */
void lines_fail(struct lines *lines, int status);
/* A wrong usage, in this line; 0: in the file. */
void lines_error(struct lines *lines, unsigned number, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* "FILE:LINE", or "FILE" for line 0, as what messages are about. Returns text. */
const char *lines_place(const struct lines *lines, unsigned number, char *text, size_t size);

#endif
