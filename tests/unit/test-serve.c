/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of "serve" as far as nothing has been touched yet, and its
 * table against the manual.
 */
#define _GNU_SOURCE
#include "support.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "exit.h"
#include "serve.h"
#include "serve-settings.h"
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

static void only_a_server_with_workers_has_one_that_is_named(void **state)
{
	const char *path = scratch_path("a.conf");
	FILE *file = fopen(path, "w");

	(void)state;
	assert_non_null(file);
	fputs("[device]\nbackend=null\nsize=1M\nworker=x\n", file);
	fclose(file);
	assert_int_equal(SERVE("--check", path), EXIT_USAGE);
	assert_contains(said, "a.conf:4: worker: expected none without --workers, got 'x'");
	assert_int_equal(SERVE("--check", "--workers", "--state=/no/such/folder", path), EXIT_DONE);
}

static const char *settings_file(const char *text)
{
	static char option[4200];
	const char *path = scratch_path("ublkd.conf");
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	snprintf(option, sizeof(option), "--config=%s", path);
	return option;
}

/* Each is checked without a device, so that a socket is what it takes to be complete. */
static int check_settings(const char *text, const char *more)
{
	return SERVE(settings_file(text), "--check", more);
}

static void settings_in_a_file_count_like_options(void **state)
{
	(void)state;
	assert_int_equal(check_settings("", NULL), EXIT_USAGE);
	assert_contains(said, "or --socket, got none");
	assert_int_equal(check_settings("# nothing\n[serve]\nsocket = /run/x\nlog = syslog\n", NULL), EXIT_DONE);
	assert_string_equal(said, "");
	assert_int_equal(check_settings("[serve]\nsocket = /run/x\nkeep = yes\n", NULL), EXIT_USAGE);
	assert_contains(said, "keep: expected only with --state");
	assert_contains(said, "ublkd.conf' count, too");
	assert_int_equal(check_settings("[serve]\nsocket = /run/x\nkeep = yes\n", "--state=/x"), EXIT_DONE);
	/* The command line counts. */
	assert_int_equal(check_settings("[serve]\nsocket = /run/x\nkeep = yes\n", "--keep=no"), EXIT_DONE);
	assert_int_equal(check_settings("[serve]\nsocket-group = no such group\nsocket = /x\n",
					"--socket-group=root"), EXIT_DONE);
	assert_int_equal(check_settings("[serve]\nsocket-group = no such group\nsocket = /x\n", NULL), EXIT_USAGE);
	assert_contains(said, "socket-group: expected a group that exists");
	assert_int_equal(check_settings("[serve]\nworkers = yes\nsocket = /x\nstate = /x\n", "--reactors=2"),
			 EXIT_USAGE);
}

static void wrong_settings_are_said_with_their_line(void **state)
{
	static const struct {
		const char *text, *error;
	} cases[] = {
		{ "[serve]\ncolour = red\n", ":2: expected an option of 'serve' without its dashes, got 'colour'; "
		  "'ublkd help serve' lists them" },
		{ "[serve]\n\ncheck = yes\n", ":3: check: expected on the command line alone" },
		{ "[serve]\nconfig = /x\n", ":2: config: expected on the command line alone" },
		{ "[serve]\nworkers = perhaps\n", ":2: workers: expected yes or no, got 'perhaps'" },
		{ "[serve]\nworkers =\n", ":2: workers: expected yes or no, got ''" },
		{ "[serve]\nreactors = 1\nreactors = 2\n", ":3: reactors: expected once, given twice" },
		{ "[serve]\nsocket = /x\noom-score = 5000\n", ":3: oom-score: expected -1000…1000, got '5000'" },
		{ "socket = /x\n", ":1: expected [serve] before the settings, got 'socket'" },
		{ "[device]\nbackend = null\n", ":2: expected settings in the section [serve] alone" },
		{ "[serve]\nnonsense\n", ":2: expected KEY = VALUE, [serve] or a comment" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(check_settings(cases[i].text, "--socket=/y"), EXIT_USAGE);
		assert_contains(said, cases[i].error);
	}
	/* Also what the command line overrides. */
	assert_int_equal(check_settings("[serve]\nlog = paper\n", "--log=stderr"), EXIT_USAGE);
	assert_contains(said, ":2: log: expected stderr or syslog, got 'paper'");
	/* All of it. */
	assert_int_equal(check_settings("[serve]\ncolour = red\nlog = paper\n", NULL), EXIT_USAGE);
	assert_contains(said, "'colour'");
	assert_contains(said, "'paper'");
	assert_int_equal(SERVE("--config=/no/such/file", "--check", "--socket=/x"), EXIT_USAGE);
	assert_contains(said, "cannot open '/no/such/file'");
}

/* Without the '#' before each of them. */
static char *example_settings(void)
{
	_cleanup_free_ char *path = NULL;
	char *text = calloc(1, 65536), line[256], *to = text;
	_cleanup_file_ FILE *file = NULL;

	assert_true(asprintf(&path, "%s/contrib/examples/ublkd.conf", getenv("abs_top_srcdir")) > 0);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		to = stpcpy(to, line[0] == '#' && line[1] != ' ' ? line + 1 : line);
	return text;
}

static void the_example_has_every_setting(void **state)
{
	_cleanup_free_ char *text = example_settings();
	char line[64];

	(void)state;
	for (const struct ublkd_option *o = serve_options; o->name; o++) {
		snprintf(line, sizeof(line), "\n%s = ", o->name);
		assert_true(!strstr(text, line) == serve_option_once(o));
	}
	/* All at once are too many, which is what is wrong, and no line is. */
	assert_int_equal(check_settings(text, NULL), EXIT_USAGE);
	assert_contains(said, "ublkd: workers: expected without --reactors");
	/* Whether there is such a group is the machine's. */
	assert_int_equal(SERVE(settings_file(text), "--check", "--workers=no", "--socket-group=0"), EXIT_DONE);
	assert_string_equal(said, "");
}

static void the_example_is_right(void **state)
{
	const char *top = getenv("abs_top_srcdir");
	char path[PATH_MAX];

	(void)state;
	snprintf(path, sizeof(path), "%s/contrib/examples/web.conf", top ? top : ".");
	assert_int_equal(SERVE("--check", path), EXIT_DONE);
	assert_string_equal(said, "");
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
		cmocka_unit_test_setup_teardown(only_a_server_with_workers_has_one_that_is_named,
						scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(a_device_outlives_only_a_server_with_a_state,
						scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(settings_in_a_file_count_like_options, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(wrong_settings_are_said_with_their_line, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(the_example_has_every_setting, scratch_make, scratch_remove),
		cmocka_unit_test(the_example_is_right),
		cmocka_unit_test(the_manual_has_every_option),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
