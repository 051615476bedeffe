/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The processes that run control commands, "ublkd --helper of PID ublkd control". Each
 * runs one command at a time, so that one that the driver does not end keeps no
 * other from being run: as many are started as commands are on their way, and
 * they are used again until they have had nothing to do for a while. One whose
 * command is late is not, and ends with that command. Main thread, and only with
 * libev's default loop (child watchers).
 */
#ifndef CTRL_HELPER_H
#define CTRL_HELPER_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "stuck.h"

struct ctrl;
struct ctrl_command;

#define CTRL_BUFFER_MAX 1024

/* What a helper is sent, a packet; the buffer is as long as length says. */
struct ctrl_order {
	uint32_t op, dev_id;
	uint64_t data;
	struct stuck_info info;
	bool of_user; /* see ctrl.h */
	uint16_t length;
	uint8_t buffer[CTRL_BUFFER_MAX];
};

/* And its answer. */
struct ctrl_outcome {
	int32_t result;
	uint8_t buffer[CTRL_BUFFER_MAX];
};

static inline size_t ctrl_order_size(uint16_t length)
{
	return offsetof(struct ctrl_order, buffer) + length;
}

static inline size_t ctrl_outcome_size(uint16_t length)
{
	return offsetof(struct ctrl_outcome, buffer) + length;
}

struct ctrl_helper {
	struct ctrl_helper *next;
	struct ctrl *ctrl;
	struct ctrl_command *command; /* NULL: it has none, or nobody waits for it */
	struct stuck_info info;       /* of what it runs, or ran last; pid is its own */
	int fd;                       /* -1: it gets no command any more */
	ev_io readable;
	ev_child child;
	ev_timer timer;               /* until it has been idle for long, or, killed, ought to be gone */
	bool idle;                    /* a command can be sent; without the timer: it had none yet */
	bool late;
};

/* ctrl_ended() follows, see ctrl.h, when its process was killed, too. -errno: there is no process. */
int ctrl_helper_run(struct ctrl *ctrl, struct ctrl_command *command);
/* Starts one for a command that may be long in coming. */
void ctrl_helper_prepare(struct ctrl *ctrl);
/* Its command is late: it gets no other, and is among those that are stuck until it ends. */
void ctrl_helper_late(struct ctrl_helper *helper);
/* Kills it; nobody waits for its command any more. */
void ctrl_helper_abandon(struct ctrl_helper *helper);
/* Ends all of them; what they run is not waited for. */
void ctrl_helpers_close(struct ctrl *ctrl);

#endif
