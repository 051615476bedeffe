/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which requests the filter picks and what it asks of the ring for them. */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "io.h"
#include "option.h"
#include "util/macros.h"

#define MIB (UINT64_C(1) << 20)

/* ---- a backend below ----------------------------------------------------- */

static unsigned passed;      /* requests that reached it */
static bool in_ring;         /* what it declares */
static bool lower_closed;

static int lower_open(struct ublkd_target *target, const void *config,
		      const struct ublkd_wish *wish)
{
	(void)config;
	(void)wish;
	target->size = MIB;
	target->ring_only = in_ring;
	target->dio_align = 512;
	target->volatile_cache = true;
	target->discard_granularity = 4096;
	target->nr_files = 1;
	target->files[0] = 77;
	return 0;
}

static void lower_close(struct ublkd_target *target)
{
	(void)target;
	lower_closed = true;
}

static int lower_submit(struct ublkd_target *target, struct ublkd_io *io)
{
	(void)io;
	assert_string_equal(target->ops->name, "below");
	passed++;
	return 4711;
}

static int lower_measure(struct ublkd_target *target, uint64_t *size)
{
	*size = target->size + 1;
	return 0;
}

static int lower_resize(struct ublkd_target *target, uint64_t size)
{
	return size > 2 * target->size ? -EFBIG : 0;
}

static const struct ublkd_backend below = {
	.name = "below",
	.state_size = sizeof(struct ublkd_target),
	.open = lower_open,
	.close = lower_close,
	.submit = lower_submit,
	.measure = lower_measure,
	.resize = lower_resize,
};

/* ---- the filter over it -------------------------------------------------- */

static struct ublkd_target *target;
static const char *said;

/* "op=read every=2": without the "fault-" that each begins with. -errno. */
static int open_fault(const char *settings)
{
	const struct ublkd_backend *fault = backend_find("fault");
	const struct ublkd_wish wish = { 0 };
	struct ublkd_target *lower;
	struct options options;
	char *copy = strdup(settings), *rest = copy, *word;
	void *config = calloc(1, fault->config_size);
	int ret = 0;

	passed = 0;
	lower_closed = false;
	assert_int_equal(backend_open(&lower, &below, NULL, &wish, NULL), 0);
	options_init(&options, fault->options, config);
	capture_begin();
	while (!ret && (word = strsep(&rest, " "))) {
		char name[64];
		size_t length = strcspn(word, "=");

		if (!*word)
			continue;
		length = (size_t)snprintf(name, sizeof(name), "fault-%.*s", (int)length, word);
		ret = options_set(&options, option_find(fault->options, name, length),
				  strchr(word, '=') + 1);
	}
	if (!ret)
		ret = backend_open(&target, fault, config, &wish, lower);
	said = capture_end();
	if (ret)
		backend_close(lower, true);
	options_free(&options);
	free(config);
	free(copy);
	return ret;
}

static const char *close_fault(void)
{
	capture_begin();
	backend_close(target, true);
	said = capture_end();
	assert_true(lower_closed);
	return said;
}

static int over_ring(void **state)
{
	(void)state;
	in_ring = true;
	return 0;
}

static int over_memory(void **state)
{
	(void)state;
	in_ring = false;
	return 0;
}

/* What the filter did with the last request. */
static struct io last;

static int submit(enum ublkd_op op, uint64_t offset, uint32_t length)
{
	last = (struct io){ .pub = { .op = (uint8_t)op, .offset = offset, .length = length } };
	return target->ops->submit(target, &last.pub);
}

/* Whether a request is hit, where the filter's fault is error=EIO. */
static bool hits(enum ublkd_op op, uint64_t offset, uint32_t length)
{
	assert_int_equal(submit(op, offset, length), 4711);
	assert_true(!last.inject || last.inject == -EIO);
	assert_int_equal(last.inject_ns, 0);
	return last.inject;
}

/* Which of n writes are hit: a string of 'x' and '.'. */
static const char *pattern(unsigned n)
{
	static char text[1025];

	assert_true(n < sizeof(text));
	for (unsigned i = 0; i < n; i++)
		text[i] = hits(UBLKD_OP_WRITE, 4096 * (uint64_t)i, 4096) ? 'x' : '.';
	text[n] = 0;
	return text;
}

