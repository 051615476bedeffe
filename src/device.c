/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "device.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "exit.h"
#include "log.h"
#include "util/macros.h"
#include "util/parse.h"

/* Seconds. Starting scans partitions on some kernels, which is I/O. */
#define SHORT_DEADLINE 10
#define START_DEADLINE 60
/* Stopping writes dirty data back, which takes as long as it takes. */
#define STOP_REMINDER 30
/* A stop that is forced gives up what is not written back by then. */
#define FORCED_DEADLINE 30
#define PROBE_DEADLINE 10
#define QUEUE_END_DEADLINE 30
/* Deleting waits for the last user of the disk, who may stay for days. */
#define DELETE_PATIENCE 5
#define FORCED_PATIENCE 1 /* where it is likely */
/* A dead server's file of the device may be closed after the device waits. */
#define RECOVERY_TRIES 100
#define RECOVERY_PAUSE 0.1
/* Between two rounds in which the driver gives back what it has, and for all of them. */
#define LEAVE_PAUSE 0.02
#define LEAVE_DEADLINE 10
/* Whoever looks at each device that comes or changes, such as udev, has it open so long. */
#define LOOK_PATIENCE 2
#define LOOK_PAUSE 0.1

static void teardown(struct device *device);

static const char *about(const struct device *device)
{
	return device->name ? device->name : device->about;
}

/* The first failure decides the exit status. */
static void fail(struct device *device, int status)
{
	if (!device->status)
		device->status = status;
	device_stop(device, false);
}

static void gone(struct device *device)
{
	if (device->gone)
		return;
	device->gone = true;
	ev_timer_stop(device->loop, &device->queue_timer);
	ev_timer_stop(device->loop, &device->timer);
	device->on_gone(device, device->status);
}

/* ---- commands ---------------------------------------------------------------- */

static void command_late(struct ctrl_command *command)
{
	struct device *device = container_of(command, struct device, command);

	/* Once is enough. */
	if (device->gone)
		return;
	ublkd_error("%s has not ended within %.0f s: the driver does not answer; the kernel log "
		    "may say why", ctrl_op_name(command->op), command->deadline);
	device->status = EXIT_TIMEOUT;
	gone(device);
}

static void issue(struct device *device, uint32_t op, void *buffer, size_t length, uint64_t data,
		  double deadline, void (*done)(struct ctrl_command *command, int result))
{
	assert(!device->command.pending);
	device->command = (struct ctrl_command){
		.op = op,
		.dev_id = device->id,
		.buffer = buffer,
		.length = (uint16_t)length,
		.data = data,
		.deadline = deadline,
		.done = done,
		.late = command_late,
	};
	ctrl_issue(device->ctrl, &device->command);
}

/*
 * What every command's end begins with: the device, or NULL when there is
 * nothing to go on with, as the command failed or the device is going.
 */
static struct device *ended_well(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, command);

	if (device->gone)
		return NULL;
	if (result < 0 && !device->stopping) {
		ctrl_report(command, result);
		fail(device, result == -EEXIST ? EXIT_TAKEN :
			     result == -EPERM || result == -EACCES || result == -EOPNOTSUPP ?
						 EXIT_KERNEL :
						 EXIT_RUNTIME);
		return NULL;
	}
	if (device->stopping) {
		teardown(device);
		return NULL;
	}
	return device;
}

/* ---- the way down -------------------------------------------------------------- */

static void node_gone(struct node *node, bool is_gone)
{
	struct device *device = container_of(node, struct device, node);

	if (!is_gone) {
		ublkd_error("the device is deleted, but '%s' is still there", node->path);
		if (!device->status)
			device->status = EXIT_RUNTIME;
	}
	gone(device);
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
		gone(device);
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
	gone(device);
}

static void delete(struct device *device)
{
	ev_timer_stop(device->loop, &device->queue_timer);
	if (device->shape.char_fd >= 0)
		close(device->shape.char_fd);
	device->shape.char_fd = -1;
	issue(device, UBLK_CMD_DEL_DEV, NULL, 0, 0,
	      device->forced ? FORCED_PATIENCE : DELETE_PATIENCE, deleted);
	device->command.late = delete_late;
}

