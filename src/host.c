/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host.h"

#include <string.h>

#include "exit.h"
#include "log.h"
#include "util/macros.h"
#include "util/parse.h"

/*
 * At once. Each takes some processes to start and stop (helper.h). Stopping
 * writes dirty data back, and those that have to wait should not keep others
 * from it.
 */
#define MOST_STARTING 8
#define MOST_STOPPING 64

static void settle(struct host *host)
{
	if (host->settled || host->stopped || host->starting || host->next < host->count)
		return;
	host->settled = true;
	if (host->stuck < host->count || host->stays)
		host->on_settled(host);
}

/* From now on nobody finds it. */
static void remove_from_list(struct hosted *hosted)
{
	struct host *host = hosted->host;
	unsigned i = 0;

	while (host->devices[i] != hosted)
		i++;
	host->count--;
	host->next -= i < host->next;
	memmove(&host->devices[i], &host->devices[i + 1],
		(host->count - i) * sizeof(*host->devices));
}

static void end(struct hosted *hosted, int status)
{
	struct host *host = hosted->host;
	bool stuck = status == EXIT_TIMEOUT || hosted->device.holds;

	hosted->status = status;
	log_stop_listening(&hosted->listener);
	/* Who added it may not be there any more to hear what a stop makes of it. */
	if (!host->status && (!hosted->quiet || (host->stopped && !hosted->device.forced)))
		host->status = status;
	if (stuck) {
		hosted->state = HOSTED_STUCK;
		host->stuck++;
		host->timed_out |= status == EXIT_TIMEOUT;
	} else {
		remove_from_list(hosted);
	}
	if (host->on_end)
		host->on_end(hosted);
	if (!stuck && !device_is_referred_to(&hosted->device))
		free(hosted);
}

static void on_live(struct device *device)
{
	struct hosted *hosted = device->owner;
	struct host *host = hosted->host;
	const char *before = log_switch(NULL); /* the host speaks for itself */

	if (hosted->state == HOSTED_STARTS) {
		host->starting--;
		hosted->state = HOSTED_LIVE;
		hosted->was_live = true;
		log_stop_listening(&hosted->listener);
	}
	host->on_live(hosted);
	host_go_on(host);
	log_switch(before);
}

static void on_counted(struct device *device)
{
	struct hosted *hosted = device->owner;

	hosted->host->on_counted(hosted);
}

static void on_in_use(struct device *device)
{
	struct hosted *hosted = device->owner;

	hosted->host->on_in_use(hosted);
}

static void on_resized(struct device *device)
{
	struct hosted *hosted = device->owner;

	hosted->host->on_resized(hosted);
}

static void on_gone(struct device *device, int status)
{
	struct hosted *hosted = device->owner;
	struct host *host = hosted->host;

	if (host->stats)
		device_log_stats(device);
	if (hosted->state == HOSTED_STARTS)
		host->starting--;
	else if (hosted->state == HOSTED_STOPS)
		host->stopping--;
	/* Once it was taken over, its entry went with it. */
	if (hosted->former)
		hosted->former->state = device->former || device->leaving ? TABLE_WAITS :
									  TABLE_GONE;
	host->holds |= device->holds;
	/* No reactor is left that this could keep waiting. */
	if (hosted->syncs && !status && !device->holds && backend_sync(hosted->target))
		status = EXIT_BACKING;
	/* A command or a request that is stuck in the driver still owns what we would free. */
	if (status != EXIT_TIMEOUT && !device->holds) {
		backend_close(hosted->target, device->live);
		hosted->target = NULL;
		device_free(device);
	}
	log_switch(NULL); /* for good: the device's name goes with it */
	end(hosted, status);
	host_go_on(host);
}

static const struct table *table_of(const struct hosted *hosted)
{
	return hosted->table ? hosted->table : hosted->host->table;
}

/* Before its turn comes, so that it can be named so meanwhile. */
static void choose_uuid(struct hosted *hosted)
{
	char *uuid = hosted->device.entry.uuid;

	if (hosted->spec->device.uuid)
		snprintf(uuid, UUID_SIZE, "%s", hosted->spec->device.uuid);
	else
		table_choose_uuid(table_of(hosted), hosted->name, !hosted->added, uuid);
}

