/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/macros.h"
#include "util/sha1.h"
#include "util/uuid.h"

/* The namespace of domain names, see RFC 9562. */
#define NAMESPACE "6ba7b8109dad11d180b400c04fd430c8"

static const char *put(const char *text)
{
	FILE *file = fopen(scratch_path("machine-id"), "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	return scratch_path("machine-id");
}

static void only_its_form_is_read(void **state)
{
	static const char *const none[] = {
		"", "1", "1b4e28ba2fa14ed2883f0016d3cca427", "{1b4e28ba-2fa1-4ed2-883f-0016d3cca42}",
		"1b4e28ba-2fa1-4ed2-883f-0016d3cca42", "1b4e28ba-2fa1-4ed2-883f-0016d3cca4277",
		"1b4e28ba-2fa1-4ed2-883f-0016d3cca42g", "1b4e28ba-2fa1-4ed2-883f_0016d3cca427",
		"1b4e28b-a2fa1-4ed2-883f-0016d3cca427", "1b4e28ba-2fa1-4ed2-883f-0016d3cca42\n",
		" 1b4e28b-2fa1-4ed2-883f-0016d3cca427", "-------- ---- ---- ---- ------------",
	};
	char uuid[UUID_SIZE] = "as it was";

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		assert_int_equal(uuid_read(none[i], uuid), -EINVAL);
	assert_string_equal(uuid, "as it was");
	assert_int_equal(uuid_read("1B4E28BA-2fa1-4ED2-883f-0016d3CCA427", uuid), 0);
	assert_string_equal(uuid, "1b4e28ba-2fa1-4ed2-883f-0016d3cca427");
	assert_int_equal(uuid_read(uuid, uuid), 0);
	assert_string_equal(uuid, "1b4e28ba-2fa1-4ed2-883f-0016d3cca427");
}

static void each_that_is_made_is_another_of_version_4(void **state)
{
	char uuids[100][UUID_SIZE], again[UUID_SIZE];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(uuids); i++) {
		uuid_make(uuids[i]);
		assert_int_equal(uuid_read(uuids[i], again), 0);
		assert_string_equal(uuids[i], again);
		assert_int_equal(uuids[i][14], '4');
		assert_non_null(strchr("89ab", uuids[i][19]));
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(uuids[i], uuids[j]);
	}
}

/* As uuidgen --sha1 says. */
static void a_name_has_always_the_same(void **state)
{
	char uuid[UUID_SIZE], name[71] = "ublkd/";

	(void)state;
	assert_int_equal(uuid_of_name(put(NAMESPACE "\n"), "www.example.org", uuid), 0);
	assert_string_equal(uuid, "74738ff5-5367-5958-9aee-98fffdcd1876");
	assert_int_equal(uuid_of_name(put(NAMESPACE), "ublkd/web", uuid), 0);
	assert_string_equal(uuid, "b6c0e030-7bad-5ca2-9772-aec2d23af3db");
	memset(name + strlen(name), 'n', 64);
	assert_int_equal(uuid_of_name(put(NAMESPACE), name, uuid), 0);
	assert_string_equal(uuid, "a44e0e58-2c57-5abb-ab05-b73f94455bae");
}

static void without_an_id_of_the_machine_there_is_none(void **state)
{
	char uuid[UUID_SIZE], name[200];

	(void)state;
	assert_int_equal(uuid_of_name(scratch_path("none"), "a", uuid), -ENOENT);
	assert_int_equal(uuid_of_name(put(""), "a", uuid), -EINVAL);
	assert_int_equal(uuid_of_name(put("uninitialized\n"), "a", uuid), -EINVAL);
	assert_int_equal(uuid_of_name(put("g" NAMESPACE), "a", uuid), -EINVAL);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	assert_int_equal(uuid_of_name(put(NAMESPACE), name, uuid), -ENAMETOOLONG);
}

/* Where the rest fits in a block with its end, and where not. */
static void texts_of_all_lengths_have_their_digests(void **state)
{
	static const struct {
		size_t length;
		const char *digest;
	} cases[] = {
		{ 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709" },
		{ 3, "0c7a623fd2bbc05b06423be359e4021d36e721ad" },
		{ 55, "8ae2d46729cfe68ff927af5eec9c7d1b66d65ac2" },
		{ 56, "636e2ec698dac903498e648bd2f3af641d3c88cb" },
		{ 63, "6d942da0c4392b123528f2905c713a3ce28364bd" },
		{ 64, "c6138d514ffa2135bfce0ed0b8fac65669917ec7" },
		{ 119, "41c89d06001bab4ab78736b44efe7ce18ce6ae08" },
		{ 120, "d3dbd653bd8597b7475321b60a36891278e6a04a" },
		{ 1000, "c9c960a0b925474fab83942cc27d504fc24ac37b" },
	};
	uint8_t data[1000], digest[SHA1_SIZE];
	char text[2 * SHA1_SIZE + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i % 251);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		sha1(data, cases[i].length, digest);
		for (int b = 0; b < SHA1_SIZE; b++)
			sprintf(text + 2 * b, "%02x", digest[b]);
		assert_string_equal(text, cases[i].digest);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_its_form_is_read),
		cmocka_unit_test(each_that_is_made_is_another_of_version_4),
		cmocka_unit_test_setup_teardown(a_name_has_always_the_same, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(without_an_id_of_the_machine_there_is_none,
						scratch_make, scratch_remove),
		cmocka_unit_test(texts_of_all_lengths_have_their_digests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