static void stop_done(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, stop_command);

	if (result && result != -ENODEV)
		ctrl_report(command, result);
	device->stopped = true;
	teardown(device);
}

static unsigned queues_left(const struct device *device)
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

static void stop_late(struct ctrl_command *command)
{
	(void)command;
	remind_of_stop();
}

static void write_back_late(struct ev_loop *loop, ev_timer *timer, int events)
{
	const char *before = log_switch(about(container_of(timer, struct device, timer)));

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
	teardown(device);
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
	const char *before = log_switch(about(device));

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
	teardown(device);
}

/* In the middle of requests; the driver sees it when this process ends. */
static void leave_as_it_is(struct device *device)
{
	if (device->info.flags & UBLK_F_QUIESCE)
		ublkd_note("%u queue(s) are left before all their requests are done",
			   queues_left(device));
	device->holds = true;
	gone(device);
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
	if (!queues_left(device)) {
		close(device->shape.char_fd);
		device->shape.char_fd = -1;
		device->added = false;
		gone(device);
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
	const char *before = log_switch(about(device));

	(void)loop;
	(void)events;
	ublkd_error("%u queue(s) have not ended within %d s of the stop", queues_left(device),
		    QUEUE_END_DEADLINE);
	device->status = EXIT_TIMEOUT;
	gone(device);
	log_switch(before);
}

/*
 * One step further down: called when the stop was asked for and whenever
 * something that it waits for has ended.
 */
static void teardown(struct device *device)
{
	assert(device->stopping);
	if (device->gone || device->command.pending || device->hunting || device->writing ||
	    device->resize.busy)
		return; /* its end calls again */
	/* A device that waits is left as it is; once fetched from, until we exit. */
	if (!device->added) {
		device->holds = device->taken;
		gone(device);
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
			.late = stop_late,
		};
		ctrl_issue(device->ctrl, &device->stop_command);
		return;
	}
	if (queues_left(device)) {
		ev_timer_stop(device->loop, &device->queue_timer);
		ev_timer_set(&device->queue_timer, QUEUE_END_DEADLINE, 0);
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
			teardown(device);
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
	teardown(device);
}

void device_stop(struct device *device, bool drain)
{
	const char *before = log_switch(about(device));

	stop(device, drain);
	log_switch(before);
}

void device_stop_used(struct device *device)
{
	device->forced = true;
	device_stop(device, false);
}

void device_leave(struct device *device)
{
	assert(device_can_stay(device));
	device->leaving = true;
	device->leave_until = ev_now(device->loop) + LEAVE_DEADLINE;
	device_stop(device, false);
}

/* ---- queues -------------------------------------------------------------------- */

/* The last report may have been all that the way down waited for. */
static void queue_reported(struct queue *queue)
{
	struct device *device = queue->shape->owner;

	if ((device->stopped || device->leaving) && !queues_left(device))
		teardown(device);
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
	const char *before = log_switch(about(device));

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
	char others[48] = "";

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
	fail(device, EXIT_RUNTIME);
}

static void added_disk(struct ctrl_command *command, int result);

static void start_disk(struct device *device)
{
	issue(device, device->former ? UBLK_CMD_END_USER_RECOVERY : UBLK_CMD_START_DEV, NULL, 0,
	      (uint64_t)getpid(), START_DEADLINE, added_disk);
}

static void queue_attached(struct queue *queue)
{
	struct device *device = queue->shape->owner;

	device->attaching--;
	if (queue->attach_error)
		queue_failed(queue);
	if (device->stopping) {
		teardown(device);
		return;
	}
	log_debug("%s serves queue %u", queue->reactor->name, queue->id);
	if (!device->attaching)
		start_disk(device);
}

static void queue_ended(struct queue *queue)
{
	struct device *device = queue->shape->owner;
	bool expected = device->stopping || device->stop_command.pending;

	if (queue->error) {
		queue_failed(queue);
	} else if (!expected) {
		ublkd_error("the device was stopped by somebody else");
		fail(device, EXIT_RUNTIME);
	}
	pool_release(queue);
	queue_reported(queue);
}

/* Queues, with whom the reactors talk about each. */
static int make_queues(struct device *device)
{
	unsigned shares = plan_shares(device->config);

	device->queues = calloc(device->info.nr_hw_queues * shares, sizeof(*device->queues));
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
	return 0;
}
/* ---- the last user ------------------------------------------------------------- */

static void try_to_stop(struct device *device);

static void try_to_stop_again(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct device *device = container_of(timer, struct device, timer);
	const char *before = log_switch(about(device));

	(void)loop;
	(void)events;
	/* The answer to the autoclear's question is ours too. */
	if (!device->stop_command.pending)
		try_to_stop(device);
	log_switch(before);
}

static void in_use(struct device *device)
{
	if (!device->wanted_gone || ev_is_active(&device->timer))
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
		teardown(device);
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
		.deadline = STOP_REMINDER,
		.done = tried_to_stop,
		.late = stop_late,
	};
	ctrl_issue(device->ctrl, &device->stop_command);
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
		device_stop(device, false);
}

