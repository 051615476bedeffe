/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "use.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include "util/macros.h"

/* NAME itself, or one of its partitions: ublkb1p2, not ublkb12. */
static bool is_of(const char *candidate, const char *name)
{
	size_t length = strlen(name);

	return !strncmp(candidate, name, length) &&
	       (!candidate[length] || candidate[length] == 'p');
}

/* Blanks and the like are \040 in the kernel's tables; a text that was cut off may end within. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from;) {
		if (*from == '\\' && strspn(from + 1, "01234567") >= 3) {
			*to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = 0;
}

static bool is_path_of(const char *path, const char *name)
{
	return !strncmp(path, "/dev/", 5) && is_of(path + 5, name);
}

/* By its number, "259:0": the node may have gone by another name. */
static bool is_number_of(const char *root, const char *number, const char *name)
{
	char path[1024], target[1024], *at;
	ssize_t length;

	snprintf(path, sizeof(path), "%s/sys/dev/block/%s", root, number);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return false;
	target[length] = 0;
	at = strstr(target, "/block/");
	return at && is_of(strtok(at + strlen("/block/"), "/"), name);
}

/* In a process's namespace. */
static FILE *open_mounts(const char *process, const char *root)
{
	char path[1024];

	snprintf(path, sizeof(path), "%s/proc/%s/mountinfo", root, process);
	return fopen(path, "re");
}

/*
 * The next of the device, of lines "ID PARENT NUMBER ROOT PLACE … - TYPE DEVICE …". sure: one
 * whose device is nothing that somebody may just have said: a file system of users' own.
 */
static bool next_mount(FILE *mounts, const char *root, const char *name, bool sure, uint64_t *id,
		       char place[USE_PLACE_SIZE])
{
	_cleanup_free_ char *line = NULL;
	size_t size = 0;

	while (mounts && getline(&line, &size, mounts) > 0) {
		const char *dash = strstr(line, " - ");
		char type[32] = "", device[256] = "", number[32] = "";

		place[0] = 0;
		sscanf(line, "%" SCNu64 " %*s %31s %*s %4095s", id, number, place);
		if (dash)
			sscanf(dash, " - %31s %255s", type, device);
		unescape(device);
		if (is_number_of(root, number, name) ||
		    (is_path_of(device, name) && !(sure && !strncmp(type, "fuse", 4)))) {
			unescape(place);
			return true;
		}
	}
	return false;
}

static bool is_mounted_for(const char *process, const char *root, const char *name,
			   char place[USE_PLACE_SIZE])
{
	_cleanup_file_ FILE *mounts = open_mounts(process, root);
	uint64_t id;

	return next_mount(mounts, root, name, false, &id, place);
}

/* A server has no mounts itself (guard.h): those of who started it, and of the system. */
static bool is_mounted(const char *root, const char *name, char place[USE_PLACE_SIZE])
{
	char parent[16];

	snprintf(parent, sizeof(parent), "%d", (int)getppid());
	return is_mounted_for("self", root, name, place) ||
	       is_mounted_for(parent, root, name, place) ||
	       is_mounted_for("1", root, name, place);
}

static bool is_swap(const char *root, const char *name, char device[256])
{
	_cleanup_file_ FILE *file = NULL;
	_cleanup_free_ char *line = NULL;
	char path[1024];
	size_t size = 0;

	snprintf(path, sizeof(path), "%s/proc/swaps", root);
	file = fopen(path, "re");
	while (file && getline(&line, &size, file) > 0) {
		if (sscanf(line, "%255s", device) != 1)
			continue;
		unescape(device);
		if (is_path_of(device, name))
			return true;
	}
	return false;
}

