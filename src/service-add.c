/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "service-calls.h"

#include <stdio.h>
#include <string.h>

#include "exit.h"
#include "log.h"
#include "persist.h"
#include "service-failed.h"
#include "service-job.h"
#include "service-left.h"
#include "util/macros.h"

/* What a device that was added stands on; the owner of its struct hosted. */
struct added {
	char *name;
	struct spec spec;
	bool prepared; /* a file that is to describe it; see persist.h */
};

/* ---- Add ---------------------------------------------------------------------------- */

static void free_added(struct added *added)
{
	spec_free(&added->spec);
	free(added->name);
	free(added);
}

void added_free(const struct hosted *hosted)
{
	if (hosted->owner)
		free_added(hosted->owner);
}

/* It is not going to be usable. Before the answer, which may bring the next of this name. */
static void forget_prepared(const struct manager *manager, struct added *added)
{
	if (added->prepared)
		persist_abandon(manager->conf, added->name);
	added->prepared = false;
}

void added_forget(const struct manager *manager, const struct hosted *hosted)
{
	if (hosted->owner)
		forget_prepared(manager, hosted->owner);
}

void service_make_name(char name[], size_t size, const char *backend, unsigned number)
{
	const char *last = strrchr(backend, '+');

	snprintf(name, size, "%.32s-%u", last ? last + 1 : backend, number);
}

bool service_is_described(const struct manager *manager, const char *name)
{
	_cleanup_free_ char *file = persist_find(manager->conf, name);

	return file;
}

static char *make_name(struct manager *manager, const char *backend)
{
	char name[80];

	do
		service_make_name(name, sizeof(name), backend, ++manager->numbered);
	while (host_find(manager->host, name) || host_waits(manager->host, name) ||
	       service_is_described(manager, name));
	return strdup(name);
}

/* A number would be taken for that of a device. */
static bool name_fits(const char *name)
{
	return spec_name_fits(name) && name[strspn(name, "0123456789")];
}

/* Descriptors that are numbered from 0 in the order in which they came. */
static int pass_file(struct service_call *call, struct spec *spec, const char *name,
		     json_int_t number)
{
	int fd = service_take_file(call, (unsigned)number);

	if (fd >= 0)
		return spec_pass(spec, name, fd);
	ublkd_error("files: expected descriptor %lld with the message, for '%s' and nothing else, got %u "
		    "descriptor(s)", (long long)number, name, call->nr_files);
	return EXIT_USAGE;
}

int service_pass(struct service_call *call, struct spec *spec)
{
	int status = EXIT_DONE;
	const char *name;
	json_t *number;

	json_object_foreach(json_object_get(call->parameters, "files"), name, number) {
		if (!status)
			status = pass_file(call, spec, name, json_integer_value(number));
	}
	return status || !service_flag(call, "persist") ? status : persist_check_passed(spec);
}

json_t *service_options(const struct service_call *call, const char *name)
{
	json_t *given = json_object_get(call->parameters, "options");
	json_t *options = given ? json_copy(given) : json_object();
	const char *text = json_string_value(json_object_get(options, "uuid"));
	char uuid[UUID_SIZE];

	if (!text)
		table_choose_uuid(manager_of(call)->host->table, name, false, uuid);
	else if (uuid_read(text, uuid))
		return options; /* whoever reads them says so */
	json_object_set_new(options, "uuid", json_string(uuid));
	return options;
}

int service_check_uuid(const struct service_call *call, const char *name, json_t *options)
{
	const char *uuid = json_string_value(json_object_get(options, "uuid"));
	const char *owner = uuid ? manager_find_uuid(manager_of(call), uuid, name) : NULL, *before;
	int status;

	if (!owner)
		return EXIT_DONE;
	before = log_switch(name);
	status = host_uuid_is_taken(uuid, owner);
	log_switch(before);
	return status;
}

