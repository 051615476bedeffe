/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "client-device.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "log.h"
#include "util/macros.h"

/* Of the part of the kernel's path that names a disk, and a partition of it. */
#define DISK_SIZE (CLIENT_DEVICE_SIZE - sizeof("/dev/"))

/* Of the links that udev makes by our rules (60-ublkd.rules). */
static const char *const links[] = { "/dev/ublkd/by-name/", "/dev/ublkd/by-uuid/" };

/* What a link of ours says itself, as "wait" may come before it; else the whole. */
static const char *name_in_link(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		if (!strncmp(text, links[i], strlen(links[i])))
			return text + strlen(links[i]);
	}
	return text;
}

/* Of a block device: the part of the kernel's path behind "/block/"; false: there is no sysfs. */
static bool find_disk(const char *root, dev_t number, char disk[DISK_SIZE])
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *at;
	ssize_t length;

	snprintf(path, sizeof(path), "%s/sys/dev/block/%u:%u", root, major(number), minor(number));
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return false;
	target[length] = 0;
	at = strstr(target, "/block/ublkb");
	snprintf(disk, DISK_SIZE, "%s", at ? at + strlen("/block/") : "");
	return true;
}

/* NULL after an error text. disk: as find_disk() has it. */
static const char *name_disk(const char *text, const char *disk, char buffer[CLIENT_DEVICE_SIZE])
{
	const char *partition = strchr(disk, '/');
	int length = (int)strcspn(disk, "/");

	if (!*disk) {
		ublkd_error("expected a path that leads to a ublk device, got '%s', which leads to another "
			    "device", text);
		return NULL;
	}
	if (partition) {
		ublkd_error("expected a whole device, got '%s', which leads to the partition %s of "
			    "'/dev/%.*s'", text, partition + 1, length, disk);
		return NULL;
	}
	snprintf(buffer, CLIENT_DEVICE_SIZE, "/dev/%s", disk);
	return buffer;
}

const char *client_device_name(const char *root, const char *text, char buffer[CLIENT_DEVICE_SIZE])
{
	char disk[DISK_SIZE];
	struct stat st;

	/* No name has a slash. */
	if (!strchr(text, '/'))
		return text;
	if (stat(text, &st)) {
		/* The server knows whether it has a device that has no node just now. */
		if (errno == ENOENT || errno == ENOTDIR)
			return name_in_link(text);
		ublkd_error("cannot look at '%s': %s", text, strerror(errno));
		return NULL;
	}
	if (!S_ISBLK(st.st_mode)) {
		ublkd_error("expected a path that leads to a ublk device, got '%s', which leads to none; a "
			    "file that a device stands on is taken with --backing", text);
		return NULL;
	}
	return find_disk(root, st.st_rdev, disk) ? name_disk(text, disk, buffer) : text;
}