static void probed(struct helper *probe, int status)
{
	struct device *device = container_of(probe, struct device, probe);

	device->probing = false;
	if (status)
		in_use(device);
	else
		device_stop(device, false);
}

static void stop_unused(struct device *device)
{
	if (device->stopping || device->wanted_gone)
		return;
	device->wanted_gone = true;
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

static int watch_use(struct device *device)
{
	int ret;

	if (device->watching)
		return 0;
	device->autoclear = (struct autoclear){
		.loop = device->loop,
		.node = device->node.path,
		.unused = device_unused,
	};
	ret = autoclear_start(&device->autoclear);
	device->watching = !ret;
	return ret;
}

int device_stop_when_unused(struct device *device)
{
	const char *before = log_switch(about(device));
	int ret = device->stopping ? 0 : watch_use(device);

	/* Nor need it have been used. */
	device->autoclear.used = true;
	log_switch(before);
	return ret;
}

void device_stay(struct device *device)
{
	if (!device->watching || device->config->autoclear)
		return;
	autoclear_stop(&device->autoclear);
	device->watching = false;
}

void device_stop_unused(struct device *device)
{
	const char *before = log_switch(about(device));

	stop_unused(device);
	log_switch(before);
}

/* ---- another size ------------------------------------------------------------------ */

static void resized(struct resize *resize)
{
	struct device *device = container_of(resize, struct device, resize);

	if (device->gone)
		return;
	device->on_resized(device);
	if (device->stopping && resize->status == EXIT_TIMEOUT) {
		device->status = EXIT_TIMEOUT;
		gone(device);
	} else if (device->stopping) {
		teardown(device);
	} else if (device->wanted_gone && !resize->busy) {
		device->wanted_gone = false;
		stop_unused(device);
	}
}

int device_find_size(struct device *device, uint64_t *size, bool shrink)
{
	const char *before = log_switch(about(device));
	int status = resize_check(device, size, shrink);

	log_switch(before);
	return status;
}

void device_resize(struct device *device, uint64_t size)
{
	const char *before = log_switch(about(device));

	device->resize = (struct resize){ .device = device, .size = size, .done = resized };
	resize_start(&device->resize);
	log_switch(before);
}

/* ---- the way up ---------------------------------------------------------------- */

static void node_ready(struct node *node, int error)
{
	struct device *device = container_of(node, struct device, node);

	device->starting = false;
	if (error) {
		fail(device, EXIT_RUNTIME);
		return;
	}
	device->live = true;
	if (device->config->autoclear && watch_use(device)) {
		fail(device, EXIT_RUNTIME);
		return;
	}
	device->on_live(device);
}

/* A file may describe it by now, or no longer, and that is what the next server goes by. */
static void note_description(struct device *device)
{
	json_t *was = device->former->options, *is = device->entry.options;

	if (was != is && !json_equal(was, is))
		table_write(device->table, &device->entry);
}

static void added_disk(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, command);

	/* Its I/O goes on: from now on it is one like ours. */
	if (!result && device->former) {
		note_description(device);
		device->former = NULL;
		device->added = device->entered = true;
		/* Told to stop meanwhile: as before, it waits. */
		if (device->stopping) {
			device->leaving = true;
			device->leave_until = ev_now(device->loop) + LEAVE_DEADLINE;
		}
	}
	if (!ended_well(command, result))
		return;
	device->starting = true;
	device->node = (struct node){
		.loop = device->loop,
		.id = device->id,
		.sectors = device->plan.sectors,
		.uid = device->uid,
		.gid = device->gid,
		.mode = device->config->mode_given ? (int)device->config->mode : -1,
		.partscan = device->config->partscan,
		.never_scanned = device->info.flags & UBLK_F_NO_AUTO_PART_SCAN,
		.ready = node_ready,
		.gone = node_gone,
	};
	node_publish(&device->node);
}

