/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From "the driver has a disk" to "a user can open it": waits until the node
 * exists and is the right block device, sysfs shows the capacity, udev is
 * through and has its names, owner and mode are set and partitions are there.
 * Nothing here opens the node. Main thread.
 */
#ifndef NODE_H
#define NODE_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "helper.h"
#include "udev.h"

#define NODE_NAME_MAX 32
/* The rules of ours that give nodes to ordinary users. */
#define UDEV_OWNER_RULES "59-ublkd-owner.rules"

struct node {
	/* Set by the caller. */
	struct ev_loop *loop;
	uint32_t id;
	uint64_t sectors;
	struct udev_names names; /* for links */
	uid_t uid;        /* (uid_t)-1: leave */
	gid_t gid;
	int mode;         /* -1: leave */
	bool partscan;
	bool never_scanned; /* the kernel leaves partitions alone, so there are none to drop */
	bool of_user;     /* udev gives it to the user, who we are */
	void (*ready)(struct node *node, int error);
	void (*gone)(struct node *node, bool gone);

	char path[NODE_NAME_MAX]; /* /dev/ublkbN */
	dev_t device;
	bool asked;       /* udev, to look again */
	ino_t record;     /* udev's, before it was asked */

	ev_timer timer;   /* node.c's */
	const char *about; /* see log_about() */
	ev_tstamp until;
	int step;
	struct helper helper;
};

/* ready() follows: 0, or -errno after an error text. */
void node_publish(struct node *node);
/* The owner and the mode, also later. -errno after an error text. */
int node_set_permissions(const struct node *node);
/* Gives up publishing; ready() is not called. */
void node_abandon(struct node *node);
/* Calls gone(): whether the node disappeared within a bounded time. */
void node_await_end(struct node *node);

/*
 * Which device the driver has by this number, of those that had it one after another: the inode of
 * its folder in sysfs, which no other gets. 0: none.
 */
ino_t node_in_driver(unsigned id);

/* What the kernel says of /dev/ublkbN's size. 0 or -errno. */
int node_sectors(unsigned id, uint64_t *sectors);

#endif
