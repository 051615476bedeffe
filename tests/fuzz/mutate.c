/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * usage: fuzz-NAME [FILE…]
 * Feeds the samples of tests/fuzz/corpus/NAME, and then what chance makes of
 * them, the same in each run. An input that ends the program is left in a file
 * NAME-crash of the working folder; fuzz-NAME FILE shows what it does.
 */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/macros.h"

#define RUNS 4000
#define RUNS_LONG 400000
#define MOST_BYTES (80u << 10) /* more than a message may have */
#define MOST_SAMPLES 64

struct input {
	uint8_t *bytes;
	size_t size;
};

/* On the way to it; for the signal's handler. */
static struct input now;
static char crash_path[256];

static void on_crash(int signal)
{
	int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, now.bytes, now.size) != (ssize_t)now.size)
		_exit(99);
	raise(signal); /* SA_RESETHAND: it ends us */
}

static void read_input(const char *path, struct input *input)
{
	FILE *file = fopen(path, "r");

	input->bytes = malloc(MOST_BYTES);
	if (!file || !input->bytes) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	input->size = fread(input->bytes, 1, MOST_BYTES, file);
	fclose(file);
}

/* ---- chance --------------------------------------------------------------------- */

static void put(struct input *input, size_t at, const void *bytes, size_t size)
{
	if (input->size + size > MOST_BYTES)
		return;
	memmove(input->bytes + at + size, input->bytes + at, input->size - at);
	memcpy(input->bytes + at, bytes, size);
	input->size += size;
}

static void put_word(struct input *input, size_t at, uint64_t *seed)
{
	static const char *const words[] = {
		"{", "}", "[", "]", "\"", ":", ",", "\n", "\\u0000", "\\ud800", "null", "true", "-1", "1e999",
		"9223372036854775807", "18446744073709551616", "0", "%n%s", "../", "=", "+", "\xfe", "\xff",
		"[device]\n", "size=", "yes", "16E",
	};
	const char *word = words[random_below(seed, ARRAY_SIZE(words))];

	put(input, at, word, strlen(word));
}

/* A piece of it once more, or often. */
static void put_again(struct input *input, size_t at, uint64_t *seed)
{
	uint8_t piece[256];
	size_t size = random_below(seed, sizeof(piece));

	size = MIN(size, input->size - at);
	memcpy(piece, input->bytes + at, size);
	for (uint32_t times = random_below(seed, 16) ? 1 : random_below(seed, 2000); times; times--)
		put(input, at, piece, size);
}

static void mutate(struct input *input, const struct input *other, uint64_t *seed)
{
	size_t at = random_below(seed, (uint32_t)input->size + 1), size;
	uint8_t byte = (uint8_t)random_below(seed, 256);

	switch (random_below(seed, 6)) {
	case 0:
		if (at < input->size)
			input->bytes[at] ^= (uint8_t)(1u << byte % 8);
		break;
	case 1:
		put(input, at, &byte, 1);
		break;
	case 2: /* without a piece */
		size = random_below(seed, 64);
		size = MIN(size, input->size - at);
		memmove(input->bytes + at, input->bytes + at + size, input->size - at - size);
		input->size -= size;
		break;
	case 3:
		put_word(input, at, seed);
		break;
	case 4:
		put_again(input, at, seed);
		break;
	default: /* with the end of another sample */
		size = random_below(seed, (uint32_t)other->size + 1);
		put(input, at, other->bytes + size, other->size - size);
		break;
	}
}

static void run(const struct input *samples, unsigned count, unsigned long runs)
{
	uint64_t seed = 1;

	for (unsigned i = 0; i < count; i++) {
		memcpy(now.bytes, samples[i].bytes, samples[i].size);
		now.size = samples[i].size;
		LLVMFuzzerTestOneInput(now.bytes, now.size);
	}
	while (runs--) {
		const struct input *sample = &samples[random_below(&seed, count)];

		memcpy(now.bytes, sample->bytes, sample->size);
		now.size = sample->size;
		for (uint32_t n = 1 + random_below(&seed, 6); n; n--)
			mutate(&now, &samples[random_below(&seed, count)], &seed);
		LLVMFuzzerTestOneInput(now.bytes, now.size);
	}
}

/* ---- the program ---------------------------------------------------------------- */

static unsigned read_samples(const char *name, struct input samples[MOST_SAMPLES])
{
	const char *top = getenv("abs_top_srcdir");
	char pattern[4096];
	glob_t found;
	unsigned count;

	snprintf(pattern, sizeof(pattern), "%s/tests/fuzz/corpus/%s/*", top ? top : ".", name);
	if (glob(pattern, 0, NULL, &found)) {
		fprintf(stderr, "expected samples in %s, found none\n", pattern);
		exit(2);
	}
	count = MIN((unsigned)found.gl_pathc, MOST_SAMPLES);
	for (unsigned i = 0; i < count; i++)
		read_input(found.gl_pathv[i], &samples[i]);
	globfree(&found);
	return count;
}

/* What is wrong with each input is of no interest, and much. */
static void be_silent(void)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
		exit(2);
	close(fd);
}

static void run_samples(const char *name)
{
	static const int crashes[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
	struct input samples[MOST_SAMPLES];
	unsigned count = read_samples(name, samples);
	const char *is_long = getenv("UBLKD_LONG");

	snprintf(crash_path, sizeof(crash_path), "%s-crash", name);
	for (size_t i = 0; i < ARRAY_SIZE(crashes); i++)
		sigaction(crashes[i], &(struct sigaction){ .sa_handler = on_crash,
							   .sa_flags = SA_RESETHAND }, NULL);
	now.bytes = malloc(MOST_BYTES);
	if (!now.bytes)
		exit(2);
	be_silent();
	run(samples, count, is_long && !strcmp(is_long, "1") ? RUNS_LONG : RUNS);
	printf("ok 1 - any_%s_do_no_harm\n", name);
	for (unsigned i = 0; i < count; i++)
		free(samples[i].bytes);
	free(now.bytes);
}

int main(int argc, char **argv)
{
	const char *dash = strrchr(program_invocation_short_name, '-');

	LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++) {
		struct input input;

		read_input(argv[i], &input);
		LLVMFuzzerTestOneInput(input.bytes, input.size);
		free(input.bytes);
	}
	if (argc > 1)
		return 0;
	printf("1..1\n");
	fflush(stdout);
	run_samples(dash ? dash + 1 : "");
	return 0;
}