static void serve_queues(struct device *device)
{
	device->shape.target = device->target;
	device->shape.depth = device->info.queue_depth;
	device->shape.max_io = (uint32_t)device->config->max_io;
	device->shape.size = device->plan.sectors << UBLK_SECTOR_SHIFT;
	device->shape.data = device->plan.data;
	device->shape.pool = device->plan.pool;
	device->shape.batch = device->config->batch;
	device->shape.link = (enum link_mode)device->config->link;
	device->shape.huge = (enum huge_pages)device->config->huge_pages;
	if (make_queues(device)) {
		ublkd_error("no memory for the queues");
	} else {
		device->attaching = device->nr_queues;
		if (!pool_serve(device->pool, device->config, device->id, device->queues,
				device->nr_queues, device->queue_cpus))
			return;
		device->attaching = 0;
	}
	fail(device, EXIT_RUNTIME);
}

static void ask_affinity(struct device *device);

static void got_affinity(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, command);
	cpu_set_t *cpus = &device->queue_cpus[device->affinity_queue];

	if (device->gone)
		return;
	if (device->stopping) {
		teardown(device);
		return;
	}
	/* Without it the reactor runs anywhere, which is slower but right. */
	if (result)
		log_debug("no CPUs known for queue %u: %s", device->affinity_queue,
			  strerror(-result));
	else
		memcpy(cpus, device->affinity, MIN(sizeof(*cpus), sizeof(device->affinity)));
	if (++device->affinity_queue < device->info.nr_hw_queues)
		ask_affinity(device);
	else
		serve_queues(device);
}

static void ask_affinity(struct device *device)
{
	issue(device, UBLK_CMD_GET_QUEUE_AFFINITY, device->affinity, sizeof(device->affinity),
	      device->affinity_queue, SHORT_DEADLINE, got_affinity);
}

static void find_cpus(struct device *device)
{
	/* Reactors that others share run anywhere. */
	if (pool_is_shared(device->pool)) {
		serve_queues(device);
		return;
	}
	device->queue_cpus = calloc(device->info.nr_hw_queues, sizeof(*device->queue_cpus));
	if (!device->queue_cpus) {
		ublkd_error("no memory for the queues");
		fail(device, EXIT_RUNTIME);
		return;
	}
	ask_affinity(device);
}

static void params_set(struct ctrl_command *command, int result)
{
	struct device *device = ended_well(command, result);

	if (device)
		find_cpus(device);
}

static int open_char_device(struct device *device)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/ublkc%u", device->id);
	device->shape.char_fd = open(path, O_RDWR | O_CLOEXEC);
	if (device->shape.char_fd >= 0)
		return 0;
	ublkd_error("cannot open '%s': %s", path, strerror(errno));
	return -errno;
}

