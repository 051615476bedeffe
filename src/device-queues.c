/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The queues of a device, as the main thread sees them. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device-life.h"
#include "exit.h"
#include "log.h"

/* The last report may have been all that the way down waited for. */
static void queue_reported(struct queue *queue)
{
	struct device *device = queue->shape->owner;

	if ((device->stopped || device->leaving) && !device_queues_left(device))
		device_go_down(device);
}

static void log_queue(const struct queue *queue)
{
	const struct queue_stats *s = &queue->stats_copy;

	char share[8] = "";

	if (queue->tag_step > 1)
		snprintf(share, sizeof(share), "/%u", queue->share);
	ublkd_note("q%u%s: read=%" PRIu64 " write=%" PRIu64 " flush=%" PRIu64 " discard=%" PRIu64
		   " write-zeroes=%" PRIu64 " read-bytes=%" PRIu64 " write-bytes=%" PRIu64
		   " errors=%" PRIu64 " fua=%" PRIu64 " short=%" PRIu64 " linked=%" PRIu64
		   " broken=%" PRIu64 " batches=%" PRIu64 " tags=%u/%u max-inflight=%u enters=%" PRIu64
		   " cqes=%" PRIu64 " polled=%" PRIu64,
		   queue->id, share, s->ops[UBLKD_OP_READ], s->ops[UBLKD_OP_WRITE],
		   s->ops[UBLKD_OP_FLUSH], s->ops[UBLKD_OP_DISCARD],
		   s->ops[UBLKD_OP_WRITE_ZEROES], s->read_bytes, s->write_bytes, s->errors, s->fua,
		   s->short_parts, s->linked, s->broken, s->batches, s->tags_served,
		   queue->nr_tags, s->max_in_flight, s->enters, s->cqes, s->polled);
}

static void ask_queue(struct queue *queue)
{
	struct device *device = queue->shape->owner;

	device->uncounted += !queue->asked;
	reactor_ask_stats(queue);
}

static void counted(struct device *device)
{
	device->logging = false;
	if (device->counting) {
		device->counting = false;
		device->on_counted(device);
	}
}

void device_log_stats(struct device *device)
{
	const char *before = log_switch(device_about(device));

	for (unsigned q = 0; q < device->nr_queues; q++) {
		if (device->queues[q].serving) {
			device->logging = true;
			ask_queue(&device->queues[q]);
		} else {
			log_queue(&device->queues[q]);
		}
	}
	log_switch(before);
}

void device_count(struct device *device)
{
	device->counting = true;
	for (unsigned q = 0; q < device->nr_queues; q++) {
		if (device->queues[q].serving)
			ask_queue(&device->queues[q]);
	}
	if (!device->uncounted)
		counted(device);
}

static void stats_copied(struct queue *queue)
{
	struct device *device = queue->shape->owner;

	if (device->logging)
		log_queue(queue);
	if (!--device->uncounted)
		counted(device);
	queue_reported(queue);
}

static void queue_resized(struct queue *queue)
{
	struct device *device = queue->shape->owner;

	queue_reported(queue);
	resize_told(&device->resize);
}

static void log_failure(struct queue_failure *failure)
{
	struct device *device = failure->queue->shape->owner;
	char others[48] = "";

	if (!log_limit_passes(&device->failures, failure->unreported + 1))
		return;
	if (failure->unreported)
		snprintf(others, sizeof(others), " (and %u other requests before it)",
			 failure->unreported);
	ublkd_error("%s of %u bytes at %" PRIu64 " failed: %s%s", io_op_name(failure->op),
		    failure->length, failure->offset, strerror(-failure->error), others);
}

/* One is as good as another: what they say of a ring that is broken is the same. */
static void queue_failed(struct queue *queue)
{
	struct device *device = queue->shape->owner;

	if (!device->broken)
		ublkd_error("%s: %s", queue->reactor->name, queue->error_text);
	device->broken = true;
	device_fail(device, EXIT_RUNTIME);
}

static void queue_attached(struct queue *queue)
{
	struct device *device = queue->shape->owner;

	device->attaching--;
	if (queue->attach_error)
		queue_failed(queue);
	if (device->stopping) {
		device_go_down(device);
		return;
	}
	log_debug("%s serves queue %u", queue->reactor->name, queue->id);
	if (!device->attaching)
		device_start_disk(device);
}

static void queue_ended(struct queue *queue)
{
	struct device *device = queue->shape->owner;
	bool expected = device->stopping || device->stop_command.pending;

	if (queue->error) {
		queue_failed(queue);
	} else if (!expected) {
		ublkd_error("the device was stopped by somebody else");
		device_fail(device, EXIT_RUNTIME);
	}
	pool_release(queue);
	queue_reported(queue);
}

/* Queues, with whom the reactors talk about each. */
int device_make_queues(struct device *device)
{
	unsigned shares = plan_shares(device->config);

	device->queues = alloc_lines(device->info.nr_hw_queues * shares, sizeof(*device->queues));
	if (!device->queues)
		return -ENOMEM;
	device->nr_queues = device->info.nr_hw_queues * shares;
	for (unsigned q = 0; q < device->nr_queues; q++) {
		struct queue *queue = &device->queues[q];

		queue->shape = &device->shape;
		queue->id = (uint16_t)(q / shares);
		queue->share = (uint16_t)(q % shares);
		/* Neighbouring tags are used together. */
		queue->first_tag = queue->share;
		queue->tag_step = (uint16_t)shares;
		queue->nr_tags = (uint16_t)((device->shape.depth - queue->share + shares - 1) / shares);
	}
	device->shape.main_box = &device->pool->box;
	device->shape.on_attached = queue_attached;
	device->shape.on_broken = queue_failed;
	device->shape.on_ended = queue_ended;
	device->shape.on_stats = stats_copied;
	device->shape.on_drained = queue_reported;
	device->shape.on_resized = queue_resized;
	device->shape.on_failure = log_failure;
	device->shape.owner = device;
	device->shape.busy = device->former;
	return 0;
}
