/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "option.h"
#include "util/macros.h"

struct sample {
	bool boolean, flag;
	uint64_t number, open_number, size, open_size;
	int64_t signed_number;
	char *text;
	int word;
	uint32_t mode;
	char *cpus;
	char *uuid;
	char *needed;
};

#define AT(name) offsetof(struct sample, name)

static const char *const words[] = { "red", "green", "blue", NULL };

static const struct ublkd_option table[] = {
	{ .name = "boolean", .type = UBLKD_OPT_BOOL, .offset = AT(boolean), .preset = "yes",
	  .arg = "BOOL", .help = "a truth" },
	{ .name = "flag", .type = UBLKD_OPT_BOOL, .offset = AT(flag), .flag = true,
	  .help = "a flag" },
	{ .name = "number", .type = UBLKD_OPT_UINT, .offset = AT(number), .min = 3, .max = 12,
	  .step = 3, .preset = "6", .arg = "N", .help = "a number" },
	{ .name = "open-number", .type = UBLKD_OPT_UINT, .offset = AT(open_number), .min = 2,
	  .arg = "N", .help = "a number without an end" },
	{ .name = "size", .type = UBLKD_OPT_SIZE, .offset = AT(size), .min = 4096, .max = 1u << 20,
	  .step = 4096, .preset = "64K", .arg = "SIZE", .help = "a size" },
	{ .name = "open-size", .type = UBLKD_OPT_SIZE, .offset = AT(open_size), .arg = "SIZE",
	  .help = "any size" },
	{ .name = "text", .type = UBLKD_OPT_STRING, .offset = AT(text), .preset = "first",
	  .arg = "TEXT", .help = "a text" },
	{ .name = "word", .type = UBLKD_OPT_ENUM, .offset = AT(word), .values = words,
	  .preset = "green", .arg = "WORD", .help = "a word" },
	{ .name = "mode", .type = UBLKD_OPT_MODE, .offset = AT(mode), .preset = "0640",
	  .arg = "MODE", .help = "a mode" },
	{ .name = "cpus", .type = UBLKD_OPT_CPUS, .offset = AT(cpus), .arg = "LIST",
	  .help = "some CPUs" },
	{ .name = "uuid", .type = UBLKD_OPT_UUID, .offset = AT(uuid), .arg = "UUID",
	  .help = "one of its own" },
	{ .name = "signed-number", .type = UBLKD_OPT_INT, .offset = AT(signed_number),
	  .min = (uint64_t)-5, .max = 7, .preset = "-2", .arg = "N", .help = "one below zero too" },
	{ .name = "needed", .type = UBLKD_OPT_STRING, .offset = AT(needed), .required = true,
	  .arg = "TEXT", .help = "what must be given" },
	{ 0 },
};

static struct sample values;
static struct options options;

static int start(void **state)
{
	(void)state;
	values = (struct sample){ 0 };
	return options_init(&options, table, &values);
}

static int end(void **state)
{
	(void)state;
	options_free(&options);
	return 0;
}

static int set(const char *name, const char *value)
{
	const struct ublkd_option *option = option_find(table, name, strlen(name));

	assert_non_null(option);
	return options_set(&options, option, value);
}

/* Fails unless the value is refused with exactly this text. */
static void refuses(const char *name, const char *value, const char *text)
{
	const char *said;
	int ret;

	capture_begin();
	ret = set(name, value);
	said = capture_end();
	assert_int_equal(ret, -EINVAL);
	assert_string_equal(said, text);
}

static void presets_are_the_values_to_begin_with(void **state)
{
	(void)state;
	assert_true(values.boolean);
	assert_false(values.flag);
	assert_int_equal(values.number, 6);
	assert_int_equal(values.open_number, 0);
	assert_int_equal(values.signed_number, -2);
	assert_int_equal(values.size, 65536);
	assert_string_equal(values.text, "first");
	assert_int_equal(values.word, 1);
	assert_int_equal(values.mode, 0640);
	assert_null(values.cpus);
	assert_false(options_given(&options, "number"));
}

