/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd features: what the running kernel's ublk driver offers. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "command.h"
#include "exit.h"
#include "feature.h"
#include "log.h"
#include "util/macros.h"

struct query {
	struct features_query features;
	int status;
};

static void print_flags(uint64_t flags)
{
	struct utsname system;

	if (!uname(&system))
		printf("%-20s %s\n", "kernel", system.release);
	printf("%-20s %#" PRIx64 "\n", "flags", flags);
	for (const struct feature *feature = driver_features; feature->name; feature++) {
		printf("%-20s %-4s since %-5s %s\n", feature->name,
		       flags & feature->flag ? "yes" : "no", feature->since, feature->what);
		flags &= ~feature->flag;
	}
	if (flags)
		printf("%-20s %#" PRIx64 "\n", "unknown", flags);
}

static void answered(struct features_query *features, int result)
{
	struct query *query = container_of(features, struct query, features);

	if (features_unknown(result)) {
		ublkd_error("this kernel's ublk driver cannot say what it offers; "
			    "expected Linux 6.5 or later");
		query->status = EXIT_KERNEL;
	} else if (result) {
		ctrl_report(&features->command, result);
		query->status = result == -ETIMEDOUT ? EXIT_TIMEOUT : EXIT_KERNEL;
	} else {
		print_flags(features->flags);
	}
	ev_break(features->command.ctrl->loop, EVBREAK_ALL);
}

static int features_main(int argc, char **argv)
{
	struct ev_loop *loop = ev_default_loop(EVFLAG_NOENV);
	struct query query = { .features.done = answered, .status = EXIT_DONE };
	struct ctrl ctrl = { 0 };

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		command_print_help(&features_command);
		return EXIT_DONE;
	}
	if (argc > 1) {
		ublkd_error("features: expected no argument, got '%s'", argv[1]);
		return EXIT_USAGE;
	}
	if (ctrl_open(&ctrl, loop))
		return EXIT_KERNEL;
	features_ask(&query.features, &ctrl);
	ev_run(loop, 0);
	ctrl_close(&ctrl);
	return query.status;
}

const struct command features_command = {
	.name = "features",
	.usage = "",
	.summary = "Print what the running kernel's ublk driver offers.",
	.run = features_main,
};