/* ---- what it is about ---------------------------------------------------- */

static void it_looks_like_what_is_below(void **state)
{
	(void)state;
	assert_int_equal(open_fault(""), 0);
	assert_int_equal(target->size, MIB);
	assert_true(target->ring_only);
	assert_int_equal(target->dio_align, 512);
	assert_true(target->volatile_cache);
	assert_int_equal(target->discard_granularity, 4096);
	assert_int_equal(target->nr_files, 1);
	assert_int_equal(target->files[0], 77);
	assert_string_equal(target->ops->name, "fault");
	assert_string_equal(target->lower->ops->name, "below");
	/* Without a fault it only passes on. */
	assert_int_equal(submit(UBLKD_OP_READ, 0, 4096), 4711);
	assert_int_equal(passed, 1);
	assert_int_equal(last.inject, 0);
	assert_int_equal(last.inject_ns, 0);
	close_fault();
}

static void it_is_about_one_operation_or_any(void **state)
{
	static const char *const names[] = { "read", "write", "flush", "discard", "write-zeroes" };

	(void)state;
	for (unsigned i = 0; i <= UBLKD_OP_COUNT; i++) {
		char settings[64];

		snprintf(settings, sizeof(settings), "error=EIO op=%s",
			 i < UBLKD_OP_COUNT ? names[i] : "any");
		assert_int_equal(open_fault(settings), 0);
		for (unsigned op = 0; op < UBLKD_OP_COUNT; op++)
			assert_int_equal(hits((enum ublkd_op)op, 0, op == UBLKD_OP_FLUSH ? 0 : 512),
					 op == i || i == UBLKD_OP_COUNT);
		assert_int_equal(passed, UBLKD_OP_COUNT);
		close_fault();
	}
}

static void it_is_about_requests_that_touch_its_range(void **state)
{
	(void)state;
	assert_int_equal(open_fault("error=EIO from=8K to=16K"), 0);
	assert_false(hits(UBLKD_OP_READ, 0, 8192));
	assert_true(hits(UBLKD_OP_READ, 0, 8192 + 512));
	assert_true(hits(UBLKD_OP_READ, 8192, 512));
	assert_true(hits(UBLKD_OP_READ, 16384 - 512, 512));
	assert_true(hits(UBLKD_OP_READ, 0, 65536));
	assert_false(hits(UBLKD_OP_READ, 16384, 512));
	assert_true(hits(UBLKD_OP_FLUSH, 0, 0));
	close_fault();
	assert_int_equal(open_fault("error=EIO from=8K"), 0);
	assert_false(hits(UBLKD_OP_READ, 0, 8192));
	assert_true(hits(UBLKD_OP_READ, MIB - 512, 512));
	close_fault();
}

static void it_skips_some_takes_each_nth_and_stops(void **state)
{
	static const struct {
		const char *settings, *hit;
	} cases[] = {
		{ "", "xxxxxxxxxxxx" },
		{ "skip=3", "...xxxxxxxxx" },
		{ "every=3", "..x..x..x..x" },
		{ "skip=2 every=3", "....x..x..x." },
		{ "times=2", "xx.........." },
		{ "times=1 skip=4 every=2", ".....x......" },
		{ "from=8K to=20K", "..xxx......." },
		/* What it is not about does not count. */
		{ "from=8K skip=1 every=2", "....x.x.x.x." },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char settings[128];

		snprintf(settings, sizeof(settings), "error=EIO %s", cases[i].settings);
		assert_int_equal(open_fault(settings), 0);
		assert_string_equal(pattern(12), cases[i].hit);
		close_fault();
	}
	assert_int_equal(open_fault("error=EIO op=write skip=1 every=2"), 0);
	assert_false(hits(UBLKD_OP_WRITE, 0, 512));
	assert_false(hits(UBLKD_OP_READ, 0, 512));
	assert_false(hits(UBLKD_OP_WRITE, 0, 512));
	assert_false(hits(UBLKD_OP_READ, 0, 512));
	assert_true(hits(UBLKD_OP_WRITE, 0, 512));
	close_fault();
}

static unsigned count_hits(const char *settings, char *which)
{
	unsigned count = 0;

	assert_int_equal(open_fault(settings), 0);
	strcpy(which, pattern(1000));
	for (unsigned i = 0; i < 1000; i++)
		count += which[i] == 'x';
	close_fault();
	return count;
}

