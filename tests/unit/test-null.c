/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "option.h"

static struct ublkd_wish wish;

static struct ublkd_target *open_null_with(const char *size, const char *zeros)
{
	const struct ublkd_backend *null = backend_find("null");
	struct ublkd_target *target = NULL;
	struct options options;
	void *config;

	assert_non_null(null);
	config = calloc(1, null->config_size);
	options_init(&options, null->options, config);
	assert_int_equal(options_set(&options, option_find(null->options, "size", 4), size), 0);
	if (zeros)
		assert_int_equal(options_set(&options, option_find(null->options, "zeros", 5),
					     zeros), 0);
	assert_int_equal(options_check(&options, "null"), 0);
	assert_int_equal(backend_open(&target, null, config, &wish, NULL), 0);
	free(config);
	return target;
}

static struct ublkd_target *open_null(const char *size)
{
	return open_null_with(size, NULL);
}

static void it_has_the_size_that_is_asked(void **state)
{
	struct ublkd_target *target = open_null("3T");

	(void)state;
	assert_int_equal(target->size, UINT64_C(3) << 40);
	assert_false(target->volatile_cache);
	assert_true(target->ring_only);
	assert_true(target->no_effort);
	assert_int_equal(target->nr_files, 1); /* where zeros come from */
	assert_true(target->discard_granularity > 0);
	assert_true(target->write_zeroes);
	backend_close(target, true);
}

static void it_can_have_any_other_size(void **state)
{
	struct ublkd_target *target = open_null("1M");
	uint64_t size;
	int ret;

	(void)state;
	assert_int_equal(backend_resize(target, UINT64_C(1) << 50), 0);
	assert_int_equal(target->size, 1 << 20);
	backend_resized(target, UINT64_C(1) << 50);
	assert_int_equal(target->size, UINT64_C(1) << 50);
	capture_begin();
	ret = backend_measure(target, &size);
	assert_contains(capture_end(), "size: expected SIZE, as the backend 'null' stands on nothing");
	assert_int_equal(ret, -EINVAL);
	backend_close(target, true);
	wish = (struct ublkd_wish){ .size = 4096, .resized = true };
	target = open_null("1M");
	assert_int_equal(target->size, 4096);
	backend_close(target, true);
	wish.resized = false;
	target = open_null("1M");
	wish = (struct ublkd_wish){ 0 };
	assert_int_equal(target->size, 1 << 20);
	backend_close(target, true);
}

static void the_size_is_required(void **state)
{
	const struct ublkd_backend *null = backend_find("null");
	struct options options;
	void *config = calloc(1, null->config_size);

	(void)state;
	options_init(&options, null->options, config);
	capture_begin();
	options_check(&options, "null");
	assert_contains(capture_end(), "null: expected size=SIZE");
	free(config);
}

/* The buffer still has what the last write of the tag brought. */
static void reads_are_zeros_whatever_was_written(void **state)
{
	struct ublkd_target *target = open_null("1M");
	static const uint8_t zeros[4096];
	uint8_t data[4096];
	struct ublkd_io io = { .op = UBLKD_OP_WRITE, .length = sizeof(data), .data = data };

	(void)state;
	memset(data, 'x', sizeof(data));
	assert_int_equal(target->ops->submit(target, &io), UBLKD_DONE);
	io.op = UBLKD_OP_READ;
	io.offset = 8192;
	assert_int_equal(target->ops->submit(target, &io), UBLKD_DONE);
	assert_memory_equal(data, zeros, sizeof(data));
	backend_close(target, true);
}

static void without_zeros_reads_are_left_alone(void **state)
{
	struct ublkd_target *target = open_null_with("1M", "no");
	uint8_t data[512];
	struct ublkd_io io = { .op = UBLKD_OP_READ, .length = sizeof(data), .data = data };

	(void)state;
	memset(data, 'x', sizeof(data));
	assert_int_equal(target->ops->submit(target, &io), UBLKD_DONE);
	assert_int_equal(data[0], 'x');
	assert_int_equal(data[511], 'x');
	io.data = NULL;
	assert_int_equal(target->ops->submit(target, &io), UBLKD_DONE);
	backend_close(target, true);
}

static void everything_else_is_done_at_once(void **state)
{
	struct ublkd_target *target = open_null("1M");

	(void)state;
	for (uint8_t op = UBLKD_OP_FLUSH; op < UBLKD_OP_COUNT; op++) {
		struct ublkd_io io = { .op = op, .length = op == UBLKD_OP_FLUSH ? 0 : 512 };

		assert_int_equal(target->ops->submit(target, &io), UBLKD_DONE);
	}
	backend_close(target, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_has_the_size_that_is_asked),
		cmocka_unit_test(it_can_have_any_other_size),
		cmocka_unit_test(the_size_is_required),
		cmocka_unit_test(reads_are_zeros_whatever_was_written),
		cmocka_unit_test(without_zeros_reads_are_left_alone),
		cmocka_unit_test(everything_else_is_done_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
