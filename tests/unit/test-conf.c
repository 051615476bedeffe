/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf.h"
#include "exit.h"

static const char *said;
static struct conf conf;

static void put(const char *name, const char *text)
{
	FILE *file = fopen(scratch_path(name), "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* Reads what is there; said is what was said, with the folder's name left out. */
static int read_path(const char *path, bool shared)
{
	static char text[8192];
	char folder[4096];
	const char *all, *at;
	size_t used = 0;
	int status;

	snprintf(folder, sizeof(folder), "%s", scratch_path(""));
	conf_free(&conf);
	conf.shared = shared;
	capture_begin();
	status = conf_read(&conf, path);
	if (!status)
		status = conf_check(&conf);
	all = capture_end();
	while ((at = strstr(all, folder)) && used + strlen(all) < sizeof(text)) {
		memcpy(text + used, all, (size_t)(at - all));
		used += (size_t)(at - all);
		all = at + strlen(folder);
	}
	snprintf(text + used, sizeof(text) - used, "%s", all);
	said = text;
	return status;
}

static int read_text(const char *text, bool shared)
{
	put("a.conf", text);
	return read_path(scratch_path("a.conf"), shared);
}

/* Fails unless the text is a wrong usage for which just this is said. */
#define REFUSES(text, message) \
	do { \
		assert_int_equal(read_text(text, false), EXIT_USAGE); \
		assert_string_equal(said, message "\n"); \
		assert_int_equal(conf.count, 0); \
	} while (0)

static void an_indented_line_is_a_line(void **state)
{
	(void)state;
	assert_int_equal(read_text("  [device]\n\tbackend = null\n\t size = 1G\n", false), EXIT_DONE);
	assert_string_equal(said, "");
	assert_int_equal(conf.count, 1);
}

static void a_file_describes_a_device(void **state)
{
	const struct conf_device *device;

	(void)state;
	assert_int_equal(read_text("; a comment\n[device]\n\n  # another\ndepth = 7 ; and more\n"
				   "fault-every=3\nbackend=fault+null\nsize: 1M\n", true), EXIT_DONE);
	assert_string_equal(said, "");
	assert_int_equal(conf.count, 1);
	device = conf.devices[0];
	assert_string_equal(device->name, "a");
	assert_int_equal(device->spec.nr_layers, 2);
	assert_int_equal(device->spec.device.depth, 7);
	assert_true(options_given(&device->spec.layers[1].set, "size"));
	assert_int_equal(read_text("[device]\nname = disk-1.x\nbackend=null\nsize=1M\n", false),
			 EXIT_DONE);
	assert_string_equal(conf.devices[0]->name, "disk-1.x");
}

static void errors_name_file_and_line(void **state)
{
	(void)state;
	REFUSES("[device]\nbackend=null\nsize=1M\n\ndepth=0\n",
		"a.conf:5: depth: expected 1…4096, got '0'");
	REFUSES("[device]\nspeed=3\nbackend=null\nsize=1M\n",
		"a.conf:2: expected an option of 'run' or of the backend 'null', got 'speed'; "
		"'ublkd help run' and 'ublkd help null' list them");
	REFUSES("[device]\nbackend=tape\nsize=1M\n",
		"a.conf:2: expected a backend, got 'tape'; 'ublkd help' lists them");
	REFUSES("[device]\nbackend=null\nbackend=mem\nsize=1M\n",
		"a.conf:3: backend: expected once, given twice");
	REFUSES("[device]\nbackend=null\nsize=1M\nsize=2M\n",
		"a.conf:4: size: expected once, given twice");
	REFUSES("[device]\nbackend=null\n",
		"a.conf: null: expected size=SIZE, which is required, got none");
	REFUSES("[device]\nsize=1M\n",
		"a.conf: expected backend = [FILTER+]BACKEND, got none; 'ublkd help' lists them");
	REFUSES("", "a.conf: expected backend = [FILTER+]BACKEND, got none; 'ublkd help' lists them");
	REFUSES("[device]\nbackend=null\nsize=1M\nname=a b\n",
		"a.conf:4: name: expected 1…64 letters, digits, '.', '_' or '-', got 'a b'");
}

static void what_is_no_setting_is_refused(void **state)
{
	char text[600] = "[device]\nbackend=file\npath=/";

	(void)state;
	REFUSES("[device]\nbackend=null\nsize\n",
		"a.conf:3: expected KEY = VALUE, [device] or a comment, which begins with '#' or ';'");
	REFUSES("backend=null\n", "a.conf:1: expected [device] before the settings, got 'backend'");
	REFUSES("[device]\nbackend=null\nsize=1M\n[disk]\ndepth=1\n",
		"a.conf:5: expected settings in the section [device] alone, got 'depth' in [disk]");
	memset(text + strlen(text), 'x', 500);
	strcpy(text + 560, "\ndepth=1\n");
	assert_int_equal(read_text(text, false), EXIT_USAGE);
	assert_contains(said, "a.conf:3: expected a line of at most ");
}

static void all_errors_are_said_at_once(void **state)
{
	(void)state;
	assert_int_equal(read_text("[device]\nbackend=null\ndepth=0\nsize=x\n", false), EXIT_USAGE);
	assert_contains(said, "a.conf:3: depth: expected");
	assert_contains(said, "a.conf:4: size: expected");
}

static void reactors_that_are_shared_are_not_the_devices(void **state)
{
	static const char text[] = "[device]\nbackend=null\nsize=1M\ncpus=0\n";

	(void)state;
	assert_int_equal(read_text(text, false), EXIT_DONE);
	assert_int_equal(read_text(text, true), EXIT_USAGE);
	assert_string_equal(said, "a.conf:4: cpus: expected none with --reactors, as the threads "
				  "are not the device's own, got '0'\n");
}

static void without_workers_none_can_be_named(void **state)
{
	static const char text[] = "[device]\nbackend=null\nsize=1M\nworker=x\n";

	(void)state;
	assert_int_equal(read_text(text, false), EXIT_USAGE);
	assert_string_equal(said, "a.conf:4: worker: expected none without --workers, got 'x'\n");
	assert_int_equal(read_text("[device]\nbackend=null\nsize=1M\ngive-up=fail\nmax-deaths=2\n", false),
			 EXIT_USAGE);
	assert_string_equal(said, "a.conf:4: give-up: expected none without --workers, got 'fail'\n"
				  "a.conf:5: max-deaths: expected none without --workers, got '2'\n");
	conf.workers = true;
	assert_int_equal(read_text(text, false), EXIT_DONE);
	assert_string_equal(conf.devices[0]->spec.device.worker, "x");
	assert_int_equal(read_text("[device]\nbackend=null\nsize=1M\nworker=a b\n", false), EXIT_USAGE);
	assert_string_equal(said, "a.conf: worker: expected 1…64 letters, digits, '.', '_' or '-', got "
				  "'a b'\n");
	conf.workers = false;
}

static void a_folder_is_its_files(void **state)
{
	(void)state;
	assert_int_equal(mkdir(scratch_path("folder"), 0700), 0);
	assert_int_equal(read_path(scratch_path("folder"), false), EXIT_USAGE);
	assert_string_equal(said, "ublkd: expected files *.conf in the folder 'folder', got none\n");
	put("folder/b.conf", "[device]\nbackend=null\nsize=1M\n");
	put("folder/a.conf", "[device]\nbackend=null\nsize=1M\n");
	put("folder/.c.conf", "nonsense\n");
	put("folder/d.conf~", "nonsense\n");
	assert_int_equal(read_path(scratch_path("folder"), false), EXIT_DONE);
	assert_int_equal(conf.count, 2);
	assert_string_equal(conf.devices[0]->name, "a");
	assert_string_equal(conf.devices[1]->name, "b");
	assert_int_equal(read_path(scratch_path("none"), false), EXIT_USAGE);
	assert_string_equal(said, "ublkd: cannot open 'none': No such file or directory\n");
}

static void what_must_differ_differs(void **state)
{
	(void)state;
	assert_int_equal(mkdir(scratch_path("same"), 0700), 0);
	put("same/a.conf", "[device]\nbackend=null\nsize=1M\nid=3\n"
	    "uuid=1b4e28ba-2fa1-4ed2-883f-0016d3cca427\n");
	put("same/b.conf", "[device]\nname=a\nbackend=null\nsize=1M\nid=3\n"
	    "uuid=1B4E28BA-2FA1-4ED2-883F-0016D3CCA427\n");
	assert_int_equal(read_path(scratch_path("same"), false), EXIT_USAGE);
	assert_string_equal(said,
			    "same/b.conf: name: expected another than that of 'same/a.conf', got 'a'\n"
			    "same/b.conf: id: expected another than that of 'same/a.conf', got '3'\n"
			    "same/b.conf: uuid: expected another than that of 'same/a.conf', got "
			    "'1b4e28ba-2fa1-4ed2-883f-0016d3cca427'\n");
}

/* For a server that goes on without what is wrong. */
static void what_is_wrong_is_counted_and_left_out(void **state)
{
	(void)state;
	assert_int_equal(mkdir(scratch_path("some"), 0700), 0);
	put("some/a.conf", "[device]\nbackend=null\nsize=1M\nid=3\n");
	put("some/b.conf", "[device]\nname=a\nbackend=null\nsize=1M\n");
	put("some/c.conf", "[device]\nbackend=null\nsize=1M\nid=3\n");
	put("some/d.conf", "[device]\nbackend=null\nsize=1M\nid=4\n");
	put("some/e.conf", "[device]\nbackend=null\nsize=none\n");
	put("some/f.conf", "[device\n");
	assert_int_equal(read_path(scratch_path("some"), false), EXIT_USAGE);
	assert_int_equal(conf.wrong, 2);
	assert_int_equal(conf.count, 4);
	conf_drop_same(&conf);
	assert_int_equal(conf.wrong, 4);
	assert_int_equal(conf.count, 2);
	assert_string_equal(conf.devices[0]->file, scratch_path("some/a.conf"));
	assert_string_equal(conf.devices[1]->file, scratch_path("some/d.conf"));
	assert_int_equal(conf_check(&conf), EXIT_DONE);
	assert_int_equal(read_path(scratch_path("none"), false), EXIT_USAGE);
	assert_int_equal(conf.wrong, 1);
	assert_int_equal(conf.count, 0);
}

static int renew(const char *name)
{
	int status;

	capture_begin();
	status = conf_renew(&conf, conf_find(&conf, name));
	said = capture_end();
	return status;
}

static void a_file_is_read_again(void **state)
{
	(void)state;
	assert_int_equal(mkdir(scratch_path("again"), 0700), 0);
	put("again/a.conf", "[device]\nbackend=null\nsize=1M\nid=3\n");
	put("again/b.conf", "[device]\nbackend=null\nsize=1M\n");
	assert_int_equal(read_path(scratch_path("again"), false), EXIT_DONE);
	assert_null(conf_find(&conf, "c"));
	put("again/b.conf", "[device]\nbackend=null\nsize=2M\nid=4\n");
	assert_int_equal(renew("b"), EXIT_DONE);
	assert_string_equal(json_string_value(json_object_get(conf.devices[1]->spec.given, "size")), "2M");
	/* What is wrong changes nothing. */
	put("again/b.conf", "[device]\nbackend=null\nsize=3M\nid=3\n");
	assert_int_equal(renew("b"), EXIT_USAGE);
	assert_contains(said, "b.conf: id: expected another than that of");
	put("again/b.conf", "[device]\nbackend=null\nname=c\nsize=3M\n");
	assert_int_equal(renew("b"), EXIT_USAGE);
	assert_contains(said, "name: expected 'b', got 'c'");
	put("again/b.conf", "[device]\nbackend=null\nsize=none\n");
	assert_int_equal(renew("b"), EXIT_USAGE);
	assert_int_equal(unlink(scratch_path("again/b.conf")), 0);
	assert_int_equal(renew("b"), EXIT_USAGE);
	assert_int_equal(conf.count, 2);
	assert_string_equal(json_string_value(json_object_get(conf.devices[1]->spec.given, "size")), "2M");
	assert_int_equal(conf.devices[0]->spec.device.id, 3);
}

static int remove_all(void **state)
{
	conf_free(&conf);
	return scratch_remove(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_indented_line_is_a_line),
		cmocka_unit_test(a_file_describes_a_device),
		cmocka_unit_test(errors_name_file_and_line),
		cmocka_unit_test(what_is_no_setting_is_refused),
		cmocka_unit_test(all_errors_are_said_at_once),
		cmocka_unit_test(reactors_that_are_shared_are_not_the_devices),
		cmocka_unit_test(without_workers_none_can_be_named),
		cmocka_unit_test(a_folder_is_its_files),
		cmocka_unit_test(what_must_differ_differs),
		cmocka_unit_test(what_is_wrong_is_counted_and_left_out),
		cmocka_unit_test(a_file_is_read_again),
	};

	return cmocka_run_group_tests(tests, scratch_make, remove_all);
}
