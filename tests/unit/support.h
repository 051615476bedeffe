/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What all unit tests need; the first header of each. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include "build.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/*
 * Keeps what is written on stderr from now on. Nothing may be asserted before
 * capture_end(), which gives the text, valid until the next one.
 */
void capture_begin(void);
const char *capture_end(void);
/* A program or command with these arguments, NULL at the end: its exit status, and what it says. */
int run_captured(int (*run)(int argc, char **argv), const char *name, const char *const *args,
		 const char **said);

#define assert_contains(text, part) assert_contains_at(text, part, __FILE__, __LINE__)
void assert_contains_at(const char *text, const char *part, const char *file, int line);

/* Whether act(arg), run in a process of its own, ends it by abort(). */
bool aborts(void (*act)(void *arg), void *arg);

/* Set-up and tear-down of tests that need a folder; paths are valid for eight calls. */
int scratch_make(void **state);
int scratch_remove(void **state);
const char *scratch_path(const char *name);
/* An open file of this size below the folder, whose bytes are 0, 1, 2 … 250, 0, 1 … */
int scratch_file(const char *name, uint64_t size);
/* How many this process has open. */
unsigned files_open(void);
/* Bytes and descriptors to a socket, all at once. */
void send_with_files(int fd, const char *bytes, size_t length, const int *files, unsigned count);

/* A repeatable random number below n; any seed will do. */
uint32_t random_below(uint64_t *seed, uint32_t n);

#endif
