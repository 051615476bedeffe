/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "recover.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "handover.h"
#include "log.h"
#include "node.h"
#include "udev.h"
#include "util/clock.h"
#include "util/macros.h"

/*
 * After a server's death the driver takes a moment to see it, and Linux 6.12
 * up to the time-out of the requests where every tag has one.
 */
#define DEATH_SECONDS 90
#define LOOK_SECONDS 0.02
#define ANSWER_SECONDS 10
/* Deleting waits for the last user of the disk; */
#define DELETE_PATIENCE 5
/* and before that, where many devices go at once, for those of other servers. */
#define DELETE_DEADLINE 20

static void look(struct recover *recover);

static void go_on(struct recover *recover)
{
	if (recover->given_up)
		return;
	if (recover->alone) {
		if (recover->entry->state == TABLE_GOES)
			recover->entry->state = TABLE_WAITS;
		recover->done(recover);
		return;
	}
	while (recover->next < recover->table->count) {
		recover->entry = &recover->table->entries[recover->next++];
		if (recover->entry->state == TABLE_WAITS) {
			look(recover);
			return;
		}
	}
	recover->done(recover);
}

static void forget(struct recover *recover)
{
	table_remove(recover->table, recover->entry->name);
	udev_forget((unsigned)recover->entry->id);
	recover->entry->state = TABLE_GONE;
	go_on(recover);
}

static void issue(struct recover *recover, uint32_t op, double deadline,
		  void (*done)(struct ctrl_command *command, int result),
		  void (*late)(struct ctrl_command *command))
{
	const char *before = log_switch(recover->entry->name);

	recover->command = (struct ctrl_command){
		.op = op,
		.dev_id = (uint32_t)recover->entry->id,
		.deadline = deadline,
		.done = done,
		.late = late,
	};
	if (op == UBLK_CMD_GET_DEV_INFO2) {
		recover->command.buffer = &recover->info;
		recover->command.length = sizeof(recover->info);
	} else if (op == UBLK_CMD_GET_PARAMS) {
		recover->params = (struct ublk_params){ .len = sizeof(recover->params) };
		recover->command.buffer = &recover->params;
		recover->command.length = sizeof(recover->params);
	}
	ctrl_issue(recover->ctrl, &recover->command);
	log_switch(before);
}

static void late(struct ctrl_command *command);

/* ---- deleting ----------------------------------------------------------------------- */

static void deleted(struct ctrl_command *command, int result)
{
	struct recover *recover = container_of(command, struct recover, command);

	if (recover->given_up)
		return;
	if (result && result != -ENODEV) {
		ctrl_report(command, result);
		go_on(recover);
		return;
	}
	if (!recover->alone)
		ublkd_note("device %u is deleted: %s", command->dev_id,
			   recover->info.state == UBLK_S_DEV_DEAD ?
				   "the last server had not started it, or stopped it" :
				   "it is not described any more");
	forget(recover);
}

static void delete_late(struct ctrl_command *command)
{
	struct recover *recover = container_of(command, struct recover, command);
	ino_t now = node_in_driver(command->dev_id);

	if (recover->given_up)
		return;
	/* The driver has not come to it: what is not deleted is not forgotten. */
	if (now && now == recover->in_driver) {
		if (command->deadline < DELETE_DEADLINE)
			command->deadline += DELETE_PATIENCE;
		else
			late(command);
		return;
	}
	/* By now the number may be that of another device, whose end the driver waits for. */
	recover->lingers = !now;
	if (recover->lingers)
		ublkd_note("device %u is stopped, but it is still open or mounted: it goes with its "
			   "last user", command->dev_id);
	ctrl_abandon(command);
	recover->late = true;
	forget(recover);
}

static void delete(struct recover *recover)
{
	recover->in_driver = node_in_driver((unsigned)recover->entry->id);
	issue(recover, UBLK_CMD_DEL_DEV, DELETE_PATIENCE, deleted, delete_late);
}

static void tried_to_stop(struct ctrl_command *command, int result)
{
	struct recover *recover = container_of(command, struct recover, command);

	if (recover->given_up)
		return;
	recover->open = result == -EBUSY;
	if (!result) {
		delete(recover);
		return;
	}
	if (!recover->open)
		ctrl_report(command, result);
	go_on(recover);
}

static void probed(struct helper *probe, int status)
{
	struct recover *recover = container_of(probe, struct recover, probe);

	recover->open = status;
	if (status)
		go_on(recover);
	else
		delete(recover);
}

/* A mount that is seen by none of those that we know of has claimed it all the same. */
static void probe(struct recover *recover)
{
	char node[32];

	snprintf(node, sizeof(node), "/dev/ublkb%" PRIu32, (uint32_t)recover->entry->id);
	recover->probe.done = probed;
	if (helper_start(&recover->probe, recover->ctrl->loop,
			 (const char *const[]){ HELPER_PROBE, node, NULL }, ANSWER_SECONDS))
		probed(&recover->probe, -1);
}

/* Where the driver can, it makes sure that nobody has it open. What is dead has no disk. */
static void delete_gently(struct recover *recover)
{
	if (!recover->gentle || recover->info.state == UBLK_S_DEV_DEAD)
		delete(recover);
	else if (recover->info.flags & UBLK_F_SAFE_STOP_DEV)
		issue(recover, UBLK_CMD_TRY_STOP_DEV, ANSWER_SECONDS, tried_to_stop, late);
	else
		probe(recover);
}

/* ---- looking ------------------------------------------------------------------------- */

static void look_again(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	look(container_of(timer, struct recover, timer));
}

/*
 * A server that resizes a device writes its entry, then tells the driver, and may
 * die in between; so what counts is the size that users of the device see.
 */
