/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of a device: stopped and deleted, or left to another server. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "device-life.h"
#include "exit.h"
#include "log.h"
#include "udev.h"
#include "util/macros.h"

/* Seconds. */
#define QUEUE_END_DEADLINE 30
/* Deleting waits for the last user of the disk, who may stay for days. */
#define DELETE_PATIENCE 5
#define FORCED_PATIENCE 1 /* where it is likely */
/* Between two rounds in which the driver gives back what it has, and for all of them. */
#define LEAVE_PAUSE 0.02
#define LEAVE_DEADLINE 10

void device_node_gone(struct node *node, bool is_gone)
{
	struct device *device = container_of(node, struct device, node);

	if (!is_gone) {
		ublkd_error("the device is deleted, but '%s' is still there", node->path);
		if (!device->status)
			device->status = EXIT_RUNTIME;
	}
	device_end(device);
}

/* Nobody is to find it any more. */
static void forget(struct device *device)
{
	udev_forget(device->id);
	if (device->entered)
		table_remove(device->table, device->entry.name);
	if (device->entered && device->former)
		device->former->state = TABLE_GONE;
	device->entered = false;
}

/*
 * Not what is deleted, though its number may be its last user's still, or that of another device
 * by now.
 */
static bool is_in_driver(const struct device *device)
{
	return device->in_driver && node_in_driver(device->id) == device->in_driver;
}

static void end_deleted(struct device *device, bool gone)
{
	if (gone)
		forget(device);
	else if (!device->status)
		device->status = EXIT_RUNTIME;
	device->added = false;
	if (device->node.path[0])
		node_await_end(&device->node);
	else
		device_end(device);
}

/* By now the number may be that of another device, which is not ours to forget. */
static void looked_for(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, command);

	if (!device->gone)
		end_deleted(device, result == -ENODEV ||
			    (!result && device->found.ublksrv_flags != device->info.ublksrv_flags));
}

static void deleted(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, command);

	if (device->gone)
		return;
	/*
	 * -ENODEV: somebody else deleted it, as they wanted and we do. And the driver may have
	 * done it before the process that asked for it was killed.
	 */
	if (!result || result == -ENODEV || !is_in_driver(device)) {
		end_deleted(device, true);
		return;
	}
	ctrl_report(command, result);
	device_issue(device, UBLK_CMD_GET_DEV_INFO2, &device->found, sizeof(device->found), 0,
		     SHORT_DEADLINE, looked_for);
}

/*
 * The deletion stands, even when our waiting for its end is interrupted: the
 * driver finishes it when the last user closes the disk. It waits for the number to be free, and
 * when another device gets that in the same moment, for the end of that one.
 */
static void delete_late(struct ctrl_command *command)
{
	struct device *device = container_of(command, struct device, command);

	/* The first that it does; where many devices go at once, it may be late itself. */
	if (is_in_driver(device))
		return;
	device->lingers = !node_in_driver(device->id);
	if (device->lingers)
		ublkd_note("the device is stopped, and %s, but it is still open or mounted: its "
			   "number is free again when its last user is gone",
			   device->draining || device->lost ? "what was left failed" :
							      "its data written back");
	ctrl_abandon(command);
	forget(device);
	device_end(device);
}

static void delete(struct device *device)
{
	ev_timer_stop(device->loop, &device->queue_timer);
	if (device->shape.char_fd >= 0)
		close(device->shape.char_fd);
	device->shape.char_fd = -1;
	device->in_driver = node_in_driver(device->id);
	device_issue(device, UBLK_CMD_DEL_DEV, NULL, 0, 0,
	      device->forced ? FORCED_PATIENCE : DELETE_PATIENCE, deleted);
	device->command.late = delete_late;
}

static void stop_done(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, stop_command);

	if (result && result != -ENODEV)
		ctrl_report(command, result);
	device->stopped = true;
	device_go_down(device);
}

