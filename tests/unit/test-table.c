/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "orphan.h"
#include "table.h"

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
		.cookie = orphan_cookie(true),
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

static void values_that_cannot_be_are_refused(void **state)
{
	static const char *const changes[][3] = {
		{ "\"web\"", "\"mail\"", "the name of the file" },
		{ "\"id\": 7", "\"id\": -1", "without id" },
		{ "\"id\": 7", "\"id\": 4294967296", "a number of a device" },
		{ "\"id\": 7", "\"id\": 7, \"id\": 8", "duplicate" },
		{ "0xb10ce", "0xb10cd", "as \"cookie\"" },
		{ "0xb10ce", "b10ce", "without cookie" },
		{ "\"0x18\"", "24", "without features" },
		{ "128", "\"128\"", "without depth" },
		{ "{}", "[]", "without texts as \"options\"" },
		{ "{}", "{ \"depth\": 1 }", "without texts as \"options\"" },
		{ "\"resized\": 1", "\"resized\": true", "without resized" },
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
	entry.options = json_pack("{s:s, s:s}", "path", "/srv/\"a\".img", "depth", "8");
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
		TEST(the_options_of_who_added_it_are_kept),
		TEST(an_entry_without_word_of_its_size_is_of_one_that_has_it_still),
		TEST(a_write_replaces_the_file_as_a_whole),
		TEST(a_write_that_fails_leaves_the_old_entry),
		TEST(two_servers_do_not_share_a_folder),
		cmocka_unit_test(a_difference_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
