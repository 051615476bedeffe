/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "service-left.h"

#include <string.h>

#include "exit.h"
#include "recover.h"
#include "service-failed.h"
#include "service-job.h"
#include "use.h"
#include "util/parse.h"

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

	if (entry && host_leaves(manager->host, entry))
		return entry;
	for (unsigned i = 0; table && i < table->count; i++) {
		entry = &table->entries[i];
		if (host_leaves(manager->host, entry) && is_called(entry, text))
			return entry;
	}
	return NULL;
}

static json_t *left_json(const struct manager *manager, const struct table_entry *entry)
{
	char path[32];

	entry_path(entry, path);
	return json_pack("{s:s, s:s?, s:s, s:I, s:s, s:I, s:s, s:n, s:O?, s:n, s:n, s:s?}", "name",
			 entry->name, "uuid", *entry->uuid ? entry->uuid : NULL, "path", path, "number",
			 (json_int_t)entry->id, "state", "waiting", "size",
			 (json_int_t)(entry->sectors << UBLK_SECTOR_SHIFT), "backend",
			 entry->backend, "pid", "worker",
			 json_object_get(entry->options, "worker"), "owner_uid", "owner_gid", "error",
			 failed_error(manager, entry->name));
}

json_t *left_details_json(const struct manager *manager, const struct table_entry *entry)
{
	return json_pack("{s:o, s:o, s:I, s:I, s:n, s:n, s:n, s:n, s:n, s:n, s:n}", "device",
			 left_json(manager, entry), "config",
			 entry->options ? json_incref(entry->options) : json_object(), "queues",
			 (json_int_t)entry->queues, "depth", (json_int_t)entry->depth, "data",
			 "data_reason", "batch", "batch_reason", "ring", "pause", "counters");
}

void left_list(const struct manager *manager, json_t *devices)
{
	const struct table *table = manager->host->table;

	for (unsigned i = 0; table && i < table->count; i++) {
		if (host_leaves(manager->host, &table->entries[i]))
			json_array_append_new(devices, left_json(manager, &table->entries[i]));
	}
}

/* ---- deleting ----------------------------------------------------------------------- */

/* Deletes one, or all that nothing describes one after another. */
struct removal {
	struct recover recover;
	struct manager *manager;
	struct service_call *call; /* NULL: nobody has asked for it */
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
	struct manager *manager = manager_of(call);
	struct removal *removal = manager->host->stopped ? NULL : calloc(1, sizeof(*removal));

	if (removal)
		*removal = (struct removal){ .manager = manager, .call = call,
					     .force = service_flag(call, "force") };
	else
		service_failed(call, EXIT_RUNTIME, "the server is stopping, or has no memory");
	return removal;
}

/* As far as it can be named; the driver has the last word, where it can tell. */
static bool is_used(struct removal *removal, const struct table_entry *entry)
{
	bool looks = removal->force || !removal->manager->driver_refuses;
	char path[32];

	entry_path(entry, path);
	removal->holder[0] = 0;
	return (use_find_node(path, removal->holder) ||
		(looks && use_find_open_node(path, removal->holder))) && !removal->force;
}

/* By the driver's word. */
static const char *name_user(struct removal *removal, const struct table_entry *entry)
{
	char path[32];

	entry_path(entry, path);
	return use_find_open_node(path, removal->holder) ?
		       removal->holder : service_holder(removal->recover.info.flags);
}

static void keep(struct removal *removal, const struct table_entry *entry, int status,
		 const char *reason)
{
	json_array_append_new(removal->kept, json_pack("{s:s, s:i, s:s}", "name", entry->name,
						       "status", status, "reason", reason));
}

