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
	slice->is_short = slice_next(slice, requests, asleep);
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

/* ---- on this thread ------------------------------------------------------ */

/* 0: cannot be had. */
static uint64_t slice_of_this_thread(void)
{
	struct sched_attr attr = { 0 };

	return syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) ? 0 : attr.sched_runtime;
}

static uint64_t requests, arrivals;

/* So many requests, for each of which the thread sleeps, arrive so often. */
static void serve(struct slice *slice, unsigned count, unsigned times)
{
	for (unsigned i = 0; i < count; i++)
		usleep(1);
	requests += count;
	arrivals += times;
	slice_adapt(slice, requests, arrivals);
}

static void the_thread_gets_it_and_gives_it_back(void **state)
{
	uint64_t usual = slice_of_this_thread();
	struct slice slice;

	(void)state;
	slice_open(&slice, true);
	serve(&slice, LOOK, LOOK);
	if (!slice.adapts)
		skip();
	assert_true(slice.is_short);
	assert_true(slice_of_this_thread() < usual);
	/* All at once, and then sleeps that are not for requests. */
	serve(&slice, LOOK, 1);
	assert_false(slice.is_short);
	assert_int_equal(slice_of_this_thread(), usual);
}

static void few_requests_decide_nothing(void **state)
{
	struct slice slice;

	(void)state;
	slice_open(&slice, true);
	for (unsigned i = 0; i < 3; i++)
		serve(&slice, 5, 5);
	assert_false(slice.is_short);
}

static void it_is_left_alone_when_told_so(void **state)
{
	uint64_t usual = slice_of_this_thread();
	struct slice slice;

	(void)state;
	slice_open(&slice, false);
	serve(&slice, LOOK, LOOK);
	assert_int_equal(slice_of_this_thread(), usual);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_that_come_one_by_one_make_it_short),
		cmocka_unit_test(requests_that_come_together_leave_it_as_it_is),
		cmocka_unit_test(a_few_that_come_together_end_the_short_one),
		cmocka_unit_test(the_usual_one_is_tried_again),
		cmocka_unit_test(the_thread_gets_it_and_gives_it_back),
		cmocka_unit_test(few_requests_decide_nothing),
		cmocka_unit_test(it_is_left_alone_when_told_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
