/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What can change of a device while it is served, beside its size. */
#define _GNU_SOURCE
#include <string.h>

#include "device-life.h"
#include "log.h"
#include "util/parse.h"

int device_set_permissions(struct device *device, uid_t uid, gid_t gid, int mode)
{
	struct node changed = device->node;
	int ret;

	changed.uid = uid;
	changed.gid = gid;
	changed.mode = mode;
	ret = node_set_permissions(&changed);
	if (ret)
		return ret;
	device->node.uid = device->uid = uid;
	device->node.gid = device->gid = gid;
	device->node.mode = mode;
	return 0;
}

static int set_cpus(struct device *device)
{
	cpu_set_t cpus;

	cpu_list_to_set(device->config->cpus, &cpus);
	for (unsigned i = 0; i < device->nr_queues; i++) {
		int ret = reactor_set_cpus(device->queues[i].reactor, &cpus);

		if (!ret)
			continue;
		ublkd_error("cpus: cannot have the threads run on '%s': %s", device->config->cpus,
			    strerror(-ret));
		return ret;
	}
	return 0;
}

static int watch_use(struct device *device, bool used)
{
	bool before = device->watching;
	int ret = device_watch_use(device);

	if (!ret && !before && used)
		autoclear_want(&device->autoclear, true);
	return ret;
}

/* A thread that is shared has no settings of a device. */
int device_set_others(struct device *device, bool used)
{
	const struct device_config *config = device->config;
	bool own = !pool_is_shared(device->pool);
	int ret = own && config->cpus ? set_cpus(device) : 0;

	for (unsigned i = 0; own && i < device->nr_queues; i++)
		reactor_set_poll(device->queues[i].reactor, config->poll * 1000);
	if (!ret && config->autoclear)
		ret = watch_use(device, used);
	if (!ret && device->entered && device->entry.options)
		ret = table_write(device->table, &device->entry);
	return ret;
}
