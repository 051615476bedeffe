/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who uses a device, by tables as the kernel writes them. */
#define _GNU_SOURCE
#include "support.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "use.h"

static void make_folders(const char *path)
{
	char text[4096];

	snprintf(text, sizeof(text), "%s", scratch_path(path));
	for (char *slash = text + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		mkdir(text, 0755);
		*slash = '/';
	}
	mkdir(text, 0755);
}

static void put(const char *folder, const char *name, const char *text)
{
	char path[256];
	FILE *file;

	make_folders(folder);
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(scratch_path(path), "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static const char *use_of(const char *name)
{
	static char text[2048];

	return use_find(scratch_path(""), name, text, sizeof(text)) ? text : "";
}

static void mounts_are_found_by_path_and_by_number(void **state)
{
	(void)state;
	put("proc/self", "mountinfo",
	    "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
	    "21 20 259:3 / /a\\040b rw shared:1 - ext4 /dev/ublkb1p2 rw\n"
	    "22 20 259:9 / /byid rw - xfs /dev/disk/by-id/x rw\n"
	    "23 20 0:44 / /sub rw - btrfs /dev/ublkb12 rw\n"
	    "nonsense\n");
	make_folders("sys/dev/block");
	assert_int_equal(symlink("../../devices/virtual/block/ublkb3/ublkb3p1",
				 scratch_path("sys/dev/block/259:9")), 0);
	assert_string_equal(use_of("ublkb1"), "mounted at /a b");
	assert_string_equal(use_of("ublkb12"), "mounted at /sub");
	assert_string_equal(use_of("ublkb3"), "mounted at /byid");
	assert_string_equal(use_of("ublkb2"), "");
	assert_string_equal(use_of("ublkb"), "");
}

static void open_in(const char *process, const char *program, const char *fd, const char *path)
{
	char folder[64], link[64];

	snprintf(folder, sizeof(folder), "proc/%s/fd", process);
	make_folders(folder);
	snprintf(link, sizeof(link), "proc/%s/fd/%s", process, fd);
	assert_int_equal(symlink(path, scratch_path(link)), 0);
	snprintf(folder, sizeof(folder), "proc/%s", process);
	put(folder, "comm", program);
}

static const char *opener_of(const char *name)
{
	static struct use_open device;

	device = (struct use_open){ 0 };
	snprintf(device.name, sizeof(device.name), "%s", name);
	use_find_open(scratch_path(""), &device);
	return device.text;
}

static void programs_are_named_but_for_udev(void **state)
{
	(void)state;
	open_in("40", "(udev-worker)\n", "7", "/dev/ublkb5");
	open_in("41", "dd\n", "0", "/dev/ublkb51");
	open_in("42", "a b) c\n", "1", "/dev/null");
	open_in("42", "a b) c\n", "12", "/dev/ublkb6p1");
	open_in("fs", "none\n", "1", "/dev/ublkb7");
	assert_string_equal(opener_of("ublkb5"), "");
	assert_string_equal(opener_of("ublkb51"), "open by process 41 (dd)");
	assert_string_equal(opener_of("ublkb6"), "open by process 42 (a b) c)");
	assert_string_equal(opener_of("ublkb7"), "");
	open_in("43", "qemu\n", "3", "/dev/ublkb5");
	assert_string_equal(opener_of("ublkb5"), "open by process 43 (qemu)");
}

static void several_are_looked_for_at_once(void **state)
{
	struct use_open c = { .name = "ublkb63" };
	struct use_open b = { .name = "ublkb62", .next = &c }, a = { .name = "ublkb61", .next = &b };

	(void)state;
	open_in("61", "fio\n", "3", "/dev/ublkb61p2");
	open_in("61", "fio\n", "4", "/dev/ublkb63");
	open_in("61", "fio\n", "5", "/dev/ublkb61");
	use_find_open(scratch_path(""), &a);
	assert_true(a.found && !b.found && c.found);
	assert_string_equal(a.text, "open by process 61 (fio)");
	assert_string_equal(c.text, a.text);
}

/* What a user mounts may be called anything. */
static void long_names_are_cut_off(void **state)
{
	char line[2048];

	(void)state;
	for (int cut = 0; cut < 5; cut++) {
		snprintf(line, sizeof(line), "21 20 0:9 / /%0*d\\040b rw - fuse %0*d\\040a rw\n"
			 "22 20 259:4 / /b\\040c rw - ext4 /dev/ublkb2 rw\n", 1018 + cut, 0, 251 + cut, 0);
		put("proc/self", "mountinfo", line);
		assert_string_equal(use_of("ublkb2"), "mounted at /b c");
		assert_string_equal(use_of("ublkb1"), "");
	}
}

/* A server itself has no mounts. */
static void mounts_of_the_parent_and_of_process_1_are_found(void **state)
{
	char parent[32];

	(void)state;
	put("proc/self", "mountinfo", "");
	snprintf(parent, sizeof(parent), "proc/%d", (int)getppid());
	put(parent, "mountinfo", "21 20 259:3 / /ours rw - ext4 /dev/ublkb1 rw\n");
	put("proc/1", "mountinfo", "21 20 259:3 / /first rw - ext4 /dev/ublkb1 rw\n"
				   "22 20 259:4 / /system rw - ext4 /dev/ublkb2 rw\n");
	assert_string_equal(use_of("ublkb1"), getppid() == 1 ? "mounted at /first" : "mounted at /ours");
	assert_string_equal(use_of("ublkb2"), "mounted at /system");
}

static void swap_is_found(void **state)
{
	(void)state;
	put("proc", "swaps", "Filename Type Size Used Priority\n"
			     "/dev/ublkb4p1                           partition 100 0 -2\n");
	assert_string_equal(use_of("ublkb4"), "used for swap");
	assert_string_equal(use_of("ublkb5"), "");
}

static void what_stands_on_it_is_found(void **state)
{
	(void)state;
	make_folders("sys/block/ublkb6/holders/dm-0");
	make_folders("sys/block/ublkb7/holders");
	make_folders("sys/block/ublkb7/ublkb7p1/holders/md1");
	make_folders("sys/block/ublkb8/holders");
	make_folders("sys/block/ublkb8/queue/holders/md1");
	make_folders("sys/block/ublkb10/holders/dm-1");
	put("sys/block/dm-1/dm", "name", "group-data\n");
	put("sys/block/loop3/loop", "backing_file", "/dev/ublkb9\n");
	make_folders("sys/block/loop4");
	assert_string_equal(use_of("ublkb9"), "held by loop3");
	assert_string_equal(use_of("ublkb6"), "held by dm-0");
	assert_string_equal(use_of("ublkb10"), "held by dm-1 (group-data)");
	assert_string_equal(use_of("ublkb7"), "held by md1");
	assert_string_equal(use_of("ublkb8"), "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(mounts_are_found_by_path_and_by_number),
		TEST(long_names_are_cut_off),
		TEST(mounts_of_the_parent_and_of_process_1_are_found),
		TEST(swap_is_found),
		TEST(what_stands_on_it_is_found),
		TEST(programs_are_named_but_for_udev),
		TEST(several_are_looked_for_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
