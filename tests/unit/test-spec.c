/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "support.h"

#include <string.h>

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
	assert_int_equal(spec_open(&spec, 0, &target), EXIT_DONE);
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
	status = spec_open(&spec, 0, &target);
	assert_contains(capture_end(), "/no/such/file");
	assert_int_equal(status, EXIT_BACKING);
	assert_null(target);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
