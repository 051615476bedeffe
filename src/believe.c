/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "believe.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <ublkd/ublk_abi.h>

#include "identity.h"
#include "supervisor.h"

static bool is_owner(const char *user, const struct stat *st)
{
	struct identity identity;

	return !identity_read(&identity, user) && st->st_uid == identity.uid;
}

/* The node was given to the user, by the driver's word, and nobody else serves it. */
bool believe_path(const struct worker *worker, const char *path)
{
	uint32_t number;
	struct stat st;
	char rest;

	if (!worker->user)
		return true;
	return sscanf(path, "/dev/ublkb%" SCNu32 "%c", &number, &rest) == 1 &&
	       !lstat(path, &st) && S_ISBLK(st.st_mode) && is_owner(worker->user, &st) &&
	       !supervisor_find(worker->supervisor, path);
}

static bool is_process_of(const char *user, pid_t pid)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	return !stat(path, &st) && is_owner(user, &st);
}

static const struct worker *find_member(const struct worker_group *group, const char *name)
{
	const struct worker *worker = group->members;

	while (worker && strcmp(worker->name, name))
		worker = worker->next_member;
	return worker;
}

/* One of a device is enough, as each keeps a file open, and the device waiting. */
bool believe_stuck(const struct worker_group *group, struct stuck_info *info)
{
	const struct worker *worker = find_member(group, info->name);
	char path[sizeof(worker->path)];

	if (!group->user)
		return true;
	if (!worker || !is_process_of(group->user, info->pid) ||
	    stuck_has_name(group->supervisor->stuck, info->name))
		return false;
	snprintf(path, sizeof(path), "/dev/ublkb%" PRIu32, info->number);
	if (strcmp(worker->path, path))
		info->number = UBLK_DEV_ID_ANY;
	return true;
}

void believe_device(json_t *device, const struct worker *worker)
{
	struct identity user;
	unsigned number;
	bool there = sscanf(worker->path, "/dev/ublkb%u", &number) == 1;

	if (!worker->user || identity_read(&user, worker->user))
		return;
	json_object_set_new(device, "owner_uid", json_integer(user.uid));
	json_object_set_new(device, "owner_gid", json_integer(user.gid));
	json_object_set_new(device, "path", there ? json_string(worker->path) : json_null());
	json_object_set_new(device, "number", there ? json_integer(number) : json_null());
	json_object_set_new(device, "pid", worker_pid(worker) ? json_integer(worker_pid(worker)) :
								 json_null());
}
