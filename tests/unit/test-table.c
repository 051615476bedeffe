/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "orphan.h"
#include "table.h"
#include "util/macros.h"

static struct table table;
static const char *said;

static const char *file_path(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", scratch_path("state"), name);
	return path;
}

static int open_again(void)
{
	int ret;

	if (table.path)
		table_close(&table);
	capture_begin();
	ret = table_open(&table, scratch_path("state"));
	said = capture_end();
	return ret;
}

static int close_and_remove(void **state)
{
	if (table.path)
		table_close(&table);
	return scratch_remove(state);
}

static struct table_entry some_entry(const char *name)
{
	struct table_entry entry = {
		.id = 7,
		.cookie = orphan_cookie(true, 0),
		.backend = "fault+file",
		.identity = "file 8:1/12 born 1.2 offset 0",
		.sectors = UINT64_C(1) << 40,
		.block_size = 512,
		.physical_block_size = 4096,
		.attributes = 4,
		.queues = 2,
		.depth = 128,
		.max_io = 524288,
		.features = 0x18,
		.resized = 1,
		.uuid = "1b4e28ba-2fa1-4ed2-883f-0016d3cca427",
	};

	snprintf(entry.name, sizeof(entry.name), "%s", name);
	return entry;
}

static void put(const char *name, const char *text)
{
	FILE *file = fopen(file_path(name), "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static char *get(const char *name)
{
	FILE *file = fopen(file_path(name), "r");
	char *text = NULL;
	size_t size = 0;

	assert_non_null(file);
	assert_true(getdelim(&text, &size, 0, file) > 0);
	fclose(file);
	return text;
}

static void the_folder_is_made_for_its_owner_alone(void **state)
{
	struct stat st;

	(void)state;
	umask(0);
	assert_int_equal(open_again(), 0);
	assert_int_equal(table.count, 0);
	assert_int_equal(stat(scratch_path("state"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	put("x", "");
	assert_int_equal(table_open(&(struct table){ 0 }, file_path("x")), -ENOTDIR);
}

static void what_is_written_is_read_again(void **state)
{
	struct table_entry a = some_entry("a.b"), b = some_entry("web_2");
	char text[TABLE_DIFFERENCE_SIZE];
	struct stat st;

	(void)state;
	b.id = 8;
	b.cookie ^= 5;
	strcpy(b.identity, "");
	assert_int_equal(open_again(), 0);
	assert_int_equal(table_write(&table, &b), 0);
	assert_int_equal(table_write(&table, &a), 0);
	assert_int_equal(stat(file_path("a.b.json"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(open_again(), 0);
	assert_string_equal(said, "");
	assert_int_equal(table.count, 2);
	assert_false(table_differs(table_find(&table, "a.b"), &a, text));
	assert_false(table_differs(table_find(&table, "web_2"), &b, text));
	assert_null(table_find(&table, "web"));
	assert_int_equal(table_remove(&table, "a.b"), 0);
	assert_int_equal(table_remove(&table, "a.b"), 0);
	assert_int_equal(open_again(), 0);
	assert_int_equal(table.count, 1);
}

/* Each byte of it that is missing at the end makes it no entry; nothing crashes. */
static void a_damaged_file_is_named(void **state)
{
	struct table_entry entry = some_entry("web");
	char *text;

	(void)state;
	assert_int_equal(open_again(), 0);
	assert_int_equal(table_write(&table, &entry), 0);
	text = get("web.json");
	for (size_t length = strlen(text); length-- > 0;) {
		text[length] = 0;
		put("web.json", text);
		assert_int_equal(open_again(), 0);
		assert_contains(said, "/state/web.json': expected an entry of the table of devices");
		assert_int_equal(table.count, 1);
		assert_int_equal(table_find(&table, "web")->state, TABLE_DAMAGED);
	}
	free(text);
}

static void a_foreign_file_is_named(void **state)
{
	static const char *const foreign[] = { "[]", "{}", "{\"version\": 2}", "{\"version\": 1}",
					       "7", "\xff\xff" };

	(void)state;
	assert_int_equal(open_again(), 0);
	for (size_t i = 0; i < sizeof(foreign) / sizeof(*foreign); i++) {
		put("other.json", foreign[i]);
		assert_int_equal(open_again(), 0);
		assert_contains(said, "/state/other.json': expected an entry of the table of devices");
		assert_int_equal(table_find(&table, "other")->state, TABLE_DAMAGED);
	}
	assert_int_equal(unlink(file_path("other.json")), 0);
	assert_int_equal(mkfifo(file_path("pipe.json"), 0600), 0);
	assert_int_equal(open_again(), 0);
	assert_contains(said, "no small regular file");
}

static void replace(const char *name, const char *what, const char *by)
{
	char *text = get(name), *at = strstr(text, what), changed[4096];

	assert_non_null(at);
	snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text, by,
		 at + strlen(what));
	put(name, changed);
	free(text);
}

/* A server that lost track of a deletion gave the same cookie to the next device of the number. */
static void entries_of_the_same_device_are_both_refused(void **state)
{
	struct table_entry a = some_entry("db"), b = some_entry("web"), c = some_entry("mail"),
			   d = some_entry("news");

	(void)state;
	c.cookie = orphan_cookie(true, 1);
	d.id = 8;
	assert_int_equal(open_again(), 0);
	assert_int_equal(table_write(&table, &a) | table_write(&table, &b) |
			 table_write(&table, &c) | table_write(&table, &d), 0);
	assert_int_equal(open_again(), 0);
	assert_contains(said, "got 'db' and 'web', which both say that they are device 7");
	assert_int_equal(table_find(&table, "db")->state, TABLE_DAMAGED);
	assert_int_equal(table_find(&table, "web")->state, TABLE_DAMAGED);
	/* The driver says which of these it is. */
	assert_int_equal(table_find(&table, "mail")->state, TABLE_WAITS);
	assert_int_equal(table_find(&table, "news")->state, TABLE_WAITS);
	assert_int_equal(table_remove(&table, "web"), 0);
	assert_int_equal(open_again(), 0);
	assert_string_equal(said, "");
	assert_int_equal(table_find(&table, "db")->state, TABLE_WAITS);
}

static void a_device_that_is_made_ends_what_waits_by_its_number(void **state)
{
	struct table_entry a = some_entry("web"), b = some_entry("mail"), made = some_entry("db");

	(void)state;
	b.id = 8;
	assert_int_equal(open_again(), 0);
	assert_int_equal(table_write(&table, &a) | table_write(&table, &b), 0);
	assert_int_equal(open_again(), 0);
	capture_begin();
	made.cookie = orphan_cookie(true, 1);
	assert_int_equal(table_enter(&table, &made), 0);
	assert_contains(capture_end(), "'web' had the number 7 before");
	assert_int_equal(table_find(&table, "web")->state, TABLE_GONE);
	assert_int_equal(open_again(), 0);
	assert_null(table_find(&table, "web"));
	assert_non_null(table_find(&table, "mail"));
	/* It may be there by its name, as when it is made again. */
	assert_int_equal(table_enter(&table, &made), 0);
	assert_true(table_has(&table, "db"));
}

static void values_that_cannot_be_are_refused(void **state)
{
	static const char *const changes[][3] = {
		{ "\"web\"", "\"mail\"", "the name of the file" },
		{ "\"id\": 7", "\"id\": -1", "without id" },
		{ "\"id\": 7", "\"id\": 4294967296", "a number of a device" },
		{ "\"id\": 7", "\"id\": 7, \"id\": 8", "duplicate" },
		{ "0xb10f", "0xb10e", "as \"cookie\"" },
		{ "0xb10f", "b10f", "without cookie" },
		{ "\"0x18\"", "24", "without features" },
		{ "\"depth\": 128", "\"depth\": \"128\"", "without depth" },
		{ "{}", "[]", "without texts as \"options\"" },
		{ "{}", "{ \"depth\": 1 }", "without texts as \"options\"" },
		{ "\"resized\": 1", "\"resized\": true", "without resized" },
		{ "\"1b4e28ba-", "\"1b4e28ba/", "without a UUID as \"uuid\"" },
		{ "\"1b4e28ba-", "\"1b4e28ba-1b4e28ba-", "without uuid" },
		{ "\"1b4e28ba-2fa1-4ed2-883f-0016d3cca427\"", "7", "without uuid" },
	};
	struct table_entry entry = some_entry("web");

	(void)state;
	entry.options = json_object();
	assert_int_equal(open_again(), 0);
	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		assert_int_equal(table_write(&table, &entry), 0);
		replace("web.json", changes[i][0], changes[i][1]);
		assert_int_equal(open_again(), 0);
		assert_contains(said, changes[i][2]);
		assert_int_equal(table.entries[0].state, TABLE_DAMAGED);
	}
	json_decref(entry.options);
}

/* One that a file describes has none. */
static void the_options_of_who_added_it_are_kept(void **state)
{
	struct table_entry entry = some_entry("added"), other = some_entry("described");

	(void)state;
	entry.options = json_pack("{s:s, s:s, s:s}", "path", "/srv/\"a\".img", "depth", "8", "uuid",
				  entry.uuid);
	assert_int_equal(open_again(), 0);
	assert_int_equal(table_write(&table, &entry), 0);
	assert_int_equal(table_write(&table, &other), 0);
	assert_int_equal(open_again(), 0);
	assert_true(json_equal(table_find(&table, "added")->options, entry.options));
	assert_null(table_find(&table, "described")->options);
	json_decref(entry.options);
}

/* As version 0.1.0 wrote it. */
static void an_entry_without_word_of_its_size_is_of_one_that_has_it_still(void **state)
{
	struct table_entry entry = some_entry("web");

	(void)state;
	assert_int_equal(open_again(), 0);
	assert_int_equal(table_write(&table, &entry), 0);
	assert_int_equal(open_again(), 0);
	assert_int_equal(table.entries[0].resized, 1);
	replace("web.json", ",\n \"resized\": 1", "");
	assert_int_equal(open_again(), 0);
	assert_string_equal(said, "");
	assert_int_equal(table.entries[0].state, TABLE_WAITS);
	assert_int_equal(table.entries[0].resized, 0);
}

/* As an older server wrote it, and as somebody may write it. */
static void an_entry_has_a_uuid_or_none(void **state)
{
	struct table_entry entry = some_entry("web");
	char text[TABLE_DIFFERENCE_SIZE];

	(void)state;
	assert_int_equal(open_again(), 0);
	assert_int_equal(table_write(&table, &entry), 0);
	assert_int_equal(open_again(), 0);
	assert_string_equal(table.entries[0].uuid, entry.uuid);
	replace("web.json", "1b4e28ba-2fa1", "1B4E28BA-2FA1");
	assert_int_equal(open_again(), 0);
	assert_string_equal(table.entries[0].uuid, entry.uuid);
	replace("web.json", ",\n \"uuid\": \"1B4E28BA-2FA1-4ed2-883f-0016d3cca427\"", "");
	assert_int_equal(open_again(), 0);
	assert_string_equal(said, "");
	assert_int_equal(table.entries[0].state, TABLE_WAITS);
	assert_string_equal(table.entries[0].uuid, "");
	assert_false(table_differs(&table.entries[0], &entry, text));
}

static void a_uuid_is_that_of_what_waits_or_of_the_description_or_new(void **state)
{
	struct table_entry entry = some_entry("web");
	char uuid[UUID_SIZE], again[UUID_SIZE];
	bool has_id = !access("/etc/machine-id", R_OK) &&
		      !uuid_of_name("/etc/machine-id", "ublkd/other", again);

	(void)state;
	assert_int_equal(open_again(), 0);
	assert_int_equal(table_write(&table, &entry), 0);
	assert_int_equal(open_again(), 0);
	for (int described = 0; described < 2; described++) {
		table_choose_uuid(&table, "web", described, uuid);
		assert_string_equal(uuid, entry.uuid);
	}
	table_choose_uuid(&table, "other", true, uuid);
	assert_int_equal(!strcmp(uuid, again), has_id);
	table_choose_uuid(NULL, "other", true, uuid);
	assert_int_equal(!strcmp(uuid, again), has_id);
	table_choose_uuid(&table, "other", false, uuid);
	table_choose_uuid(&table, "other", false, again);
	assert_string_not_equal(uuid, again);
	/* One that has gone is another. */
	table.entries[0].state = TABLE_GONE;
	table_choose_uuid(&table, "web", false, uuid);
	assert_string_not_equal(uuid, entry.uuid);
	/* As is one of an older server. */
	table.entries[0].state = TABLE_WAITS;
	table.entries[0].uuid[0] = 0;
	table_choose_uuid(&table, "web", false, uuid);
	assert_int_equal(uuid_read(uuid, uuid), 0);
}

/* A reader at any time finds an entry that is whole. */
static void a_write_replaces_the_file_as_a_whole(void **state)
{
	struct table_entry entry = some_entry("web");
	int fd;
	char first;

	(void)state;
	assert_int_equal(open_again(), 0);
	assert_int_equal(table_write(&table, &entry), 0);
	fd = open(file_path("web.json"), O_RDONLY);
	assert_true(fd >= 0);
	entry.depth = 1;
	assert_int_equal(table_write(&table, &entry), 0);
	/* The old one is another file, and as it was. */
	assert_int_equal(read(fd, &first, 1), 1);
	assert_int_equal(first, '{');
	close(fd);
	/* What a server that died meanwhile left is not looked at. */
	put("web.json.new", "{");
	assert_int_equal(open_again(), 0);
	assert_string_equal(said, "");
	assert_int_equal(table.count, 1);
	assert_int_equal(table.entries[0].depth, 1);
	assert_int_equal(table_write(&table, &entry), 0);
	assert_int_equal(access(file_path("web.json.new"), F_OK), -1);
}

static void a_write_that_fails_leaves_the_old_entry(void **state)
{
	struct table_entry entry = some_entry("web");
	int ret;

	(void)state;
	assert_int_equal(open_again(), 0);
	assert_int_equal(table_write(&table, &entry), 0);
	assert_int_equal(mkdir(file_path("web.json.new"), 0700), 0);
	entry.depth = 1;
	capture_begin();
	ret = table_write(&table, &entry);
	said = capture_end();
	assert_int_equal(ret, -EISDIR);
	assert_contains(said, "cannot write '");
	assert_int_equal(open_again(), 0);
	assert_int_equal(table.entries[0].depth, 128);
}

/* In a process of its own, as the lock is a process's: 0, or what is not as it should be. */
static int try_as_another(void)
{
	pid_t child = fork();
	int status;

	if (!child) {
		struct table second;
		pid_t holder = table_holder(scratch_path("state"));
		int ret;

		capture_begin();
		ret = table_open(&second, scratch_path("state"));
		said = capture_end();
		_exit(holder != getppid() ? 1 : ret != -EBUSY ? 2 :
		      !strstr(said, "expected a folder that no other server has") ? 3 : 0);
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void two_servers_do_not_share_a_folder(void **state)
{
	(void)state;
	assert_int_equal(table_holder(scratch_path("state")), 0);
	assert_int_equal(open_again(), 0);
	assert_int_equal(try_as_another(), 0);
	table_close(&table);
	assert_int_equal(try_as_another(), 1);
	assert_int_equal(table_holder(scratch_path("state")), 0);
}

/* Returns when it has claimed the folder, which it does until it is killed. */
static pid_t start_claimant(void)
{
	int pipe_fds[2];
	char byte;
	pid_t child;

	assert_int_equal(pipe(pipe_fds), 0);
	child = fork();
	if (!child) {
		if (table_claim(scratch_path("state")) < 0 || write(pipe_fds[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	assert_true(child > 0);
	close(pipe_fds[1]);
	assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
	close(pipe_fds[0]);
	return child;
}

static void one_server_at_a_time_is_the_next(void **state)
{
	pid_t child;
	int claim;

	(void)state;
	assert_int_equal(open_again(), 0);
	assert_int_equal(table_claimant(&table), 0);
	child = start_claimant();
	assert_int_equal(table_claimant(&table), child);
	capture_begin();
	assert_int_equal(table_claim(scratch_path("state")), -EBUSY);
	assert_contains(capture_end(), "expected to be the only one that takes the devices over");
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_int_equal(table_claimant(&table), 0);
	claim = table_claim(scratch_path("state"));
	assert_true(claim >= 0);
	close(claim);
}

static void a_folder_that_is_let_go_of_is_anothers(void **state)
{
	(void)state;
	assert_int_equal(open_again(), 0);
	assert_int_equal(try_as_another(), 0);
	table_release(&table);
	assert_int_equal(table_holder(scratch_path("state")), 0);
	/* It was not refused. */
	assert_int_equal(try_as_another(), 1);
}

static void what_others_wrote_meanwhile_is_read_when_it_is_taken_back(void **state)
{
	struct table_entry entry = some_entry("new");
	struct table now;

	(void)state;
	assert_int_equal(open_again(), 0);
	table_release(&table);
	assert_int_equal(table_write(&table, &entry), 0);
	assert_int_equal(table_reclaim(&table, &now), 0);
	assert_int_equal(try_as_another(), 0);
	assert_int_equal(table.count, 0);
	assert_int_equal(now.count, 1);
	assert_string_equal(now.entries[0].name, "new");
	table_close(&now);
	/* Another's end of looking is not the end of the lock. */
	assert_int_equal(try_as_another(), 0);
}

static void the_next_server_is_told_of_the_watchdog(void **state)
{
	static const uint64_t times[] = { 180000000, 5, 0 };

	(void)state;
	assert_int_equal(table_watchdog(scratch_path("state")), 0);
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		assert_int_equal(open_again(), 0);
		table_leave_watchdog(&table, times[i]);
		table_close(&table);
		assert_int_equal(table_watchdog(scratch_path("state")), times[i]);
	}
}

static void a_difference_is_named(void **state)
{
	struct table_entry was = some_entry("web"), is = was;
	char text[TABLE_DIFFERENCE_SIZE];

	(void)state;
	is.depth = 64;
	assert_true(table_differs(&was, &is, text));
	assert_string_equal(text, "depth: expected 128, got 64");
	strcpy(is.identity, "file 8:1/13");
	assert_true(table_differs(&was, &is, text));
	assert_string_equal(text, "backing: expected 'file 8:1/12 born 1.2 offset 0', "
			    "got 'file 8:1/13'");
	is = was;
	is.features = 8;
	assert_true(table_differs(&was, &is, text));
	assert_contains(text, "on-crash, data, memory, batch, reactors): expected 0x18, got 0x8");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, close_and_remove)
	const struct CMUnitTest tests[] = {
		TEST(the_folder_is_made_for_its_owner_alone),
		TEST(what_is_written_is_read_again),
		TEST(a_damaged_file_is_named),
		TEST(a_foreign_file_is_named),
		TEST(values_that_cannot_be_are_refused),
		TEST(entries_of_the_same_device_are_both_refused),
		TEST(a_device_that_is_made_ends_what_waits_by_its_number),
		TEST(the_options_of_who_added_it_are_kept),
		TEST(an_entry_without_word_of_its_size_is_of_one_that_has_it_still),
		TEST(an_entry_has_a_uuid_or_none),
		TEST(a_uuid_is_that_of_what_waits_or_of_the_description_or_new),
		TEST(a_write_replaces_the_file_as_a_whole),
		TEST(a_write_that_fails_leaves_the_old_entry),
		TEST(two_servers_do_not_share_a_folder),
		TEST(one_server_at_a_time_is_the_next),
		TEST(a_folder_that_is_let_go_of_is_anothers),
		TEST(what_others_wrote_meanwhile_is_read_when_it_is_taken_back),
		TEST(the_next_server_is_told_of_the_watchdog),
		cmocka_unit_test(a_difference_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
