/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files that describe devices for the next start: what is written, and what is refused. */
#define _GNU_SOURCE
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "exit.h"
#include "persist.h"
#include "util/macros.h"

static struct conf conf;
static const char *said;

static const char *in_folder(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", scratch_path("conf"), name);
	return path;
}

static void put(const char *name, const char *text)
{
	FILE *file = fopen(in_folder(name), "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static bool is_there(const char *name)
{
	return !access(in_folder(name), F_OK);
}

static int begin(void **state)
{
	if (scratch_make(state) || mkdir(scratch_path("conf"), 0755))
		return -1;
	conf = (struct conf){ .may_be_empty = true };
	return conf_read(&conf, scratch_path("conf"));
}

static int end(void **state)
{
	conf_free(&conf);
	return scratch_remove(state);
}

/* Options as key, value …, NULL. */
static int prepare(const char *name, const char *backend, const char *const *options)
{
	json_t *texts = json_object();
	int status;

	for (; *options; options += 2)
		json_object_set_new(texts, options[0], json_string(options[1]));
	capture_begin();
	status = persist_prepare(&conf, name, backend, texts);
	said = capture_end();
	json_decref(texts);
	return status;
}

#define PREPARE(name, backend, ...) \
	prepare(name, backend, (const char *const[]){ __VA_ARGS__, NULL })

#define REFUSES(status, text, ...) \
	do { \
		assert_int_equal(PREPARE(__VA_ARGS__), status); \
		assert_contains(said, text); \
		assert_false(is_there(".a.conf.new")); \
	} while (0)

static void a_file_is_read_as_it_was_written(void **state)
{
	struct conf next = { 0 };

	(void)state;
	assert_int_equal(PREPARE("a", "fault+file", "path", "/srv/a b.img", "create", "1M", "depth", "8",
				 "fault-every", "3"), EXIT_DONE);
	assert_false(is_there("a.conf"));
	assert_null(persist_find(&conf, "a"));
	assert_int_equal(persist_commit(&conf, "a"), EXIT_DONE);
	assert_false(is_there(".a.conf.new"));
	assert_int_equal(conf_read(&next, scratch_path("conf")), EXIT_DONE);
	assert_int_equal(next.count, 1);
	assert_string_equal(next.devices[0]->name, "a");
	assert_int_equal(next.devices[0]->spec.device.depth, 8);
	/* It is made already. */
	assert_null(json_object_get(next.devices[0]->spec.given, "create"));
	assert_string_equal(json_string_value(json_object_get(next.devices[0]->spec.given, "path")),
			    "/srv/a b.img");
	conf_free(&next);
}

static void what_the_next_start_would_not_take_is_refused(void **state)
{
	char line[400] = "/";

	(void)state;
	memset(line + 1, 'x', sizeof(line) - 2);
	REFUSES(EXIT_USAGE, "a: depth: expected 1…4096, got '0'", "a", "null", "size", "1M", "depth", "0");
	REFUSES(EXIT_USAGE, "a: on-crash: expected none without --state", "a", "null", "size", "1M",
		"on-crash", "reissue");
	REFUSES(EXIT_USAGE, "a: path: expected a path from the root with --persist, got 'a.img'", "a",
		"file", "path", "a.img");
	REFUSES(EXIT_USAGE, "a: expected settings that a file can hold", "a", "file", "path", "/a ;b");
	REFUSES(EXIT_USAGE, "a: expected settings that a file can hold", "a", "file", "path", "/a ");
	REFUSES(EXIT_USAGE, "a: expected settings that a file can hold", "a", "file", "path",
		"/a\ndepth = 4");
	REFUSES(EXIT_USAGE, "a: expected settings that a file can hold", "a", "file", "path", line);
	REFUSES(EXIT_USAGE, "name: expected one that does not begin with '.'", ".a", "null", "size", "1M");
	put("broken.conf", "nonsense\n");
	REFUSES(EXIT_USAGE, "a: expected files that describe devices with --persist", "a", "null", "size",
		"1M");
}

static void no_other_device_loses_its_file(void **state)
{
	(void)state;
	put("a.conf", "[device]\nname = other\nbackend = null\nsize = 1M\nid = 7\n"
	    "uuid = 1B4E28BA-2fa1-4ed2-883f-0016d3cca427\n");
	REFUSES(EXIT_TAKEN, "a: name: expected one that no file has with --persist, got 'a': there is '",
		"a", "null", "size", "1M");
	REFUSES(EXIT_TAKEN, "other: name: expected one that no file has with --persist, got 'other', "
		"which '", "other", "null", "size", "1M");
	REFUSES(EXIT_TAKEN, "b: id: expected one that no file has", "b", "null", "size", "1M", "id", "7");
	REFUSES(EXIT_TAKEN, "b: uuid: expected one that no file has with --persist, got '1b4e28ba-",
		"b", "null", "size", "1M", "uuid", "1b4e28ba-2fa1-4ed2-883f-0016d3cca427");
	assert_int_equal(persist_remove(&conf, "a"), EXIT_DONE);
	assert_true(is_there("a.conf"));
	/* Somebody writes one in between. */
	assert_int_equal(PREPARE("b", "null", "size", "1M"), EXIT_DONE);
	put("b.conf", "[device]\nname = third\nbackend = null\nsize = 2M\n");
	capture_begin();
	assert_int_equal(persist_commit(&conf, "b"), EXIT_TAKEN);
	assert_contains(capture_end(), "File exists");
	assert_false(is_there(".b.conf.new"));
	assert_null(persist_find(&conf, "b"));
}

static void a_file_is_found_and_removed_by_the_name_in_it(void **state)
{
	_cleanup_free_ char *found = NULL;

	(void)state;
	put("b.conf", "[device]\nname = a\nbackend = null\nsize = 1M\n");
	conf_free(&conf);
	assert_int_equal(conf_read(&conf, scratch_path("conf")), EXIT_DONE);
	found = persist_find(&conf, "a");
	assert_string_equal(found, in_folder("b.conf"));
	assert_null(persist_find(&conf, "b"));
	assert_null(persist_find(&conf, "../conf/b"));
	assert_int_equal(persist_remove(&conf, "a"), EXIT_DONE);
	assert_false(is_there("b.conf"));
	assert_int_equal(persist_remove(&conf, "a"), EXIT_DONE);
}

static void there_has_to_be_one_folder(void **state)
{
	(void)state;
	assert_string_equal(persist_folder(&conf), scratch_path("conf"));
	assert_null(persist_folder(NULL));
	put("a.conf", "[device]\nbackend = null\nsize = 1M\n");
	assert_int_equal(conf_read(&conf, in_folder("a.conf")), EXIT_DONE);
	assert_non_null(persist_folder(&conf));
	assert_int_equal(mkdir(scratch_path("more"), 0755), 0);
	assert_int_equal(conf_read(&conf, scratch_path("more")), EXIT_DONE);
	assert_null(persist_folder(&conf));
}

static void assert_reads(const char *name, const char *expected)
{
	char text[512];
	FILE *file = fopen(in_folder(name), "r");
	size_t length;

	assert_non_null(file);
	length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[length] = 0;
	assert_string_equal(text, expected);
}

static int change(const char *name, const char *key, const char *value)
{
	json_t *options = json_pack("{s:s}", key, value);
	int status;

	capture_begin();
	status = persist_change(&conf, name, options);
	said = capture_end();
	json_decref(options);
	return status;
}

static void a_setting_changes_in_its_line(void **state)
{
	(void)state;
	put("b.conf", "# mine\n[device]\n  poll : 5 ; five\nname=a\npolling = no\n");
	assert_int_equal(change("a", "poll", "7"), EXIT_USAGE);
	assert_contains(said, "a: expected a device that a file in the folder of the server describes");
	put("b.conf", "# poll = 1\n[device]\n  poll : 5 ; five\nname=a\nbackend = null\nsize=1M");
	conf_free(&conf);
	assert_int_equal(conf_read(&conf, scratch_path("conf")), EXIT_DONE);
	assert_int_equal(change("a", "poll", "7"), EXIT_DONE);
	assert_int_equal(change("a", "mode", "0600"), EXIT_DONE);
	assert_int_equal(change("a", "mode", "0640"), EXIT_DONE);
	assert_reads("b.conf", "# poll = 1\n[device]\npoll = 7\nname=a\nbackend = null\nsize=1M\n"
			       "mode = 0640\n");
	/* What cannot be read again leaves the file as it was. */
	assert_int_equal(change("a", "owner", "root ;b"), EXIT_USAGE);
	assert_contains(said, "a: expected settings that a file can hold with --persist");
	assert_reads("b.conf", "# poll = 1\n[device]\npoll = 7\nname=a\nbackend = null\nsize=1M\n"
			       "mode = 0640\n");
	assert_false(is_there(".a.conf.new"));
	/* One that is elsewhere is not ours. */
	put("../c.conf", "[device]\nname=c\nbackend = null\nsize=1M\n");
	assert_int_equal(conf_read(&conf, scratch_path("c.conf")), EXIT_DONE);
	assert_int_equal(change("c", "poll", "7"), EXIT_USAGE);
	assert_contains(said, "got one that ");
}

/* Where each device has a process. */
static void a_file_may_name_a_worker(void **state)
{
	(void)state;
	conf.workers = true;
	assert_int_equal(PREPARE("a", "null", "size", "1M", "worker", "team"), EXIT_DONE);
	assert_int_equal(persist_commit(&conf, "a"), EXIT_DONE);
	assert_int_equal(change("a", "poll", "7"), EXIT_DONE);
	assert_int_equal(persist_remove(&conf, "a"), EXIT_DONE);
	assert_false(is_there("a.conf"));
}

static int check_passed(const char *path, int fd)
{
	struct spec spec;
	int status;

	spec_init(&spec);
	assert_int_equal(spec_set_backend(&spec, "file", false), EXIT_DONE);
	assert_int_equal(spec_set(&spec, "path", 4, path), EXIT_DONE);
	assert_int_equal(spec_pass(&spec, "path", fd), EXIT_DONE);
	capture_begin();
	status = persist_check_passed(&spec);
	said = capture_end();
	spec_free(&spec);
	return status;
}

static void what_was_passed_has_to_be_what_the_path_names(void **state)
{
	int fd = scratch_file("file", 512);

	(void)state;
	close(scratch_file("other", 512));
	assert_int_equal(check_passed(scratch_path("file"), dup(fd)), EXIT_DONE);
	assert_int_equal(check_passed(scratch_path("other"), dup(fd)), EXIT_BACKING);
	assert_contains(said, "path: expected a path by which the server opens the same file with "
			"--persist, got '");
	assert_contains(said, "': another file for the server");
	assert_int_equal(check_passed("/no/such/file", fd), EXIT_BACKING);
	assert_contains(said, "got '/no/such/file': No such file");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_file_is_read_as_it_was_written),
		TEST(what_the_next_start_would_not_take_is_refused),
		TEST(no_other_device_loses_its_file),
		TEST(a_file_is_found_and_removed_by_the_name_in_it),
		TEST(there_has_to_be_one_folder),
		TEST(a_setting_changes_in_its_line),
		TEST(a_file_may_name_a_worker),
		TEST(what_was_passed_has_to_be_what_the_path_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