static void got_params(struct ctrl_command *command, int result)
{
	struct recover *recover = container_of(command, struct recover, command);
	struct table_entry *entry = recover->entry;

	if (recover->given_up)
		return;
	if (result) {
		ctrl_report(command, result);
		entry->state = TABLE_SERVED;
	} else if (recover->params.basic.dev_sectors != entry->sectors) {
		entry->sectors = recover->params.basic.dev_sectors;
		entry->resized = true;
	}
	go_on(recover);
}

/* Once: from now on its I/O may wait. */
static void ask_to_leave(struct recover *recover)
{
	if (!recover->asks || recover->entry->left > 0)
		return;
	ublkd_note("asking process %d to leave it", recover->info.ublksrv_pid);
	recover->entry->left = clock_now();
	handover_ask_worker(recover->info.ublksrv_pid);
}

/* A command of an earlier server; another would wait for it, and keep others waiting. */
static bool is_stuck(struct recover *recover)
{
	const struct stuck *stuck = stuck_find(&recover->ctrl->stuck, (uint32_t)recover->entry->id);
	char text[STUCK_TEXT_SIZE];

	if (!stuck)
		return false;
	ublkd_error("the driver does not answer: it still has %s, in process %d: the device is left "
		    "alone", stuck_text(&stuck->info, text), (int)stuck->info.pid);
	recover->stuck = true;
	if (!recover->alone)
		recover->entry->state = TABLE_SERVED;
	go_on(recover);
	return true;
}

/* It may be added again. */
static void leave_undescribed(struct recover *recover)
{
	struct table_entry *entry = recover->entry;

	if (recover->unsure)
		ublkd_error("device %u waits for a server, and is not described, unless by a file that "
			    "is wrong: it is left alone", (unsigned)entry->id);
	else
		ublkd_note("device %u waits for a server, but is not described any more: it is left "
			   "alone; --drop would delete it", (unsigned)entry->id);
	entry->wanted = recover->unsure;
	issue(recover, UBLK_CMD_GET_PARAMS, ANSWER_SECONDS, got_params, late);
}

/* The entry is right, as it has the cookie; its device waits, or will, or never worked. */
static void judge(struct recover *recover)
{
	struct table_entry *entry = recover->entry;
	bool drop = recover->alone || recover->info.state == UBLK_S_DEV_DEAD;

	if (is_stuck(recover))
		return;
	if (!recover->alone)
		entry->wanted = entry->options || recover->wanted(recover, entry->name);
	drop |= !entry->wanted && recover->drop && !recover->unsure;
	if (!entry->wanted && !drop) {
		leave_undescribed(recover);
	} else if (recover->info.state == UBLK_S_DEV_LIVE && recover->handed) {
		go_on(recover);
	} else if (recover->info.state == UBLK_S_DEV_LIVE &&
		   ev_now(recover->ctrl->loop) < recover->until) {
		ask_to_leave(recover);
		ev_timer_init(&recover->timer, look_again, LOOK_SECONDS, 0);
		ev_timer_start(recover->ctrl->loop, &recover->timer);
	} else if (recover->info.state == UBLK_S_DEV_LIVE) {
		ublkd_error("device %u: expected one that waits for a server, got one that process "
			    "%d serves", (unsigned)entry->id, recover->info.ublksrv_pid);
		entry->state = TABLE_SERVED;
		go_on(recover);
	} else if (drop) {
		delete_gently(recover);
	} else {
		issue(recover, UBLK_CMD_GET_PARAMS, ANSWER_SECONDS, got_params, late);
	}
}

static void got_info(struct ctrl_command *command, int result)
{
	struct recover *recover = container_of(command, struct recover, command);

	if (recover->given_up)
		return;
	if (result == -ENODEV) {
		log_debug("device %u is not there any more", command->dev_id);
		forget(recover);
	} else if (result) {
		ctrl_report(command, result);
		recover->entry->state = TABLE_SERVED;
		go_on(recover);
	} else if (recover->info.ublksrv_flags != recover->entry->cookie) {
		ublkd_note("device %u is another's by now: it is left alone", command->dev_id);
		forget(recover);
	} else {
		judge(recover);
	}
}

/* What is not known may be served. */
static void late(struct ctrl_command *command)
{
	struct recover *recover = container_of(command, struct recover, command);

	if (recover->given_up)
		return;
	ublkd_error("%s for device %u has not ended within %.0f s: the driver does not answer",
		    ctrl_op_name(command->op), command->dev_id, command->deadline);
	/* It waits for another command for this device, and the others' may be answered. */
	if (command->helper && !recover->alone) {
		ctrl_abandon(command);
		recover->entry->state = TABLE_SERVED;
		go_on(recover);
		return;
	}
	if (recover->alone)
		recover->entry->state = TABLE_SERVED;
	for (unsigned i = recover->next - 1; !recover->alone && i < recover->table->count; i++) {
		if (recover->table->entries[i].state == TABLE_WAITS)
			recover->table->entries[i].state = TABLE_SERVED;
	}
	recover->given_up = true;
	recover->done(recover);
}

static void look(struct recover *recover)
{
	issue(recover, UBLK_CMD_GET_DEV_INFO2, ANSWER_SECONDS, got_info, late);
}

void recover_start(struct recover *recover)
{
	recover->until = ev_now(recover->ctrl->loop) + DEATH_SECONDS;
	go_on(recover);
}

void recover_delete(struct recover *recover, struct table_entry *entry)
{
	recover->alone = true;
	recover->until = recover->patient ? ev_now(recover->ctrl->loop) + DEATH_SECONDS : 0;
	recover->entry = entry;
	entry->state = TABLE_GOES;
	look(recover);
}

void recover_hurry(struct recover *recover)
{
	recover->until = 0;
}
