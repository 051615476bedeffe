/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is cached for a device is written back before it is stopped. A helper does it, which
 * may not be started, or be killed: then there are some tries more.
 */
#define _GNU_SOURCE
#include <string.h>

#include "device-life.h"
#include "exit.h"
#include "log.h"
#include "util/macros.h"

/* Between tries; in seconds. */
#define TRIES 5
#define PAUSE 1
/* All I/O fails by now, but for what a backing never answers. In seconds. */
#define DRAINED_DEADLINE 5

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

static void reminded(struct ev_loop *loop, ev_timer *timer, int events)
{
	const char *before = log_switch(device_about(container_of(timer, struct device, timer)));

	(void)loop;
	(void)events;
	remind_of_stop();
	log_switch(before);
}

/* A queue that nobody serves would not write anything. */
bool device_is_served(const struct device *device)
{
	return !device->broken && device_queues_left(device) == device->nr_queues;
}

/*
 * Where I/O waits for the next server, a stop begins by failing all that comes; else it
 * writes back by itself, for as long as that takes.
 */
bool device_must_write_back(const struct device *device)
{
	return (features_keep_io(device->info.flags) || device->forced) && device->node.path[0] &&
	       !device->written && device_is_served(device);
}

static void end(struct device *device, int status)
{
	ev_timer_stop(device->loop, &device->timer);
	device->writing = false;
	device->written = true;
	if (device->stopping)
		device_wrote_back(device, status);
	else
		device_wrote_back_unused(device, !status);
}

static void write_back(struct device *device);

static void try_again(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct device *device = container_of(timer, struct device, timer);
	const char *before = log_switch(device_about(device));

	(void)loop;
	(void)events;
	write_back(device);
	log_switch(before);
}

/*
 * What the kernel could not write it has forgotten, so another try would find nothing to
 * write and would succeed.
 */
static bool is_last(const struct device *device, int status)
{
	return !status || status == EXIT_BACKING || device->draining || !device_is_served(device) ||
	       (status < 0 && device->forced) || device->writes == TRIES;
}

static void wrote_back(struct helper *helper, int status)
{
	struct device *device = container_of(helper, struct device, write_back);

	if (is_last(device, status)) {
		end(device, status);
		return;
	}
	log_debug("try %u to write back failed", device->writes);
	ev_timer_stop(device->loop, &device->timer);
	ev_timer_init(&device->timer, try_again, PAUSE, 0);
	ev_timer_start(device->loop, &device->timer);
}

static void write_back(struct device *device)
{
	double deadline = device->draining ? DRAINED_DEADLINE :
			  device->forced   ? FORCED_DEADLINE :
					     0;
	int ret;

	device->writes++;
	device->write_back.done = wrote_back;
	ev_timer_stop(device->loop, &device->timer);
	ev_timer_init(&device->timer, reminded, STOP_REMINDER, STOP_REMINDER);
	ev_timer_start(device->loop, &device->timer);
	ret = helper_start(&device->write_back, device->loop,
			   (const char *const[]){ device->forced ? HELPER_RELEASE :
								   HELPER_WRITE_BACK,
						  device->node.path, NULL },
			   deadline);
	if (!ret)
		return;
	if (device->writes == 1)
		ublkd_error("cannot start a process that writes back what is cached for '%s': %s",
			    device->node.path, strerror(-ret));
	wrote_back(&device->write_back, EXIT_RUNTIME);
}

void device_write_back(struct device *device)
{
	device->writing = true;
	device->writes = 0;
	write_back(device);
}

void device_write_back_abandon(struct device *device)
{
	if (!device->writing)
		return;
	if (ev_is_active(&device->write_back.child))
		helper_abandon(&device->write_back);
	ev_timer_stop(device->loop, &device->timer);
	device->writing = false;
}

void device_write_back_cut(struct device *device)
{
	device_write_back_abandon(device);
	end(device, -1);
}

static void drained_late(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct device *device = container_of(timer, struct device, timer);
	const char *before = log_switch(device_about(device));

	(void)loop;
	(void)events;
	device_write_back_cut(device);
	log_switch(before);
}

/* The one that runs is to say what fails: the kernel says so once. */
void device_write_back_drained(struct device *device)
{
	if (!device->writing)
		return;
	ev_timer_stop(device->loop, &device->timer);
	if (!ev_is_active(&device->write_back.child)) {
		write_back(device);
		return;
	}
	ev_timer_init(&device->timer, drained_late, DRAINED_DEADLINE, 0);
	ev_timer_start(device->loop, &device->timer);
}