static void every_type_takes_its_values(void **state)
{
	(void)state;
	assert_int_equal(set("boolean", "off"), 0);
	assert_int_equal(set("flag", "on"), 0);
	assert_int_equal(set("number", "12"), 0);
	assert_int_equal(set("open-number", "18446744073709551615"), 0);
	assert_int_equal(set("signed-number", "-5"), 0);
	assert_int_equal(set("size", "1M"), 0);
	assert_int_equal(set("open-size", "1.5G"), 0);
	assert_int_equal(set("text", "second = third"), 0);
	assert_int_equal(set("word", "blue"), 0);
	assert_int_equal(set("mode", "777"), 0);
	assert_int_equal(set("cpus", "0-3,8"), 0);
	assert_int_equal(set("uuid", "1B4E28BA-2fa1-4ed2-883f-0016D3CCA427"), 0);
	assert_false(values.boolean);
	assert_true(values.flag);
	assert_int_equal(values.number, 12);
	assert_int_equal(values.open_number, UINT64_MAX);
	assert_int_equal(values.signed_number, -5);
	assert_int_equal(values.size, 1u << 20);
	assert_int_equal(values.open_size, UINT64_C(1536) << 20);
	assert_string_equal(values.text, "second = third");
	assert_int_equal(values.word, 2);
	assert_int_equal(values.mode, 0777);
	assert_string_equal(values.cpus, "0-3,8");
	assert_string_equal(values.uuid, "1b4e28ba-2fa1-4ed2-883f-0016d3cca427");
	assert_true(options_given(&options, "number"));
	assert_false(options_given(&options, "needed"));
}

static void limits_belong_to_the_range(void **state)
{
	(void)state;
	assert_int_equal(set("number", "3"), 0);
	assert_int_equal(set("size", "4K"), 0);
	assert_int_equal(set("open-number", "2"), 0);
	assert_int_equal(set("open-size", "0"), 0);
	assert_int_equal(values.number, 3);
	assert_int_equal(values.size, 4096);
}

static void errors_say_what_was_expected_and_given(void **state)
{
	(void)state;
	refuses("boolean", "maybe", "ublkd: boolean: expected yes or no, got 'maybe'\n");
	refuses("number", "0", "ublkd: number: expected 3…12, got '0'\n");
	refuses("number", "13", "ublkd: number: expected 3…12, got '13'\n");
	refuses("number", "5", "ublkd: number: expected 3…12, got '5'\n");
	refuses("number", "", "ublkd: number: expected 3…12, got ''\n");
	refuses("number", "6K", "ublkd: number: expected 3…12, got '6K'\n");
	refuses("open-number", "1",
		"ublkd: open-number: expected a number of at least 2, got '1'\n");
	refuses("signed-number", "-6", "ublkd: signed-number: expected -5…7, got '-6'\n");
	refuses("signed-number", "8", "ublkd: signed-number: expected -5…7, got '8'\n");
	refuses("signed-number", "--1", "ublkd: signed-number: expected -5…7, got '--1'\n");
	refuses("signed-number", "-9223372036854775808",
		"ublkd: signed-number: expected -5…7, got '-9223372036854775808'\n");
	refuses("size", "512",
		"ublkd: size: expected a size of 4K…1M, a multiple of 4K, got '512'\n");
	refuses("size", "5000",
		"ublkd: size: expected a size of 4K…1M, a multiple of 4K, got '5000'\n");
	refuses("size", "2M",
		"ublkd: size: expected a size of 4K…1M, a multiple of 4K, got '2M'\n");
	refuses("open-size", "big",
		"ublkd: open-size: expected a size such as 512, 64K or 1.5G, got 'big'\n");
	refuses("text", "", "ublkd: text: expected a text that is not empty, got ''\n");
	refuses("word", "pink", "ublkd: word: expected red, green or blue, got 'pink'\n");
	refuses("word", "gre", "ublkd: word: expected red, green or blue, got 'gre'\n");
	refuses("mode", "888", "ublkd: mode: expected an octal mode up to 0777, got '888'\n");
	refuses("cpus", "3-0", "ublkd: cpus: expected a list of CPUs such as 0-3,8, got '3-0'\n");
	refuses("uuid", "1b4e28ba", "ublkd: uuid: expected a UUID such as "
		"1b4e28ba-2fa1-4ed2-883f-0016d3cca427, got '1b4e28ba'\n");
}

static void a_refused_value_changes_nothing(void **state)
{
	const struct sample before = values;

	(void)state;
	capture_begin();
	set("number", "99");
	set("size", "1");
	set("text", "");
	set("word", "pink");
	set("mode", "999");
	set("cpus", "x");
	set("uuid", "x");
	capture_end();
	assert_memory_equal(&values, &before, sizeof(values));
	assert_int_equal(options.given, 0);
	assert_int_equal(set("number", "9"), 0);
}

static void an_option_is_given_once(void **state)
{
	(void)state;
	assert_int_equal(set("number", "9"), 0);
	refuses("number", "9", "ublkd: number: expected once, given twice\n");
	assert_int_equal(set("flag", NULL), 0);
	refuses("flag", NULL, "ublkd: flag: expected once, given twice\n");
}

