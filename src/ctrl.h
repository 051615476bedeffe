/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control device: every command to the driver goes through
 * ctrl_issue(), asynchronously, with a deadline. Commands that can wait for
 * I/O are run by a helper process (helper.h says why), the others by a ring
 * of our own. Main thread only.
 */
#ifndef CTRL_H
#define CTRL_H

#include <ev.h>

#include <ublkd/ublk_abi.h>

#include "helper.h"
#include "ring.h"

#define CONTROL_NODE "/dev/ublk-control"

struct ctrl {
	struct ring ring;
	int fd; /* /dev/ublk-control */
	struct ev_loop *loop;
	ev_io on_ring;
};

/*
 * A command on its way. The caller fills in the first group and keeps the
 * structure and the buffer until done() is called; a command cannot be taken
 * back, so that may be long after its deadline.
 */
struct ctrl_command {
	uint32_t op;       /* UBLK_CMD_* */
	uint32_t dev_id;
	void *buffer;
	uint16_t length;
	uint64_t data;
	double deadline;   /* seconds */
	void (*done)(struct ctrl_command *command, int result);
	void (*late)(struct ctrl_command *command); /* the deadline has passed; NULL: nothing */

	struct ctrl *ctrl; /* ctrl.c's from here on */
	const char *about; /* see log_about() */
	ev_timer timer;
	struct helper helper;
	bool pending, helped;
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

/* The helper's side: runs a command without a buffer, and waits. Its result. */
int ctrl_run(uint32_t op, uint32_t dev_id, uint64_t data);

const char *ctrl_op_name(uint32_t op);
/* Logs that the command failed: device, command, errno and the likely cause. */
void ctrl_report(const struct ctrl_command *command, int result);

#endif
