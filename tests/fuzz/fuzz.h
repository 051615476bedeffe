/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What others write and we read, as programs that take any bytes for it and
 * abort where something does not hold. mutate.c feeds them with what follows
 * from the samples in corpus/ by chance that repeats; "make check-fuzz" has
 * libFuzzer do it. The names are libFuzzer's.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "../unit/support.h"

/* Once, before the first input. 0. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
/* 0, whatever the input. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is to hold; cmocka's assertions are for its tests only. */
#define MUST(what) \
	do { \
		if (!(what)) { \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #what); \
			abort(); \
		} \
	} while (0)

#endif