/* call NULL: another server's client has added it. */
static int fill(struct added *added, const struct manager *manager, struct service_call *call,
		const char *backend, json_t *options)
{
	int status;

	added->spec.shared = pool_is_shared(manager->host->pool);
	status = spec_fill(&added->spec, backend, options);
	if (!status && call)
		status = service_pass(call, &added->spec);
	if (!status && !manager->host->table)
		status = spec_check_unkept(&added->spec, "without --state");
	return status;
}

/* Takes the name over; NULL, as it is where there was no memory for it, gives NULL. */
static struct added *new_added(char *name)
{
	struct added *added = name ? calloc(1, sizeof(*added)) : NULL;

	if (!added) {
		free(name);
		return NULL;
	}
	added->name = name;
	spec_init(&added->spec);
	return added;
}

/* Among the host's devices, or NULL: *status says why not. */
static struct hosted *add_to_host(struct manager *manager, struct added *added,
				  struct service_call *call, const char *backend, json_t *options,
				  int *status)
{
	const char *before = log_switch(added->name);
	struct hosted *hosted = NULL;

	*status = fill(added, manager, call, backend, options);
	if (!*status) {
		hosted = host_add(manager->host, added->name, &added->spec);
		*status = hosted ? EXIT_DONE : EXIT_RUNTIME;
	}
	log_switch(before);
	if (!hosted)
		return NULL;
	hosted->added = true;
	hosted->owner = added;
	manager->on_more(manager);
	return hosted;
}

static int add_with(struct job *job, struct added *added, json_t *options)
{
	struct manager *manager = manager_of(job->call);
	const char *backend = service_text(job->call, "backend");
	int status = service_check_uuid(job->call, added->name, options);
	struct hosted *hosted;

	if (!status && service_flag(job->call, "persist")) {
		status = persist_prepare(manager->conf, added->name, backend, options);
		added->prepared = !status;
	}
	if (status)
		return status;
	hosted = add_to_host(manager, added, job->call, backend, options, &status);
	if (!hosted)
		return status;
	hosted->quiet = true;
	job_begin(job, hosted);
	host_go_on(manager->host);
	return EXIT_DONE;
}

static int add(struct job *job, struct added *added)
{
	json_t *options = service_options(job->call, added->name);
	int status;

	job_listen(job, added->name);
	status = add_with(job, added, options);
	json_decref(options);
	return status;
}

static void add_again(struct manager *manager, const struct table_entry *entry)
{
	struct added *added = new_added(strdup(entry->name));
	const char *before;
	int status;

	if (added && add_to_host(manager, added, NULL, entry->backend, entry->options, &status))
		return;
	if (added)
		free_added(added);
	before = log_switch(entry->name);
	ublkd_error("device %u cannot be taken over as it was added: it is left as it is, its I/O "
		    "waiting", (unsigned)entry->id);
	log_switch(before);
}

void manager_take_over(struct manager *manager, const struct table *table)
{
	for (unsigned i = 0; i < table->count; i++) {
		const struct table_entry *entry = &table->entries[i];

		if (entry->state == TABLE_WAITS && entry->options &&
		    !host_find(manager->host, entry->name))
			add_again(manager, entry);
	}
}

const char *service_wrong_in_add(const struct service_call *call)
{
	const char *name = service_text(call, "name"), *key;
	json_t *value;

	if (name && !name_fits(name))
		return "name";
	json_object_foreach(json_object_get(call->parameters, "options"), key, value) {
		if (!json_is_string(value) || strchr(key, '='))
			return "options";
	}
	json_object_foreach(json_object_get(call->parameters, "files"), key, value) {
		if (!json_is_integer(value) || json_integer_value(value) < 0 ||
		    json_integer_value(value) >= SERVICE_FILES)
			return "files";
	}
	return NULL;
}