static int check_uuid(const struct hosted *hosted)
{
	const char *uuid = hosted->device.entry.uuid;
	const char *owner = host_find_uuid(hosted->host, uuid, hosted->name);

	return owner ? host_uuid_is_taken(uuid, owner) : EXIT_DONE;
}

/* Where it is not known what waits, nothing is made beside it. */
static int find_former(struct hosted *hosted)
{
	const struct table *table = table_of(hosted);

	hosted->former = table ? table_find(table, hosted->name) : NULL;
	if (hosted->former && hosted->former->state == TABLE_GONE)
		hosted->former = NULL;
	if (!hosted->former || hosted->former->state == TABLE_WAITS)
		return EXIT_DONE;
	ublkd_error("expected a device that waits for a server, or none, got one that %s",
		    hosted->former->state == TABLE_DAMAGED ? "cannot be known" :
		    hosted->former->state == TABLE_GOES	   ? "is being deleted" :
							     "has one");
	return EXIT_TAKEN;
}

static int open_target(struct hosted *hosted)
{
	const struct table_entry *former = hosted->former;
	int status = former ? spec_open_again(hosted->spec, former->sectors << UBLK_SECTOR_SHIFT,
					      former->resized, &hosted->target) :
			      spec_open(hosted->spec, &hosted->target);

	if (status && former && former->passed && !spec_is_passed(hosted->spec))
		ublkd_error("its file was opened by the client that added it, and this process cannot "
			    "open it by its path: the device is left waiting");
	return status;
}

static void start(struct hosted *hosted)
{
	struct host *host = hosted->host;
	const char *before = log_switch(hosted->name);
	int status;

	hosted->listener.about = hosted->name;
	log_listen(&hosted->listener);
	status = find_former(hosted);
	if (!status)
		status = check_uuid(hosted);
	if (!status)
		status = open_target(hosted);
	if (status) {
		end(hosted, status);
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
		hosted->device.table = table_of(hosted);
		hosted->device.former = hosted->former;
		if (hosted->former)
			hosted->former->state = TABLE_SERVED;
		snprintf(hosted->device.entry.name, sizeof(hosted->device.entry.name), "%s",
			 hosted->name);
		spec_name(hosted->spec, hosted->device.entry.backend,
			  sizeof(hosted->device.entry.backend));
		hosted->device.entry.passed = spec_is_passed(hosted->spec);
		hosted->device.entry.options = hosted->added ? hosted->spec->lasting : NULL;
		hosted->device.on_live = on_live;
		hosted->device.on_gone = on_gone;
		hosted->device.on_counted = on_counted;
		hosted->device.on_in_use = on_in_use;
		hosted->device.on_resized = on_resized;
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
		end(hosted, EXIT_DONE);
		break;
	case HOSTED_STARTS:
	case HOSTED_LIVE:
		if (host->leaving && device_can_stay(&hosted->device))
			break;
		host->starting -= hosted->state == HOSTED_STARTS;
		host->stopping++;
		hosted->state = HOSTED_STOPS;
		device_stop(&hosted->device, host->draining);
		break;
	case HOSTED_STOPS:
	case HOSTED_STUCK:
		break;
	}
}

static struct hosted *next_to_leave(const struct host *host)
{
	for (unsigned i = 0; i < host->count; i++) {
		struct hosted *hosted = host->devices[i];

		if (hosted->state == HOSTED_STARTS || hosted->state == HOSTED_LIVE)
			return hosted;
	}
	return NULL;
}

void host_leave_one(struct hosted *hosted)
{
	struct host *host = hosted->host;

	host->starting -= hosted->state == HOSTED_STARTS;
	host->stopping++;
	hosted->state = HOSTED_STOPS;
	if (device_can_stay(&hosted->device))
		device_leave(&hosted->device);
	else
		device_stop(&hosted->device, host->draining);
}

/* The pause of those that stay begins when the others are gone. */
static void leave_all(struct host *host)
{
	struct hosted *hosted;

	host->left = true;
	while ((hosted = next_to_leave(host)))
		host_leave_one(hosted);
}

