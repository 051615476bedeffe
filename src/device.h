/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of one device: features → dead devices of ours removed → add →
 * parameters → queues serve → start → node usable → LIVE; then stop → queues
 * end → delete → gone. One that a dead server left begins otherwise: features →
 * is it the same? → recovery begins → queues serve → recovery ends → node
 * usable → LIVE. Every step is a control command or an event of the
 * main loop. Main thread only.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include "autoclear.h"
#include "config.h"
#include "ctrl.h"
#include "log-limit.h"
#include "node.h"
#include "orphan.h"
#include "pool.h"
#include "resize.h"
#include "table.h"

struct device {
	/* Set by the caller before device_start(), kept by it until on_gone. */
	struct ev_loop *loop;
	struct ctrl *ctrl;
	struct pool *pool;
	const struct device_config *config;
	struct ublkd_target *target;
	const char *name; /* before its messages; NULL: ublkbN, once it has a number */
	bool dead_are_gone; /* others looked for them already; its own number may be one's */
	const struct table *table; /* in which it is if it outlives us; NULL: it does not */
	struct table_entry *former; /* one that waits, to be taken over; NULL: make one */
	struct table_entry entry;  /* its UUID is the caller's; for a table name and backend, too */
	uid_t uid; /* of the node, see node.h */
	gid_t gid;
	/* The device is usable; node.path is its name. */
	void (*on_live)(struct device *device);
	/*
	 * The end, after which nothing of the device runs: an exit status. The
	 * cause of any but EXIT_DONE was logged. In the case of EXIT_TIMEOUT a
	 * command of ours is still in the driver, and all that is left to do
	 * is to exit. So it is where holds is set.
	 */
	void (*on_gone)(struct device *device, int status);
	/* See device_count() and device_stop_unused(); NULL where they are not used. */
	void (*on_counted)(struct device *device);
	void (*on_in_use)(struct device *device); /* or unwritten */
	void (*on_resized)(struct device *device); /* see device_resize() */
	void *owner;

	/* device.c's from here on; others may read id, node.path, lingers, lost, unwritten, pause. */
	char about[32];                   /* what its messages begin with if it has no name */
	struct ctrl_command command;      /* the life's commands, one at a time */
	struct ctrl_command stop_command; /* STOP_DEV, which may overtake START_DEV */
	struct orphan_hunt hunt;
	uint64_t features;                /* that the driver offers */
	uint64_t asked;                   /* that we want of it */
	struct device_plan plan;
	struct ublk_dev_info info;        /* asked, then granted */
	struct ublk_dev_info found;       /* of its number, when its deletion failed */
	struct ublk_params params;
	uint8_t affinity[1024];
	unsigned affinity_queue;
	cpu_set_t *queue_cpus;            /* of each queue */
	struct queue_shape shape;
	struct queue *queues;             /* or their shares, one after another */
	unsigned nr_queues;
	unsigned attaching;              /* queues whose reactors have not reported yet */
	struct node node;
	struct helper write_back;         /* while writing is set, but for pauses */
	unsigned writes;                  /* tries to write back */
	ev_timer timer;                   /* until the next try to begin recovery, to leave, to stop
					     what is unused, or to write back; while writing, reminds */
	unsigned tries;                   /* to begin recovery */
	struct autoclear autoclear;       /* while watching is set */
	ev_timer queue_timer;             /* bounds the end of the queues, and a stop forced on the way */
	uint32_t id;
	bool added, hunting, starting, live, watching, stopping, stopped, draining, gone;
	struct log_limit failures;        /* of requests */
	unsigned uncounted;               /* queues that were asked for their counters */
	bool counting, logging;           /* what they were asked for */
	struct helper probe;              /* while probing is set */
	bool probing, wanted_gone;        /* by device_stop_unused() */
	bool unclaimed;                   /* the same: nobody has claimed it */
	bool unwritten;                   /* what is cached could not be written back, so it stays */
	struct resize resize;
	ev_tstamp wanted_until;           /* a program may have it open */
	bool taken;                       /* former is ours; to delete only once added is set */
	bool holds;                       /* went from us as it is: reactors have requests of it */
	bool entered;                     /* is in the table */
	bool writing, written;            /* what is cached, before the stop */
	bool forced;                      /* by device_stop_used() */
	bool lost;                        /* what could not be written back was given up */
	ino_t in_driver;                  /* before it is deleted, see node_in_driver() */
	bool lingers;                     /* gone, but its number is its last user's still */
	bool leaving;                     /* instead of being stopped */
	ev_tstamp leave_until;            /* when what is not done by then is left as it is */
	bool broken;                      /* a queue's error was logged */
	double pause;                     /* s, for which its I/O waited when it was taken over; 0:
					     not known */
	int status;
};

