/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Declarative options: one table says what there is, and the parser, the
 * error texts and the help all read it. Main thread only.
 *
 * Functions that can fail have said why, with what was expected and what was
 * given, when they return -EINVAL.
 */
#ifndef OPTION_H
#define OPTION_H

#include <stdio.h>

#include <ublkd/backend.h>

/* A table and the structure that its values go to. At most 64 options. */
struct options {
	const struct ublkd_option *table;
	void *values;
	uint64_t given; /* bit per option of the table: given by the user */
};

/* Sets every option to its preset. */
int options_init(struct options *options, const struct ublkd_option *table, void *values);
/* Frees the strings among the values; then the set may be initialised again. */
void options_free(struct options *options);

const struct ublkd_option *option_find(const struct ublkd_option *table, const char *name,
				       size_t length);
/* value NULL: the option was given bare. Giving one twice is an error. */
int options_set(struct options *options, const struct ublkd_option *option, const char *value);
/* As if it had not been given, for another value; this one stays until then. */
void options_forget(struct options *options, const struct ublkd_option *option);
/*
 * Sets "--NAME[=VALUE]" of a command line; an exit status. whose and help, the
 * command that lists them, are for the error text.
 */
int options_flag(struct options *options, const char *arg, const char *whose, const char *help);
/* Complains about the first required option that was not given. */
int options_check(const struct options *options, const char *whose);
bool options_given(const struct options *options, const char *name);

/* "size" and the like. */
const char *option_type_name(const struct ublkd_option *option);
/* The value in the form that it is given in, to be freed; NULL: there is none, or no memory. */
char *options_text(const struct options *options, const struct ublkd_option *option);

/* A line or more for each option; prefix is "--" or "". */
void options_print(FILE *out, const struct ublkd_option *table, const char *prefix);

#endif