unsigned device_queues_left(const struct device *device)
{
	unsigned left = 0;

	for (unsigned q = 0; q < device->nr_queues; q++)
		left += device->queues[q].owed > 0;
	return left;
}

static void stop(struct device *device, bool drain);

/* As somebody wanted. */
static void lose(struct device *device)
{
	ublkd_error("what was cached for '%s' could not be written back, and is lost",
		    device->node.path);
	device->lost = true;
	if (!device->status)
		device->status = EXIT_RUNTIME;
}

/* What waits keeps what is cached for it; else a stop would throw that away. */
static bool can_wait(const struct device *device)
{
	return device->entered && (device->live || device->taken) && device_is_served(device) &&
	       !device->forced && !device->draining;
}

static void leave_unwritten(struct device *device)
{
	ublkd_error("what is cached for '%s' could not be written back: the device is not deleted, "
		    "but left waiting for the next server, unless a second signal gives it up",
		    device->node.path);
	if (!device->status)
		device->status = EXIT_RUNTIME;
	device_will_leave(device);
}

void device_wrote_back(struct device *device, int status)
{
	if (status && can_wait(device))
		leave_unwritten(device);
	else if (status)
		lose(device);
	/* What it waits for would keep the stop, too. */
	if (status < 0 && device->forced)
		stop(device, true);
	device_go_down(device);
}

/* ---- leaving ------------------------------------------------------------------- */

static void leave(struct device *device);

static void leave_again(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct device *device = container_of(timer, struct device, timer);
	const char *before = log_switch(device_about(device));

	(void)loop;
	(void)events;
	leave(device);
	log_switch(before);
}

static void quiesced(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, stop_command);

	if (device->gone)
		return;
	if (result) {
		ctrl_report(command, result);
		device->leave_until = 0;
	} else {
		ev_timer_init(&device->timer, leave_again, LEAVE_PAUSE, 0);
		ev_timer_start(device->loop, &device->timer);
	}
	device_go_down(device);
}

/* In the middle of requests; the driver sees it when this process ends. */
static void leave_as_it_is(struct device *device)
{
	if (device->info.flags & UBLK_F_QUIESCE)
		ublkd_note("%u queue(s) are left before all their requests are done",
			   device_queues_left(device));
	device->holds = true;
	device_end(device);
}

static void quiesce_late(struct ctrl_command *command)
{
	struct device *device = container_of(command, struct device, stop_command);

	if (!device->gone)
		leave_as_it_is(device);
}

/*
 * No request comes any more once the driver has the first of these commands. It gives
 * back the tags that have none at that moment; the commit of another leaves its tag with
 * the driver again, for the next round.
 */
static void leave(struct device *device)
{
	if (device->stop_command.pending)
		return;
	if (!device_queues_left(device)) {
		close(device->shape.char_fd);
		device->shape.char_fd = -1;
		device->added = false;
		device_end(device);
		return;
	}
	if (!(device->info.flags & UBLK_F_QUIESCE) || device->draining ||
	    ev_now(device->loop) >= device->leave_until) {
		leave_as_it_is(device);
		return;
	}
	if (ev_is_active(&device->timer))
		return;
	device->stop_command = (struct ctrl_command){
		.op = UBLK_CMD_QUIESCE_DEV,
		.dev_id = device->id,
		.data = SHORT_DEADLINE * 1000,
		.deadline = SHORT_DEADLINE,
		.done = quiesced,
		.late = quiesce_late,
	};
	ctrl_issue(device->ctrl, &device->stop_command);
}

bool device_can_stay(const struct device *device)
{
	return device->entered && (device->live || device->starting) && !device->stopping;
}

/* ---- stopping ------------------------------------------------------------------ */

static void queues_late(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct device *device = container_of(timer, struct device, queue_timer);
	const char *before = log_switch(device_about(device));

	(void)loop;
	(void)events;
	ublkd_error("%u queue(s) have not ended within %d s of the stop", device_queues_left(device),
		    QUEUE_END_DEADLINE);
	device->status = EXIT_TIMEOUT;
	device_end(device);
	log_switch(before);
}

