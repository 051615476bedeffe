/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of "run" as far as nothing has been touched yet, and the
 * option tables of program, device and backends against each other and the
 * manual. The source is included for its table, which nobody else needs.
 */
#define _GNU_SOURCE
#include "support.h"

#include "../../src/cmd-run.c"

#include "manual.h"

/* ublkd.c's, which is the one file that is not in the library. */
const struct command *const commands[] = { &run_command, NULL };

const struct command *command_find(const char *name)
{
	return strcmp(name, "run") ? NULL : &run_command;
}

/* ---- the command line ---------------------------------------------------- */

static const char *said;

static int run_with(const char *const *args)
{
	return run_captured(run_command.run, "run", args, &said);
}

#define RUN(...) run_with((const char *const[]){ __VA_ARGS__, NULL })

/* Fails unless these arguments are a wrong usage for which just this is said. */
#define REFUSES(text, ...) \
	do { \
		assert_int_equal(RUN(__VA_ARGS__), EXIT_USAGE); \
		assert_string_equal(said, "ublkd: " text "\n"); \
	} while (0)

static void a_backend_is_needed_and_known(void **state)
{
	(void)state;
	assert_int_equal(run_with((const char *const[]){ NULL }), EXIT_USAGE);
	assert_contains(said, "run: expected a backend, got none");
	REFUSES("expected a backend, got 'tape'; 'ublkd help' lists them", "tape");
	REFUSES("on-crash: expected none with 'run', as nothing would say which device the next "
		"server takes over, got 'reissue'", "null", "size=1M", "on-crash=reissue");
	REFUSES("expected a backend, got 'depth=4'; 'ublkd help' lists them", "depth=4", "null");
}

static void unknown_options_are_named(void **state)
{
	(void)state;
	REFUSES("expected an option of 'run', got '--fast'; 'ublkd help run' lists them", "--fast",
		"null");
	REFUSES("expected an option of 'run' or of the backend 'null', got 'speed'; "
		"'ublkd help run' and 'ublkd help null' list them", "null", "speed=9");
	REFUSES("expected an option of 'run' or of the backend 'null', got 'path'; "
		"'ublkd help run' and 'ublkd help null' list them", "null", "path=/x");
}

static void values_are_checked_before_anything_is_done(void **state)
{
	(void)state;
	REFUSES("depth: expected 1…4096, got '0'", "null", "size=1M", "depth=0");
	REFUSES("depth: expected 1…4096, got '4097'", "null", "size=1M", "depth=4097");
	REFUSES("depth: expected once, given twice", "null", "depth=1", "depth=1");
	REFUSES("depth: expected depth=N (1…4096), got no value", "null", "depth");
	REFUSES("null: expected size=SIZE, which is required, got none", "null");
	REFUSES("file: expected path=FILE, which is required, got none", "file", "size=1M");
	REFUSES("log: expected stderr or syslog, got 'tape'", "--log=tape", "null");
	REFUSES("pid-file: expected a text that is not empty, got ''", "--pid-file=", "null");
}

static void settings_must_go_together(void **state)
{
	(void)state;
	REFUSES("reactors: expected at most queues=2, or a multiple of it up to depth=128 for each, "
		"got '3'", "null", "size=1M", "queues=2", "reactors=3");
	REFUSES("reactors: expected at most queues=1, or a multiple of it up to depth=2 for each, "
		"got '3'", "null", "size=1M", "depth=2", "reactors=3");
	REFUSES("reactors: expected at most queues=1 with batch=yes, which fetches for a whole queue, "
		"got '2'", "null", "size=1M", "reactors=2", "batch=yes");
	REFUSES("batch: expected no with data=get-data, which the driver does not have in batch "
		"mode, got 'yes'; data=user-copy shares buffers as well", "null", "size=1M",
		"data=get-data", "batch=yes");
	REFUSES("batch: expected no with depth=1, as the driver needs a depth of 2, got 'yes'",
		"null", "size=1M", "depth=1", "batch=yes");
	REFUSES("--background: expected no command behind '--', got 'true'", "--background", "null",
		"size=1M", "--", "true");
	REFUSES("expected a command behind '--', got none", "null", "size=1M", "--");
	REFUSES("owner: expected USER[:GROUP] that exists, or numbers, got 'no body'", "null",
		"size=1M", "unprivileged=no", "owner=no body");
	REFUSES("owner: expected USER[:GROUP] that exists, or numbers, got '0:4294967295'", "null",
		"size=1M", "unprivileged=no", "owner=0:4294967295");
	REFUSES("cpus: expected CPUs that this process may use, got '8191'", "null", "size=1M",
		"cpus=8191");
}

/* ---- the tables ---------------------------------------------------------- */

