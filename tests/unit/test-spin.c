/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <time.h>

#include "spin.h"

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void it_is_off_without_a_limit(void **state)
{
	struct spin spin;

	(void)state;
	spin_open(&spin, 0);
	assert_true(spin.over);
	spin_again(&spin, 1);
	assert_true(spin.over);
	assert_false(spin_on(&spin));
	assert_int_equal(spin.end, 0);
}

static void it_begins_with_the_first_io(void **state)
{
	struct spin spin;

	(void)state;
	spin_open(&spin, 1000000000000);
	assert_false(spin_on(&spin));
	spin_again(&spin, 1);
	for (int i = 0; i < 100; i++)
		assert_true(spin_on(&spin));
	assert_false(spin.over);
}

static void it_lasts_as_long_as_it_was_told(void **state)
{
	const uint64_t limit = 2000000;
	uint64_t begun = now();
	struct spin spin;

	(void)state;
	spin_open(&spin, limit);
	spin_again(&spin, 1);
	while (spin_on(&spin))
		;
	assert_true(now() - begun >= limit);
	assert_true(spin.over);
	assert_false(spin_on(&spin));
}

static void only_new_io_begins_it_anew(void **state)
{
	struct spin spin;

	(void)state;
	spin_open(&spin, 1000);
	spin_again(&spin, 7);
	while (spin_on(&spin))
		;
	spin_again(&spin, 7);
	assert_false(spin_on(&spin));
	spin_again(&spin, 8);
	assert_false(spin.over);
	assert_true(spin_on(&spin));
}

/* The time counts from when the thread has nothing else to do. */
static void the_clock_is_not_read_until_it_looks(void **state)
{
	struct spin spin;

	(void)state;
	spin_open(&spin, 1000000000000);
	spin_again(&spin, 1);
	assert_int_equal(spin.end, 0);
	assert_true(spin_on(&spin));
	assert_int_not_equal(spin.end, 0);
	spin_again(&spin, 2);
	assert_int_equal(spin.end, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_off_without_a_limit),
		cmocka_unit_test(it_begins_with_the_first_io),
		cmocka_unit_test(it_lasts_as_long_as_it_was_told),
		cmocka_unit_test(only_new_io_begins_it_anew),
		cmocka_unit_test(the_clock_is_not_read_until_it_looks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
