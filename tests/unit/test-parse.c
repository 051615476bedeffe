/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/macros.h"
#include "util/parse.h"

#define UNTOUCHED UINT64_C(0xdeadbeef)

struct number_case {
	const char *text;
	int ret;
	uint64_t value;
};

static void check_numbers(int (*parse)(const char *, uint64_t *), const struct number_case *cases,
			  size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t value = UNTOUCHED;
		int ret = parse(cases[i].text, &value);

		if (ret != cases[i].ret || value != (ret ? UNTOUCHED : cases[i].value))
			fail_msg("'%s' gives %d and %llu", cases[i].text, ret,
				 (unsigned long long)value);
	}
}

static void numbers_are_decimal_and_whole(void **state)
{
	static const struct number_case cases[] = {
		{ "0", 0, 0 },
		{ "7", 0, 7 },
		{ "0010", 0, 10 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE },
		{ "99999999999999999999999", -ERANGE },
		{ "", -EINVAL },
		{ "-1", -EINVAL },
		{ "+1", -EINVAL },
		{ " 1", -EINVAL },
		{ "1 ", -EINVAL },
		{ "0x10", -EINVAL },
		{ "1K", -EINVAL },
	};

	(void)state;
	check_numbers(parse_uint, cases, ARRAY_SIZE(cases));
}

static void sizes_take_binary_suffixes(void **state)
{
	static const struct number_case cases[] = {
		{ "0", 0, 0 },
		{ "512", 0, 512 },
		{ "512B", 0, 512 },
		{ "4K", 0, 4096 },
		{ "4k", 0, 4096 },
		{ "4KB", 0, 4096 },
		{ "4KiB", 0, 4096 },
		{ "4kib", 0, 4096 },
		{ "3M", 0, 3u << 20 },
		{ "1G", 0, 1u << 30 },
		{ "2TiB", 0, UINT64_C(2) << 40 },
		{ "5P", 0, UINT64_C(5) << 50 },
		{ "15E", 0, UINT64_C(15) << 60 },
	};

	(void)state;
	check_numbers(parse_size, cases, ARRAY_SIZE(cases));
}

static void sizes_of_another_form_are_refused(void **state)
{
	static const struct number_case cases[] = {
		{ "", -EINVAL },     { "K", -EINVAL },   { ".5K", -EINVAL },  { "4X", -EINVAL },
		{ "4KK", -EINVAL },  { "4Ki", -EINVAL }, { "4K ", -EINVAL },  { "4 K", -EINVAL },
		{ "-4K", -EINVAL },  { "4,5K", -EINVAL }, { "1.K", -EINVAL }, { "1.5.5K", -EINVAL },
		{ "4Bi", -EINVAL },  { "4iB", -EINVAL },
	};

	(void)state;
	check_numbers(parse_size, cases, ARRAY_SIZE(cases));
}

static void fractions_must_give_whole_bytes(void **state)
{
	static const struct number_case cases[] = {
		{ "1.5K", 0, 1536 },
		{ "1.50K", 0, 1536 },
		{ "0.25M", 0, 262144 },
		{ "1.0", 0, 1 },
		{ "1.5G", 0, UINT64_C(1536) << 20 },
		{ "2.75T", 0, UINT64_C(2816) << 30 },
		{ "0.000000T", 0, 0 },
		{ "1.5", -EINVAL },
		{ "0.3K", -EINVAL },
		{ "1.0001K", -EINVAL },
		{ "1.0000001G", -EINVAL },
	};

	(void)state;
	check_numbers(parse_size, cases, ARRAY_SIZE(cases));
}

static void sizes_beyond_64_bits_are_out_of_range(void **state)
{
	static const struct number_case cases[] = {
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE },
		{ "18014398509481983K", 0, UINT64_MAX - 1023 },
		{ "18014398509481984K", -ERANGE },
		{ "16E", -ERANGE },
		{ "16384P", -ERANGE },
	};

	(void)state;
	check_numbers(parse_size, cases, ARRAY_SIZE(cases));
}

static void booleans_have_four_spellings(void **state)
{
	static const char *const yes[] = { "yes", "on", "true", "1", "YES", "True" };
	static const char *const no[] = { "no", "off", "false", "0", "No", "OFF" };
	static const char *const neither[] = { "", "y", "n", "2", "yes ", "ja", "yesno", "01" };
	bool value;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		value = false;
		assert_int_equal(parse_bool(yes[i], &value), 0);
		assert_true(value);
		value = true;
		assert_int_equal(parse_bool(no[i], &value), 0);
		assert_false(value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(neither); i++)
		assert_int_equal(parse_bool(neither[i], &value), -EINVAL);
}

