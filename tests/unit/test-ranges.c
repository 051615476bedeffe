/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "support.h"

#include <errno.h>

#include "util/macros.h"
#include "util/ranges.h"

static void the_lowest_that_fits_is_taken(void **state)
{
	struct ranges ranges;

	(void)state;
	assert_int_equal(ranges_open(&ranges, 100), 0);
	assert_int_equal(ranges_take(&ranges, 10), 0);
	assert_int_equal(ranges_take(&ranges, 20), 10);
	assert_int_equal(ranges_take(&ranges, 30), 30);
	assert_int_equal(ranges_take(&ranges, 41), -ENOSPC);
	ranges_give(&ranges, 0, 10);
	ranges_give(&ranges, 30, 30);
	assert_int_equal(ranges_take(&ranges, 11), 30);
	assert_int_equal(ranges_take(&ranges, 10), 0);
	assert_int_equal(ranges_take(&ranges, 59), 41);
	assert_int_equal(ranges_take(&ranges, 1), -ENOSPC);
	ranges_close(&ranges);
}

static void none_at_all_are_none(void **state)
{
	struct ranges ranges;

	(void)state;
	assert_int_equal(ranges_open(&ranges, 0), 0);
	assert_int_equal(ranges_take(&ranges, 1), -ENOSPC);
	ranges_close(&ranges);
}

/* Whatever the order in which they come back, nothing is given out twice or lost. */
static void all_of_it_can_be_taken_again(void **state)
{
	enum { COUNT = 500, OUT = 60 };
	struct { int first; unsigned count; } out[OUT] = { 0 };
	uint8_t used[COUNT] = { 0 };
	struct ranges ranges;
	uint64_t seed = 1;

	(void)state;
	assert_int_equal(ranges_open(&ranges, COUNT), 0);
	for (unsigned round = 0; round < 20000; round++) {
		unsigned i = random_below(&seed, OUT);

		if (out[i].count) {
			ranges_give(&ranges, (unsigned)out[i].first, out[i].count);
			for (unsigned n = 0; n < out[i].count; n++)
				used[out[i].first + (int)n] = 0;
			out[i].count = 0;
			continue;
		}
		out[i].count = 1 + random_below(&seed, 40);
		out[i].first = ranges_take(&ranges, out[i].count);
		if (out[i].first < 0) {
			assert_int_equal(out[i].first, -ENOSPC);
			out[i].count = 0;
		}
		for (unsigned n = 0; n < out[i].count; n++) {
			assert_int_equal(used[out[i].first + (int)n], 0);
			used[out[i].first + (int)n] = 1;
		}
	}
	for (unsigned i = 0; i < OUT; i++) {
		if (out[i].count)
			ranges_give(&ranges, (unsigned)out[i].first, out[i].count);
	}
	assert_int_equal(ranges_take(&ranges, COUNT), 0);
	ranges_close(&ranges);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_lowest_that_fits_is_taken),
		cmocka_unit_test(none_at_all_are_none),
		cmocka_unit_test(all_of_it_can_be_taken_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
