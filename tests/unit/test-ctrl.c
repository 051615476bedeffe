/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The processes that run control commands, without a driver: this program is the helper
 * too, and does what the command's data says.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ublkd/ublk_abi.h>

#include "ctrl.h"
#include "util/macros.h"

enum { ANSWER, FAIL, DIE, HANG };

/* The buffer comes back with our pid at its beginning. */
static int serve_as_helper(void)
{
	struct ctrl_outcome outcome;
	struct ctrl_order order;
	int32_t self = getpid();

	while (recv(STDIN_FILENO, &order, sizeof(order), 0) > 0) {
		if (order.data == DIE)
			_exit(0);
		/* Until it is continued by a signal. */
		if (order.data == HANG)
			kill(self, SIGSTOP);
		outcome.result = order.data == FAIL ? -EBUSY : (int32_t)order.op;
		memcpy(outcome.buffer, order.buffer, order.length);
		if (order.length >= sizeof(self))
			memcpy(outcome.buffer, &self, sizeof(self));
		send(STDIN_FILENO, &outcome, ctrl_outcome_size(order.length), 0);
	}
	return 0;
}

struct try {
	struct ctrl_command command;
	struct {
		int32_t pid, more;
	} buffer;
	int result;
	unsigned done, late;
	bool abandons;
};

static struct ctrl ctrl;

static int begin(void **state)
{
	(void)state;
	ctrl = (struct ctrl){ .fd = -1, .loop = ev_default_loop(EVFLAG_NOENV) };
	ctrl.stuck.loop = ctrl.loop;
	return 0;
}

static int end(void **state)
{
	(void)state;
	stuck_close(&ctrl.stuck);
	ctrl_helpers_close(&ctrl);
	return 0;
}

static void on_done(struct ctrl_command *command, int result)
{
	struct try *try = container_of(command, struct try, command);

	try->done++;
	try->result = result;
}

static void on_late(struct ctrl_command *command)
{
	struct try *try = container_of(command, struct try, command);

	try->late++;
	if (try->abandons)
		ctrl_abandon(command);
}

static void issue(struct try *try, uint64_t what, double deadline)
{
	try->buffer.more = 77;
	try->command = (struct ctrl_command){
		.op = UBLK_CMD_STOP_DEV & 0xff,
		.dev_id = 3,
		.buffer = &try->buffer,
		.length = sizeof(try->buffer),
		.data = what,
		.deadline = deadline,
		.done = on_done,
		.late = on_late,
	};
	ctrl_issue(&ctrl, &try->command);
	assert_int_equal(try->done, 0);
}

static void run_until(const unsigned *count)
{
	while (!*count)
		ev_run(ctrl.loop, EVRUN_ONCE);
}

static void one_process_runs_one_command_after_another(void **state)
{
	struct try first = { 0 }, second = { 0 }, third = { 0 };

	(void)state;
	issue(&first, ANSWER, 30);
	run_until(&first.done);
	assert_int_equal(first.result, UBLK_CMD_STOP_DEV & 0xff);
	assert_int_equal(first.buffer.more, 77);
	issue(&second, FAIL, 30);
	issue(&third, ANSWER, 30);
	run_until(&second.done);
	run_until(&third.done);
	assert_int_equal(second.result, -EBUSY);
	assert_int_equal(second.buffer.pid, first.buffer.pid);
	assert_int_not_equal(third.buffer.pid, first.buffer.pid);
	assert_null(ctrl.stuck.first);
}

static void a_process_that_dies_ends_its_command(void **state)
{
	struct try dies = { 0 }, next = { 0 };

	(void)state;
	issue(&dies, DIE, 30);
	run_until(&dies.done);
	assert_int_equal(dies.result, -EINTR);
	issue(&next, ANSWER, 30);
	run_until(&next.done);
	assert_int_equal(next.result, UBLK_CMD_STOP_DEV & 0xff);
}

/* An idle one that somebody killed. */
static void a_process_that_is_gone_is_replaced(void **state)
{
	struct try first = { 0 }, next = { 0 };
	siginfo_t end;

	(void)state;
	issue(&first, ANSWER, 30);
	run_until(&first.done);
	kill(first.buffer.pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)first.buffer.pid, &end, WEXITED | WNOWAIT), 0);
	issue(&next, ANSWER, 30);
	run_until(&next.done);
	assert_int_equal(next.result, UBLK_CMD_STOP_DEV & 0xff);
	assert_int_not_equal(next.buffer.pid, first.buffer.pid);
}

static void a_late_one_is_stuck_and_replaced_until_it_ends(void **state)
{
	struct try hangs = { 0 }, next = { 0 };
	pid_t pid;

	(void)state;
	issue(&hangs, HANG, 0.2);
	capture_begin();
	run_until(&hangs.late);
	capture_end();
	assert_int_equal(hangs.done, 0);
	assert_non_null(stuck_find(&ctrl.stuck, 3));
	pid = ctrl.stuck.first->info.pid;
	issue(&next, ANSWER, 30);
	run_until(&next.done);
	assert_int_not_equal(next.buffer.pid, pid);
	/* Its result is heard all the same, and then it ends. */
	kill(pid, SIGCONT);
	run_until(&hangs.done);
	assert_int_equal(hangs.result, UBLK_CMD_STOP_DEV & 0xff);
	assert_int_equal(hangs.buffer.pid, pid);
	capture_begin();
	while (ctrl.stuck.first)
		ev_run(ctrl.loop, EVRUN_ONCE);
	capture_end();
}

static void one_that_is_abandoned_is_killed(void **state)
{
	struct try hangs = { .abandons = true };
	struct ctrl_helper *helper;
	pid_t pid;

	(void)state;
	issue(&hangs, HANG, 0.2);
	helper = hangs.command.helper;
	pid = helper->info.pid;
	run_until(&hangs.late);
	/* Of the command nothing is used any more. */
	memset(&hangs.command, 0xff, sizeof(hangs.command));
	while (ctrl.helpers)
		ev_run(ctrl.loop, EVRUN_ONCE);
	assert_int_equal(kill(pid, 0), -1);
	assert_null(ctrl.stuck.first);
	assert_int_equal(hangs.done, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_process_runs_one_command_after_another, begin, end),
		cmocka_unit_test_setup_teardown(a_process_that_dies_ends_its_command, begin, end),
		cmocka_unit_test_setup_teardown(a_process_that_is_gone_is_replaced, begin, end),
		cmocka_unit_test_setup_teardown(a_late_one_is_stuck_and_replaced_until_it_ends, begin,
						end),
		cmocka_unit_test_setup_teardown(one_that_is_abandoned_is_killed, begin, end),
	};

	if (argc > 1 && !strcmp(argv[1], "--helper"))
		return serve_as_helper();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