/* The first entry of a folder. */
static bool first_entry(const char *path, char name[256])
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		found = entry->d_name[0] != '.';
		if (found)
			snprintf(name, 256, "%s", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

static bool has_holder(const char *root, const char *name, char holder[256])
{
	char path[1024];
	struct dirent *entry;
	bool found;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/sys/block/%s/holders", root, name);
	found = first_entry(path, holder);
	snprintf(path, sizeof(path), "%s/sys/block/%s", root, name);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		if (!is_of(entry->d_name, name))
			continue;
		snprintf(path, sizeof(path), "%s/sys/block/%s/%.255s/holders", root, name,
			 entry->d_name);
		found = first_entry(path, holder);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* A loop device holds what it stands on open like any program, and is no holder of it. */
static bool has_loop(const char *root, const char *name, char loop[256])
{
	_cleanup_free_ char *line = NULL;
	char path[1024];
	struct dirent *entry;
	size_t size = 0;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/sys/block", root);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		_cleanup_file_ FILE *file = NULL;

		if (strncmp(entry->d_name, "loop", 4))
			continue;
		snprintf(path, sizeof(path), "%s/sys/block/%.255s/loop/backing_file", root,
			 entry->d_name);
		file = fopen(path, "re");
		if (!file || getline(&line, &size, file) <= 0)
			continue;
		line[strcspn(line, "\n")] = 0;
		found = is_path_of(line, name);
		snprintf(loop, 256, "%s", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* " (NAME)" of one of device mapper, whose own name is a number; else "". */
static const char *mapping_of(const char *root, const char *holder, char text[160])
{
	_cleanup_file_ FILE *file = NULL;
	char path[1024], name[150] = "";

	snprintf(path, sizeof(path), "%s/sys/block/%.255s/dm/name", root, holder);
	file = fopen(path, "re");
	if (!file || !fgets(name, sizeof(name), file))
		return "";
	name[strcspn(name, "\n")] = 0;
	snprintf(text, 160, " (%s)", name);
	return text;
}

bool use_find(const char *root, const char *name, char *text, size_t size)
{
	char what[USE_PLACE_SIZE], swap[256], mapping[160];

	if (is_mounted(root, name, what))
		snprintf(text, size, "mounted at %s", what);
	else if (is_swap(root, name, swap))
		snprintf(text, size, "used for swap");
	else if (has_holder(root, name, what) || has_loop(root, name, what))
		snprintf(text, size, "held by %s%s", what, mapping_of(root, what, mapping));
	else
		return false;
	return true;
}

bool use_find_node(const char *node, char text[USE_TEXT_SIZE])
{
	return use_find("", node + strlen("/dev/"), text, USE_TEXT_SIZE);
}

/* ---- the end of it -------------------------------------------------------------------- */

/*
 * By its number, as another may be mounted over it, and below the folder that it is in, as who
 * owns one above may put another there.
 */
static int unmount(uint64_t id, char *place)
{
	char *name = strrchr(place, '/');
	struct statx mount;
	int ret = 0;

	if (!name || !name[1])
		return -EBUSY;
	*name = 0;
	if (chdir(*place ? place : "/") ||
	    statx(AT_FDCWD, name + 1, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_MNT_ID, &mount))
		ret = -errno;
	else if (!(mount.stx_mask & STATX_MNT_ID) || mount.stx_mnt_id != id)
		ret = -EBUSY;
	else if (umount2(name + 1, UMOUNT_NOFOLLOW))
		ret = -errno;
	*name = '/';
	return chdir("/") && !ret ? -errno : ret;
}

/* The last one of the device before that of this number, 0: of all; 0: there is none. */
static uint64_t last_mount(const char *name, uint64_t before, char place[USE_PLACE_SIZE])
{
	_cleanup_file_ FILE *mounts = open_mounts("self", "");
	char found[USE_PLACE_SIZE];
	uint64_t id, last = 0;

	while (next_mount(mounts, "", name, true, &id, found) && id != before) {
		strcpy(place, found);
		last = id;
	}
	return last;
}

/*
 * From the last to the first, which may be what the others are below. Until a round achieves
 * nothing, as one that was moved comes before what it is below.
 */
int use_end_node(const char *node, char place[USE_PLACE_SIZE])
{
	const char *name = node + strlen("/dev/");
	char swap[256], at[USE_PLACE_SIZE];
	bool some;
	int ret;

	do {
		uint64_t id = 0;

		ret = 0;
		some = false;
		while ((id = last_mount(name, id, at))) {
			int failed = unmount(id, at);

			some |= !failed;
			if (!failed)
				id = 0;
			if (failed && !ret) {
				strcpy(place, at);
				ret = failed;
			}
		}
	} while (ret && some);
	while (is_swap("", name, swap)) {
		if (!swapoff(swap))
			continue;
		if (!ret)
			strcpy(place, swap);
		return ret ? ret : -errno;
	}
	return ret;
}

/* ---- programs that have it open ------------------------------------------------------ */

/* path NULL: any path. */
static bool is_looked_for(const char *path, const struct use_open *devices)
{
	while (devices && (devices->found || (path && !is_path_of(path, devices->name))))
		devices = devices->next;
	return devices;
}

static void read_name(const char *root, const char *process, char name[32])
{
	_cleanup_file_ FILE *file = NULL;
	char path[1024];

	snprintf(path, sizeof(path), "%s/proc/%s/comm", root, process);
	file = fopen(path, "re");
	if (!file || !fgets(name, 32, file))
		*name = 0;
	name[strcspn(name, "\n")] = 0;
}

static bool is_udev(const char *name)
{
	return !strncmp(name, "(udev-worker", strlen("(udev-worker")) ||
	       !strncmp(name, "systemd-udevd", strlen("systemd-udevd"));
}

static void note_open(const char *path, const char *process, const char *program,
		      struct use_open *devices)
{
	for (struct use_open *device = devices; device; device = device->next) {
		if (device->found || !is_path_of(path, device->name))
			continue;
		device->found = true;
		snprintf(device->text, sizeof(device->text), "open by process %.20s (%s)", process, program);
	}
}

static void look_at(const char *root, const char *process, struct use_open *devices)
{
	char path[1024], target[256], program[32] = "";
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/proc/%s/fd", root, process);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		/* Nobody is asked who serves the file, as stat() would. */
		ssize_t length = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		target[MAX(length, 0)] = 0;
		if (!is_looked_for(target, devices))
			continue;
		if (!*program)
			read_name(root, process, program);
		if (is_udev(program))
			break;
		note_open(target, process, program, devices);
	}
	if (dir)
		closedir(dir);
}

void use_find_open(const char *root, struct use_open *devices)
{
	char path[1024];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/proc", root);
	dir = opendir(path);
	while (dir && is_looked_for(NULL, devices) && (entry = readdir(dir))) {
		if (strspn(entry->d_name, "0123456789") == strlen(entry->d_name))
			look_at(root, entry->d_name, devices);
	}
	if (dir)
		closedir(dir);
}

bool use_find_open_node(const char *node, char text[USE_TEXT_SIZE])
{
	struct use_open device = { 0 };

	snprintf(device.name, sizeof(device.name), "%s", node + strlen("/dev/"));
	use_find_open("", &device);
	if (device.found)
		snprintf(text, USE_TEXT_SIZE, "%s", device.text);
	return device.found;
}
