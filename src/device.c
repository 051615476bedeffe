/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "device-life.h"
#include "exit.h"
#include "log.h"
#include "util/clock.h"
#include "util/macros.h"
#include "util/parse.h"

/* Seconds. Starting scans partitions on some kernels, which is I/O. */
#define START_DEADLINE 60
/* A dead server's file of the device may be closed after the device waits. */
#define RECOVERY_TRIES 100
#define RECOVERY_PAUSE 0.1
/* For udev to be through with the character device. */
#define OWNER_TRIES 500
#define OWNER_PAUSE 0.02

const char *device_about(const struct device *device)
{
	return device->name ? device->name : device->about;
}

/* The first failure decides the exit status. */
void device_fail(struct device *device, int status)
{
	if (!device->status)
		device->status = status;
	device_stop(device, false);
}

void device_end(struct device *device)
{
	if (device->gone)
		return;
	device->gone = true;
	log_limit_end(&device->failures);
	ev_timer_stop(device->loop, &device->queue_timer);
	ev_timer_stop(device->loop, &device->timer);
	device->on_gone(device, device->status);
}

/* ---- commands ---------------------------------------------------------------- */

bool device_is_of_user(const struct device *device)
{
	return device->added && device->info.flags & UBLK_F_UNPRIVILEGED_DEV;
}

static void command_late(struct ctrl_command *command)
{
	struct device *device = container_of(command, struct device, command);

	/* Once is enough. */
	if (device->gone)
		return;
	ublkd_error("%s has not ended within %.0f s: the driver does not answer; the kernel log "
		    "may say why", ctrl_op_name(command->op), command->deadline);
	device->status = EXIT_TIMEOUT;
	device_end(device);
}

void device_issue(struct device *device, uint32_t op, void *buffer, size_t length, uint64_t data,
		  double deadline, void (*done)(struct ctrl_command *command, int result))
{
	assert(!device->command.pending);
	device->command = (struct ctrl_command){
		.op = op,
		.dev_id = device->id,
		.buffer = buffer,
		.length = (uint16_t)length,
		.data = data,
		.of_user = device_is_of_user(device),
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
		device_fail(device, result == -EEXIST ? EXIT_TAKEN :
			     result == -EPERM || result == -EACCES || result == -EOPNOTSUPP ?
						 EXIT_KERNEL :
						 EXIT_RUNTIME);
		return NULL;
	}
	if (device->stopping) {
		device_go_down(device);
		return NULL;
	}
	return device;
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
		device_end(device);
	} else if (device->stopping) {
		device_go_down(device);
	} else if (device->wanted_gone && !resize->busy) {
		device->wanted_gone = false;
		device_stop_unused(device);
	}
}

int device_find_size(struct device *device, uint64_t *size, bool shrink)
{
	const char *before = log_switch(device_about(device));
	int status = resize_check(device, size, shrink);

	log_switch(before);
	return status;
}

void device_resize(struct device *device, uint64_t size)
{
	const char *before = log_switch(device_about(device));

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
		device_fail(device, EXIT_RUNTIME);
		return;
	}
	device->live = true;
	if (device->config->autoclear && device_watch_use(device)) {
		device_fail(device, EXIT_RUNTIME);
		return;
	}
	device->on_live(device);
}

/* From its last server's being asked to leave it until now. */
static void note_pause(struct device *device)
{
	if (device->former->left <= 0)
		return;
	device->pause = clock_now() - device->former->left;
	ublkd_note("taken over; its I/O waited for %.2f s at most", device->pause);
}

/* A file may describe it by now, or no longer, and that is what the next server goes by. */
static void note_description(struct device *device)
{
	json_t *was = device->former->options, *is = device->entry.options;

	if ((was != is && !json_equal(was, is)) || strcmp(device->former->uuid, device->entry.uuid))
		table_write(device->table, &device->entry);
}

/* A link of a hidden name would be hidden, too, or none at all; and users' devices have none. */
static struct udev_names links_to(const struct device *device)
{
	if (device->config->of_user)
		return (struct udev_names){ 0 };
	return (struct udev_names){
		.name = device->name && *device->name != '.' ? device->name : NULL,
		.uuid = device->entry.uuid,
	};
}