static void chance_is_the_same_for_the_same_seed(void **state)
{
	static char first[1025], again[1025], other[1025];

	(void)state;
	assert_in_range(count_hits("error=EIO chance=100 seed=7", first), 60, 140);
	count_hits("error=EIO chance=100 seed=7", again);
	assert_string_equal(first, again);
	assert_in_range(count_hits("error=EIO chance=100 seed=123456789", other), 60, 140);
	assert_string_not_equal(first, other);
	assert_in_range(count_hits("error=EIO chance=900", first), 860, 940);
	assert_int_equal(count_hits("error=EIO chance=1000", first), 1000);
	/* Those that chance spares are no faults. */
	assert_int_equal(count_hits("error=EIO chance=100 times=5", first), 5);
}

/* ---- what it does -------------------------------------------------------- */

static void each_error_is_asked_of_the_ring(void **state)
{
	static const struct {
		const char *name;
		int error;
	} errors[] = {
		{ "none", 0 }, { "EIO", -EIO }, { "ENOSPC", -ENOSPC }, { "EINVAL", -EINVAL },
		{ "EFBIG", -EFBIG }, { "ENOMEM", -ENOMEM }, { "EAGAIN", -EAGAIN },
		{ "EINTR", -EINTR }, { "ECANCELED", -ECANCELED }, { "ETIMEDOUT", -ETIMEDOUT },
		{ "EOPNOTSUPP", -EOPNOTSUPP },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		char settings[64];

		snprintf(settings, sizeof(settings), "error=%s", errors[i].name);
		assert_int_equal(open_fault(settings), 0);
		assert_int_equal(submit(UBLKD_OP_FLUSH, 0, 0), 4711);
		assert_int_equal(last.inject, errors[i].error);
		assert_int_equal(last.inject_ns, 0);
		close_fault();
	}
}