static void only_flags_may_be_bare(void **state)
{
	(void)state;
	assert_int_equal(set("flag", NULL), 0);
	assert_true(values.flag);
	refuses("number", NULL, "ublkd: number: expected number=N (3…12), got no value\n");
	refuses("boolean", NULL,
		"ublkd: boolean: expected boolean=BOOL (yes or no), got no value\n");
}

static void a_flag_may_be_denied(void **state)
{
	(void)state;
	values.flag = true;
	assert_int_equal(set("flag", "no"), 0);
	assert_false(values.flag);
}

static void what_is_required_must_be_given(void **state)
{
	int ret;

	(void)state;
	capture_begin();
	ret = options_check(&options, "sample");
	assert_string_equal(capture_end(),
			    "ublkd: sample: expected needed=TEXT, which is required, got none\n");
	assert_int_equal(ret, -EINVAL);
	assert_int_equal(set("needed", "x"), 0);
	assert_int_equal(options_check(&options, "sample"), 0);
}

static void names_are_found_by_their_whole_length(void **state)
{
	(void)state;
	assert_ptr_equal(option_find(table, "number=6", 6), &table[2]);
	assert_ptr_equal(option_find(table, "size", 4), &table[4]);
	assert_null(option_find(table, "siz", 3));
	assert_null(option_find(table, "sizes", 5));
	assert_null(option_find(table, "", 0));
	assert_null(option_find(table, "NUMBER", 6));
}

/* The leak checker of a sanitized build sees what is not freed. */
static void strings_are_freed_and_the_set_can_be_used_again(void **state)
{
	(void)state;
	assert_int_equal(set("text", "another"), 0);
	assert_int_equal(set("cpus", "1"), 0);
	assert_int_equal(set("uuid", "1b4e28ba-2fa1-4ed2-883f-0016d3cca427"), 0);
	options_free(&options);
	assert_null(values.text);
	assert_null(values.cpus);
	assert_null(values.uuid);
	assert_null(values.needed);
	options_free(&options);
	assert_int_equal(options_init(&options, table, &values), 0);
	assert_string_equal(values.text, "first");
	assert_int_equal(set("text", "third"), 0);
}

static void an_empty_set_can_be_freed(void **state)
{
	struct options none = { 0 };

	(void)state;
	options_free(&none);
	assert_null(none.table);
}

static void the_help_says_form_range_and_preset(void **state)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	(void)state;
	options_print(out, table, "");
	fclose(out);
	assert_contains(text, "  number=N                   a number; 3…12 (default 6)\n");
	assert_contains(text, "  open-number=N              a number without an end; "
			      "a number of at least 2\n");
	assert_contains(text, "  signed-number=N            one below zero too; -5…7 (default -2)\n");
	assert_contains(text, "  flag                       a flag\n");
	assert_contains(text, "  word=WORD                  a word; red, green or blue "
			      "(default green)\n");
	assert_contains(text, "  needed=TEXT                what must be given (required)\n");
	free(text);
}

static void init_with_bad_preset(void *arg)
{
	static const struct ublkd_option bad[] = {
		{ .name = "number", .type = UBLKD_OPT_UINT, .offset = AT(number), .max = 3,
		  .preset = "4" },
		{ 0 },
	};

	options_init(arg, bad, &values);
}

static void a_preset_out_of_range_is_our_own_mistake(void **state)
{
	struct options bad;

	(void)state;
	assert_true(aborts(init_with_bad_preset, &bad));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(presets_are_the_values_to_begin_with, start, end),
		cmocka_unit_test_setup_teardown(every_type_takes_its_values, start, end),
		cmocka_unit_test_setup_teardown(limits_belong_to_the_range, start, end),
		cmocka_unit_test_setup_teardown(errors_say_what_was_expected_and_given, start, end),
		cmocka_unit_test_setup_teardown(a_refused_value_changes_nothing, start, end),
		cmocka_unit_test_setup_teardown(an_option_is_given_once, start, end),
		cmocka_unit_test_setup_teardown(only_flags_may_be_bare, start, end),
		cmocka_unit_test_setup_teardown(a_flag_may_be_denied, start, end),
		cmocka_unit_test_setup_teardown(what_is_required_must_be_given, start, end),
		cmocka_unit_test_setup_teardown(names_are_found_by_their_whole_length, start, end),
		cmocka_unit_test_setup_teardown(strings_are_freed_and_the_set_can_be_used_again,
						start, end),
		cmocka_unit_test(an_empty_set_can_be_freed),
		cmocka_unit_test(the_help_says_form_range_and_preset),
		cmocka_unit_test(a_preset_out_of_range_is_our_own_mistake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
