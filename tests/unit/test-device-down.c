/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The end of a device without a driver: what a stop and a deletion make of a write-back that
 * fails. The sources are included, and whom they call does as it is told.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <string.h>

#include "ctrl.h"
#include "device-life.h"
#include "exit.h"
#include "helper.h"
#include "table.h"
#include "udev.h"

static int start_helper(struct helper *helper, struct ev_loop *loop, const char *const *args,
			double deadline);
static void abandon_helper(struct helper *helper);
static void issue(struct ctrl *ctrl, struct ctrl_command *command);
static void issue_life(struct device *device, uint32_t op, void *buffer, size_t length,
		       uint64_t data, double deadline,
		       void (*done)(struct ctrl_command *command, int result));
static int remove_entry(const struct table *table, const char *name);
static void await_end(struct node *node);
static ino_t look_at(unsigned id);
static void abandon_command(struct ctrl_command *command);

#define helper_start start_helper
#define helper_abandon abandon_helper
#define ctrl_issue issue
#define ctrl_abandon abandon_command
#define device_issue issue_life
#define table_remove remove_entry
#define node_await_end await_end
#define node_in_driver look_at
#include "../../src/device-down.c"
#include "../../src/device-use.c"
#include "../../src/device-write.c"

/* ---- whom they call --------------------------------------------------------------------- */

static struct {
	int start_result;
	unsigned started, abandoned, removed;
	const char *verb;
	double deadline;
	struct helper *running;
	uint32_t op;           /* the last command */
	struct ctrl_command *command;
	int status;            /* -1: it is not gone */
	unsigned in_use;
	ino_t in_driver;
} seen;

static int start_helper(struct helper *helper, struct ev_loop *loop, const char *const *args,
			double deadline)
{
	seen.started++;
	seen.verb = args[0];
	seen.deadline = deadline;
	if (seen.start_result)
		return seen.start_result;
	helper->loop = loop;
	ev_child_init(&helper->child, NULL, 1, 0);
	ev_child_start(loop, &helper->child);
	seen.running = helper;
	return 0;
}

static void abandon_helper(struct helper *helper)
{
	ev_child_stop(helper->loop, &helper->child);
	seen.running = NULL;
	seen.abandoned++;
}

static void helper_ends(int status)
{
	struct helper *helper = seen.running;

	assert_non_null(helper);
	abandon_helper(helper);
	seen.abandoned--;
	helper->done(helper, status);
}

static void issue(struct ctrl *ctrl, struct ctrl_command *command)
{
	(void)ctrl;
	seen.op = command->op;
	seen.command = command;
	command->pending = true;
}

static void issue_life(struct device *device, uint32_t op, void *buffer, size_t length,
		       uint64_t data, double deadline,
		       void (*done)(struct ctrl_command *command, int result))
{
	device->command = (struct ctrl_command){ .op = op, .dev_id = device->id, .buffer = buffer,
						 .length = (uint16_t)length, .data = data,
						 .deadline = deadline, .done = done };
	issue(device->ctrl, &device->command);
}

/* The last command, which has to be this one. */
static void command_ends(uint32_t op, int result)
{
	struct ctrl_command *command = seen.command;

	assert_int_equal(seen.op, op);
	assert_true(command->pending);
	command->pending = false;
	seen.op = 0;
	command->done(command, result);
}

static int remove_entry(const struct table *table, const char *name)
{
	(void)table, (void)name;
	seen.removed++;
	return 0;
}

static void await_end(struct node *node)
{
	device_node_gone(node, true);
}

/* It is sysfs that is asked. */
static void abandon_command(struct ctrl_command *command)
{
	command->pending = false;
	seen.op = 0;
}

static ino_t look_at(unsigned id)
{
	assert_int_equal(id, 999999);
	return seen.in_driver;
}

/* ---- a device ----------------------------------------------------------------------------- */

static struct device device;
static struct device_config config;
static struct table table = { .folder = -1, .lock = -1 };

