/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "owner.h"

#include <inttypes.h>
#include <stdio.h>

#include "ctrl.h"
#include "exit.h"
#include "log.h"

/* Not that of a partition: an ordinary user's device has none. */
static bool parse_name(const char *name, uint32_t *id)
{
	char kind[2], more;

	return sscanf(name, "ublk%1[bc]%" SCNu32 "%c", kind, id, &more) == 2;
}

int owner_main(int argc, char **argv)
{
	struct ublk_dev_info info = { 0 };
	struct ctrl_command command = {
		.op = UBLK_CMD_GET_DEV_INFO2,
		.buffer = &info,
		.length = sizeof(info),
	};
	int ret;

	if (argc != 3 || !parse_name(argv[2], &command.dev_id)) {
		ublkd_error("--owner-of: expected the name of a device's node, such as ublkb0, got "
			    "'%s'", argc > 2 ? argv[2] : "");
		return EXIT_USAGE;
	}
	ret = ctrl_run_one(&command);
	if (ret) {
		ctrl_report(&command, ret);
		return EXIT_KERNEL;
	}
	if (!(info.flags & UBLK_F_UNPRIVILEGED_DEV))
		return EXIT_RUNTIME;
	printf("%" PRIu32 " %" PRIu32 "\n", info.owner_uid, info.owner_gid);
	return EXIT_DONE;
}
