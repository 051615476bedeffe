/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What udev is told of a device, so that our rules (contrib/udev) link /dev/ublkd/by-name/NAME
 * and /dev/ublkd/by-uuid/UUID to it, and how far udev is. Its events say nothing of us, so there
 * is a file for it, UDEV_NAMES/ublkbN/SEQUENCE. The kernel gives that number to one disk and
 * never again until the next boot: what a dead server left here names no other disk.
 */
#ifndef UDEV_H
#define UDEV_H

#include <stdbool.h>
#include <sys/types.h>

#define UDEV_NAMES "/run/ublkd/udev"

/* What a disk is called. */
struct udev_names {
	const char *name; /* NULL: there is to be no link by it */
	const char *uuid; /* the same */
};

/* The disk /dev/ublkbN, which is there, is called so from now on. */
void udev_name(unsigned id, const struct udev_names *names);
/* The disk is gone. */
void udev_forget(unsigned id);

bool udev_is_running(void);
/* What udev knows of a device: another number each time that it has handled an event; 0: nothing. */
ino_t udev_record(dev_t device);
/* It knows what we call it. */
bool udev_has_names(dev_t device, const struct udev_names *names);
/* Has it look again: "ublkb0", or a partition, "ublkb0/ublkb0p1". */
void udev_look_again(const char *folder);

#endif
