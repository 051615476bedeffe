/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "resize.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "backend.h"
#include "device.h"
#include "exit.h"
#include "log.h"
#include "util/macros.h"

#define UPDATE_DEADLINE 10

static uint64_t size_now(const struct device *device)
{
	return device->plan.sectors << UBLK_SECTOR_SHIFT;
}

static int status_of(int ret)
{
	return !ret ? EXIT_DONE : ret == -EINVAL ? EXIT_USAGE : EXIT_BACKING;
}

/* ---- what can be asked --------------------------------------------------------- */

/* The size of the backing, as far as there are whole blocks. */
static int follow(const struct device *device, uint64_t *size)
{
	uint64_t found;
	int ret = backend_measure(device->target, &found);

	if (ret)
		return status_of(ret);
	*size = round_down(found, device->plan.logical_block);
	if (*size)
		return EXIT_DONE;
	ublkd_error("the backing is too small: expected at least one block of %u bytes, got %" PRIu64
		    " bytes", device->plan.logical_block, found);
	return EXIT_BACKING;
}

static int check_state(const struct device *device)
{
	if (!(device->features & UBLK_F_UPDATE_SIZE)) {
		ublkd_error("size: expected none, as this kernel's driver cannot change that of a "
			    "device (update-size, Linux 6.16)");
		return EXIT_KERNEL;
	}
	if (!device->live || device->stopping || device->wanted_gone || device->writing ||
	    device->stop_command.pending) {
		ublkd_error("expected a device that is live, got one that is not, or not for long");
		return EXIT_RUNTIME;
	}
	if (device->resize.busy) {
		ublkd_error("expected a device that has its size, got one that is being resized to %"
			    PRIu64 " bytes", device->resize.size);
		return EXIT_RUNTIME;
	}
	return EXIT_DONE;
}

int resize_check(struct device *device, uint64_t *size, bool shrink)
{
	uint32_t block = device->plan.logical_block;
	int status = check_state(device);

	if (!status && !*size)
		status = follow(device, size);
	if (status)
		return status;
	if (*size % block || *size > INT64_MAX) {
		ublkd_error("size: expected a multiple of the block size %u, got '%" PRIu64 "'", block,
			    *size);
		return EXIT_USAGE;
	}
	if (*size < size_now(device) && !shrink) {
		ublkd_error("shrink: expected yes, as the device would lose its end, with %" PRIu64
			    " bytes instead of %" PRIu64 ", got 'no'", *size, size_now(device));
		return EXIT_USAGE;
	}
	return EXIT_DONE;
}

/* ---- the steps ------------------------------------------------------------------- */

static void done(struct resize *resize, int status)
{
	resize->status = status;
	resize->done(resize);
}

static void end(struct resize *resize, int status)
{
	struct device *device = resize->device;

	if (!status) {
		device->plan.sectors = resize->size >> UBLK_SECTOR_SHIFT;
		ublkd_note("the device has %" PRIu64 " bytes now", resize->size);
	}
	backend_resized(device->target, size_now(device));
	resize->busy = false;
	done(resize, status);
}

static void updated(struct ctrl_command *command, int result)
{
	struct resize *resize = container_of(command, struct resize, command);

	if (resize->device->gone)
		return;
	if (result)
		ctrl_report(command, result);
	end(resize, !result ? EXIT_DONE : result == -EPERM || result == -EACCES ? EXIT_KERNEL :
										 EXIT_RUNTIME);
}

static void update_late(struct ctrl_command *command)
{
	struct resize *resize = container_of(command, struct resize, command);

	if (resize->device->gone)
		return;
	ublkd_error("%s has not ended within %.0f s: the driver does not answer; the kernel log "
		    "may say why", ctrl_op_name(command->op), command->deadline);
	done(resize, EXIT_TIMEOUT);
}

static void update(struct resize *resize)
{
	resize->command = (struct ctrl_command){
		.op = UBLK_CMD_UPDATE_SIZE,
		.dev_id = resize->device->id,
		.data = resize->size >> UBLK_SECTOR_SHIFT,
		.of_user = device_is_of_user(resize->device),
		.deadline = UPDATE_DEADLINE,
		.done = updated,
		.late = update_late,
	};
	ctrl_issue(resize->device->ctrl, &resize->command);
}

static void told(struct resize *resize)
{
	if (resize->shrinks) {
		end(resize, EXIT_DONE);
	} else if (resize->device->stopping) {
		ublkd_error("expected a device that is live, got one that is stopping");
		end(resize, EXIT_RUNTIME);
	} else {
		update(resize);
	}
}

void resize_told(struct resize *resize)
{
	if (!--resize->untold)
		told(resize);
}

static void tell_queues(struct resize *resize)
{
	struct device *device = resize->device;

	for (unsigned q = 0; q < device->nr_queues; q++) {
		if (!device->queues[q].serving)
			continue;
		resize->untold++;
		reactor_resize(&device->queues[q], resize->size);
	}
	if (!resize->untold)
		told(resize);
}

static void shrunk(struct helper *helper, int status)
{
	struct resize *resize = container_of(helper, struct resize, helper);
	struct device *device = resize->device;

	resize->helped = false;
	if (device->watching)
		autoclear_go_on(&device->autoclear);
	if (!status) {
		tell_queues(resize);
		return;
	}
	if (status == EBUSY) {
		end(resize, EXIT_TAKEN);
		return;
	}
	ublkd_error("cannot write '%s' back and make it smaller: %s", device->node.path,
		    status < 0 ? "the helper was killed" : strerror(status));
	end(resize, EXIT_RUNTIME);
}

void resize_cut(struct resize *resize)
{
	if (resize->helped)
		helper_cut(&resize->helper);
}

/* By a helper, as it claims the device and writes to it. */
static void shrink(struct resize *resize)
{
	struct device *device = resize->device;
	char id[16], sectors[24];

	snprintf(id, sizeof(id), "%" PRIu32, device->id);
	snprintf(sectors, sizeof(sectors), "%" PRIu64, resize->size >> UBLK_SECTOR_SHIFT);
	if (device->watching)
		autoclear_pause(&device->autoclear);
	resize->helper.done = shrunk;
	resize->helped = true;
	if (helper_start(&resize->helper, device->loop,
			 (const char *const[]){ HELPER_SHRINK, device->node.path, id, sectors, NULL },
			 0))
		shrunk(&resize->helper, -1);
}

/*
 * Before anything changes, so that a server that dies at any moment leaves an
 * entry that tells the next one to ask the driver which size it is. The new size
 * is for those who read the entry.
 */
static int enter_table(struct resize *resize)
{
	struct device *device = resize->device;

	if (!device->entered)
		return 0;
	device->entry.sectors = resize->size >> UBLK_SECTOR_SHIFT;
	device->entry.resized = true;
	return table_write(device->table, &device->entry);
}

void resize_start(struct resize *resize)
{
	struct device *device = resize->device;
	int ret;

	if (resize->size == size_now(device)) {
		done(resize, EXIT_DONE);
		return;
	}
	resize->shrinks = resize->size < size_now(device);
	if (enter_table(resize)) {
		done(resize, EXIT_RUNTIME);
		return;
	}
	ret = backend_resize(device->target, resize->size);
	if (ret) {
		done(resize, status_of(ret));
		return;
	}
	resize->busy = true;
	if (resize->shrinks)
		shrink(resize);
	else
		tell_queues(resize);
}
