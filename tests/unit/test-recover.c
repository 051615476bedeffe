/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What becomes of a device of the last server that is deleted, without a driver: what of it is
 * forgotten, and when. The source is included, and whom it calls does as it is told.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <string.h>

#include "ctrl.h"
#include "recover.h"
#include "table.h"
#include "udev.h"

static void take_command(struct ctrl *ctrl, struct ctrl_command *command);
static void abandon(struct ctrl_command *command);
static int remove_entry(const struct table *table, const char *name);
static void forget_number(unsigned id);
static ino_t look_at(unsigned id);

#define ctrl_issue take_command
#define ctrl_abandon abandon
#define table_remove remove_entry
#define udev_forget forget_number
#define node_in_driver look_at
#include "../../src/recover.c"

/* ---- whom it calls ---------------------------------------------------------------------- */

static struct {
	uint32_t op; /* of the command that is out */
	unsigned removed, done, abandoned;
	ino_t in_driver;
} seen;

static struct ctrl_helper *const some_helper = (struct ctrl_helper *)&seen;

static void take_command(struct ctrl *ctrl, struct ctrl_command *command)
{
	(void)ctrl;
	assert_int_equal(seen.op, 0);
	seen.op = command->op;
	command->pending = true;
	command->helper = command->op == UBLK_CMD_DEL_DEV ? some_helper : NULL;
}

static void abandon(struct ctrl_command *command)
{
	command->pending = false;
	seen.op = 0;
	seen.abandoned++;
}

static int remove_entry(const struct table *table, const char *name)
{
	(void)table;
	assert_string_equal(name, "web");
	seen.removed++;
	return 0;
}

static void forget_number(unsigned id)
{
	assert_int_equal(id, 7);
}

static ino_t look_at(unsigned id)
{
	assert_int_equal(id, 7);
	return seen.in_driver;
}

/* ---- a device that waits ------------------------------------------------------------------ */

static struct ctrl ctrl;
static struct table_entry entry;
static struct table table = { .folder = -1, .lock = -1, .entries = &entry, .count = 1 };
static struct recover recover;

static void on_done(struct recover *of)
{
	assert_ptr_equal(of, &recover);
	seen.done++;
}

static bool wants_none(struct recover *of, const char *name)
{
	(void)of, (void)name;
	return false;
}

static int begin(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof(seen));
	seen.in_driver = 11;
	ctrl = (struct ctrl){ .loop = ev_default_loop(0) };
	entry = (struct table_entry){ .name = "web", .id = 7, .cookie = 5, .state = TABLE_WAITS };
	recover = (struct recover){ .table = &table, .ctrl = &ctrl, .drop = true,
				    .wanted = wants_none, .done = on_done };
	capture_begin();
	return 0;
}

static int end_test(void **state)
{
	(void)state;
	capture_end();
	return 0;
}

static void command_ends(uint32_t op, int result)
{
	assert_int_equal(seen.op, op);
	seen.op = 0;
	recover.command.pending = false;
	recover.command.done(&recover.command, result);
}

/* Up to its deletion, which is out then. */
static void deletion_begins(bool alone)
{
	if (alone)
		recover_delete(&recover, &entry);
	else
		recover_start(&recover);
	recover.info.state = UBLK_S_DEV_QUIESCED;
	recover.info.ublksrv_flags = 5;
	command_ends(UBLK_CMD_GET_DEV_INFO2, 0);
	assert_int_equal(seen.op, UBLK_CMD_DEL_DEV);
}

static void the_deadline_passes(void)
{
	recover.command.late(&recover.command);
}

/* ---- its deletion -------------------------------------------------------------------------- */

static void what_is_deleted_is_forgotten(void **state)
{
	(void)state;
	deletion_begins(false);
	command_ends(UBLK_CMD_DEL_DEV, 0);
	assert_int_equal(entry.state, TABLE_GONE);
	assert_int_equal(seen.removed, 1);
	assert_int_equal(seen.done, 1);
}

static void what_is_not_deleted_stays_in_the_table(void **state)
{
	(void)state;
	deletion_begins(false);
	command_ends(UBLK_CMD_DEL_DEV, -EIO);
	assert_int_equal(seen.removed, 0);
	assert_int_equal(seen.done, 1);
}

/* Its users have it until they close it. */
static void a_number_that_nobody_has_is_its_last_users(void **state)
{
	(void)state;
	deletion_begins(true);
	seen.in_driver = 0;
	the_deadline_passes();
	assert_true(recover.late);
	assert_true(recover.lingers);
	assert_int_equal(entry.state, TABLE_GONE);
	assert_int_equal(seen.removed, 1);
	assert_int_equal(seen.abandoned, 1);
	assert_int_equal(seen.done, 1);
}

/* The driver waits for the number to be free, and misses that when it is given away at once. */
static void a_number_that_another_has_is_not_waited_for(void **state)
{
	(void)state;
	deletion_begins(true);
	seen.in_driver = 12;
	the_deadline_passes();
	assert_true(recover.late);
	assert_false(recover.lingers);
	assert_int_equal(entry.state, TABLE_GONE);
	assert_int_equal(seen.removed, 1);
}

static void a_driver_that_is_busy_is_waited_for(void **state)
{
	(void)state;
	deletion_begins(false);
	the_deadline_passes();
	the_deadline_passes();
	assert_int_equal(seen.done, 0);
	assert_int_equal(seen.op, UBLK_CMD_DEL_DEV);
	command_ends(UBLK_CMD_DEL_DEV, 0);
	assert_int_equal(entry.state, TABLE_GONE);
	assert_int_equal(seen.done, 1);
}

static void what_the_driver_does_not_come_to_is_not_forgotten(void **state)
{
	(void)state;
	deletion_begins(false);
	for (int i = 0; i < 4; i++)
		the_deadline_passes();
	assert_int_equal(entry.state, TABLE_SERVED);
	assert_int_equal(seen.removed, 0);
	assert_int_equal(seen.abandoned, 1);
	assert_int_equal(seen.done, 1);
	assert_non_null(strstr(capture_end(), "has not ended within 20 s"));
	capture_begin();
}

/* The struct is the driver's until it comes to it. */
static void who_has_one_deleted_is_answered_before_that(void **state)
{
	(void)state;
	deletion_begins(true);
	for (int i = 0; i < 4; i++)
		the_deadline_passes();
	assert_true(recover.given_up);
	assert_int_equal(entry.state, TABLE_SERVED);
	/* By now there may be another of the name. */
	seen.in_driver = 0;
	the_deadline_passes();
	assert_int_equal(seen.removed, 0);
	assert_int_equal(seen.abandoned, 0);
	assert_int_equal(seen.done, 1);
	command_ends(UBLK_CMD_DEL_DEV, 0);
	assert_int_equal(seen.removed, 0);
	assert_int_equal(seen.done, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end_test)
	const struct CMUnitTest tests[] = {
		TEST(what_is_deleted_is_forgotten),
		TEST(what_is_not_deleted_stays_in_the_table),
		TEST(a_number_that_nobody_has_is_its_last_users),
		TEST(a_number_that_another_has_is_not_waited_for),
		TEST(a_driver_that_is_busy_is_waited_for),
		TEST(what_the_driver_does_not_come_to_is_not_forgotten),
		TEST(who_has_one_deleted_is_answered_before_that),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
