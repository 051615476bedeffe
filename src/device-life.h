/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of a device's life have in common: the way up (device.c), its
 * queues (device-queues.c), who uses it (device-use.c), and the way down
 * (device-down.c, device-write.c). Main thread only.
 */
#ifndef DEVICE_LIFE_H
#define DEVICE_LIFE_H

#include "device.h"

/* Seconds. */
#define SHORT_DEADLINE 10
/* Stopping writes dirty data back, which takes as long as it takes. */
#define STOP_REMINDER 30
/* A stop that is forced gives up what is not written back by then. */
#define FORCED_DEADLINE 30

/* device.c: what its messages begin with. */
const char *device_about(const struct device *device);
/* Takes it down; the first failure decides the exit status. */
void device_fail(struct device *device, int status);
/* The end, once. */
void device_end(struct device *device);
/* The life's next command; there is none on its way. */
void device_issue(struct device *device, uint32_t op, void *buffer, size_t length, uint64_t data,
		  double deadline, void (*done)(struct ctrl_command *command, int result));
/* Its queues are served. */
void device_start_disk(struct device *device);

/* device-queues.c: queues, with whom the reactors talk about each. */
int device_make_queues(struct device *device);

/* device-use.c: takes it down when its last user is gone. -errno after an error text. */
int device_watch_use(struct device *device);
/* What was cached is written back, or could not be: device_write_back() before a stop. */
void device_wrote_back_unused(struct device *device, bool well);

/*
 * device-write.c: what is cached for it goes to the backing. device_wrote_back() follows, or
 * device_wrote_back_unused() if no stop has begun by then. It may, if device_must_write_back().
 */
bool device_must_write_back(const struct device *device);
/* By all its queues: nobody else has stopped it. */
bool device_is_served(const struct device *device);
void device_write_back(struct device *device);
/* Neither follows. */
void device_write_back_abandon(struct device *device);
/* It has failed by now. */
void device_write_back_cut(struct device *device);
/* All I/O of the device fails from now on, and so it ends soon. */
void device_write_back_drained(struct device *device);
/* Of a command that stops. */
void device_stop_late(struct ctrl_command *command);

/*
 * device-down.c: one step further down: called when the stop was asked for and
 * whenever something that it waits for has ended.
 */
void device_go_down(struct device *device);
/* What device_write_back() ended with: an exit status of its helper's, or -1. */
void device_wrote_back(struct device *device, int status);
/* The stop that it is told, or was, is to leave it. */
void device_will_leave(struct device *device);
/* Those that a reactor has. */
unsigned device_queues_left(const struct device *device);
void device_node_gone(struct node *node, bool is_gone);

#endif