void call_add(struct service_call *call)
{
	struct host *host = manager_of(call)->host;
	const char *name = service_text(call, "name"), *wrong = service_wrong_in_add(call);
	struct added *added;
	struct job *job;
	int status;

	if (wrong) {
		service_invalid(call, wrong);
		return;
	}
	if (host->stopped) {
		service_failed(call, EXIT_RUNTIME, "the server is stopping");
		return;
	}
	if (service_flag(call, "unprivileged")) {
		service_failed(call, EXIT_USAGE, SERVICE_NO_USERS);
		return;
	}
	if (name && host_find(host, name)) {
		service_failed(call, EXIT_TAKEN, SERVICE_NAME_TAKEN);
		return;
	}
	job = job_new(call, JOB_ADD);
	if (!job)
		return;
	added = new_added(name ? strdup(name) : make_name(manager_of(call),
							  service_text(call, "backend")));
	status = added ? add(job, added) : EXIT_RUNTIME;
	if (status) {
		if (added)
			forget_prepared(manager_of(call), added);
		service_failed(call, status, job->listener.text[0] ? job->listener.text : "no memory");
		job_end(job);
		if (added)
			free_added(added);
	}
}

static void reply_live(struct service_call *call, const struct hosted *hosted)
{
	service_reply(call, json_pack("{s:s, s:s, s:I}", "name", hosted->name, "path",
				      hosted->device.node.path, "number",
				      (json_int_t)hosted->device.id));
}

static void answer_live(struct job *job, const struct hosted *hosted)
{
	reply_live(job->call, hosted);
}

static void answer_again(struct job *job, const struct hosted *hosted)
{
	(void)hosted;
	service_reply(job->call, NULL);
}

static void answer_unwritten(struct job *job, const struct hosted *hosted)
{
	(void)hosted;
	service_failed(job->call, EXIT_RUNTIME, SERVICE_NOT_WRITTEN);
}

/* The file that was prepared, if any. */
static int describe(const struct manager *manager, struct hosted *hosted)
{
	struct added *added = hosted->owner;

	if (!added || !added->prepared)
		return EXIT_DONE;
	added->prepared = false;
	return persist_commit(manager->conf, added->name);
}

void manager_live(struct manager *manager, struct hosted *hosted)
{
	int status = describe(manager, hosted);

	failed_forget(manager, hosted->name);
	jobs_answer(manager, hosted, JOB_ADD, status ? answer_unwritten : answer_live);
	jobs_answer(manager, hosted, JOB_WAIT, answer_live);
	jobs_answer(manager, hosted, JOB_AGAIN, answer_again);
}

/* ---- Recover ------------------------------------------------------------------------ */

void call_start_again(struct service_call *call)
{
	struct manager *manager = manager_of(call);
	struct conf_device *device = failed_read(call);
	struct job *job = device ? job_new(call, JOB_AGAIN) : NULL;
	struct hosted *hosted;

	if (!job)
		return;
	hosted = manager->host->stopped ? NULL :
					  host_add(manager->host, device->name, &device->spec);
	if (!hosted) {
		service_failed(call, EXIT_RUNTIME, "the server is stopping, or has no memory");
		job_end(job);
		return;
	}
	job_listen(job, hosted->name);
	job_begin(job, hosted);
	manager->on_more(manager);
	host_go_on(manager->host);
}

/* ---- Wait --------------------------------------------------------------------------- */

/* Of a name that the host does not have. */
static void wait_for_none(struct service_call *call)
{
	const char *name = service_text(call, "device");

	if (failed_wait(call))
		return;
	if (left_find(manager_of(call), name))
		service_failed(call, EXIT_BACKING, "it waits for a server that has it described, or is to be "
		     "deleted");
	else
		service_not_found(call, name);
}

void call_wait(struct service_call *call)
{
	struct hosted *hosted = host_find(manager_of(call)->host, service_text(call, "device"));
	struct job *job;

	if (!hosted) {
		if (!service_defer(call))
			wait_for_none(call);
		return;
	}
	if (hosted->state == HOSTED_LIVE && !hosted->device.stopping) {
		reply_live(call, hosted);
		return;
	}
	if (hosted->state == HOSTED_STUCK) {
		service_failed(call, EXIT_TIMEOUT, LOG_SAYS_WHY);
		return;
	}
	job = job_new(call, JOB_WAIT);
	if (!job)
		return;
	job_listen(job, hosted->name);
	job_begin(job, hosted);
}