static void answer_removed(struct removal *removal, const struct table_entry *entry)
{
	const char *text = removal->recover.open   ? name_user(removal, entry) :
			   *removal->listener.text ? removal->listener.text :
						     LOG_SAYS_WHY;
	const struct recover *recover = &removal->recover;
	int status = recover->open		       ? EXIT_TAKEN :
		     recover->given_up || recover->stuck ? EXIT_TIMEOUT :
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
	else if (recover->entry->state == TABLE_GONE)
		failed_forget(removal->manager, recover->entry->name);
	if (removal->call)
		answer_removed(removal, recover->entry);
	else if (*removal->holder)
		ublkd_note("'%s' was in use: %s", recover->entry->name, removal->holder);
	json_decref(removal->own.options);
	if (removal->deleted)
		go_on(removal);
	/* The driver writes to it when it comes to it, unless it is a helper's. */
	else if (!recover->given_up && !(recover->late && !recover->command.helper))
		free(removal);
}

static void removal_start(struct removal *removal, struct table_entry *entry)
{
	struct host *host = removal->manager->host;

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

/* Its entry was lost, or is in a folder that nobody knows any more. */
struct lost {
	struct orphan_hunt hunt;
	struct service_call *call;
};

static void hunted(struct orphan_hunt *hunt)
{
	struct lost *lost = container_of(hunt, struct lost, hunt);
	const char *name = service_text(lost->call, "device");

	if (hunt->removed)
		service_reply(lost->call, deleted_json(lost->call, name, NULL, false));
	else if (!hunt->count)
		service_not_found(lost->call, name);
	else if (hunt->given_up)
		service_failed(lost->call, EXIT_TIMEOUT, "the driver does not answer");
	else
		service_failed(lost->call, EXIT_USAGE, "expected a device of a server, or one that an ublkd "
			       "has left, got another, or one that a process serves");
	if (!hunt->given_up)
		free(lost);
}

void left_fail_lost(struct service_call *call)
{
	const char *text = service_text(call, "device"), *path = "/dev/ublkb";
	struct lost *lost;
	uint64_t number;

	if (!strncmp(text, path, strlen(path)))
		text += strlen(path);
	if (parse_uint(text, &number) || number > UINT32_MAX) {
		service_not_found(call, service_text(call, "device"));
		return;
	}
	lost = calloc(1, sizeof(*lost));
	if (!lost) {
		service_failed(call, EXIT_RUNTIME, "no memory");
		return;
	}
	lost->call = call;
	lost->hunt = (struct orphan_hunt){ .wanted = (uint32_t)number, .no_others = true,
					   .waits = true, .done = hunted };
	orphan_hunt(&lost->hunt, manager_of(call)->host->ctrl);
}

static bool fail_named(struct removal *removal, const char *name,
		       void (*done)(void *arg, bool gone), void *arg)
{
	table_read(removal->manager->host->table, name, &removal->own);
	if (removal->own.state == TABLE_DAMAGED) {
		free(removal);
		return false;
	}
	removal->done = done;
	removal->arg = arg;
	is_used(removal, &removal->own);
	removal_start(removal, &removal->own);
	return true;
}

bool left_fail_named(struct service_call *call, const char *name,
		     void (*done)(void *arg, bool gone), void *arg)
{
	struct removal *removal = new_failure(call);
	bool begun = removal && fail_named(removal, name, done, arg);

	if (removal && !begun)
		service_failed(call, EXIT_RUNTIME, LOG_SAYS_WHY);
	return begun;
}

bool left_give_up(struct manager *manager, const char *name, void (*done)(void *arg, bool gone),
		  void *arg)
{
	struct removal *removal = calloc(1, sizeof(*removal));

	if (!removal)
		return false;
	*removal = (struct removal){ .manager = manager, .force = true };
	return fail_named(removal, name, done, arg);
}

/* A driver that does not answer is asked nothing more. */
static void go_on(struct removal *removal)
{
	const struct manager *manager = removal->manager;
	const struct table *table = manager->host->table;
	bool given_up = removal->recover.given_up;

	while (table && removal->next < table->count && !given_up) {
		struct table_entry *entry = &table->entries[removal->next++];

		if (!host_leaves(manager->host, entry) || entry->wanted)
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
