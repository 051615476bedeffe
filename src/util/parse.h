/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text to numbers and back. Every parser takes the whole text or nothing and
 * returns 0, or -EINVAL (not of the form) or -ERANGE (does not fit); *out is
 * written on success only.
 */
#ifndef UTIL_PARSE_H
#define UTIL_PARSE_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int parse_uint(const char *text, uint64_t *out);
/* With a minus before it or without. */
int parse_int(const char *text, int64_t *out);
/* 4096, 4K, 1.5G, 2TiB: factors of 1024; the result must be whole bytes. */
int parse_size(const char *text, uint64_t *out);
/* yes/no, on/off, true/false, 1/0. */
int parse_bool(const char *text, bool *out);
/* Octal, up to 0777. */
int parse_mode(const char *text, uint32_t *out);

/*
 * A CPU list such as 0-3,8. Calls visit for each CPU in ascending order of
 * the text. visit may be NULL (check only).
 */
int parse_cpu_list(const char *text, void (*visit)(void *arg, unsigned cpu), void *arg);
/* The CPUs of a list that was checked before. */
void cpu_list_to_set(const char *text, cpu_set_t *set);

/* "4K", "1536M", "1000": in the largest binary unit that gives a whole number. */
#define SIZE_TEXT_MAX 24
const char *format_size(char buffer[SIZE_TEXT_MAX], uint64_t bytes);

/* The unsigned number in a small file such as those of sysfs. */
int read_uint_file(const char *path, uint64_t *out);

#endif