static void on_gone(struct device *gone, int status)
{
	assert_ptr_equal(gone, &device);
	assert_int_equal(seen.status, -1);
	seen.status = status;
}

static void on_in_use(struct device *used)
{
	assert_ptr_equal(used, &device);
	seen.in_use++;
}

static int begin(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof(seen));
	seen.status = -1;
	device = (struct device){
		.loop = ev_default_loop(0),
		.config = &config,
		.name = "web",
		.table = &table,
		.entry.name = "web",
		.info.flags = UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE,
		.shape.char_fd = -1,
		.added = true,
		.entered = true,
		.live = true,
		.on_gone = on_gone,
		.on_in_use = on_in_use,
	};
	/* A number that no device has. */
	device.id = 999999;
	strcpy(device.node.path, "/dev/ublkb999999");
	device.failures.loop = device.loop;
	capture_begin();
	return 0;
}

static int end_test(void **state)
{
	(void)state;
	capture_end();
	ev_timer_stop(device.loop, &device.timer);
	ev_timer_stop(device.loop, &device.queue_timer);
	return 0;
}

/* The pause before the next try is over. */
static void pause_ends(void)
{
	assert_true(ev_is_active(&device.timer));
	ev_invoke(device.loop, &device.timer, EV_TIMER);
}

/* Stopped by the driver, and deleted. */
static void goes(int status)
{
	command_ends(UBLK_CMD_STOP_DEV, 0);
	command_ends(UBLK_CMD_DEL_DEV, 0);
	assert_int_equal(seen.status, status);
	assert_int_equal(seen.removed, 1);
}

static void waits(int status)
{
	assert_int_equal(seen.status, status);
	assert_int_equal(seen.op, 0);
	assert_int_equal(seen.removed, 0);
	assert_false(device.added);
}

/* ---- a server's stop ------------------------------------------------------------------------ */

static void what_is_cached_is_written_before_the_stop(void **state)
{
	(void)state;
	device_stop(&device, false);
	assert_string_equal(seen.verb, HELPER_WRITE_BACK);
	assert_int_equal(seen.op, 0);
	helper_ends(EXIT_DONE);
	goes(EXIT_DONE);
}

static void a_helper_that_is_killed_is_followed_by_another(void **state)
{
	(void)state;
	device_stop(&device, false);
	helper_ends(-1);
	assert_int_equal(seen.status, -1);
	pause_ends();
	assert_int_equal(seen.started, 2);
	helper_ends(EXIT_DONE);
	goes(EXIT_DONE);
}

static void what_no_helper_can_write_waits_for_the_next_server(void **state)
{
	(void)state;
	seen.start_result = -EAGAIN;
	device_stop(&device, false);
	while (seen.status < 0 && seen.started < 100)
		pause_ends();
	assert_int_equal(seen.started, 5);
	waits(EXIT_RUNTIME);
	assert_contains(capture_end(), "left waiting for the next server");
	capture_begin();
}

/* The kernel says so once: the next try would find nothing to write. */
static void what_the_backing_refuses_is_not_tried_again(void **state)
{
	(void)state;
	device_stop(&device, false);
	helper_ends(EXIT_BACKING);
	assert_int_equal(seen.started, 1);
	waits(EXIT_RUNTIME);
}

static void a_device_that_cannot_wait_goes_without(void **state)
{
	(void)state;
	device.entered = false;
	device_stop(&device, false);
	helper_ends(EXIT_BACKING);
	command_ends(UBLK_CMD_STOP_DEV, 0);
	assert_int_equal(device.status, EXIT_RUNTIME);
	assert_true(device.lost);
	command_ends(UBLK_CMD_DEL_DEV, 0);
}

static void a_second_signal_gives_it_up_and_is_a_failure(void **state)
{
	(void)state;
	device_stop(&device, false);
	device_stop(&device, true);
	assert_int_equal(seen.op, 0);
	helper_ends(EXIT_BACKING);
	goes(EXIT_RUNTIME);
	assert_contains(capture_end(), "is lost");
	capture_begin();
}

