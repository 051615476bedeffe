/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "exit.h"
#include "spec.h"

static int set(struct spec *spec, const char *name, const char *value)
{
	return spec_set(spec, name, strlen(name), value);
}

static void settings_go_to_the_device_or_a_layer(void **state)
{
	struct spec spec;
	char name[32];

	(void)state;
	spec_init(&spec);
	assert_int_equal(spec_set_backend(&spec, "fault+null", false), EXIT_DONE);
	assert_int_equal(spec.nr_layers, 2);
	assert_string_equal(spec.layers[0].backend->name, "fault");
	assert_string_equal(spec.layers[1].backend->name, "null");
	spec_name(&spec, name, sizeof(name));
	assert_string_equal(name, "fault+null");
	spec_name(&spec, name, 8);
	assert_string_equal(name, "fault+n");
	assert_int_equal(set(&spec, "depth", "7"), EXIT_DONE);
	assert_int_equal(set(&spec, "fault-every", "3"), EXIT_DONE);
	assert_int_equal(set(&spec, "size", "1M"), EXIT_DONE);
	assert_int_equal(set(&spec, "id", "0"), EXIT_DONE);
	assert_int_equal(spec_check(&spec), EXIT_DONE);
	assert_int_equal(spec.device.depth, 7);
	assert_true(options_given(&spec.layers[0].set, "fault-every"));
	assert_true(options_given(&spec.layers[1].set, "size"));
	assert_true(spec.device.id_given);
	assert_false(spec.device.mode_given);
	spec_free(&spec);
}

static void what_makes_the_backing_does_not_last(void **state)
{
	json_t *given = json_pack("{s:s, s:s, s:s}", "path", "/a", "create", "1M", "depth", "7");
	struct spec spec;

	(void)state;
	spec_init(&spec);
	assert_int_equal(spec_fill(&spec, "fault+file", given), EXIT_DONE);
	assert_true(json_equal(spec.given, given));
	json_object_del(given, "create");
	assert_true(json_equal(spec.lasting, given));
	assert_true(spec_is_path(&spec, "path"));
	assert_false(spec_is_path(&spec, "depth"));
	assert_false(spec_is_path(&spec, "colour"));
	spec_free(&spec);
	json_decref(given);
}

static int check_owner(struct spec *spec, const char *owner)
{
	int status;

	spec_init(spec);
	status = spec_set_backend(spec, "null", false);
	if (!status)
		status = set(spec, "size", "1M");
	/* Who has no privilege may give the node to nobody. */
	if (!status)
		status = set(spec, "unprivileged", "no");
	if (!status)
		status = set(spec, "owner", owner);
	return status ? status : spec_check(spec);
}

static void an_owner_is_a_name_or_a_number(void **state)
{
	struct spec spec;
	int status;

	(void)state;
	assert_int_equal(check_owner(&spec, "root"), EXIT_DONE);
	assert_int_equal(spec.uid, 0);
	assert_int_equal(spec.gid, (gid_t)-1);
	spec_free(&spec);
	assert_int_equal(check_owner(&spec, ":root"), EXIT_DONE);
	assert_int_equal(spec.uid, (uid_t)-1);
	assert_int_equal(spec.gid, 0);
	spec_free(&spec);
	assert_int_equal(check_owner(&spec, "1234567:7654321"), EXIT_DONE);
	assert_int_equal(spec.uid, 1234567);
	assert_int_equal(spec.gid, 7654321);
	spec_free(&spec);
	capture_begin();
	status = check_owner(&spec, "no body");
	assert_contains(capture_end(), "owner: expected USER[:GROUP] that exists");
	assert_int_equal(status, EXIT_USAGE);
	spec_free(&spec);
}

static void layers_are_opened_from_the_lowest_up(void **state)
{
	struct ublkd_target *target;
	struct spec spec;

	(void)state;
	spec_init(&spec);
	assert_int_equal(spec_set_backend(&spec, "fault+null", false), EXIT_DONE);
	assert_int_equal(set(&spec, "size", "1M"), EXIT_DONE);
	assert_int_equal(spec_check(&spec), EXIT_DONE);
	assert_int_equal(spec_open(&spec, &target), EXIT_DONE);
	assert_string_equal(target->ops->name, "fault");
	assert_string_equal(target->lower->ops->name, "null");
	assert_int_equal(target->size, 1 << 20);
	backend_close(target, true);
	spec_free(&spec);
}

static void what_cannot_be_opened_leaves_nothing(void **state)
{
	struct ublkd_target *target;
	struct spec spec;
	int status;

	(void)state;
	spec_init(&spec);
	assert_int_equal(spec_set_backend(&spec, "fault+file", false), EXIT_DONE);
	assert_int_equal(set(&spec, "path", "/no/such/file"), EXIT_DONE);
	capture_begin();
	status = spec_open(&spec, &target);
	assert_contains(capture_end(), "/no/such/file");
	assert_int_equal(status, EXIT_BACKING);
	assert_null(target);
	spec_free(&spec);
}