static void modes_are_octal_permissions(void **state)
{
	uint32_t mode = 1;

	(void)state;
	assert_int_equal(parse_mode("0", &mode), 0);
	assert_int_equal(mode, 0);
	assert_int_equal(parse_mode("640", &mode), 0);
	assert_int_equal(mode, 0640);
	assert_int_equal(parse_mode("0777", &mode), 0);
	assert_int_equal(mode, 0777);
	assert_int_equal(parse_mode("1000", &mode), -ERANGE);
	assert_int_equal(parse_mode("4755", &mode), -ERANGE);
	assert_int_equal(parse_mode("77777777777777777777", &mode), -ERANGE);
	assert_int_equal(parse_mode("", &mode), -EINVAL);
	assert_int_equal(parse_mode("68", &mode), -EINVAL);
	assert_int_equal(parse_mode("rw", &mode), -EINVAL);
	assert_int_equal(parse_mode("-1", &mode), -EINVAL);
	assert_int_equal(mode, 0777);
}

static void note_cpu(void *arg, unsigned cpu)
{
	size_t used = strlen(arg);

	assert_true(used < 50);
	snprintf((char *)arg + used, 64 - used, "%u ", cpu);
}

static void cpu_lists_are_visited_in_their_order(void **state)
{
	char seen[64] = "";

	(void)state;
	assert_int_equal(parse_cpu_list("8,0-3,5-5", note_cpu, seen), 0);
	assert_string_equal(seen, "8 0 1 2 3 5 ");
	assert_int_equal(parse_cpu_list("0", NULL, NULL), 0);
	assert_int_equal(parse_cpu_list("8191", NULL, NULL), 0);
}

static void cpu_lists_of_another_form_are_refused(void **state)
{
	static const char *const bad[] = { "", "a", "1-", "-1", "3-1", "1,,2", ",1", "1 2", "1-2-3",
					   "0-3:2" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse_cpu_list(bad[i], NULL, NULL), -EINVAL);
	assert_int_equal(parse_cpu_list("8192", NULL, NULL), -ERANGE);
	assert_int_equal(parse_cpu_list("0-99999999999999999999", NULL, NULL), -ERANGE);
}

static void sizes_are_shown_with_the_largest_exact_suffix(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{ 0, "0" },
		{ 1, "1" },
		{ 1023, "1023" },
		{ 1024, "1K" },
		{ 1536, "1536" },
		{ 4096, "4K" },
		{ 1u << 20, "1M" },
		{ (1u << 20) + 1024, "1025K" },
		{ UINT64_C(3) << 40, "3T" },
		{ UINT64_C(15) << 60, "15E" },
		{ UINT64_MAX, "18446744073709551615" },
	};
	char text[SIZE_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(format_size(text, cases[i].bytes), cases[i].text);
}

static void a_shown_size_parses_to_itself(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (unsigned i = 0; i < 10000; i++) {
		uint64_t bytes = (uint64_t)random_below(&seed, 1u << 20) << random_below(&seed, 45);
		uint64_t again = ~bytes;
		char text[SIZE_TEXT_MAX];

		assert_int_equal(parse_size(format_size(text, bytes), &again), 0);
		assert_int_equal(again, bytes);
	}
}

static void write_text(const char *path, const char *text)
{
	_cleanup_file_ FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
}

static void a_number_is_read_from_a_file(void **state)
{
	const char *path = scratch_path("number");
	uint64_t value = UNTOUCHED;

	(void)state;
	assert_int_equal(read_uint_file(path, &value), -ENOENT);
	write_text(path, "");
	assert_int_equal(read_uint_file(path, &value), -EINVAL);
	write_text(path, "none\n");
	assert_int_equal(read_uint_file(path, &value), -EINVAL);
	write_text(path, "99999999999999999999999999999999999999999\n");
	assert_int_equal(read_uint_file(path, &value), -ERANGE);
	assert_int_equal(value, UNTOUCHED);
	write_text(path, "4096\n");
	assert_int_equal(read_uint_file(path, &value), 0);
	assert_int_equal(value, 4096);
	write_text(path, "12");
	assert_int_equal(read_uint_file(path, &value), 0);
	assert_int_equal(value, 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_decimal_and_whole),
		cmocka_unit_test(sizes_take_binary_suffixes),
		cmocka_unit_test(sizes_of_another_form_are_refused),
		cmocka_unit_test(fractions_must_give_whole_bytes),
		cmocka_unit_test(sizes_beyond_64_bits_are_out_of_range),
		cmocka_unit_test(booleans_have_four_spellings),
		cmocka_unit_test(modes_are_octal_permissions),
		cmocka_unit_test(cpu_lists_are_visited_in_their_order),
		cmocka_unit_test(cpu_lists_of_another_form_are_refused),
		cmocka_unit_test(sizes_are_shown_with_the_largest_exact_suffix),
		cmocka_unit_test(a_shown_size_parses_to_itself),
		cmocka_unit_test(a_number_is_read_from_a_file),
	};

	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
