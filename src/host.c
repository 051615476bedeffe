/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host.h"

#include "exit.h"
#include "log.h"
#include "util/macros.h"

/*
 * At once. Each takes some processes to start and stop (helper.h). Stopping
 * writes dirty data back, and those that have to wait should not keep others
 * from it.
 */
#define MOST_STARTING 8
#define MOST_STOPPING 64

static void go_on(struct host *host);

static void settle(struct host *host)
{
	if (host->settled || host->stopped || host->starting || host->next < host->count)
		return;
	host->settled = true;
	if (host->gone < host->count)
		host->on_settled(host);
}

static void count_gone(struct hosted *hosted, int status)
{
	struct host *host = hosted->host;

	hosted->status = status;
	hosted->state = HOSTED_GONE;
	host->gone++;
	if (!host->status)
		host->status = status;
}

static void on_live(struct device *device)
{
	struct hosted *hosted = device->owner;
	struct host *host = hosted->host;
	const char *before = log_switch(NULL); /* the host speaks for itself */

	if (hosted->state == HOSTED_STARTS) {
		host->starting--;
		hosted->state = HOSTED_LIVE;
	}
	host->on_live(hosted);
	go_on(host);
	log_switch(before);
}

static void on_gone(struct device *device, int status)
{
	struct hosted *hosted = device->owner;
	struct host *host = hosted->host;
	const char *before;

	if (host->stats)
		device_log_stats(device);
	if (hosted->state == HOSTED_STARTS)
		host->starting--;
	else if (hosted->state == HOSTED_STOPS)
		host->stopping--;
	/* A command or a request that is stuck in the driver still owns what we would free. */
	host->timed_out |= status == EXIT_TIMEOUT;
	host->holds |= device->holds;
	if (status != EXIT_TIMEOUT && !device->holds) {
		backend_close(hosted->target, device->live);
		hosted->target = NULL;
		device_free(device);
	}
	count_gone(hosted, status);
	before = log_switch(NULL);
	go_on(host);
	log_switch(before);
}

/* Where it is not known what waits, nothing is made beside it. */
static int find_former(struct hosted *hosted)
{
	const struct table *table = hosted->host->table;

	hosted->former = table ? table_find(table, hosted->name) : NULL;
	if (hosted->former && hosted->former->state == TABLE_GONE)
		hosted->former = NULL;
	if (!hosted->former || hosted->former->state == TABLE_WAITS)
		return EXIT_DONE;
	ublkd_error("expected a device that waits for a server, or none, got one that %s",
		    hosted->former->state == TABLE_DAMAGED ? "cannot be known" : "has one");
	return EXIT_TAKEN;
}

static void start(struct hosted *hosted)
{
	struct host *host = hosted->host;
	const char *before = log_switch(hosted->name);
	int status = find_former(hosted);

	if (!status)
		status = spec_open(hosted->spec, &hosted->target);

	if (status) {
		count_gone(hosted, status);
	} else {
		hosted->state = HOSTED_STARTS;
		host->starting++;
		hosted->device.name = hosted->name;
		hosted->device.loop = host->loop;
		hosted->device.ctrl = host->ctrl;
		hosted->device.pool = host->pool;
		hosted->device.config = &hosted->spec->device;
		hosted->device.target = hosted->target;
		hosted->device.uid = hosted->spec->uid;
		hosted->device.gid = hosted->spec->gid;
		hosted->device.dead_are_gone = true;
		hosted->device.table = host->table;
		hosted->device.former = hosted->former;
		snprintf(hosted->device.entry.name, sizeof(hosted->device.entry.name), "%s",
			 hosted->name);
		spec_name(hosted->spec, hosted->device.entry.backend,
			  sizeof(hosted->device.entry.backend));
		hosted->device.on_live = on_live;
		hosted->device.on_gone = on_gone;
		hosted->device.owner = hosted;
		device_start(&hosted->device);
	}
	log_switch(before);
}

static void stop(struct hosted *hosted)
{
	struct host *host = hosted->host;

	switch (hosted->state) {
	case HOSTED_WAITS:
		count_gone(hosted, EXIT_DONE);
		break;
	case HOSTED_STARTS:
	case HOSTED_LIVE:
		host->starting -= hosted->state == HOSTED_STARTS;
		host->stopping++;
		hosted->state = HOSTED_STOPS;
		device_stop(&hosted->device, host->draining);
		break;
	case HOSTED_STOPS:
	case HOSTED_GONE:
		break;
	}
}

/* As far as it goes now; called again whenever something has ended. */
static void go_on(struct host *host)
{
	if (!host->hunted)
		return;
	while (!host->stopped && host->next < host->count && host->starting < MOST_STARTING)
		start(&host->devices[host->next++]);
	while (host->stopped && host->next < host->count && host->stopping < MOST_STOPPING)
		stop(&host->devices[host->next++]);
	settle(host);
	if (host->gone == host->count && host->on_gone) {
		void (*last)(struct host *host, int status) = host->on_gone;

		host->on_gone = NULL;
		last(host, host->timed_out ? EXIT_TIMEOUT : host->status);
	}
}

static void hunted(struct orphan_hunt *hunt)
{
	struct host *host = container_of(hunt, struct host, hunt);

	host->hunted = true;
	go_on(host);
}

void host_start(struct host *host)
{
	for (unsigned i = 0; i < host->count; i++) {
		host->devices[i].host = host;
		host->devices[i].state = HOSTED_WAITS;
	}
	/* Once for all of them. */
	host->hunt = (struct orphan_hunt){ .wanted = UBLK_DEV_ID_ANY, .done = hunted };
	orphan_hunt(&host->hunt, host->ctrl);
}

void host_stop(struct host *host, bool drain)
{
	if (drain && !host->draining) {
		host->draining = true;
		for (unsigned i = 0; i < host->count; i++) {
			if (host->devices[i].state == HOSTED_STOPS)
				device_stop(&host->devices[i].device, true);
		}
	}
	if (host->stopped)
		return;
	host->stopped = true;
	host->next = 0;
	go_on(host);
}

void host_log_stats(struct host *host)
{
	for (unsigned i = 0; i < host->count; i++) {
		if (host->devices[i].state == HOSTED_LIVE || host->devices[i].state == HOSTED_STOPS)
			device_log_stats(&host->devices[i].device);
	}
}
