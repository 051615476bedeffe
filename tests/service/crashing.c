/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ublkd that is killed at a step of a device's life: by its own hand when UBLKD_CRASH
 * is "before NAME", "during NAME" or "after NAME", with the name of a control command.
 * During: the driver has the command, or a helper does. After: it is done, and nothing
 * has been made of it. Or when it is "file N": before the Nth step of the files of the table
 * and of what describes devices (crashing.h). With UBLKD_CRASH_FROM, which the workers that it
 * starts have, too: from when that file is there, and one of them alone, as the file goes.
 * For tests; takes the place of ctrl.c.
 */
#include "ctrl.h"

static void issue_command(struct ctrl *ctrl, struct ctrl_command *command);
#define ctrl_issue issue_command
#include "ctrl.c"
#undef ctrl_issue

#include <signal.h>
#include <stdlib.h>


enum moment { NEVER, BEFORE, DURING, AFTER };

static const char *step_given(void)
{
	const char *from = getenv("UBLKD_CRASH_FROM");

	return from && access(from, F_OK) ? NULL : getenv("UBLKD_CRASH");
}

static enum moment moment_of(uint32_t op)
{
	static const char *const moments[] = { [BEFORE] = "before ", [DURING] = "during ",
					       [AFTER] = "after " };
	const char *given = step_given();

	for (int i = BEFORE; given && i <= AFTER; i++) {
		size_t length = strlen(moments[i]);

		if (!strncmp(given, moments[i], length) && !strcmp(given + length, ctrl_op_name(op)))
			return (enum moment)i;
	}
	return NEVER;
}

static void crash(void)
{
	const char *from = getenv("UBLKD_CRASH_FROM");

	if (from)
		unlink(from);
	kill(getpid(), SIGKILL);
	pause();
}

void crash_before(const char *call)
{
	static unsigned steps;
	const char *given = step_given();
	unsigned step;

	if (!given || sscanf(given, "file %u", &step) != 1 || ++steps != step)
		return;
	fprintf(stderr, "dies before %s\n", call);
	crash();
}

static void crash_instead(struct ctrl_command *command, int result)
{
	(void)command, (void)result;
	crash();
}

void ctrl_issue(struct ctrl *ctrl, struct ctrl_command *command)
{
	enum moment moment = moment_of(command->op);

	if (moment == BEFORE)
		crash();
	if (moment == AFTER)
		command->done = crash_instead;
	issue_command(ctrl, command);
	if (moment == DURING)
		crash();
}