static void a_second_signal_that_loses_nothing_is_none(void **state)
{
	(void)state;
	device_stop(&device, false);
	device_stop(&device, true);
	helper_ends(EXIT_DONE);
	goes(EXIT_DONE);
}

static void a_second_signal_waits_for_no_backing(void **state)
{
	(void)state;
	device_stop(&device, false);
	device_stop(&device, true);
	assert_int_equal(seen.abandoned, 0);
	pause_ends();
	assert_int_equal(seen.abandoned, 1);
	goes(EXIT_RUNTIME);
}

static void a_second_signal_ends_a_pause(void **state)
{
	(void)state;
	device_stop(&device, false);
	helper_ends(-1);
	device_stop(&device, true);
	assert_int_equal(seen.started, 2);
	assert_true(seen.deadline > 0);
	helper_ends(-1);
	goes(EXIT_RUNTIME);
}

/* Where somebody else has stopped it there is nothing left to keep. */
static void without_its_queues_nothing_is_written(void **state)
{
	(void)state;
	device.nr_queues = 1;
	device.queues = calloc(1, sizeof(*device.queues));
	device_stop(&device, false);
	assert_int_equal(seen.started, 0);
	assert_int_equal(seen.op, UBLK_CMD_STOP_DEV);
	free(device.queues);
}

/* ---- the driver's word ---------------------------------------------------------------------- */

static void stop_until_deleted(int result)
{
	device_stop(&device, false);
	helper_ends(EXIT_DONE);
	command_ends(UBLK_CMD_STOP_DEV, 0);
	command_ends(UBLK_CMD_DEL_DEV, result);
}

/* The process that had the command was killed behind it. */
static void what_the_driver_has_no_more_is_forgotten(void **state)
{
	(void)state;
	stop_until_deleted(-EINTR);
	assert_int_equal(seen.status, EXIT_DONE);
	assert_int_equal(seen.removed, 1);
}

static void what_the_driver_still_has_stays_in_the_table(void **state)
{
	(void)state;
	seen.in_driver = 7;
	device.info.ublksrv_flags = device.found.ublksrv_flags = 5;
	stop_until_deleted(-EINTR);
	command_ends(UBLK_CMD_GET_DEV_INFO2, 0);
	assert_int_equal(seen.status, EXIT_RUNTIME);
	assert_int_equal(seen.removed, 0);
}

static void what_has_the_number_by_now_is_another(void **state)
{
	(void)state;
	seen.in_driver = 7;
	device.info.ublksrv_flags = 5;
	device.found.ublksrv_flags = 6;
	stop_until_deleted(-EINTR);
	command_ends(UBLK_CMD_GET_DEV_INFO2, 0);
	assert_int_equal(seen.status, EXIT_DONE);
	assert_int_equal(seen.removed, 1);
}

/* The driver waits for the number to be free, and misses that when it is given away at once. */
static void who_has_the_number_by_now_is_not_waited_for(void **state)
{
	(void)state;
	seen.in_driver = 7;
	device_stop(&device, false);
	helper_ends(EXIT_DONE);
	command_ends(UBLK_CMD_STOP_DEV, 0);
	assert_int_equal(seen.op, UBLK_CMD_DEL_DEV);
	/* It has not come to it yet. */
	seen.command->late(seen.command);
	assert_int_equal(seen.op, UBLK_CMD_DEL_DEV);
	assert_int_equal(seen.status, -1);
	seen.in_driver = 8;
	seen.command->late(seen.command);
	assert_int_equal(seen.op, 0);
	assert_int_equal(seen.status, EXIT_DONE);
	assert_int_equal(seen.removed, 1);
	assert_false(device.lingers);
}

static void a_driver_that_does_not_know_decides(void **state)
{
	(void)state;
	seen.in_driver = 7;
	stop_until_deleted(-EIO);
	command_ends(UBLK_CMD_GET_DEV_INFO2, -ENODEV);
	assert_int_equal(seen.status, EXIT_DONE);
	assert_int_equal(seen.removed, 1);
}

