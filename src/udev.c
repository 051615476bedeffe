/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "udev.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "log.h"
#include "util/macros.h"
#include "util/parse.h"

#define NAME "UBLKD_NAME"
#define UUID "UBLKD_UUID"
#define LONGEST_TEXT 192

/* ---- names --------------------------------------------------------------------------- */

static bool is_disk(unsigned id, const char *sequence)
{
	uint64_t expected, is;
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/ublkb%u/diskseq", id);
	return !parse_uint(sequence, &expected) && !read_uint_file(path, &is) && is == expected;
}

/*
 * A file is there after its disk, so the disk that is there now is looked at after the
 * file: one that another server has just made is never removed.
 */
void udev_forget(unsigned id)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), UDEV_NAMES "/ublkb%u", id);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.' && !is_disk(id, entry->d_name))
			unlinkat(dirfd(dir), entry->d_name, 0);
	}
	if (dir)
		closedir(dir);
}

static int open_folder(unsigned id)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), UDEV_NAMES "/ublkb%u", id);
	/* From the top; they are there most often. */
	for (size_t end = strlen("/run/"); path[end]; end++) {
		if (path[end] != '/')
			continue;
		path[end] = 0;
		mkdir(path, 0755);
		path[end] = '/';
	}
	mkdir(path, 0755);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool says(int folder, const char *name, const char *text)
{
	_cleanup_fd_ int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	char is[LONGEST_TEXT];
	ssize_t got = fd < 0 ? -1 : read(fd, is, sizeof(is));

	return got == (ssize_t)strlen(text) && !memcmp(is, text, (size_t)got);
}

static int write_file(int folder, const char *name, const char *text)
{
	_cleanup_fd_ int fd = -1;

	/* udev may be about to read it. */
	if (says(folder, name, text))
		return 0;
	fd = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static void add_property(char text[LONGEST_TEXT], const char *key, const char *value)
{
	size_t used = strlen(text);

	if (value)
		snprintf(text + used, LONGEST_TEXT - used, "%s=%s\n", key, value);
}

void udev_name(unsigned id, const struct udev_names *names)
{
	char path[64], sequence[32], text[LONGEST_TEXT] = "";
	_cleanup_fd_ int folder = -1;
	uint64_t number;
	int ret;

	snprintf(path, sizeof(path), "/sys/block/ublkb%u/diskseq", id);
	ret = read_uint_file(path, &number);
	if (!ret) {
		udev_forget(id);
		ret = folder = open_folder(id);
	}
	if (ret >= 0) {
		snprintf(sequence, sizeof(sequence), "%" PRIu64, number);
		add_property(text, NAME, names->name);
		add_property(text, UUID, names->uuid);
		ret = write_file(folder, sequence, text);
	}
	if (ret < 0)
		log_debug("udev is not told the names: %s", strerror(-ret));
}

/* ---- how far udev is ---------------------------------------------------------------------- */

bool udev_is_running(void)
{
	return !access("/run/udev/control", F_OK);
}

static void record_path(char *path, size_t size, dev_t device)
{
	snprintf(path, size, "/run/udev/data/b%u:%u", major(device), minor(device));
}

ino_t udev_record(dev_t device)
{
	struct stat st;
	char path[64];

	record_path(path, sizeof(path), device);
	return stat(path, &st) ? 0 : st.st_ino;
}

/* "E:KEY=VALUE" */
static bool is_property(const char *line, const char *key, const char *value)
{
	size_t length = strlen(key);

	return value && !strncmp(line, "E:", 2) && !strncmp(line + 2, key, length) &&
	       line[2 + length] == '=' && !strcmp(line + 2 + length + 1, value);
}

bool udev_has_names(dev_t device, const struct udev_names *names)
{
	bool has_name = !names->name, has_uuid = !names->uuid;
	char path[64], line[4096];
	_cleanup_file_ FILE *file = NULL;

	record_path(path, sizeof(path), device);
	file = fopen(path, "re");
	while (file && !(has_name && has_uuid) && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		has_name |= is_property(line, NAME, names->name);
		has_uuid |= is_property(line, UUID, names->uuid);
	}
	return has_name && has_uuid;
}

void udev_look_again(const char *folder)
{
	_cleanup_fd_ int fd = -1;
	char path[300];

	snprintf(path, sizeof(path), "/sys/block/%s/uevent", folder);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "change", strlen("change")) < 0)
		log_debug("udev is not asked to look at '%s' again: %s", folder, strerror(errno));
}