static void added_disk(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, command);

	/* Its I/O goes on: from now on it is one like ours. */
	if (!result && device->former) {
		note_pause(device);
		note_description(device);
		device->former = NULL;
		device->added = device->entered = true;
		/* Told to stop meanwhile: as before, it waits. */
		if (device->stopping)
			device_will_leave(device);
	}
	if (!ended_well(command, result))
		return;
	device->starting = true;
	device->node = (struct node){
		.loop = device->loop,
		.id = device->id,
		.sectors = device->plan.sectors,
		.names = links_to(device),
		.uid = device->uid,
		.gid = device->gid,
		.mode = device->config->mode_given ? (int)device->config->mode : -1,
		.partscan = device->config->partscan && !device->config->of_user,
		.never_scanned = device->config->of_user ||
				 device->info.flags & UBLK_F_NO_AUTO_PART_SCAN,
		.of_user = device->config->of_user,
		.ready = node_ready,
		.gone = device_node_gone,
	};
	node_publish(&device->node);
}

void device_start_disk(struct device *device)
{
	device_issue(device, device->former ? UBLK_CMD_END_USER_RECOVERY : UBLK_CMD_START_DEV, NULL, 0,
	      (uint64_t)getpid(), START_DEADLINE, added_disk);
}

static void serve_queues(struct device *device)
{
	device->shape.target = device->target;
	device->shape.depth = device->info.queue_depth;
	device->shape.max_io = (uint32_t)device->config->max_io;
	device->shape.size = device->plan.sectors << UBLK_SECTOR_SHIFT;
	device->shape.data = device->plan.data;
	device->shape.pool = device->plan.pool;
	device->shape.batch = device->plan.features & UBLK_F_BATCH_IO;
	device->shape.link = (enum link_mode)device->config->link;
	device->shape.huge = (enum huge_pages)device->config->huge_pages;
	if (device_make_queues(device)) {
		ublkd_error("no memory for the queues");
	} else {
		device->attaching = device->nr_queues;
		if (!pool_serve(device->pool, device->config, device->id, device->queues,
				device->nr_queues, device->queue_cpus))
			return;
		device->attaching = 0;
	}
	device_fail(device, EXIT_RUNTIME);
}

static void ask_affinity(struct device *device);