/* The driver does not refuse features that it lacks, it clears their flags. */
static bool granted(struct device *device, uint64_t asked)
{
	uint64_t missing = asked & ~device->info.flags;

	if (missing)
		ublkd_error("the driver did not grant the features %#" PRIx64 ", asked %#" PRIx64
			    ", got %#" PRIx64, missing, asked, device->info.flags);
	return !missing;
}

/* What the next server compares. */
static void describe(struct device *device)
{
	const struct device_config *config = device->config;
	struct table_entry *entry = &device->entry;

	snprintf(entry->identity, sizeof(entry->identity), "%s", device->target->identity);
	entry->sectors = device->plan.sectors;
	entry->block_size = device->plan.logical_block;
	entry->physical_block_size = device->plan.physical_block;
	entry->attributes = device->params.basic.attrs;
	entry->queues = config->queues;
	entry->depth = config->depth;
	entry->max_io = config->max_io;
	entry->features = device->asked;
}

/* Before there is a disk, so that no device waits that nobody knows of. */
static int enter_table(struct device *device)
{
	int ret;

	if (!(device->asked & UBLK_F_USER_RECOVERY))
		return 0;
	device->entry.id = device->id;
	device->entry.cookie = device->info.ublksrv_flags;
	ret = table_write(device->table, &device->entry);
	device->entered = !ret;
	return ret;
}

static void added(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, command);

	/* Before anything else: from now on there is a device to delete. */
	if (!result) {
		device->added = true;
		device->id = device->info.dev_id;
	}
	if (!ended_well(command, result))
		return;
	snprintf(device->about, sizeof(device->about), "ublkb%u", device->id);
	if (!granted(device, device->asked)) {
		fail(device, EXIT_KERNEL);
		return;
	}
	if (device->info.nr_hw_queues != device->config->queues)
		ublkd_note("the kernel gives %u queue(s) instead of %" PRIu64
			   ": there are no more CPUs", device->info.nr_hw_queues,
			   device->config->queues);
	if (enter_table(device) || open_char_device(device)) {
		fail(device, EXIT_RUNTIME);
		return;
	}
	issue(device, UBLK_CMD_SET_PARAMS, &device->params, sizeof(device->params), 0,
	      SHORT_DEADLINE, params_set);
}

static void hunted(struct orphan_hunt *hunt)
{
	struct device *device = container_of(hunt, struct device, hunt);

	device->hunting = false;
	if (device->stopping) {
		teardown(device);
		return;
	}
	device->info = (struct ublk_dev_info){
		.nr_hw_queues = (uint16_t)device->config->queues,
		.queue_depth = (uint16_t)device->config->depth,
		.max_io_buf_bytes = (uint32_t)device->config->max_io,
		.dev_id = device->id,
		.flags = device->asked,
		.ublksrv_flags = orphan_cookie(device->asked & UBLK_F_USER_RECOVERY),
	};
	issue(device, UBLK_CMD_ADD_DEV, &device->info, sizeof(device->info), 0, SHORT_DEADLINE,
	      added);
}

/* ---- taking over ---------------------------------------------------------------- */

static void start_recovery(struct device *device);

static void try_again(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct device *device = container_of(timer, struct device, timer);
	const char *before = log_switch(about(device));

	(void)loop;
	(void)events;
	start_recovery(device);
	log_switch(before);
}

static void recovery_started(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, command);

	if (result == -EBUSY && !device->stopping && ++device->tries < RECOVERY_TRIES) {
		ev_timer_init(&device->timer, try_again, RECOVERY_PAUSE, 0);
		ev_timer_start(device->loop, &device->timer);
		return;
	}
	device->taken = !result;
	if (!ended_well(command, result))
		return;
	if (open_char_device(device))
		fail(device, EXIT_RUNTIME);
	else
		find_cpus(device);
}

static void start_recovery(struct device *device)
{
	issue(device, UBLK_CMD_START_USER_RECOVERY, NULL, 0, 0, SHORT_DEADLINE, recovery_started);
}

