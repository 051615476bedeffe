/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "preflight.h"

#include <string.h>

#include "device.h"
#include "exit.h"
#include "feature.h"
#include "host.h"
#include "log.h"
#include "node.h"
#include "util/macros.h"

struct query {
	struct features_query features;
	int result;
};

static void answered(struct features_query *features, int result)
{
	container_of(features, struct query, features)->result = result;
	ev_break(features->command.ctrl->loop, EVBREAK_ALL);
}

static int ask_features(uint64_t *features)
{
	struct ev_loop *loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
	struct query query = { .features.done = answered };
	struct ctrl ctrl = { 0 };

	if (!loop || ctrl_open(&ctrl, loop))
		return EXIT_KERNEL;
	features_ask(&query.features, &ctrl);
	ev_run(loop, 0);
	ctrl_close(&ctrl);
	/* Before 6.5 the driver has no answer, and nothing to choose. */
	if (query.result && !features_unknown(query.result)) {
		ctrl_report(&query.features.command, query.result);
		return query.result == -ETIMEDOUT ? EXIT_TIMEOUT : EXIT_KERNEL;
	}
	*features = query.features.flags;
	return EXIT_DONE;
}

static int judge_spec(const struct spec *spec, struct table_entry *entry, const struct table *table,
		      uint64_t features)
{
	struct device device = {
		.config = &spec->device,
		.table = table,
		.former = entry,
		.features = features,
	};
	int status;

	/* Its description says no more how large it is. */
	if (entry->resized)
		node_sectors((unsigned)entry->id, &entry->sectors);
	snprintf(device.entry.name, sizeof(device.entry.name), "%s", entry->name);
	spec_name(spec, device.entry.backend, sizeof(device.entry.backend));
	status = spec_look(spec, entry->sectors << UBLK_SECTOR_SHIFT, entry->resized, &device.target);
	if (status)
		return status;
	status = device_compare(&device);
	backend_close(device.target, false);
	return status;
}

static int judge_added(struct table_entry *entry, const struct table *table, const struct conf *conf,
		       uint64_t features)
{
	struct spec spec;
	int status;

	spec_init(&spec);
	spec.shared = conf->shared;
	spec.workers = conf->workers;
	status = spec_fill(&spec, entry->backend, entry->options);
	if (!status)
		status = judge_spec(&spec, entry, table, features);
	spec_free(&spec);
	return status;
}

static const struct spec *find_spec(const struct conf *conf, const char *name)
{
	for (unsigned i = 0; i < conf->count; i++) {
		if (!strcmp(conf->devices[i]->name, name))
			return &conf->devices[i]->spec;
	}
	return NULL;
}

/* What waits keeps its UUID, unless its description has another. */
static int judge_uuid(const struct table_entry *entry, const struct conf *conf)
{
	const struct spec *spec = find_spec(conf, entry->name);
	int status = EXIT_DONE;

	if (spec && spec->device.uuid)
		return EXIT_DONE;
	for (unsigned i = 0; i < conf->count; i++) {
		const struct conf_device *device = conf->devices[i];
		const char *uuid = device->spec.device.uuid, *before;

		if (!uuid || strcmp(uuid, entry->uuid))
			continue;
		before = log_switch(device->name);
		status = host_uuid_is_taken(uuid, entry->name);
		log_switch(before);
	}
	return status;
}

static int judge(struct table_entry *entry, const struct table *table, const struct conf *conf,
		 uint64_t features)
{
	const struct spec *spec = find_spec(conf, entry->name);

	if (entry->state == TABLE_DAMAGED)
		return EXIT_TAKEN; /* it was said when it was read */
	if (spec)
		return judge_spec(spec, entry, table, features);
	if (entry->options)
		return judge_added(entry, table, conf, features);
	ublkd_note("device %u is not described: it would be left waiting", (unsigned)entry->id);
	return EXIT_DONE;
}

int preflight(const struct conf *conf, const char *state)
{
	struct table table;
	uint64_t features = 0;
	int unknown, status = EXIT_DONE;

	if (table_look(&table, state))
		return EXIT_RUNTIME;
	unknown = table.count ? ask_features(&features) : EXIT_DONE;
	for (unsigned i = 0; !unknown && i < table.count; i++) {
		const char *before = log_switch(table.entries[i].name);
		int ret = judge(&table.entries[i], &table, conf, features);

		if (!ret)
			ret = judge_uuid(&table.entries[i], conf);
		log_switch(before);
		if (!status)
			status = ret;
	}
	table_close(&table);
	return unknown ? unknown : status;
}
