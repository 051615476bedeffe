/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of "serve" as far as nothing has been touched yet, and its
 * table against the manual.
 */
#define _GNU_SOURCE
#include "support.h"

#include "command.h"
#include "exit.h"
#include "serve.h"
#include "util/macros.h"

#include "manual.h"

/* ublkd.c's, which is the one file that is not in the library. */
const struct command *const commands[] = { &serve_command, NULL };

const struct command *command_find(const char *name)
{
	return strcmp(name, "serve") ? NULL : &serve_command;
}

static const char *said;

static int serve_with(const char *const *args)
{
	return run_captured(serve_command.run, "serve", args, &said);
}

#define SERVE(...) serve_with((const char *const[]){ __VA_ARGS__, NULL })

/* Fails unless these arguments are a wrong usage for which just this is said. */
#define REFUSES(text, ...) \
	do { \
		assert_int_equal(SERVE(__VA_ARGS__), EXIT_USAGE); \
		assert_string_equal(said, "ublkd: " text "\n"); \
	} while (0)

static void the_command_line_is_checked(void **state)
{
	(void)state;
	assert_int_equal(serve_with((const char *const[]){ NULL }), EXIT_USAGE);
	assert_contains(said, "serve: expected files or folders that describe devices, or --socket, got none");
	REFUSES("expected an option of 'serve', got '--fast'; 'ublkd help serve' lists them",
		"--fast", "x");
	REFUSES("reactors: expected 1…128, got '0'", "--reactors=0", "x");
	REFUSES("reactors: expected reactors=N (1…128), got no value", "--reactors", "x");
	REFUSES("drop: expected only with --state, which says what waits", "--drop", "x");
	REFUSES("keep: expected only with --state, which says what waits", "--keep", "x");
	REFUSES("preflight: expected only with --state, which says what waits", "--preflight", "x");
	REFUSES("workers: expected only with --state, which says what waits", "--workers", "x");
	REFUSES("workers: expected without --reactors, as no device has its threads in common with others then",
		"--workers", "--reactors=2", "x");
	REFUSES("takeover: expected only with --state, which says what waits", "--takeover", "x");
	REFUSES("cannot open '/no/such/file': No such file or directory", "/no/such/file");
}

static void a_check_only_checks(void **state)
{
	const char *path = scratch_path("a.conf");
	FILE *file = fopen(path, "w");

	(void)state;
	assert_non_null(file);
	/* No file can be there. */
	fputs("[device]\nbackend=file\npath=/no/such/file\ncreate=1M\n", file);
	fclose(file);
	assert_int_equal(SERVE("--check", path), EXIT_DONE);
	assert_string_equal(said, "");
	assert_int_equal(SERVE("--check", path, path), EXIT_USAGE);
	assert_contains(said, "name: expected another than that of");
}

static void a_device_outlives_only_a_server_with_a_state(void **state)
{
	const char *path = scratch_path("a.conf");
	FILE *file = fopen(path, "w");

	(void)state;
	assert_non_null(file);
	fputs("[device]\nbackend=null\nsize=1M\non-crash=fail\n", file);
	fclose(file);
	assert_int_equal(SERVE("--check", path), EXIT_USAGE);
	assert_contains(said, "a.conf: on-crash: expected none without --state, as nothing would say "
			"which device the next server takes over, got 'fail'");
	assert_int_equal(SERVE("--check", "--state=/no/such/folder", path), EXIT_DONE);
}

static void the_manual_has_every_option(void **state)
{
	_cleanup_free_ char *manual = manual_read();

	(void)state;
	assert_int_equal(manual_lacks(manual, "Fl Fl", serve_options), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_command_line_is_checked),
		cmocka_unit_test_setup_teardown(a_check_only_checks, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(a_device_outlives_only_a_server_with_a_state,
						scratch_make, scratch_remove),
		cmocka_unit_test(the_manual_has_every_option),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
