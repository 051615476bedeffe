/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Another size for a device that is live, in steps: what the table says, the
 * target's room, the reactors, the driver. A larger size comes to the reactors
 * before the driver has it, a smaller one after that, so that no request comes
 * to a reactor that does not expect it. Main thread only.
 */
#ifndef RESIZE_H
#define RESIZE_H

#include "ctrl.h"
#include "helper.h"

struct device;

struct resize {
	/* Of the caller, before resize_start(). */
	struct device *device;
	uint64_t size; /* bytes */
	/*
	 * status says how it ended, see device_resize(). After EXIT_TIMEOUT busy
	 * stays set, and it is called again until the driver has answered at last.
	 */
	void (*done)(struct resize *resize);

	int status;
	/* The driver must not be told to stop meanwhile: it would have no disk to resize. */
	bool busy;
	bool shrinks, helped;
	unsigned untold; /* queues that go by the old size */
	struct ctrl_command command;
	struct helper helper;
};

/* See device_find_size(). */
int resize_check(struct device *device, uint64_t *size, bool shrink);
void resize_start(struct resize *resize);
/*
 * Nobody waits any longer for what a shrink writes back: it has failed, if that is where it
 * is, within a second.
 */
void resize_cut(struct resize *resize);
/* A queue goes by the size that it was told. */
void resize_told(struct resize *resize);

#endif