static void found(struct ctrl_command *command, int result)
{
	struct device *device = ended_well(command, result);

	if (!device)
		return;
	snprintf(device->about, sizeof(device->about), "ublkb%u", device->id);
	if (device->info.ublksrv_flags != device->former->cookie) {
		ublkd_error("device %u: expected the one that waits, got another's", device->id);
		fail(device, EXIT_TAKEN);
	} else if (!granted(device, device->asked)) {
		fail(device, EXIT_KERNEL);
	} else {
		start_recovery(device);
	}
}

static int differs(struct device *device)
{
	char difference[TABLE_DIFFERENCE_SIZE];

	device->entry.id = device->config->id_given ? device->config->id : device->former->id;
	device->entry.cookie = device->former->cookie;
	device->entry.resized = device->former->resized;
	if (!table_differs(device->former, &device->entry, difference))
		return EXIT_DONE;
	ublkd_error("the device %u is not what is described: %s; it is left as it is",
		    (unsigned)device->former->id, difference);
	return EXIT_BACKING;
}

static void take_over(struct device *device)
{
	int status = differs(device);

	if (status) {
		fail(device, status);
		return;
	}
	device->id = (uint32_t)device->former->id;
	issue(device, UBLK_CMD_GET_DEV_INFO, &device->info, sizeof(device->info), 0,
	      SHORT_DEADLINE, found);
}

/* ---- the beginning ---------------------------------------------------------------- */

/* A device that waits has the features that its first server, an older one perhaps, asked for. */
static uint64_t features_to_choose(const struct device *device)
{
	return device->former ? device->features & device->former->features : device->features;
}

static int plan(struct device *device)
{
	uint64_t features = features_to_choose(device);
	unsigned queues = (unsigned)MIN(device->config->queues,
					(uint64_t)sysconf(_SC_NPROCESSORS_CONF));
	int status = plan_device(&device->plan, device->config, device->target, features, queues);

	if (!status)
		status = plan_crash(&device->plan, device->config, device->target, features,
				    device->table);
	if (status)
		return status;
	plan_params(&device->params, &device->plan, device->config, device->target);
	device->asked = device->plan.features | (features & UBLK_F_NO_AUTO_PART_SCAN);
	describe(device);
	return EXIT_DONE;
}

int device_compare(struct device *device)
{
	int status = plan(device);

	return status ? status : differs(device);
}

static void got_features(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, command);
	int status;

	/* Before 6.5 there is no such command: then there are no features to choose. */
	if (result == -EOPNOTSUPP || result == -EINVAL)
		result = 0;
	if (!ended_well(command, result))
		return;
	log_debug("the driver offers features %#" PRIx64, device->features);
	status = plan(device);
	if (status) {
		fail(device, status);
		return;
	}
	if (device->former) {
		take_over(device);
		return;
	}
	device->hunt = (struct orphan_hunt){
		.wanted = device->id,
		.no_others = device->dead_are_gone,
		.done = hunted,
	};
	device->hunting = true;
	orphan_hunt(&device->hunt, device->ctrl);
}

void device_start(struct device *device)
{
	const char *before = log_switch(about(device));

	snprintf(device->about, sizeof(device->about), "ublkd");
	device->shape.char_fd = -1;
	ev_timer_init(&device->queue_timer, queues_late, QUEUE_END_DEADLINE, 0);
	ev_timer_init(&device->timer, try_again, RECOVERY_PAUSE, 0);
	device->id = UBLK_DEV_ID_ANY;
	issue(device, UBLK_CMD_GET_FEATURES, &device->features, sizeof(device->features), 0,
	      SHORT_DEADLINE, got_features);
	device->id = device->config->id_given ? (uint32_t)device->config->id : UBLK_DEV_ID_ANY;
	log_switch(before);
}

bool device_is_referred_to(const struct device *device)
{
	return device->hunt.given_up || (device->added && !device->command.helped);
}

void device_free(struct device *device)
{
	free(device->queue_cpus);
	free(device->queues);
}
