/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <linux/sched.h>
#include <linux/sched/types.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "schedule.h"

#define LOOK 64 /* requests */

static struct schedule able(void)
{
	return (struct schedule){ .adapts = true, .has_slice = true, .delay_fd = 0 };
}

/* So many requests more, that came so often, each time with the thread asleep. */
static enum schedule_way look(struct schedule *schedule, uint64_t requests, uint64_t arrivals,
			      uint64_t delay)
{
	struct schedule_counts came = {
		.requests = requests, .arrivals = arrivals, .sleeps = arrivals,
		.ran = requests * 7000, .delay = delay, .delay_ran = requests * 7000,
	};
	enum schedule_way next = schedule_next(schedule, &came);

	if (next != schedule->way)
		schedule->looks = 0;
	schedule->way = next;
	return next;
}

static void requests_that_come_one_by_one_make_it_eager(void **state)
{
	struct schedule schedule = able();

	(void)state;
	assert_int_equal(look(&schedule, LOOK, LOOK, 0), SCHEDULE_EAGER);
	assert_int_equal(look(&schedule, LOOK, LOOK, 0), SCHEDULE_EAGER);
}

static void requests_that_come_in_pairs_leave_it_as_it_is(void **state)
{
	struct schedule schedule = able();

	(void)state;
	assert_int_equal(look(&schedule, LOOK, LOOK / 2, 0), SCHEDULE_USUAL);
	assert_int_equal(look(&schedule, LOOK, LOOK / 2, 0), SCHEDULE_USUAL);
}

static void a_few_that_come_together_end_the_eager_way(void **state)
{
	struct schedule schedule = able();

	(void)state;
	assert_int_equal(look(&schedule, LOOK, LOOK, 0), SCHEDULE_EAGER);
	assert_int_equal(look(&schedule, LOOK, LOOK - 1, 0), SCHEDULE_EAGER);
	assert_int_equal(look(&schedule, LOOK, LOOK - 2, 0), SCHEDULE_USUAL);
}

/* Looks until it is not eager any more. */
static unsigned eager_for(struct schedule *schedule)
{
	unsigned looks = 0;

	while (look(schedule, LOOK, LOOK, 0) == SCHEDULE_EAGER)
		assert_true(++looks < 100);
	return looks;
}

/* The short slice keeps apart what would come together without it. */
static void another_way_is_tried_again(void **state)
{
	struct schedule schedule = able();

	(void)state;
	assert_int_equal(look(&schedule, LOOK, LOOK, 0), SCHEDULE_EAGER);
	assert_in_range(eager_for(&schedule), 20, 100);
	assert_int_equal(schedule.way, SCHEDULE_PATIENT);
	schedule.way = SCHEDULE_EAGER;
	schedule.delay_fd = -1;
	eager_for(&schedule);
	assert_int_equal(schedule.way, SCHEDULE_USUAL);
	assert_int_equal(look(&schedule, LOOK, LOOK, 0), SCHEDULE_EAGER);
}

static void sleeps_for_a_backing_do_not_make_it_eager(void **state)
{
	struct schedule schedule = able();
	struct schedule_counts came = { .requests = LOOK, .arrivals = LOOK / 2, .sleeps = LOOK };

	(void)state;
	assert_int_equal(schedule_next(&schedule, &came), SCHEDULE_USUAL);
}

static void long_requests_do_not_make_it_eager(void **state)
{
	struct schedule schedule = able();
	struct schedule_counts came = {
		.requests = LOOK, .arrivals = LOOK, .sleeps = LOOK, .ran = LOOK * 500000,
	};

	(void)state;
	assert_int_equal(schedule_next(&schedule, &came), SCHEDULE_USUAL);
	came.ran = LOOK * 50000;
	assert_int_equal(schedule_next(&schedule, &came), SCHEDULE_EAGER);
}

static void bursts_make_it_patient(void **state)
{
	struct schedule schedule = able();

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(look(&schedule, LOOK, LOOK / 8, LOOK * 5000), SCHEDULE_PATIENT);
	assert_int_equal(look(&schedule, LOOK, LOOK, 0), SCHEDULE_EAGER);
}

/* Looks until it is patient, or patient once more. */
static unsigned patient_after(struct schedule *schedule, uint64_t arrivals, uint64_t delay)
{
	unsigned looks = 0;

	while (look(schedule, LOOK, arrivals, delay) != SCHEDULE_PATIENT)
		assert_true(++looks < 10000);
	return looks;
}

