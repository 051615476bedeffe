/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "service-left.h"

#include <string.h>

#include "exit.h"
#include "recover.h"
#include "service-job.h"
#include "use.h"
#include "util/parse.h"

/* Of the table, waiting for a server, and not to be served by this one. */
static bool is_left(const struct manager *manager, const struct table_entry *entry)
{
	return entry->state == TABLE_WAITS && !host_find_name(manager->host, entry->name);
}

static void entry_path(const struct table_entry *entry, char path[32])
{
	snprintf(path, 32, "/dev/ublkb%u", (unsigned)entry->id);
}

static bool is_called(const struct table_entry *entry, const char *text)
{
	uint64_t number;
	char path[32];

	entry_path(entry, path);
	return !strcmp(path, text) || (!parse_uint(text, &number) && number == entry->id);
}

struct table_entry *left_find(const struct manager *manager, const char *text)
{
	const struct table *table = manager->host->table;
	struct table_entry *entry = table ? table_find(table, text) : NULL;

	if (entry && is_left(manager, entry))
		return entry;
	for (unsigned i = 0; table && i < table->count; i++) {
		entry = &table->entries[i];
		if (is_left(manager, entry) && is_called(entry, text))
			return entry;
	}
	return NULL;
}

static json_t *left_json(const struct table_entry *entry)
{
	char path[32];

	entry_path(entry, path);
	return json_pack("{s:s, s:s, s:I, s:s, s:I, s:s, s:n}", "name", entry->name, "path", path,
			 "number", (json_int_t)entry->id, "state", "waiting", "size",
			 (json_int_t)(entry->sectors << UBLK_SECTOR_SHIFT), "backend",
			 entry->backend, "pid");
}

json_t *left_details_json(const struct table_entry *entry)
{
	return json_pack("{s:o, s:o, s:I, s:I, s:n, s:n}", "device", left_json(entry), "config",
			 entry->options ? json_incref(entry->options) : json_object(), "queues",
			 (json_int_t)entry->queues, "depth", (json_int_t)entry->depth, "data",
			 "counters");
}

void left_list(const struct manager *manager, json_t *devices)
{
	const struct table *table = manager->host->table;

	for (unsigned i = 0; table && i < table->count; i++) {
		if (is_left(manager, &table->entries[i]))
			json_array_append_new(devices, left_json(&table->entries[i]));
	}
}

/* ---- deleting ----------------------------------------------------------------------- */

/* Deletes one, or all that nothing describes one after another. */
struct removal {
	struct recover recover;
	struct service_call *call;
	struct log_listener listener;
	bool force;
	char holder[USE_TEXT_SIZE];
	json_t *deleted, *kept; /* of Collect, else NULL */
	unsigned next;
	struct table_entry own; /* of left_fail_named() */
	void (*done)(void *arg, bool gone);
	void *arg;
};

static void go_on(struct removal *removal);

static struct removal *new_removal(struct service_call *call)
{
	struct removal *removal = manager_of(call)->host->stopped ? NULL :
								    calloc(1, sizeof(*removal));

	if (removal) {
		removal->call = call;
		removal->force = service_flag(call, "force");
	} else {
		service_failed(call, EXIT_RUNTIME, "the server is stopping, or has no memory");
	}
	return removal;
}

/* As far as it can be named; who has it open is the driver's to tell. */
static bool is_used(struct removal *removal, const struct table_entry *entry)
{
	char path[32];

	entry_path(entry, path);
	removal->holder[0] = 0;
	return use_find_node(path, removal->holder) && !removal->force;
}

static void keep(struct removal *removal, const struct table_entry *entry, int status,
		 const char *reason)
{
	json_array_append_new(removal->kept, json_pack("{s:s, s:i, s:s}", "name", entry->name,
						       "status", status, "reason", reason));
}

