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
	put("sys/block/loop3/loop", "backing_file", "/dev/ublkb9\n");
	make_folders("sys/block/loop4");
	assert_string_equal(use_of("ublkb9"), "held by loop3");
	assert_string_equal(use_of("ublkb6"), "held by dm-0");
	assert_string_equal(use_of("ublkb7"), "held by md1");
	assert_string_equal(use_of("ublkb8"), "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(mounts_are_found_by_path_and_by_number),
		TEST(mounts_of_the_parent_and_of_process_1_are_found),
		TEST(swap_is_found),
		TEST(what_stands_on_it_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