static void patience_that_costs_time_ends_and_comes_back_later_and_later(void **state)
{
	struct schedule schedule = able();
	unsigned pause, before = 0;
	const uint64_t slow = LOOK * 50000;

	(void)state;
	assert_int_equal(look(&schedule, LOOK, LOOK / 8, 0), SCHEDULE_PATIENT);
	for (unsigned i = 0; i < 5; i++) {
		/* Once may be by chance. */
		assert_int_equal(look(&schedule, LOOK, LOOK / 8, slow), SCHEDULE_PATIENT);
		assert_int_equal(look(&schedule, LOOK, LOOK / 8, slow), SCHEDULE_USUAL);
		pause = patient_after(&schedule, LOOK / 8, 0);
		assert_true(pause > 5 && pause > before);
		before = pause;
	}
	/* What was good for long is soon tried again. */
	for (unsigned i = 0; i < 2 * before; i++)
		look(&schedule, LOOK, LOOK / 8, 0);
	assert_int_equal(look(&schedule, LOOK, LOOK / 8, slow), SCHEDULE_PATIENT);
	assert_int_equal(look(&schedule, LOOK, LOOK / 8, slow), SCHEDULE_USUAL);
	assert_true(patient_after(&schedule, LOOK / 8, 0) < before / 4);
}

static void nobody_is_patient_without_knowing_what_it_costs(void **state)
{
	struct schedule schedule = able();

	(void)state;
	assert_int_equal(look(&schedule, LOOK, LOOK / 8, 0), SCHEDULE_PATIENT);
	schedule.delay_fd = -1;
	assert_int_equal(look(&schedule, LOOK, LOOK / 8, 0), SCHEDULE_USUAL);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(look(&schedule, LOOK, LOOK / 8, 0), SCHEDULE_USUAL);
}

/* A quick thread has each of many requests done before the client makes the next. */
static void patience_is_tried_where_no_bursts_show(void **state)
{
	struct schedule schedule = able();

	(void)state;
	assert_in_range(patient_after(&schedule, LOOK / 2, 0), 20, 100);
	assert_int_equal(look(&schedule, LOOK, LOOK / 8, 0), SCHEDULE_PATIENT);
	/* Later on one without bursts does not end it. */
	assert_int_equal(look(&schedule, LOOK, LOOK / 2, 0), SCHEDULE_PATIENT);
	assert_int_equal(look(&schedule, LOOK, LOOK, 0), SCHEDULE_EAGER);
	assert_in_range(patient_after(&schedule, LOOK, 0), 20, 100);
}

static void patience_that_makes_no_bursts_ends_at_once(void **state)
{
	struct schedule schedule = able();

	(void)state;
	assert_in_range(patient_after(&schedule, LOOK / 2, 0), 20, 100);
	assert_int_equal(look(&schedule, LOOK, LOOK / 2, 0), SCHEDULE_USUAL);
	assert_true(schedule.patient.left > 0);
}

/* How many of so many looks at single requests find it this way. */
static unsigned looks_in(struct schedule *schedule, enum schedule_way way, unsigned looks,
			 uint64_t delay)
{
	unsigned found = 0;

	for (unsigned i = 0; i < looks; i++)
		found += look(schedule, LOOK, LOOK, delay) == way;
	return found;
}

static void beside_a_program_that_does_not_sleep_it_is_usual(void **state)
{
	struct schedule schedule = able();

	(void)state;
	assert_int_equal(look(&schedule, LOOK, LOOK, 0), SCHEDULE_EAGER);
	looks_in(&schedule, SCHEDULE_USUAL, 1000, LOOK * 50000);
	assert_true(looks_in(&schedule, SCHEDULE_USUAL, 10000, LOOK * 50000) > 9900);
	/* It has ended. */
	looks_in(&schedule, SCHEDULE_EAGER, 5000, 0);
	assert_true(looks_in(&schedule, SCHEDULE_EAGER, 1000, 0) > 900);
	/* And did once more: what was good for long is soon tried again. */
	while (look(&schedule, LOOK, LOOK, LOOK * 50000) != SCHEDULE_USUAL)
		;
	assert_true(looks_in(&schedule, SCHEDULE_EAGER, 100, 0) > 50);
}

static void a_short_wait_leaves_it_eager(void **state)
{
	struct schedule schedule = able();

	(void)state;
	assert_int_equal(look(&schedule, LOOK, LOOK, 0), SCHEDULE_EAGER);
	assert_true(looks_in(&schedule, SCHEDULE_EAGER, 1000, LOOK * 10000) > 900);
}

/* ---- on this thread ------------------------------------------------------ */

