/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd doctor: why devices cannot be served here, or not well. */
#include <errno.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "doctor.h"
#include "exit.h"
#include "log.h"
#include "option.h"
#include "process.h"

struct doctor_config {
	bool json, help;
};

static const struct ublkd_option doctor_options[] = {
	{ .name = "json", .type = UBLKD_OPT_BOOL, .flag = true,
	  .offset = offsetof(struct doctor_config, json),
	  .help = "print an array of objects with check, level, found, expected and remedy" },
	{ .name = "help", .type = UBLKD_OPT_BOOL, .flag = true,
	  .offset = offsetof(struct doctor_config, help), .help = "explain this command" },
	{ 0 },
};

/* ---- as lines -------------------- */

static void print_line(const struct doctor_finding *finding)
{
	printf("%-8s %-16s %s\n", doctor_level_name(finding->level), finding->check,
	       finding->found ? finding->found : "?");
	if (finding->expected)
		printf("%25s expected: %s\n", "", finding->expected);
	if (finding->remedy)
		printf("%25s remedy: %s\n", "", finding->remedy);
}

/* Each when it is known, as some take their time. */
static void print_new(const struct doctor *doctor, unsigned from)
{
	for (unsigned i = from; i < doctor->nr_findings; i++)
		print_line(&doctor->findings[i]);
	fflush(stdout);
}

/* ---- as JSON -------------------- */

/* null for none, and for what is no UTF-8. */
static json_t *text_of(const char *text)
{
	json_t *string = text ? json_string(text) : NULL;

	return string ? string : json_null();
}

static int print_json(const struct doctor *doctor, FILE *out)
{
	json_t *all = json_array();
	int ret = all ? 0 : -ENOMEM;

	for (unsigned i = 0; !ret && i < doctor->nr_findings; i++) {
		const struct doctor_finding *finding = &doctor->findings[i];
		json_t *object = json_pack("{s:s, s:s, s:o, s:o, s:o}", "check", finding->check,
					   "level", doctor_level_name(finding->level),
					   "found", text_of(finding->found),
					   "expected", text_of(finding->expected),
					   "remedy", text_of(finding->remedy));

		if (!object || json_array_append_new(all, object))
			ret = -ENOMEM;
	}
	if (!ret && (json_dumpf(all, out, JSON_INDENT(2)) || putc('\n', out) == EOF))
		ret = -EIO;
	json_decref(all);
	return ret;
}

/* ---- the command -------------------- */

static int examine(const struct doctor_config *config)
{
	struct doctor doctor = { .root = "" };
	int status;

	doctor_probe(&doctor);
	for (const struct doctor_check *check = doctor_checks; check->name; check++) {
		unsigned before = doctor.nr_findings;

		doctor_run(&doctor, check);
		if (!config->json)
			print_new(&doctor, before);
	}
	status = doctor_status(&doctor);
	if (doctor.no_memory) {
		ublkd_error("no memory for all findings");
	} else if ((config->json && print_json(&doctor, stdout)) || fflush(stdout)) {
		ublkd_error("cannot print what was found: %s", strerror(errno));
		status = EXIT_RUNTIME;
	}
	doctor_free(&doctor);
	return status;
}

static int doctor_main(int argc, char **argv)
{
	struct doctor_config config = { 0 };
	struct options set;
	int status = EXIT_DONE;

	options_init(&set, doctor_options, &config);
	for (int i = 1; i < argc && !status; i++) {
		if (strncmp(argv[i], "--", 2)) {
			ublkd_error("doctor: expected no argument, got '%s'", argv[i]);
			status = EXIT_USAGE;
		} else {
			status = process_flag(&set, argv[i], "doctor");
		}
	}
	options_free(&set);
	if (status)
		return status;
	if (config.help) {
		command_print_help(&doctor_command);
		return EXIT_DONE;
	}
	return examine(&config);
}

static void doctor_help(void)
{
	printf("\nOptions:\n");
	options_print(stdout, doctor_options, "--");
	printf("\nThe exit status is %d if nothing worse than a note was found, %d with a warning,\n"
	       "%d with a problem and %d if the driver does not answer. Nothing is changed. Run it\n"
	       "as the user and in the place (unit, container) that the devices are to be served\n"
	       "in.\n",
	       EXIT_DONE, EXIT_RUNTIME, EXIT_KERNEL, EXIT_TIMEOUT);
}

const struct command doctor_command = {
	.name = "doctor",
	.usage = "[--json]",
	.summary = "Find out why devices cannot be served here, or not well.",
	.run = doctor_main,
	.help = doctor_help,
};