/* As far as it goes now; called again whenever something has ended. */
void host_go_on(struct host *host)
{
	if (!host->hunted)
		return;
	while (!host->stopped && host->next < host->count && host->starting < MOST_STARTING)
		start(host->devices[host->next++]);
	while (host->stopped && host->next < host->count && host->stopping < MOST_STOPPING)
		stop(host->devices[host->next++]);
	if (host->leaving && !host->left && host->next == host->count && !host->stopping)
		leave_all(host);
	settle(host);
	if (host->stuck == host->count && (host->stopped || !host->stays) && host->on_gone) {
		void (*last)(struct host *host, int status) = host->on_gone;

		host->on_gone = NULL;
		last(host, host->timed_out ? EXIT_TIMEOUT : host->status);
	}
}

static void hunted(struct orphan_hunt *hunt)
{
	struct host *host = container_of(hunt, struct host, hunt);

	host->hunted = true;
	host_go_on(host);
}

struct hosted *host_find_name(const struct host *host, const char *name)
{
	for (unsigned i = 0; i < host->count; i++) {
		if (!strcmp(host->devices[i]->name, name))
			return host->devices[i];
	}
	return NULL;
}

struct hosted *host_find(const struct host *host, const char *text)
{
	struct hosted *named = host_find_name(host, text);
	uint64_t number;
	bool is_number = !parse_uint(text, &number);

	if (named)
		return named;
	for (unsigned i = 0; i < host->count; i++) {
		const struct device *device = &host->devices[i]->device;

		if (device->node.path[0] &&
		    ((is_number && device->id == number) || !strcmp(device->node.path, text)))
			return host->devices[i];
	}
	return NULL;
}

bool host_leaves(const struct host *host, const struct table_entry *entry)
{
	return entry->state == TABLE_WAITS && !host_find_name(host, entry->name);
}

const char *host_find_uuid(const struct host *host, const char *uuid, const char *name)
{
	for (unsigned i = 0; i < host->count; i++) {
		const struct hosted *hosted = host->devices[i];

		if (!strcmp(hosted->device.entry.uuid, uuid) && strcmp(hosted->name, name))
			return hosted->name;
	}
	for (unsigned i = 0; host->table && i < host->table->count; i++) {
		const struct table_entry *entry = &host->table->entries[i];

		if (!strcmp(entry->uuid, uuid) && strcmp(entry->name, name) &&
		    host_leaves(host, entry))
			return entry->name;
	}
	return NULL;
}

int host_uuid_is_taken(const char *uuid, const char *owner)
{
	ublkd_error("uuid: expected another than that of '%s', got '%s'", owner, uuid);
	return EXIT_TAKEN;
}

bool host_waits(const struct host *host, const char *name)
{
	const struct table_entry *entry = host->table ? table_find(host->table, name) : NULL;

	return entry && entry->state != TABLE_GONE;
}

struct hosted *host_add(struct host *host, const char *name, struct spec *spec)
{
	struct hosted **more = realloc(host->devices, (host->count + 1) * sizeof(struct hosted *));
	struct hosted *hosted = more ? calloc(1, sizeof(*hosted)) : NULL;

	if (more)
		host->devices = more;
	if (!hosted) {
		ublkd_error("no memory");
		return NULL;
	}
	*hosted = (struct hosted){ .name = name, .spec = spec, .host = host };
	host->devices[host->count++] = hosted;
	/* What the last server had may not be known before. */
	if (host->begun)
		choose_uuid(hosted);
	return hosted;
}

void host_free(struct host *host)
{
	for (unsigned i = 0; i < host->count; i++) {
		log_stop_listening(&host->devices[i]->listener);
		free(host->devices[i]);
	}
	free(host->devices);
	host->devices = NULL;
	host->count = 0;
}

void host_start(struct host *host)
{
	host->begun = true;
	for (unsigned i = 0; i < host->count; i++)
		choose_uuid(host->devices[i]);
	if (host->no_hunt) {
		hunted(&host->hunt);
		return;
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
			if (host->devices[i]->state == HOSTED_STOPS)
				device_stop(&host->devices[i]->device, true);
		}
	}
	if (host->stopped)
		return;
	host->stopped = true;
	host->next = 0;
	host_go_on(host);
}

void host_leave(struct host *host)
{
	host->leaving |= !host->stopped;
	host_stop(host, false);
}

void host_log_stats(struct host *host)
{
	for (unsigned i = 0; i < host->count; i++) {
		if (host->devices[i]->state == HOSTED_LIVE || host->devices[i]->state == HOSTED_STOPS)
			device_log_stats(&host->devices[i]->device);
	}
}
