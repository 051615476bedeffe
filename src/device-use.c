/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A device that is taken down once nobody uses it. */
#define _GNU_SOURCE
#include <errno.h>

#include "device-life.h"
#include "log.h"
#include "use.h"
#include "util/macros.h"

/* Seconds. */
#define PROBE_DEADLINE 10
/* Whoever looks at each device that comes or changes, such as udev, has it open so long. */
#define LOOK_PATIENCE 2
#define LOOK_PAUSE 0.1

static void try_to_stop(struct device *device);

static void try_to_stop_again(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct device *device = container_of(timer, struct device, timer);
	const char *before = log_switch(device_about(device));

	(void)loop;
	(void)events;
	/* The answer to the autoclear's question is ours too. */
	if (!device->stop_command.pending)
		try_to_stop(device);
	log_switch(before);
}

static void in_use(struct device *device)
{
	if (!device->wanted_gone || (ev_is_active(&device->timer) && !device->writing))
		return;
	if (device->info.flags & UBLK_F_SAFE_STOP_DEV &&
	    ev_now(device->loop) < device->wanted_until) {
		ev_timer_init(&device->timer, try_to_stop_again, LOOK_PAUSE, 0);
		ev_timer_start(device->loop, &device->timer);
		return;
	}
	device->wanted_gone = false;
	device->on_in_use(device);
}

static void tried_to_stop(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, stop_command);

	if (result && result != -EBUSY && !device->stopping)
		ctrl_report(command, result);
	if (result && !device->stopping && (result == -EBUSY || device->wanted_gone)) {
		in_use(device); /* of whoever was quicker than the watch, which goes on */
		return;
	}
	device->stopped = !result;
	if (device->stopping) {
		device_go_down(device);
		return;
	}
	log_debug("the last user is gone");
	device_stop(device, false);
}

/* Where the driver can, it makes sure that nobody comes in between. */
static void try_to_stop(struct device *device)
{
	device->stop_command = (struct ctrl_command){
		.op = UBLK_CMD_TRY_STOP_DEV,
		.dev_id = device->id,
		.of_user = device_is_of_user(device),
		.deadline = STOP_REMINDER,
		.done = tried_to_stop,
		.late = device_stop_late,
	};
	ctrl_issue(device->ctrl, &device->stop_command);
}

/* A program may have it open, which nobody could tell: there is a way back until that is written. */
static void stop_written(struct device *device)
{
	if (device->writing)
		return;
	if (device_must_write_back(device))
		device_write_back(device);
	else
		device_stop(device, false);
}

void device_wrote_back_unused(struct device *device, bool well)
{
	/* Said to each who asks; to nobody in particular, once. */
	if (!well && (device->unclaimed || !device->unwritten))
		ublkd_error("what is cached for '%s' could not be written back: the device is not "
			    "deleted, and is served as before", device->node.path);
	device->unwritten = !well;
	if (well && (device->unclaimed ||
		     (device->watching && autoclear_is_unused(&device->autoclear)))) {
		device_stop(device, false);
		return;
	}
	device->written = false;
	if (!device->unclaimed)
		return; /* the watch goes on */
	device->unclaimed = device->wanted_gone = false;
	device->on_in_use(device);
}

static void device_unused(struct autoclear *watch)
{
	struct device *device = container_of(watch, struct device, autoclear);

	/* The watch goes on, and finds it unused again. */
	if (device->stopping || device->stop_command.pending || device->resize.busy)
		return;
	if (device->info.flags & UBLK_F_SAFE_STOP_DEV)
		try_to_stop(device);
	else
		stop_written(device);
}

static void probed(struct helper *probe, int status)
{
	struct device *device = container_of(probe, struct device, probe);

	device->probing = false;
	device->unclaimed = !status;
	if (status)
		in_use(device);
	else
		stop_written(device);
}

static void stop_unused(struct device *device)
{
	if (device->stopping || device->wanted_gone)
		return;
	device->wanted_gone = true;
	device->unwritten = false;
	device->wanted_until = ev_now(device->loop) + LOOK_PATIENCE;
	/* The answer to the autoclear's question is ours too; a resize calls again. */
	if (device->stop_command.pending || device->resize.busy)
		return;
	if (device->info.flags & UBLK_F_SAFE_STOP_DEV) {
		try_to_stop(device);
		return;
	}
	device->probe.done = probed;
	device->probing = !helper_start(&device->probe, device->loop,
					(const char *const[]){ HELPER_PROBE, device->node.path,
							       NULL },
					PROBE_DEADLINE);
	if (!device->probing)
		in_use(device);
}

/*
 * Nobody has seen how a device was used that is taken over. Where only what has claimed it
 * counts, it must be known to be used: else it would be taken from who has it open.
 */
static bool was_used(const struct device *device)
{
	char holder[USE_TEXT_SIZE];

	return device->taken && (device->info.flags & UBLK_F_SAFE_STOP_DEV ||
				 use_find_node(device->node.path, holder));
}

int device_watch_use(struct device *device)
{
	int ret;

	if (device->watching)
		return 0;
	device->autoclear = (struct autoclear){
		.loop = device->loop,
		.node = device->node.path,
		.used = was_used(device),
		.unused = device_unused,
	};
	ret = autoclear_start(&device->autoclear);
	device->watching = !ret;
	return ret;
}

int device_stop_when_unused(struct device *device)
{
	const char *before = log_switch(device_about(device));
	int ret = device->stopping ? 0 : device_watch_use(device);

	if (device->watching)
		autoclear_want(&device->autoclear, true);
	log_switch(before);
	return ret;
}

void device_stay(struct device *device)
{
	if (!device->watching)
		return;
	autoclear_want(&device->autoclear, false);
	if (device->config->autoclear)
		return;
	autoclear_stop(&device->autoclear);
	device->watching = false;
}

void device_stop_unused(struct device *device)
{
	const char *before = log_switch(device_about(device));

	stop_unused(device);
	log_switch(before);
}
