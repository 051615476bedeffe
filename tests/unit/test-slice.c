/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <linux/sched/types.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "slice.h"

#define LOOK 64 /* requests */

/* So many requests more, of which so many found the thread asleep. */
static bool look(struct slice *slice, uint64_t requests, uint64_t asleep)
{
	slice->is_short =
		slice_next(slice, slice->requests + requests, slice->sleeps + asleep);
	return slice->is_short;
}

static void requests_that_come_one_by_one_make_it_short(void **state)
{
	struct slice slice = { .adapts = true };

	(void)state;
	assert_true(look(&slice, LOOK, LOOK));
	assert_true(look(&slice, LOOK, LOOK));
}

static void requests_that_come_together_leave_it_as_it_is(void **state)
{
	struct slice slice = { .adapts = true };

	(void)state;
	assert_false(look(&slice, LOOK, LOOK / 2));
	assert_false(look(&slice, LOOK, 0));
}

static void a_few_that_come_together_end_the_short_one(void **state)
{
	struct slice slice = { .adapts = true };

	(void)state;
	assert_true(look(&slice, LOOK, LOOK));
	assert_true(look(&slice, LOOK, LOOK - 1));
	assert_false(look(&slice, LOOK, LOOK - 2));
}

/* The short slice keeps apart what would come together without it. */
static void the_usual_one_is_tried_again(void **state)
{
	struct slice slice = { .adapts = true };
	unsigned looks = 0;

	(void)state;
	assert_true(look(&slice, LOOK, LOOK));
	while (look(&slice, LOOK, LOOK))
		assert_true(++looks < 100);
	assert_true(looks > 20);
	assert_false(look(&slice, LOOK, LOOK / 2));
}

static void few_requests_decide_nothing(void **state)
{
	struct slice slice = { .adapts = true };

	(void)state;
	assert_false(look(&slice, 5, 5));
	assert_true(look(&slice, LOOK, LOOK));
	for (unsigned i = 0; i < 200; i++)
		assert_true(slice_next(&slice, slice.requests + 5, slice.sleeps));
}

static uint64_t slice_of_this_thread(void)
{
	struct sched_attr attr = { 0 };

	assert_int_equal(syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0), 0);
	return attr.sched_runtime;
}

static void sleep_for_each(struct slice *slice, uint64_t *requests)
{
	for (unsigned i = 0; i < LOOK; i++)
		usleep(1);
	*requests += LOOK;
	slice_adapt(slice, *requests);
}

static void the_thread_gets_it_and_gives_it_back(void **state)
{
	uint64_t usual = slice_of_this_thread(), requests = 0;
	struct slice slice;

	(void)state;
	slice_open(&slice, true);
	if (!slice.adapts)
		skip();
	sleep_for_each(&slice, &requests);
	assert_true(slice.is_short);
	assert_true(slice_of_this_thread() < usual);
	requests += LOOK;
	slice_adapt(&slice, requests);
	assert_false(slice.is_short);
	assert_int_equal(slice_of_this_thread(), usual);
}

static void it_is_left_alone_when_told_so(void **state)
{
	uint64_t usual = slice_of_this_thread(), requests = 0;
	struct slice slice;

	(void)state;
	slice_open(&slice, false);
	sleep_for_each(&slice, &requests);
	assert_int_equal(slice_of_this_thread(), usual);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_that_come_one_by_one_make_it_short),
		cmocka_unit_test(requests_that_come_together_leave_it_as_it_is),
		cmocka_unit_test(a_few_that_come_together_end_the_short_one),
		cmocka_unit_test(the_usual_one_is_tried_again),
		cmocka_unit_test(few_requests_decide_nothing),
		cmocka_unit_test(the_thread_gets_it_and_gives_it_back),
		cmocka_unit_test(it_is_left_alone_when_told_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