static void got_affinity(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, command);
	cpu_set_t *cpus = &device->queue_cpus[device->affinity_queue];

	if (device->gone)
		return;
	if (device->stopping) {
		device_go_down(device);
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
	device_issue(device, UBLK_CMD_GET_QUEUE_AFFINITY, device->affinity, sizeof(device->affinity),
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
		device_fail(device, EXIT_RUNTIME);
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

static void set_params(struct device *device)
{
	device_issue(device, UBLK_CMD_SET_PARAMS, &device->params, sizeof(device->params), 0,
	      SHORT_DEADLINE, params_set);
}

/* 0, or -errno without a word. */
static int try_char_device(struct device *device, char path[CTRL_PATH_SIZE])
{
	snprintf(path, CTRL_PATH_SIZE, "/dev/ublkc%u", device->id);
	device->shape.char_fd = open(path, O_RDWR | O_CLOEXEC);
	return device->shape.char_fd < 0 ? -errno : 0;
}

static int open_char_device(struct device *device)
{
	char path[CTRL_PATH_SIZE];
	int ret = try_char_device(device, path);

	if (ret)
		ublkd_error("cannot open '%s': %s", path, strerror(-ret));
	return ret;
}

static void open_own(struct device *device);

static void open_again(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct device *device = container_of(timer, struct device, timer);
	const char *before = log_switch(device_about(device));

	(void)loop;
	(void)events;
	open_own(device);
	log_switch(before);
}

/*
 * The node is root's until udev gives it to the user. Without that there is no command to the
 * device either, not even the one that deletes it.
 */
static void open_own(struct device *device)
{
	char path[CTRL_PATH_SIZE];
	int ret = try_char_device(device, path);

	if (!ret) {
		set_params(device);
	} else if ((ret == -EACCES || ret == -ENOENT) && ++device->tries < OWNER_TRIES) {
		ev_timer_set(&device->timer, OWNER_PAUSE, 0);
		ev_set_cb(&device->timer, open_again);
		ev_timer_start(device->loop, &device->timer);
	} else {
		ublkd_error("cannot open '%s': %s: expected udev to give it to user %u, by "
			    UDEV_OWNER_RULES "; device %u is there until an ublkd of root's removes it",
			    path, strerror(-ret), (unsigned)geteuid(), device->id);
		device->added = false;
		device_fail(device, EXIT_KERNEL);
	}
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
	ret = table_enter(device->table, &device->entry);
	device->entered = !ret;
	return ret;
}

static void deleted_again(struct ctrl_command *command, int result)
{
	if (result)
		ctrl_report(command, result);
}

/* It was given up, and nobody would ever serve or delete the device. */
static void added_too_late(struct device *device)
{
	ublkd_note("device %u was made too late: it is deleted again", device->id);
	device_issue(device, UBLK_CMD_DEL_DEV, NULL, 0, 0, SHORT_DEADLINE, deleted_again);
}

static void added(struct ctrl_command *command, int result)
{
	struct device *device = container_of(command, struct device, command);

	/* Before anything else: from now on there is a device to delete. */
	if (!result) {
		device->added = true;
		device->id = device->info.dev_id;
	}
	if (!result && device->gone) {
		added_too_late(device);
		return;
	}
	if (!ended_well(command, result))
		return;
	snprintf(device->about, sizeof(device->about), "ublkb%u", device->id);
	if (!granted(device, device->asked)) {
		device_fail(device, EXIT_KERNEL);
		return;
	}
	if (device->info.nr_hw_queues != device->config->queues)
		ublkd_note("the kernel gives %u queue(s) instead of %" PRIu64
			   ": there are no more CPUs", device->info.nr_hw_queues,
			   device->config->queues);
	if (device_is_of_user(device))
		open_own(device);
	else if (enter_table(device) || open_char_device(device))
		device_fail(device, EXIT_RUNTIME);
	else
		set_params(device);
}

static void hunted(struct orphan_hunt *hunt)
{
	struct device *device = container_of(hunt, struct device, hunt);

	device->hunting = false;
	if (device->stopping) {
		device_go_down(device);
		return;
	}
	device->info = (struct ublk_dev_info){
		.nr_hw_queues = (uint16_t)device->config->queues,
		.queue_depth = (uint16_t)device->config->depth,
		.max_io_buf_bytes = (uint32_t)device->config->max_io,
		.dev_id = device->id,
		.flags = device->asked,
		.ublksrv_flags = orphan_cookie(device->asked & UBLK_F_USER_RECOVERY,
						device->ctrl->made++),
	};
	device_issue(device, UBLK_CMD_ADD_DEV, &device->info, sizeof(device->info), 0, SHORT_DEADLINE,
	      added);
}

/* ---- taking over ---------------------------------------------------------------- */

static void start_recovery(struct device *device);

static void try_again(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct device *device = container_of(timer, struct device, timer);
	const char *before = log_switch(device_about(device));

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
	/* Refused by 6.12 where a server died between this and serving the queues: it is done. */
	if (result == -EINVAL)
		result = 0;
	device->taken = !result;
	if (!ended_well(command, result))
		return;
	if (open_char_device(device))
		device_fail(device, EXIT_RUNTIME);
	else
		find_cpus(device);
}

static void start_recovery(struct device *device)
{
	device_issue(device, UBLK_CMD_START_USER_RECOVERY, NULL, 0, 0, SHORT_DEADLINE, recovery_started);
}

static void found(struct ctrl_command *command, int result)
{
	struct device *device = ended_well(command, result);

	if (!device)
		return;
	snprintf(device->about, sizeof(device->about), "ublkb%u", device->id);
	if (device->info.ublksrv_flags != device->former->cookie) {
		ublkd_error("device %u: expected the one that waits, got another's", device->id);
		device_fail(device, EXIT_TAKEN);
	} else if (!granted(device, device->asked)) {
		device_fail(device, EXIT_KERNEL);
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
	device->entry.passed = device->former->passed;
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
		device_fail(device, status);
		return;
	}
	device->id = (uint32_t)device->former->id;
	device_issue(device, UBLK_CMD_GET_DEV_INFO2, &device->info, sizeof(device->info), 0,
	      SHORT_DEADLINE, found);
}

/* ---- the beginning ---------------------------------------------------------------- */

/* A device that waits has the features that its first server, an older one perhaps, asked for. */
static uint64_t features_to_choose(const struct device *device)
{
	uint64_t features = device->former ? device->features & device->former->features :
					     device->features;

	return device->config->of_user ? features_of_users(features) : features;
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
	log_debug("batch mode: %s, %s", device->plan.features & UBLK_F_BATCH_IO ? "yes" : "no",
		  device->plan.batch_why);
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
		device_fail(device, status);
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
	const char *before = log_switch(device_about(device));

	snprintf(device->about, sizeof(device->about), "ublkd");
	device->shape.char_fd = -1;
	device->failures = (struct log_limit){ .loop = device->loop, .what = "requests failed" };
	ev_timer_init(&device->timer, try_again, RECOVERY_PAUSE, 0);
	device->id = UBLK_DEV_ID_ANY;
	device_issue(device, UBLK_CMD_GET_FEATURES, &device->features, sizeof(device->features), 0,
	      SHORT_DEADLINE, got_features);
	device->id = device->config->id_given ? (uint32_t)device->config->id : UBLK_DEV_ID_ANY;
	log_switch(before);
}

bool device_is_referred_to(const struct device *device)
{
	return device->hunt.given_up || (device->added && !device->command.helper);
}

void device_free(struct device *device)
{
	free(device->queue_cpus);
	free(device->queues);
}