static void answer_removed(struct removal *removal, const struct table_entry *entry)
{
	const char *text = removal->recover.open   ? "open by a program" :
			   *removal->listener.text ? removal->listener.text :
						     LOG_SAYS_WHY;
	int status = removal->recover.open     ? EXIT_TAKEN :
		     removal->recover.given_up ? EXIT_TIMEOUT :
						 EXIT_RUNTIME;
	json_t *deleted = entry->state != TABLE_GONE ? NULL :
			  deleted_json(removal->call, entry->name,
				       *removal->holder ? removal->holder : NULL,
				       removal->recover.lingers);

	if (deleted && removal->deleted)
		json_array_append_new(removal->deleted, deleted);
	else if (deleted)
		service_reply(removal->call, deleted);
	else if (removal->deleted)
		keep(removal, entry, status, text);
	else if (removal->recover.open)
		service_in_use(removal->call, text);
	else
		service_failed(removal->call, status, text);
}

static void removed(struct recover *recover)
{
	struct removal *removal = container_of(recover, struct removal, recover);

	log_stop_listening(&removal->listener);
	if (removal->done)
		removal->done(removal->arg, recover->entry->state == TABLE_GONE);
	answer_removed(removal, recover->entry);
	json_decref(removal->own.options);
	if (removal->deleted)
		go_on(removal);
	/* The driver writes to it when it comes to it. */
	else if (!recover->given_up)
		free(removal);
}

static void removal_start(struct removal *removal, struct table_entry *entry)
{
	struct host *host = manager_of(removal->call)->host;

	removal->listener = (struct log_listener){ .about = entry->name };
	log_listen(&removal->listener);
	removal->recover = (struct recover){ .table = host->table, .ctrl = host->ctrl,
					     .gentle = !removal->force, .patient = removal->done,
					     .done = removed };
	recover_delete(&removal->recover, entry);
}

void left_delete(struct service_call *call, struct table_entry *entry)
{
	struct removal *removal;

	if (service_flag(call, "when_unused")) {
		service_failed(call, EXIT_USAGE, "when-unused: expected a device that is served, got one that "
		     "waits for a server");
		return;
	}
	removal = new_removal(call);
	if (!removal)
		return;
	if (is_used(removal, entry)) {
		service_in_use(call, removal->holder);
		free(removal);
		return;
	}
	removal_start(removal, entry);
}

/* Who has requests that wait uses it. */
static struct removal *new_failure(struct service_call *call)
{
	struct removal *removal = new_removal(call);

	if (removal)
		removal->force = true;
	return removal;
}

void left_fail(struct service_call *call, struct table_entry *entry)
{
	struct removal *removal = new_failure(call);

	if (!removal)
		return;
	is_used(removal, entry);
	removal_start(removal, entry);
}

bool left_fail_named(struct service_call *call, const char *name,
		     void (*done)(void *arg, bool gone), void *arg)
{
	struct removal *removal = new_failure(call);

	if (!removal)
		return false;
	table_read(manager_of(call)->host->table, name, &removal->own);
	if (removal->own.state == TABLE_DAMAGED) {
		service_failed(call, EXIT_RUNTIME, LOG_SAYS_WHY);
		free(removal);
		return false;
	}
	removal->done = done;
	removal->arg = arg;
	is_used(removal, &removal->own);
	removal_start(removal, &removal->own);
	return true;
}

/* A driver that does not answer is asked nothing more. */
static void go_on(struct removal *removal)
{
	const struct manager *manager = manager_of(removal->call);
	const struct table *table = manager->host->table;
	bool given_up = removal->recover.given_up;

	while (table && removal->next < table->count && !given_up) {
		struct table_entry *entry = &table->entries[removal->next++];

		if (!is_left(manager, entry) || entry->wanted)
			continue;
		if (!is_used(removal, entry)) {
			removal_start(removal, entry);
			return;
		}
		keep(removal, entry, EXIT_TAKEN, removal->holder);
	}
	service_reply(removal->call, json_pack("{s:o, s:o}", "deleted", removal->deleted, "kept",
					       removal->kept));
	if (!given_up)
		free(removal);
}

void left_collect(struct service_call *call)
{
	struct removal *removal = new_removal(call);

	if (!removal)
		return;
	removal->deleted = json_array();
	removal->kept = json_array();
	go_on(removal);
}
