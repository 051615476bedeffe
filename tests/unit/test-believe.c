/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "support.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <ublkd/ublk_abi.h>

#include "believe.h"
#include "identity.h"
#include "supervisor.h"
#include "util/macros.h"

static char us[32], others[32];
static struct stuck_list stuck;
static struct supervisor supervisor = { .stuck = &stuck };
static char name[] = "one", other_name[] = "two";

static int set_users(void **state)
{
	(void)state;
	snprintf(us, sizeof(us), "%u:%u:", geteuid(), getegid());
	snprintf(others, sizeof(others), "%u:%u:", geteuid() + 1, getegid());
	return 0;
}

static void a_path_is_that_of_a_node_of_the_users(void **state)
{
	static const char *const paths[] = {
		"", "one", "/dev/null", "/dev/ublkb", "/dev/ublkbx", "/dev/ublkb4294967294", "/dev/ublkb1p1",
		"/dev/ublkb../null", "/dev/ublkc1",
	};
	struct worker worker = { .name = name, .supervisor = &supervisor, .user = us };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		assert_false(believe_path(&worker, paths[i]));
	/* Ours says what it knows. */
	worker.user = NULL;
	assert_true(believe_path(&worker, "/dev/ublkb4294967294"));
}

/* "stuck": of this name and number, in this process. */
static struct stuck_info info_of(const char *device, uint32_t number, pid_t pid)
{
	struct stuck_info info = { .command = "DEL_DEV", .number = number, .pid = pid };

	snprintf(info.name, sizeof(info.name), "%s", device);
	return info;
}

static void a_command_is_one_for_a_device_of_its_own(void **state)
{
	struct worker worker = { .name = name, .supervisor = &supervisor, .path = "/dev/ublkb7" };
	struct worker_group group = { .supervisor = &supervisor, .members = &worker, .user = us };
	struct stuck_info info = info_of(name, 7, getpid());

	(void)state;
	assert_true(believe_stuck(&group, &info));
	assert_int_equal(info.number, 7);
	info = info_of(name, 8, getpid());
	assert_true(believe_stuck(&group, &info));
	assert_int_equal(info.number, UBLK_DEV_ID_ANY);
	info = info_of(other_name, 7, getpid());
	assert_false(believe_stuck(&group, &info));
	group.user = others;
	info = info_of(name, 7, getpid());
	assert_false(believe_stuck(&group, &info));
	group.user = NULL;
	info = info_of(other_name, 8, 1);
	assert_true(believe_stuck(&group, &info));
	assert_int_equal(info.number, 8);
}

static void one_command_of_a_device_is_enough(void **state)
{
	struct worker worker = { .name = name, .supervisor = &supervisor, .path = "/dev/ublkb7" };
	struct worker_group group = { .supervisor = &supervisor, .members = &worker, .user = us };
	struct stuck_info info = info_of(name, 7, getpid());
	struct stuck before = { .info = info };

	(void)state;
	stuck.first = &before;
	assert_false(believe_stuck(&group, &info));
	stuck.first = NULL;
	assert_true(believe_stuck(&group, &info));
}

static void a_device_is_the_one_that_is_known(void **state)
{
	struct worker worker = { .name = name, .supervisor = &supervisor, .path = "/dev/ublkb7", .user = us };
	struct worker_group group = { .supervisor = &supervisor, .members = &worker, .user = us };
	json_t *device = json_pack("{s:s, s:s, s:i, s:i}", "name", name, "path", "/dev/sda2", "number", 3,
				   "pid", 1);

	(void)state;
	worker.group = &group;
	believe_device(device, &worker);
	assert_string_equal(json_string_value(json_object_get(device, "path")), "/dev/ublkb7");
	assert_int_equal(json_integer_value(json_object_get(device, "number")), 7);
	assert_true(json_is_null(json_object_get(device, "pid")));
	assert_int_equal(json_integer_value(json_object_get(device, "owner_uid")), geteuid());
	worker.path[0] = 0;
	json_object_set_new(device, "path", json_string("/dev/sda2"));
	believe_device(device, &worker);
	assert_true(json_is_null(json_object_get(device, "path")));
	/* Of root's own all is believed. */
	worker.user = NULL;
	json_object_set_new(device, "path", json_string("/dev/ublkb9"));
	believe_device(device, &worker);
	assert_string_equal(json_string_value(json_object_get(device, "path")), "/dev/ublkb9");
	json_decref(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_is_that_of_a_node_of_the_users),
		cmocka_unit_test(a_command_is_one_for_a_device_of_its_own),
		cmocka_unit_test(one_command_of_a_device_is_enough),
		cmocka_unit_test(a_device_is_the_one_that_is_known),
	};

	return cmocka_run_group_tests(tests, set_users, NULL);
}