/* /etc names nothing that can be served: the path is not used. */
static int pass(struct spec *spec, int fd, const char *name, const char *value)
{
	spec_init(spec);
	assert_int_equal(spec_set_backend(spec, "file", false), EXIT_DONE);
	assert_int_equal(set(spec, "path", "/etc"), EXIT_DONE);
	if (name)
		assert_int_equal(set(spec, name, value), EXIT_DONE);
	assert_int_equal(spec_check(spec), EXIT_DONE);
	return spec_pass(spec, "path", fd);
}

static bool is_locked(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
	return lock.l_type != F_UNLCK;
}

static void what_a_client_has_opened_is_used(void **state)
{
	int fd = scratch_file("file", 8192), other = open(scratch_path("file"), O_RDWR), same = dup(fd);
	struct ublkd_target *target, *named;
	struct spec spec, by_path;
	unsigned before;

	(void)state;
	assert_int_equal(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK), 0);
	assert_int_equal(pass(&spec, fd, NULL, NULL), EXIT_DONE);
	assert_false(fcntl(same, F_GETFL) & (O_APPEND | O_NONBLOCK));
	assert_true(spec_is_passed(&spec));
	/* Once for each setting; the descriptor is closed. */
	before = files_open();
	capture_begin();
	assert_int_equal(spec_pass(&spec, "path", dup(other)), EXIT_USAGE);
	assert_contains(capture_end(), "one for each setting");
	assert_int_equal(files_open(), before);
	assert_int_equal(spec_open(&spec, &target), EXIT_DONE);
	assert_int_equal(target->size, 8192);
	assert_false(target->read_only);
	assert_true(is_locked(other));
	/* Although it is open still. */
	backend_close(target, true);
	assert_false(is_locked(other));

	/* It is the same as by its path, for a server that comes later. */
	assert_int_equal(spec_open(&spec, &target), EXIT_DONE);
	spec_init(&by_path);
	assert_int_equal(spec_set_backend(&by_path, "file", false), EXIT_DONE);
	assert_int_equal(set(&by_path, "path", scratch_path("file")), EXIT_DONE);
	assert_int_equal(spec_look(&by_path, 0, false, &named), EXIT_DONE);
	assert_string_equal(named->identity, target->identity);
	backend_close(named, true);
	backend_close(target, true);
	spec_free(&by_path);
	spec_free(&spec);
	assert_int_equal(files_open(), before - 1);
	close(other);
	close(same);
}

static void what_is_open_to_be_read_is_read_only(void **state)
{
	struct ublkd_target *target;
	struct spec spec;

	(void)state;
	close(scratch_file("file", 8192));
	assert_int_equal(pass(&spec, open(scratch_path("file"), O_RDONLY), NULL, NULL), EXIT_DONE);
	capture_begin();
	assert_int_equal(spec_open(&spec, &target), EXIT_DONE);
	assert_contains(capture_end(), "'/etc' was opened to be read only: the device is read-only");
	assert_true(target->read_only);
	backend_close(target, false);
	spec_free(&spec);
}

static void what_a_client_has_made_is_empty(void **state)
{
	struct ublkd_target *target;
	struct spec spec;
	int fd = scratch_file("new", 0);

	(void)state;
	assert_int_equal(pass(&spec, fd, "create", "1M"), EXIT_DONE);
	assert_int_equal(spec_open(&spec, &target), EXIT_DONE);
	assert_int_equal(target->size, 1 << 20);
	/* It is the client's to remove. */
	backend_close(target, false);
	assert_int_equal(access(scratch_path("new"), F_OK), 0);
	capture_begin();
	assert_int_equal(spec_open(&spec, &target), EXIT_BACKING);
	assert_contains(capture_end(), "create: expected an empty file");
	/* But for the next process of the device. */
	assert_int_equal(spec_open_again(&spec, 0, false, &target), EXIT_DONE);
	assert_int_equal(target->size, 1 << 20);
	backend_close(target, false);
	spec_free(&spec);
}

static void who_looks_makes_nothing(void **state)
{
	const char *path = scratch_path("missing");
	struct ublkd_target *target;
	struct spec spec;

	(void)state;
	spec_init(&spec);
	assert_int_equal(spec_set_backend(&spec, "file", false), EXIT_DONE);
	assert_int_equal(set(&spec, "path", path), EXIT_DONE);
	assert_int_equal(set(&spec, "create", "1M"), EXIT_DONE);
	capture_begin();
	assert_int_equal(spec_look(&spec, 0, false, &target), EXIT_BACKING);
	assert_contains(capture_end(), "cannot open");
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(spec_open(&spec, &target), EXIT_DONE);
	backend_close(target, true);
	assert_int_equal(spec_look(&spec, 0, false, &target), EXIT_DONE);
	assert_int_equal(target->size, 1 << 20);
	backend_close(target, false);
	assert_int_equal(access(path, F_OK), 0);
	spec_free(&spec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(settings_go_to_the_device_or_a_layer),
		cmocka_unit_test(what_makes_the_backing_does_not_last),
		cmocka_unit_test(an_owner_is_a_name_or_a_number),
		cmocka_unit_test(layers_are_opened_from_the_lowest_up),
		cmocka_unit_test(what_cannot_be_opened_leaves_nothing),
		cmocka_unit_test_setup_teardown(what_a_client_has_opened_is_used, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(what_is_open_to_be_read_is_read_only, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(what_a_client_has_made_is_empty, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(who_looks_makes_nothing, scratch_make, scratch_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