/* Zero: cannot be had. */
static struct sched_attr this_thread(void)
{
	struct sched_attr attr = { 0 };

	syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0);
	return attr;
}

static uint64_t requests, arrivals;

/* So many requests, for each of which the thread sleeps, arrive so often. */
static void serve(struct schedule *schedule, unsigned count, unsigned times)
{
	for (unsigned i = 0; i < count; i++)
		usleep(1);
	requests += count;
	arrivals += times;
	schedule_adapt(schedule, requests, arrivals);
}

/* As on a machine that nobody else uses. */
static void forge_account(const struct schedule *schedule)
{
	int fd = memfd_create("schedstat", 0);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "1000 0 1", 8), 8);
	assert_int_equal(dup2(fd, schedule->delay_fd), schedule->delay_fd);
	close(fd);
}

static void open_afresh(struct schedule *schedule, bool adapt)
{
	requests = arrivals = 0;
	schedule_open(schedule, adapt);
	if (schedule->delay_fd >= 0)
		forge_account(schedule);
	serve(schedule, LOOK, LOOK / 2);
}

static void the_thread_gets_a_slice_and_gives_it_back(void **state)
{
	uint64_t usual = this_thread().sched_runtime;
	struct schedule schedule;

	(void)state;
	open_afresh(&schedule, true);
	if (!schedule.has_slice) {
		schedule_close(&schedule);
		skip();
	}
	serve(&schedule, LOOK, LOOK);
	assert_int_equal(schedule.way, SCHEDULE_EAGER);
	assert_true(this_thread().sched_runtime < usual);
	/* All at once, and then sleeps that are not for requests. */
	serve(&schedule, LOOK, 1);
	assert_int_equal(schedule.way, SCHEDULE_USUAL);
	assert_int_equal(this_thread().sched_runtime, usual);
	schedule_close(&schedule);
}

static void the_thread_gets_a_policy_and_gives_it_back(void **state)
{
	struct schedule schedule;

	(void)state;
	open_afresh(&schedule, true);
	if (schedule.delay_fd < 0)
		skip();
	serve(&schedule, 100 * LOOK, 1);
	assert_int_equal(schedule.way, SCHEDULE_PATIENT);
	assert_int_equal(this_thread().sched_policy, SCHED_BATCH);
	/* As if the account could not be read any more. */
	schedule_close(&schedule);
	serve(&schedule, LOOK, 1);
	assert_int_equal(schedule.way, SCHEDULE_USUAL);
	assert_int_equal(this_thread().sched_policy, SCHED_NORMAL);
}

static void few_requests_decide_nothing(void **state)
{
	struct schedule schedule;

	(void)state;
	open_afresh(&schedule, true);
	for (unsigned i = 0; i < 3; i++)
		serve(&schedule, 5, 5);
	assert_int_equal(schedule.way, SCHEDULE_USUAL);
	schedule_close(&schedule);
}

static void it_is_left_alone_when_told_so(void **state)
{
	uint64_t usual = this_thread().sched_runtime;
	struct schedule schedule;

	(void)state;
	open_afresh(&schedule, false);
	serve(&schedule, LOOK, LOOK);
	serve(&schedule, LOOK, 1);
	assert_int_equal(this_thread().sched_runtime, usual);
	assert_int_equal(this_thread().sched_policy, SCHED_NORMAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_that_come_one_by_one_make_it_eager),
		cmocka_unit_test(requests_that_come_in_pairs_leave_it_as_it_is),
		cmocka_unit_test(a_few_that_come_together_end_the_eager_way),
		cmocka_unit_test(another_way_is_tried_again),
		cmocka_unit_test(sleeps_for_a_backing_do_not_make_it_eager),
		cmocka_unit_test(long_requests_do_not_make_it_eager),
		cmocka_unit_test(bursts_make_it_patient),
		cmocka_unit_test(patience_that_costs_time_ends_and_comes_back_later_and_later),
		cmocka_unit_test(patience_is_tried_where_no_bursts_show),
		cmocka_unit_test(patience_that_makes_no_bursts_ends_at_once),
		cmocka_unit_test(beside_a_program_that_does_not_sleep_it_is_usual),
		cmocka_unit_test(a_short_wait_leaves_it_eager),
		cmocka_unit_test(nobody_is_patient_without_knowing_what_it_costs),
		cmocka_unit_test(the_thread_gets_a_slice_and_gives_it_back),
		cmocka_unit_test(the_thread_gets_a_policy_and_gives_it_back),
		cmocka_unit_test(few_requests_decide_nothing),
		cmocka_unit_test(it_is_left_alone_when_told_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
