/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd features: what the running kernel's ublk driver offers. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "command.h"
#include "ctrl.h"
#include "exit.h"
#include "log.h"
#include "util/macros.h"

static const struct {
	uint64_t flag;
	const char *name;
	const char *since;
	const char *what;
} features[] = {
	{ UBLK_F_SUPPORT_ZERO_COPY, "zero-copy", "6.15", "register a request's pages with a ring" },
	{ UBLK_F_URING_CMD_COMP_IN_TASK, "comp-in-task", "6.0", "complete in the server's task" },
	{ UBLK_F_NEED_GET_DATA, "get-data", "6.0", "ask for a write's data when it is wanted" },
	{ UBLK_F_USER_RECOVERY, "recovery", "6.1", "survive the death of the server" },
	{ UBLK_F_USER_RECOVERY_REISSUE, "recovery-reissue", "6.1", "and repeat its unfinished I/O" },
	{ UBLK_F_UNPRIVILEGED_DEV, "unprivileged", "6.3", "devices of ordinary users" },
	{ UBLK_F_CMD_IOCTL_ENCODE, "ioctl-encode", "6.4", "commands encoded like ioctls" },
	{ UBLK_F_USER_COPY, "user-copy", "6.5", "pread and pwrite of a request's data" },
	{ UBLK_F_ZONED, "zoned", "6.6", "zoned devices" },
	{ UBLK_F_USER_RECOVERY_FAIL_IO, "recovery-fail-io", "6.13", "fail I/O while there is no server" },
	{ UBLK_F_UPDATE_SIZE, "update-size", "6.16", "change the size of a live device" },
	{ UBLK_F_AUTO_BUF_REG, "auto-buf-reg", "6.16", "zero copy without commands of its own" },
	{ UBLK_F_QUIESCE, "quiesce", "6.16", "pause a device for a new server" },
	{ UBLK_F_PER_IO_DAEMON, "per-io-daemon", "6.16", "any thread may serve any tag" },
	{ UBLK_F_BUF_REG_OFF_DAEMON, "buf-reg-off-daemon", "6.18", "register buffers from any thread" },
	{ UBLK_F_BATCH_IO, "batch-io", "7.0", "fetch and commit many requests at once" },
	{ UBLK_F_INTEGRITY, "integrity", "7.0", "integrity data beside the data" },
	{ UBLK_F_SAFE_STOP_DEV, "safe-stop", "7.0", "stop a device only if nobody has it open" },
	{ UBLK_F_NO_AUTO_PART_SCAN, "no-auto-part-scan", "7.0", "leave partitions alone" },
	{ UBLK_F_SHMEM_ZC, "shmem-zero-copy", "7.1", "zero copy of shared memory" },
	{ UBLK_F_IO_DESC_SIZE, "io-desc-size", "7.2", "descriptors of another size" },
};

struct query {
	struct ctrl_command command;
	uint64_t flags;
	int status;
};

static void print_flags(uint64_t flags)
{
	struct utsname system;

	if (!uname(&system))
		printf("%-20s %s\n", "kernel", system.release);
	printf("%-20s %#" PRIx64 "\n", "flags", flags);
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		printf("%-20s %-4s since %-5s %s\n", features[i].name,
		       flags & features[i].flag ? "yes" : "no", features[i].since,
		       features[i].what);
		flags &= ~features[i].flag;
	}
	if (flags)
		printf("%-20s %#" PRIx64 "\n", "unknown", flags);
}

static void answered(struct ctrl_command *command, int result)
{
	struct query *query = container_of(command, struct query, command);

	if (result == -EOPNOTSUPP || result == -EINVAL) {
		ublkd_error("this kernel's ublk driver cannot say what it offers; "
			    "expected Linux 6.5 or later");
		query->status = EXIT_KERNEL;
	} else if (result < 0) {
		ctrl_report(command, result);
		query->status = EXIT_KERNEL;
	} else {
		print_flags(query->flags);
	}
	ev_break(command->ctrl->loop, EVBREAK_ALL);
}

static void late(struct ctrl_command *command)
{
	struct query *query = container_of(command, struct query, command);

	ctrl_report(command, -ETIMEDOUT);
	query->status = EXIT_TIMEOUT;
	ev_break(command->ctrl->loop, EVBREAK_ALL);
}

static int features_main(int argc, char **argv)
{
	struct ev_loop *loop = ev_default_loop(EVFLAG_NOENV);
	struct query query = { .status = EXIT_DONE };
	struct ctrl ctrl;

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
	query.command = (struct ctrl_command){
		.op = UBLK_CMD_GET_FEATURES,
		.dev_id = UBLK_DEV_ID_ANY,
		.buffer = &query.flags,
		.length = sizeof(query.flags),
		.deadline = 10,
		.done = answered,
		.late = late,
	};
	ctrl_issue(&ctrl, &query.command);
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