/* ---- a deletion ------------------------------------------------------------------------------ */

static void begin_to_delete(void)
{
	device_stop_unused(&device);
	assert_string_equal(seen.verb, HELPER_PROBE);
	helper_ends(EXIT_DONE);
	assert_string_equal(seen.verb, HELPER_WRITE_BACK);
	assert_false(device.stopping);
}

static void a_deletion_writes_back_first(void **state)
{
	(void)state;
	begin_to_delete();
	helper_ends(EXIT_DONE);
	goes(EXIT_DONE);
	assert_int_equal(seen.in_use, 0);
}

static void a_deletion_that_cannot_write_back_is_refused(void **state)
{
	(void)state;
	begin_to_delete();
	helper_ends(EXIT_BACKING);
	assert_int_equal(seen.in_use, 1);
	assert_true(device.unwritten);
	assert_false(device.stopping);
	assert_int_equal(seen.op, 0);
	/* And the next one is not. */
	begin_to_delete();
	helper_ends(EXIT_DONE);
	assert_false(device.unwritten);
	goes(EXIT_DONE);
	assert_int_equal(seen.in_use, 1);
}

static void a_stop_takes_a_deletion_over(void **state)
{
	(void)state;
	begin_to_delete();
	device_stop(&device, false);
	helper_ends(-1);
	assert_int_equal(seen.in_use, 0);
	pause_ends();
	helper_ends(EXIT_BACKING);
	waits(EXIT_RUNTIME);
}

static void who_leaves_a_device_writes_nothing(void **state)
{
	(void)state;
	begin_to_delete();
	device_leave(&device);
	assert_int_equal(seen.abandoned, 1);
	waits(EXIT_DONE);
}

static void force_has_a_deadline_and_loses_what_is_left(void **state)
{
	(void)state;
	begin_to_delete();
	device_stop_used(&device);
	assert_int_equal(seen.op, 0);
	assert_true(ev_is_active(&device.queue_timer));
	ev_invoke(device.loop, &device.queue_timer, EV_TIMER);
	assert_int_equal(seen.abandoned, 1);
	goes(EXIT_RUNTIME);
	assert_true(device.lost);
}

static void force_takes_swap_off(void **state)
{
	(void)state;
	device_stop_used(&device);
	assert_string_equal(seen.verb, HELPER_RELEASE);
	assert_true(seen.deadline > 0);
	helper_ends(EXIT_BACKING);
	goes(EXIT_RUNTIME);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end_test)
	const struct CMUnitTest tests[] = {
		TEST(what_is_cached_is_written_before_the_stop),
		TEST(a_helper_that_is_killed_is_followed_by_another),
		TEST(what_no_helper_can_write_waits_for_the_next_server),
		TEST(what_the_backing_refuses_is_not_tried_again),
		TEST(a_device_that_cannot_wait_goes_without),
		TEST(a_second_signal_gives_it_up_and_is_a_failure),
		TEST(a_second_signal_that_loses_nothing_is_none),
		TEST(a_second_signal_waits_for_no_backing),
		TEST(a_second_signal_ends_a_pause),
		TEST(without_its_queues_nothing_is_written),
		TEST(what_the_driver_has_no_more_is_forgotten),
		TEST(what_the_driver_still_has_stays_in_the_table),
		TEST(what_has_the_number_by_now_is_another),
		TEST(who_has_the_number_by_now_is_not_waited_for),
		TEST(a_driver_that_does_not_know_decides),
		TEST(a_deletion_writes_back_first),
		TEST(a_deletion_that_cannot_write_back_is_refused),
		TEST(a_stop_takes_a_deletion_over),
		TEST(who_leaves_a_device_writes_nothing),
		TEST(force_has_a_deadline_and_loses_what_is_left),
		TEST(force_takes_swap_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