/*
 * One step further down: called when the stop was asked for and whenever
 * something that it waits for has ended.
 */
void device_go_down(struct device *device)
{
	assert(device->stopping);
	if (device->gone || device->command.pending || device->hunting || device->writing ||
	    device->resize.busy)
		return; /* its end calls again */
	/* A device that waits is left as it is; once fetched from, until we exit. */
	if (!device->added) {
		device->holds = device->taken;
		device_end(device);
		return;
	}
	/* Nothing would end a fetch that came behind the stop. */
	if (device->attaching)
		return;
	if (device->leaving && !device->stopped) {
		leave(device);
		return;
	}
	if (!device->stopped) {
		if (device->stop_command.pending)
			return;
		if (device_must_write_back(device)) {
			device_write_back(device);
			return;
		}
		device->stop_command = (struct ctrl_command){
			.op = UBLK_CMD_STOP_DEV,
			.dev_id = device->id,
			.of_user = device_is_of_user(device),
			.deadline = STOP_REMINDER,
			.done = stop_done,
			.late = device_stop_late,
		};
		ctrl_issue(device->ctrl, &device->stop_command);
		return;
	}
	if (device_queues_left(device)) {
		ev_timer_stop(device->loop, &device->queue_timer);
		ev_timer_init(&device->queue_timer, queues_late, QUEUE_END_DEADLINE, 0);
		ev_timer_start(device->loop, &device->queue_timer);
		return;
	}
	delete(device);
}

/* What a shrink writes back may need the queues, or take any time. */
static void cut_resize(struct device *device)
{
	if (device->resize.busy && (device->leaving || device->draining || device->broken))
		resize_cut(&device->resize);
}

static void stop(struct device *device, bool drain)
{
	bool drains = drain && !device->draining;

	if (drains) {
		device->draining = true;
		for (unsigned q = 0; q < device->nr_queues && !device->leaving; q++) {
			if (device->queues[q].serving)
				reactor_drain(&device->queues[q]);
		}
		if (device->leaving)
			device_go_down(device);
	}
	cut_resize(device);
	if (device->stopping) {
		if (drains)
			device_write_back_drained(device);
		return;
	}
	device->stopping = true;
	/* Whoever leaves it leaves what is cached for it as well. */
	if (device->leaving)
		device_write_back_abandon(device);
	if (!device->writing)
		ev_timer_stop(device->loop, &device->timer);
	if (device->starting)
		node_abandon(&device->node);
	if (device->watching)
		autoclear_stop(&device->autoclear);
	device->watching = false;
	if (device->probing)
		helper_abandon(&device->probe);
	device->probing = false;
	if (drain && device->writing)
		device_write_back_drained(device);
	else
		device_go_down(device);
}

void device_stop(struct device *device, bool drain)
{
	const char *before = log_switch(device_about(device));

	stop(device, drain);
	log_switch(before);
}

/* Of what had begun before it was forced, and had no deadline. */
static void force_late(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct device *device = container_of(timer, struct device, queue_timer);
	const char *before = log_switch(device_about(device));

	(void)loop;
	(void)events;
	if (device->writing) {
		device_write_back_cut(device);
	} else if (!device->draining) {
		lose(device);
		stop(device, true);
	}
	log_switch(before);
}

void device_stop_used(struct device *device)
{
	bool begun = (device->stopping || device->writing) && !device->stopped &&
		     !device->leaving && !device->forced;

	device->forced = true;
	if (begun) {
		ev_timer_init(&device->queue_timer, force_late, FORCED_DEADLINE, 0);
		ev_timer_start(device->loop, &device->queue_timer);
	}
	device_stop(device, false);
}

void device_will_leave(struct device *device)
{
	device->leaving = true;
	device->leave_until = ev_now(device->loop) + LEAVE_DEADLINE;
}

void device_leave(struct device *device)
{
	assert(device_can_stay(device));
	device_will_leave(device);
	device_stop(device, false);
}