static void check_table(const struct ublkd_option *table, void *values)
{
	struct options set;

	/* Aborts where a preset does not parse. */
	assert_int_equal(options_init(&set, table, values), 0);
	options_free(&set);
	for (const struct ublkd_option *o = table; o->name; o++) {
		assert_ptr_equal(option_find(table, o->name, strlen(o->name)), o);
		assert_non_null(o->help);
		assert_true(o->help[0] && o->help[strlen(o->help) - 1] != '.');
		assert_true(o->flag ? o->type == UBLKD_OPT_BOOL : o->arg != NULL);
		assert_int_equal(o->type == UBLKD_OPT_ENUM, o->values != NULL);
		assert_false(o->required && o->preset);
		if (o->type == UBLKD_OPT_INT)
			assert_true((int64_t)o->min <= (int64_t)o->max);
		else
			assert_true(!o->max || o->min <= o->max);
	}
}

static void every_option_is_complete_and_unique_in_its_table(void **state)
{
	struct run_config run = { 0 };
	struct device_config device = { 0 };

	(void)state;
	check_table(run_options, &run);
	check_table(device_options, &device);
	for (unsigned i = 0; backends[i]; i++) {
		void *config = calloc(1, backends[i]->config_size);

		check_table(backends[i]->options, config);
		free(config);
	}
}

/* A backend's option would hide the device's. */
static void no_backend_has_an_option_of_the_device(void **state)
{
	(void)state;
	for (unsigned i = 0; backends[i]; i++) {
		for (const struct ublkd_option *o = backends[i]->options; o->name; o++) {
			if (option_find(device_options, o->name, strlen(o->name)))
				fail_msg("'%s' is the device's and the backend %s's", o->name,
					 backends[i]->name);
		}
	}
}

/* Where the value ends, the configuration has not ended yet. */
static void every_value_lies_within_its_configuration(void **state)
{
	static const size_t sizes[] = {
		[UBLKD_OPT_BOOL] = sizeof(bool),     [UBLKD_OPT_UINT] = sizeof(uint64_t),
		[UBLKD_OPT_INT] = sizeof(int64_t),
		[UBLKD_OPT_SIZE] = sizeof(uint64_t), [UBLKD_OPT_STRING] = sizeof(char *),
		[UBLKD_OPT_PATH] = sizeof(char *),
		[UBLKD_OPT_ENUM] = sizeof(int),      [UBLKD_OPT_MODE] = sizeof(uint32_t),
		[UBLKD_OPT_CPUS] = sizeof(char *),   [UBLKD_OPT_UUID] = sizeof(char *),
	};

	(void)state;
	for (unsigned i = 0; backends[i]; i++) {
		const struct ublkd_option *table = backends[i]->options;

		for (const struct ublkd_option *o = table; o->name; o++) {
			assert_true(o->offset + sizes[o->type] <= backends[i]->config_size);
			for (const struct ublkd_option *p = table; p < o; p++)
				assert_true(p->offset + sizes[p->type] <= o->offset ||
					    o->offset + sizes[o->type] <= p->offset);
		}
	}
}

static void backends_are_found_by_their_names(void **state)
{
	(void)state;
	for (unsigned i = 0; backends[i]; i++) {
		assert_ptr_equal(backend_find(backends[i]->name), backends[i]);
		assert_non_null(backends[i]->summary);
		assert_non_null(backends[i]->submit);
	}
	assert_null(backend_find(""));
	assert_null(backend_find("fil"));
}

/* ---- the manual ---------------------------------------------------------- */

static void the_manual_has_every_option(void **state)
{
	char *manual = manual_read();
	unsigned missing;

	(void)state;
	missing = manual_lacks(manual, "Fl Fl", run_options);
	missing += manual_lacks(manual, "Cm", device_options);
	for (unsigned i = 0; backends[i]; i++)
		missing += manual_lacks(manual, "Cm", backends[i]->options);
	free(manual);
	assert_int_equal(missing, 0);
}

static void an_item_counts_by_its_whole_name(void **state)
{
	static const char manual[] = "the depth\n.It Cm depths Ns = Ns Ar N\n.Cm speed\n"
				     ".It Fl Fl stats\n";

	(void)state;
	assert_false(manual_has(manual, "Cm", "depth"));
	assert_false(manual_has(manual, "Cm", "speed"));
	assert_true(manual_has(manual, "Cm", "depths"));
	assert_true(manual_has(manual, "Fl Fl", "stats"));
	assert_false(manual_has(manual, "Cm", "stats"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_backend_is_needed_and_known),
		cmocka_unit_test(unknown_options_are_named),
		cmocka_unit_test(values_are_checked_before_anything_is_done),
		cmocka_unit_test(settings_must_go_together),
		cmocka_unit_test(every_option_is_complete_and_unique_in_its_table),
		cmocka_unit_test(no_backend_has_an_option_of_the_device),
		cmocka_unit_test(every_value_lies_within_its_configuration),
		cmocka_unit_test(backends_are_found_by_their_names),
		cmocka_unit_test(an_item_counts_by_its_whole_name),
		cmocka_unit_test(the_manual_has_every_option),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