static void short_is_the_first_half_in_whole_sectors(void **state)
{
	static const struct {
		uint32_t length;
		int32_t moved;
	} cases[] = { { 512, 0 }, { 1024, 512 }, { 1536, 512 }, { 4096, 2048 }, { 65536, 32768 } };

	(void)state;
	assert_int_equal(open_fault("short=yes"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (unsigned op = UBLKD_OP_READ; op <= UBLKD_OP_WRITE; op++) {
			assert_int_equal(submit((enum ublkd_op)op, 0, cases[i].length), 4711);
			assert_int_equal(last.inject, cases[i].moved);
		}
	}
	submit(UBLKD_OP_DISCARD, 0, 65536);
	assert_int_equal(last.inject, 0);
	submit(UBLKD_OP_WRITE_ZEROES, 0, 65536);
	assert_int_equal(last.inject, 0);
	close_fault();
	/* An error is more than that. */
	assert_int_equal(open_fault("short=yes error=EIO"), 0);
	submit(UBLKD_OP_READ, 0, 4096);
	assert_int_equal(last.inject, -EIO);
	close_fault();
}

static void late_is_in_microseconds_and_stuck_is_for_ever(void **state)
{
	(void)state;
	assert_int_equal(open_fault("delay=1500000"), 0);
	submit(UBLKD_OP_READ, 0, 4096);
	assert_int_equal(last.inject_ns, UINT64_C(1500000000));
	assert_int_equal(last.inject, 0);
	close_fault();
	assert_int_equal(open_fault("delay=3600000000 error=ENOSPC"), 0);
	submit(UBLKD_OP_READ, 0, 4096);
	assert_int_equal(last.inject_ns, UINT64_C(3600) * 1000000000);
	assert_int_equal(last.inject, -ENOSPC);
	close_fault();
	assert_int_equal(open_fault("stuck=yes delay=5"), 0);
	submit(UBLKD_OP_READ, 0, 4096);
	/* More than a hundred years, and a time that the kernel takes. */
	assert_true(last.inject_ns > UINT64_C(100) * 366 * 86400 * 1000000000);
	assert_true(last.inject_ns <= INT64_MAX);
	close_fault();
}

static void what_it_did_is_said_at_the_end(void **state)
{
	(void)state;
	assert_int_equal(open_fault("op=write error=EIO skip=1 times=2"), 0);
	submit(UBLKD_OP_READ, 0, 4096);
	for (unsigned i = 0; i < 5; i++)
		submit(UBLKD_OP_WRITE, 0, 4096);
	assert_contains(close_fault(), "fault: requests=6 matched=5 faults=2 errors=2 short=0 "
				       "delayed=0 stuck=0");
	assert_int_equal(open_fault("short=yes delay=1"), 0);
	for (unsigned i = 0; i < 3; i++)
		submit(UBLKD_OP_WRITE, 0, 4096);
	assert_contains(close_fault(), "requests=3 matched=3 faults=3 errors=0 short=3 delayed=3 "
				       "stuck=0");
	assert_int_equal(open_fault("stuck=yes"), 0);
	submit(UBLKD_OP_WRITE, 0, 4096);
	assert_contains(close_fault(), "errors=0 short=0 delayed=0 stuck=1");
}

/* ---- over a backend whose I/O is not the ring's -------------------------- */

static void without_the_ring_an_error_is_the_answer(void **state)
{
	(void)state;
	assert_int_equal(open_fault("error=ENOSPC op=write"), 0);
	assert_int_equal(submit(UBLKD_OP_WRITE, 0, 4096), -ENOSPC);
	assert_int_equal(passed, 0);
	assert_int_equal(last.inject, 0);
	assert_int_equal(submit(UBLKD_OP_READ, 0, 4096), 4711);
	assert_int_equal(passed, 1);
	assert_contains(close_fault(), "requests=2 matched=1 faults=1 errors=1");
}

static void without_the_ring_other_faults_are_refused(void **state)
{
	static const char *const settings[] = { "short=yes", "delay=1", "stuck=yes",
						"error=EIO delay=1" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		assert_int_equal(open_fault(settings[i]), -EINVAL);
		assert_contains(said, "fault: expected a backend whose I/O goes through the ring");
		assert_contains(said, "got 'below'");
	}
}

/* ---- options ------------------------------------------------------------- */

static void settings_that_mean_nothing_are_refused(void **state)
{
	static const char *const bad[] = {
		"op=trim", "error=EPERM", "every=0", "chance=0", "chance=1001",
		"delay=3600000001", "times=-1", "skip=x", "short=maybe", "from=1Q",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char name[64];

		assert_int_equal(open_fault(bad[i]), -EINVAL);
		snprintf(name, sizeof(name), "fault-%.*s: expected", (int)strcspn(bad[i], "="),
			 bad[i]);
		assert_contains(said, name);
	}
}

static void it_has_the_size_of_what_is_below(void **state)
{
	uint64_t size;

	(void)state;
	assert_int_equal(open_fault("op=read"), 0);
	assert_int_equal(backend_measure(target, &size), 0);
	assert_int_equal(size, MIB + 1);
	assert_int_equal(backend_resize(target, 3 * MIB), -EFBIG);
	assert_int_equal(backend_resize(target, 2 * MIB), 0);
	backend_resized(target, 2 * MIB);
	assert_int_equal(target->size, 2 * MIB);
	assert_int_equal(target->lower->size, 2 * MIB);
	close_fault();
}

static void it_is_a_filter(void **state)
{
	(void)state;
	assert_true(backend_find("fault")->filter);
	assert_false(backend_find("file")->filter);
}

int main(void)
{
#define RING(name) cmocka_unit_test_setup(name, over_ring)
#define MEMORY(name) cmocka_unit_test_setup(name, over_memory)
	const struct CMUnitTest tests[] = {
		RING(it_looks_like_what_is_below),
		RING(it_has_the_size_of_what_is_below),
		RING(it_is_about_one_operation_or_any),
		RING(it_is_about_requests_that_touch_its_range),
		RING(it_skips_some_takes_each_nth_and_stops),
		RING(chance_is_the_same_for_the_same_seed),
		RING(each_error_is_asked_of_the_ring),
		RING(short_is_the_first_half_in_whole_sectors),
		RING(late_is_in_microseconds_and_stuck_is_for_ever),
		RING(what_it_did_is_said_at_the_end),
		MEMORY(without_the_ring_an_error_is_the_answer),
		MEMORY(without_the_ring_other_faults_are_refused),
		RING(settings_that_mean_nothing_are_refused),
		cmocka_unit_test(it_is_a_filter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
