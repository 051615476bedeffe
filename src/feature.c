/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "feature.h"

#include <errno.h>

#include "util/macros.h"

const struct feature driver_features[] = {
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
	{ 0 },
};

static void answered(struct ctrl_command *command, int result)
{
	struct features_query *query = container_of(command, struct features_query, command);

	query->done(query, MIN(result, 0));
}

static void late(struct ctrl_command *command)
{
	struct features_query *query = container_of(command, struct features_query, command);

	query->done(query, -ETIMEDOUT);
}

bool features_unknown(int result)
{
	return result == -EOPNOTSUPP || result == -EINVAL;
}

void features_ask(struct features_query *query, struct ctrl *ctrl)
{
	query->command = (struct ctrl_command){
		.op = UBLK_CMD_GET_FEATURES,
		.dev_id = UBLK_DEV_ID_ANY,
		.buffer = &query->flags,
		.length = sizeof(query->flags),
		.deadline = 10,
		.done = answered,
		.late = late,
	};
	ctrl_issue(ctrl, &query->command);
}
