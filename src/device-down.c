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
#include "util/macros.h"

/* Seconds. A stop that is forced gives up what is not written back by then. */
#define FORCED_DEADLINE 30
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

static void leave_table(struct device *device)
{
	if (device->entered)
		table_remove(device->table, device->entry.name);
	if (device->entered && device->former)
		device->former->state = TABLE_GONE;
	device->entered = false;
}

static void deleted(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, command);

	if (device->gone)
		return;
	/* -ENODEV: somebody else deleted it, as they wanted and we do. */
	if (result && result != -ENODEV) {
		ctrl_report(command, result);
		if (!device->status)
			device->status = EXIT_RUNTIME;
	} else {
		leave_table(device);
	}
	device->added = false;
	if (device->node.path[0])
		node_await_end(&device->node);
	else
		device_end(device);
}

/*
 * The deletion stands, even when our waiting for its end is interrupted: the
 * driver finishes it when the last user closes the disk.
 */
static void delete_late(struct ctrl_command *command)
{
	struct device *device = container_of(command, struct device, command);
	char path[64];

	/* The first that it does; where many devices go at once, it may be late itself. */
	snprintf(path, sizeof(path), "/sys/class/ublk-char/ublkc%u", device->id);
	if (!access(path, F_OK))
		return;
	ublkd_note("the device is stopped, and %s, but it is still open or mounted: its number is "
		   "free again when its last user is gone",
		   device->draining || device->lost ? "what was left failed" :
						      "its data written back");
	ctrl_abandon(command);
	leave_table(device);
	device->lingers = true;
	device_end(device);
}

static void delete(struct device *device)
{
	ev_timer_stop(device->loop, &device->queue_timer);
	if (device->shape.char_fd >= 0)
		close(device->shape.char_fd);
	device->shape.char_fd = -1;
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

static void remind_of_stop(void)
{
	ublkd_note("still stopping: dirty data is being written back; "
		   "a second signal fails the I/O that is left");
}

void device_stop_late(struct ctrl_command *command)
{
	(void)command;
	remind_of_stop();
}

static void write_back_late(struct ev_loop *loop, ev_timer *timer, int events)
{
	const char *before = log_switch(device_about(container_of(timer, struct device, timer)));

	(void)loop;
	(void)events;
	remind_of_stop();
	log_switch(before);
}

static void stop(struct device *device, bool drain);

static void wrote_back(struct helper *helper, int status)
{
	struct device *device = container_of(helper, struct device, write_back);

	ev_timer_stop(device->loop, &device->timer);
	if (status && !device->draining) {
		ublkd_error("what was cached for '%s' could not be written back%s",
			    device->node.path, device->forced ? ", and is lost" : "");
		device->lost = device->forced;
		if (device->lost && !device->status)
			device->status = EXIT_RUNTIME;
	}
	device->writing = false;
	device->written = true;
	/* What it waits for would keep the stop, too. */
	if (status < 0 && device->forced)
		stop(device, true);
	device_go_down(device);
}

/*
 * Where I/O waits for the next server, a stop begins by failing all that comes; else it
 * writes back by itself, for as long as that takes. A queue that nobody serves would not
 * write anything.
 */
static bool must_write_back(const struct device *device)
{
	return (features_keep_io(device->info.flags) || device->forced) && device->node.path[0] &&
	       !device->written && !device->draining && !device->broken;
}

static void write_back(struct device *device)
{
	device->writing = true;
	device->write_back.done = wrote_back;
	ev_timer_init(&device->timer, write_back_late, STOP_REMINDER, STOP_REMINDER);
	ev_timer_start(device->loop, &device->timer);
	if (helper_start(&device->write_back, device->loop,
			 (const char *const[]){ device->forced ? HELPER_RELEASE : HELPER_WRITE_BACK,
						device->node.path, NULL },
			 device->forced ? FORCED_DEADLINE : 0))
		wrote_back(&device->write_back, EXIT_RUNTIME);
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
		if (must_write_back(device)) {
			write_back(device);
			return;
		}
		device->stop_command = (struct ctrl_command){
			.op = UBLK_CMD_STOP_DEV,
			.dev_id = device->id,
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

static void stop(struct device *device, bool drain)
{
	if (drain && !device->draining) {
		device->draining = true;
		for (unsigned q = 0; q < device->nr_queues && !device->leaving; q++) {
			if (device->queues[q].serving)
				reactor_drain(&device->queues[q]);
		}
		if (device->leaving)
			device_go_down(device);
	}
	if (device->stopping)
		return;
	device->stopping = true;
	ev_timer_stop(device->loop, &device->timer);
	if (device->starting)
		node_abandon(&device->node);
	if (device->watching)
		autoclear_stop(&device->autoclear);
	device->watching = false;
	if (device->probing)
		helper_abandon(&device->probe);
	device->probing = false;
	device_go_down(device);
}

void device_stop(struct device *device, bool drain)
{
	const char *before = log_switch(device_about(device));

	stop(device, drain);
	log_switch(before);
}

void device_stop_used(struct device *device)
{
	device->forced = true;
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
