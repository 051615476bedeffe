/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control device: every command to the driver goes through
 * ctrl_issue(), asynchronously, with a deadline. Commands that can get stuck
 * in the driver are run by helper processes (helper.h says why), the others by
 * a ring of our own. Main thread only.
 */
#ifndef CTRL_H
#define CTRL_H

#include <ev.h>

#include <ublkd/ublk_abi.h>

#include "ctrl-helper.h"
#include "ring.h"
#include "stuck.h"

#define CONTROL_NODE "/dev/ublk-control"
#define CTRL_PATH_SIZE 32

struct ctrl {
	struct ring ring;
	int fd; /* /dev/ublk-control */
	struct ev_loop *loop;
	ev_io on_ring;
	struct ctrl_helper *helpers;
	struct stuck_list stuck; /* the caller may set the callbacks */
	unsigned made; /* devices that were to be made, see orphan_cookie() */
};

/*
 * A command on its way. The caller fills in the first group and keeps the
 * structure and the buffer until done() is called; a command cannot be taken
 * back, so that may be long after its deadline. From then on it is among those
 * that are stuck.
 */
struct ctrl_command {
	uint32_t op;       /* UBLK_CMD_* */
	uint32_t dev_id;
	void *buffer;
	uint16_t length;
	uint64_t data;
	bool of_user;      /* it is about a device of an ordinary user's */
	double deadline;   /* seconds */
	void (*done)(struct ctrl_command *command, int result);
	void (*late)(struct ctrl_command *command); /* the deadline has passed; NULL: nothing */

	struct ctrl *ctrl; /* ctrl.c's from here on */
	const char *about; /* see log_about() */
	ev_timer timer;
	struct ctrl_helper *helper; /* that runs it; NULL: our ring does */
	bool pending;
	/*
	 * A device of an ordinary user's is for those who may read and write its character
	 * device: the driver wants to know its path, which stands before the buffer.
	 */
	char carried[CTRL_PATH_SIZE + CTRL_BUFFER_MAX];
	uint16_t path_length; /* 0: there is none, and nothing is carried */
};

/*
 * Opens the control device and its ring. -errno after an error text that says
 * which of the possible reasons it is.
 */
int ctrl_open(struct ctrl *ctrl, struct ev_loop *loop);
void ctrl_close(struct ctrl *ctrl);

/* done() is called from the loop, never from here. */
void ctrl_issue(struct ctrl *ctrl, struct ctrl_command *command);

/*
 * Stops waiting for a pending command; done() is not called. What it has
 * begun in the driver stays begun.
 */
void ctrl_abandon(struct ctrl_command *command);

/* For ctrl-helper.c: the command has ended, or its process has. */
void ctrl_ended(struct ctrl_command *command, int result);

/*
 * The helper's side, without a loop and messages: -errno, or 0, and each command is run to
 * its end then. Its result.
 */
int ctrl_open_alone(struct ctrl *ctrl);
int ctrl_run(struct ctrl *ctrl, struct ctrl_command *command);
/* Both, for a process that has only this one to run. */
int ctrl_run_one(struct ctrl_command *command);

const char *ctrl_op_name(uint32_t op);
/* Logs that the command failed: device, command, errno and the likely cause. */
void ctrl_report(const struct ctrl_command *command, int result);

#endif
