/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that the driver does not end, and what the processes say that have them. */
#define _GNU_SOURCE
#include "support.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ublkd/ublk_abi.h>

#include "helper.h"
#include "stuck.h"
#include "util/macros.h"

static struct stuck_list list;
static const struct stuck *began, *ended;

static void on_stuck(struct stuck_list *of, const struct stuck *stuck)
{
	assert_ptr_equal(of, &list);
	began = stuck;
}

static void on_end(struct stuck_list *of, const struct stuck *stuck)
{
	assert_ptr_equal(of, &list);
	assert_null(stuck_find(of, stuck->info.number));
	ended = stuck;
}

static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (!pid) {
		pause();
		_exit(0);
	}
	return pid;
}

static void what_is_stuck_is_known_until_its_process_is_gone(void **state)
{
	struct stuck_info info = { .command = "STOP_DEV", .name = "disk", .number = 3, .since = 7 };
	const char *said;
	json_t *all;
	char *text;

	(void)state;
	list = (struct stuck_list){ .loop = ev_loop_new(EVFLAG_NOENV), .on_stuck = on_stuck,
				    .on_end = on_end };
	info.pid = sleeper();
	capture_begin();
	stuck_add(&list, &info, false);
	said = capture_end();
	assert_contains(said, "disk: the driver has had STOP_DEV for device 3 for ");
	assert_ptr_equal(began, list.first);
	assert_ptr_equal(stuck_find(&list, 3), list.first);
	assert_null(stuck_find(&list, 4));
	assert_true(stuck_has_name(&list, "disk"));
	assert_false(stuck_has_name(&list, "dis"));
	all = stuck_json(&list);
	assert_int_equal(json_array_size(all), 1);
	json_object_del(json_array_get(all, 0), "pid");
	text = json_dumps(all, JSON_COMPACT);
	assert_string_equal(text, "[{\"command\":\"STOP_DEV\",\"device\":\"disk\",\"number\":3,"
				  "\"since\":7}]");
	free(text);
	json_decref(all);
	ev_run(list.loop, EVRUN_NOWAIT);
	assert_null(ended);
	kill(info.pid, SIGKILL);
	capture_begin();
	while (!ended)
		ev_run(list.loop, EVRUN_ONCE);
	said = capture_end();
	assert_contains(said, "disk: STOP_DEV for device 3 has ended after ");
	assert_null(list.first);
	waitpid(info.pid, NULL, 0);
	/* One that is gone by now is none. */
	stuck_add(&list, &info, false);
	assert_null(list.first);
	ev_loop_destroy(list.loop);
}

static void what_others_told_is_not_logged_again(void **state)
{
	struct stuck_info info = { .command = "ADD_DEV", .number = UBLK_DEV_ID_ANY };

	(void)state;
	list = (struct stuck_list){ .loop = ev_loop_new(EVFLAG_NOENV) };
	info.pid = sleeper();
	capture_begin();
	stuck_add(&list, &info, true);
	assert_string_equal(capture_end(), "");
	/* There may be several of these, and none is a device's. */
	assert_null(stuck_find(&list, UBLK_DEV_ID_ANY));
	stuck_close(&list);
	assert_null(list.first);
	kill(info.pid, SIGKILL);
	waitpid(info.pid, NULL, 0);
	ev_loop_destroy(list.loop);
}

/* ---- processes ------------------------------------------------------------------ */

static void write_text(const char *name, const char *text, size_t length)
{
	FILE *file = fopen(scratch_path(name), "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, length, file), length);
	fclose(file);
}

/* Words are separated by '|' here. */
static void make_process(int pid, const char *words, const char *state)
{
	char name[64], text[256];
	int length = snprintf(text, sizeof(text), "%s", words) + 1;

	snprintf(name, sizeof(name), "proc/%d", pid);
	mkdir(scratch_path("proc"), 0755);
	mkdir(scratch_path(name), 0755);
	for (int i = 0; i < length; i++)
		text[i] = text[i] == '|' ? 0 : text[i];
	snprintf(name, sizeof(name), "proc/%d/cmdline", pid);
	write_text(name, text, (size_t)length);
	snprintf(name, sizeof(name), "proc/%d/stat", pid);
	write_text(name, state, strlen(state));
}

static struct stuck_helper seen[4];
static unsigned nr_seen;

static void see(void *arg, const struct stuck_helper *helper)
{
	assert_string_equal(arg, "arg");
	assert_true(nr_seen < ARRAY_SIZE(seen));
	seen[nr_seen++] = *helper;
}

static const struct stuck_helper *seen_pid(pid_t pid)
{
	for (unsigned i = 0; i < nr_seen; i++) {
		if (seen[i].info.pid == pid)
			return &seen[i];
	}
	return NULL;
}

static void processes_say_what_they_have(void **state)
{
	char title[HELPER_TITLE_SIZE], words[256], arg[] = "arg";
	const struct stuck_info info = { .command = "STOP_DEV", .name = "disk", .number = 3,
					 .since = 100, .late = 130 };
	const struct stuck_info added = { .command = "ADD_DEV", .number = UBLK_DEV_ID_ANY,
					  .since = 5, .late = 15 };

	(void)state;
	stuck_title(title, sizeof(title), &info);
	snprintf(words, sizeof(words), "ublkd|--helper|of|50|ublkd|control|%s", title);
	make_process(51, words, "51 (ubl) kd) D 50 51 51 0");
	stuck_title(title, sizeof(title), &added);
	snprintf(words, sizeof(words), "ublkd|--helper|of|50|ublkd|control|%s", title);
	make_process(52, words, "52 (ublkd) D 1 52 52 0");
	/* Idle ones: one runs, one is stopped. */
	make_process(53, "ublkd|--helper|of|50|ublkd|control|", "53 (ublkd) S 50 53 53 0");
	make_process(54, "ublkd|--helper|of|50|ublkd|control|   ", "54 (ublkd) T 50 54 54 0");
	/* Others. */
	make_process(55, "ublkd|--helper|of|50|disk|rescan|/dev/ublkb3", "55 (ublkd) T 50 55 55 0");
	make_process(56, "ublkd|--helper|of", "56 (ublkd) T 50 56 56 0");
	make_process(57, "grep|control", "57 (grep) T 50 57 57 0");
	stuck_scan(scratch_path(""), see, arg);
	assert_int_equal(nr_seen, 3);
	assert_string_equal(seen_pid(51)->info.command, "STOP_DEV");
	assert_string_equal(seen_pid(51)->info.name, "disk");
	assert_int_equal(seen_pid(51)->info.number, 3);
	assert_int_equal(seen_pid(51)->info.since, 100);
	assert_int_equal(seen_pid(51)->info.late, 130);
	assert_int_equal(seen_pid(51)->of, 50);
	assert_false(seen_pid(51)->orphan);
	assert_false(seen_pid(51)->stopped);
	assert_string_equal(seen_pid(52)->info.name, "");
	assert_int_equal(seen_pid(52)->info.number, UBLK_DEV_ID_ANY);
	assert_true(seen_pid(52)->orphan);
	assert_string_equal(seen_pid(54)->info.command, "");
	assert_true(seen_pid(54)->stopped);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_stuck_is_known_until_its_process_is_gone),
		cmocka_unit_test(what_others_told_is_not_logged_again),
		cmocka_unit_test_setup_teardown(processes_say_what_they_have, scratch_make,
						scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