void device_start(struct device *device);
/*
 * Takes the device down, whatever state it is in. drain: fail what is not
 * done yet instead of serving it; may be asked for later than the stop. Without,
 * a device that can wait is left waiting where what is cached for it could not be
 * written back, as a failure.
 */
void device_stop(struct device *device, bool drain);
/*
 * Without a start: whether the device is what former says. For this the caller sets
 * config, target, former, table, the entry's name and backend, and the features that the
 * driver offers. An exit status after an error text.
 */
int device_compare(struct device *device);
/*
 * The same, of a device that may be in use: swap is taken off it, and what is cached for it
 * is written back first, which is given up after a while. That not all was written back is
 * an error then, and the status that of a failure.
 */
void device_stop_used(struct device *device);
/* It is there, and an ordinary user's. */
bool device_is_of_user(const struct device *device);
/* It is in a table and has a disk, so that it can wait for another server. */
bool device_can_stay(const struct device *device);
/*
 * Ends our part of a device that can stay, which waits for its next server then. Where
 * the driver has UBLK_F_QUIESCE, what it gave us is done first. device_stop() with drain
 * is in a hurry then, too: what is not done is left to the next server.
 */
void device_leave(struct device *device);
/*
 * Takes the device down if nobody uses it, else on_in_use follows. Where the
 * driver has UBLK_F_SAFE_STOP_DEV, a program that has it open for longer than a
 * moment uses it; else only who has claimed it does, such as a file system. It
 * follows, too, and unwritten is set, where what a program left in the cache
 * could not be written back.
 */
void device_stop_unused(struct device *device);
/*
 * Which size a device that is live can be given: *size, or 0 for that of its
 * backing by now. An exit status, after an error text where it cannot. shrink: it
 * may be less than it has.
 */
int device_find_size(struct device *device, uint64_t *size, bool shrink);
/*
 * Gives it a size that was found so just now. on_resized follows, and resize.status
 * is an exit status: EXIT_TAKEN where it would be less and somebody has claimed the
 * device; of others the cause was logged. EXIT_TIMEOUT: the driver may do it yet.
 */
void device_resize(struct device *device, uint64_t size);
/*
 * Takes a live device down as soon as nobody uses it any more, as config.autoclear does,
 * and whether it was used before or not. -errno after an error text.
 */
int device_stop_when_unused(struct device *device);
/* Takes that back; as long as it did not come about. */
void device_stay(struct device *device);
/*
 * Of a live device: owner and mode are these from now on. The others of its configuration
 * that can change, as they are there by now, and in the table. -errno after an error text.
 */
int device_set_permissions(struct device *device, uid_t uid, gid_t gid, int mode);
/* used: somebody is known to use it, so that autoclear waits for nobody else. */
int device_set_others(struct device *device, bool used);
/* on_counted follows: the stats_copy of all queues is fresh. */
void device_count(struct device *device);
/* Logs the counters of every queue. */
void device_log_stats(struct device *device);
/* Gone, and yet a command that nobody waits for may still write to the structure. */
bool device_is_referred_to(const struct device *device);
/* Frees what on_gone left for reading; in the case of EXIT_TIMEOUT not to be called. */
void device_free(struct device *device);

#endif
