/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "service-methods.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "exit.h"
#include "interfaces.h"
#include "log.h"
#include "persist.h"
#include "service-job.h"
#include "service-left.h"
#include "use.h"
#include "util/macros.h"
#include "util/parse.h"

/* What a device that was added stands on; the owner of its struct hosted. */
struct added {
	char *name;
	struct spec spec;
	bool prepared; /* a file that is to describe it; see persist.h */
};

/* ---- devices as JSON ---------------------------------------------------------------- */

static const char *state_name(const struct hosted *hosted)
{
	static const char *const names[] = {
		[HOSTED_WAITS] = "waiting",  [HOSTED_STARTS] = "starting", [HOSTED_LIVE] = "live",
		[HOSTED_STOPS] = "stopping", [HOSTED_STUCK] = "stuck",
	};

	return names[hosted->state == HOSTED_LIVE && hosted->device.stopping ? HOSTED_STOPS :
									       hosted->state];
}

static json_t *backend_names(const struct spec *spec)
{
	char text[256];

	spec_name(spec, text, sizeof(text));
	return json_string(text);
}

static json_t *number_if(bool there, uint64_t number)
{
	return there ? json_integer((json_int_t)number) : json_null();
}

static json_t *device_json(const struct hosted *hosted)
{
	const struct device *device = &hosted->device;

	return json_pack("{s:s, s:o, s:o, s:s, s:o, s:o, s:i}", "name", hosted->name, "path",
			 device->node.path[0] ? json_string(device->node.path) : json_null(),
			 "number", number_if(device->added, device->id), "state", state_name(hosted),
			 "size", number_if(hosted->state == HOSTED_LIVE,
					   device->plan.sectors << UBLK_SECTOR_SHIFT),
			 "backend", backend_names(hosted->spec), "pid", (int)getpid());
}

static void add_setting(void *config, const char *name, const char *value)
{
	json_object_set_new(config, name, json_string(value));
}

static json_t *config_json(const struct spec *spec)
{
	json_t *config = json_object();

	spec_visit(spec, add_setting, config);
	return config;
}

static json_t *counters_json(const struct device *device)
{
	struct queue_stats all = { 0 };

	for (unsigned q = 0; q < device->nr_queues; q++) {
		const struct queue_stats *stats = &device->queues[q].stats_copy;

		for (unsigned op = 0; op < UBLKD_OP_COUNT; op++)
			all.ops[op] += stats->ops[op];
		all.read_bytes += stats->read_bytes;
		all.write_bytes += stats->write_bytes;
		all.errors += stats->errors;
	}
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			 "reads", (json_int_t)all.ops[UBLKD_OP_READ],
			 "writes", (json_int_t)all.ops[UBLKD_OP_WRITE],
			 "flushes", (json_int_t)all.ops[UBLKD_OP_FLUSH],
			 "discards", (json_int_t)all.ops[UBLKD_OP_DISCARD],
			 "write_zeroes", (json_int_t)all.ops[UBLKD_OP_WRITE_ZEROES],
			 "read_bytes", (json_int_t)all.read_bytes,
			 "write_bytes", (json_int_t)all.write_bytes,
			 "errors", (json_int_t)all.errors);
}

static json_t *details_json(const struct hosted *hosted, bool counted)
{
	const struct device *device = &hosted->device;
	bool granted = device->nr_queues > 0 && hosted->state != HOSTED_STUCK;

	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "device", device_json(hosted),
			 "config", config_json(hosted->spec),
			 "queues", number_if(granted, device->info.nr_hw_queues),
			 "depth", number_if(granted, device->info.queue_depth),
			 "data", granted ? json_string(data_mode_name(device->plan.data)) :
					   json_null(),
			 "counters", counted ? counters_json(device) : json_null());
}

/* ---- List, Show --------------------------------------------------------------------- */

static void run_list(struct service_call *call)
{
	const struct host *host = manager_of(call)->host;
	json_t *devices = json_array();

	for (unsigned i = 0; i < host->count; i++)
		json_array_append_new(devices, device_json(host->devices[i]));
	left_list(manager_of(call), devices);
	service_reply(call, json_pack("{s:o}", "devices", devices));
}

/*
 * NULL: the host has none that is called so. Then *left is one that waits, or NULL, and
 * the call was told that there is none.
 */
static struct hosted *device_parameter(struct service_call *call, struct table_entry **left)
{
	const char *name = service_text(call, "device");
	struct hosted *hosted = host_find(manager_of(call)->host, name);

	*left = hosted ? NULL : left_find(manager_of(call), name);
	if (!hosted && !*left)
		service_not_found(call, name);
	return hosted;
}

/* The call comes again when the last server's devices are known; false: they are. */
static bool defer(struct service_call *call)
{
	const struct manager *manager = manager_of(call);
	struct job *job;

	if (manager->knows || !manager->host->table)
		return false;
	job = job_new(call, JOB_EARLY);
	if (job)
		job_begin(job, NULL);
	return true;
}

static void run_again(struct job *job, const struct hosted *hosted)
{
	(void)hosted;
	manager_call(job->call);
}

static void run_show(struct service_call *call)
{
	struct table_entry *left;
	struct hosted *hosted = device_parameter(call, &left);
	struct job *job;

	if (left)
		service_reply(call, left_details_json(left));
	if (!hosted)
		return;
	if (hosted->state != HOSTED_LIVE || hosted->device.stopping) {
		service_reply(call, details_json(hosted, false));
		return;
	}
	job = job_new(call, JOB_SHOW);
	if (!job)
		return;
	job_begin(job, hosted);
	device_count(&hosted->device);
}

static void answer_counted(struct job *job, const struct hosted *hosted)
{
	service_reply(job->call, details_json(hosted, true));
}

void manager_counted(struct manager *manager, struct hosted *hosted)
{
	jobs_answer(manager, hosted, JOB_SHOW, answer_counted);
}

/* ---- Add ---------------------------------------------------------------------------- */

static void free_added(struct added *added)
{
	spec_free(&added->spec);
	free(added->name);
	free(added);
}

/* It is not going to be usable. Before the answer, which may bring the next of this name. */
static void forget_prepared(const struct manager *manager, struct added *added)
{
	if (added->prepared)
		persist_abandon(manager->conf, added->name);
	added->prepared = false;
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

static int fill(struct added *added, const struct manager *manager, const char *backend,
		json_t *options)
{
	int status;

	added->spec.shared = pool_is_shared(manager->host->pool);
	status = spec_fill(&added->spec, backend, options);
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
				  const char *backend, json_t *options, int *status)
{
	const char *before = log_switch(added->name);
	struct hosted *hosted = NULL;

	*status = fill(added, manager, backend, options);
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

static int add(struct job *job, struct added *added)
{
	struct manager *manager = manager_of(job->call);
	const char *backend = service_text(job->call, "backend");
	json_t *options = json_object_get(job->call->parameters, "options");
	struct hosted *hosted;
	int status;

	job_listen(job, added->name);
	if (service_flag(job->call, "persist")) {
		status = persist_prepare(manager->conf, added->name, backend, options);
		if (status)
			return status;
		added->prepared = true;
	}
	hosted = add_to_host(manager, added, backend, options, &status);
	if (!hosted)
		return status;
	hosted->quiet = true;
	job_begin(job, hosted);
	host_go_on(manager->host);
	return EXIT_DONE;
}

static void add_again(struct manager *manager, const struct table_entry *entry)
{
	struct added *added = new_added(strdup(entry->name));
	int status;

	if (added && add_to_host(manager, added, entry->backend, entry->options, &status))
		return;
	if (added)
		free_added(added);
	ublkd_error("%s: device %u cannot be taken over as it was added: it is left as it is, its "
		    "I/O waiting", entry->name, (unsigned)entry->id);
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

void manager_knows(struct manager *manager)
{
	manager->knows = true;
	jobs_answer(manager, NULL, JOB_EARLY, run_again);
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
	return NULL;
}

static void run_add(struct service_call *call)
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

	manager_note(manager, hosted->name, EXIT_DONE);
	jobs_answer(manager, hosted, JOB_ADD, status ? answer_unwritten : answer_live);
	jobs_answer(manager, hosted, JOB_WAIT, answer_live);
}

/* ---- Wait --------------------------------------------------------------------------- */

/* Of a name that the host does not have. */
static void wait_for_none(struct service_call *call)
{
	const char *name = service_text(call, "device");
	json_t *status = json_object_get(manager_of(call)->failed, name);

	if (status)
		service_failed(call, (int)json_integer_value(status), LOG_SAYS_WHY);
	else if (left_find(manager_of(call), name))
		service_failed(call, EXIT_BACKING, "it waits for a server that has it described, or is to be "
		     "deleted");
	else
		service_not_found(call, name);
}

static void run_wait(struct service_call *call)
{
	struct hosted *hosted = host_find(manager_of(call)->host, service_text(call, "device"));
	struct job *job;

	if (!hosted) {
		if (!defer(call))
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

/* ---- Delete ------------------------------------------------------------------------- */

/* What is described, but not served, has a file to be removed. */
static bool forget_file(struct service_call *call)
{
	const struct manager *manager = manager_of(call);
	const char *name = service_text(call, "device");

	if (!service_flag(call, "persist") || host_find(manager->host, name) ||
	    left_find(manager, name) || !service_is_described(manager, name))
		return false;
	service_reply(call, deleted_json(call, name, NULL, false));
	return true;
}

/* How it is taken down is its kind. */
static void delete(struct service_call *call, struct hosted *hosted, enum job_kind kind, bool force,
		   const char *holder)
{
	struct job *job = job_new(call, kind);

	if (!job)
		return;
	job->holder = *holder ? strdup(holder) : NULL;
	job_listen(job, hosted->name);
	if (kind == JOB_UNUSED && device_stop_when_unused(&hosted->device)) {
		service_failed(call, EXIT_RUNTIME, job->listener.text);
		job_end(job);
		return;
	}
	job_begin(job, hosted);
	/* One that stops already only has its end to be waited for. */
	if (force)
		device_stop_used(&hosted->device);
	else if (kind == JOB_DELETE)
		device_stop_unused(&hosted->device);
}

static void run_delete(struct service_call *call)
{
	bool force = service_flag(call, "force"), later = service_flag(call, "when_unused");
	char holder[USE_TEXT_SIZE] = "";
	struct table_entry *left;
	struct hosted *hosted;

	if (force && later) {
		service_invalid(call, "when_unused");
		return;
	}
	if (defer(call) || forget_file(call))
		return;
	hosted = device_parameter(call, &left);
	if (left)
		left_delete(call, left);
	if (!hosted)
		return;
	if (hosted->state == HOSTED_STUCK) {
		service_failed(call, EXIT_TIMEOUT, "the driver does not let go of it");
		return;
	}
	if (hosted->state == HOSTED_WAITS || hosted->state == HOSTED_STARTS) {
		service_failed(call, EXIT_RUNTIME, "it is not usable yet");
		return;
	}
	if (hosted->state == HOSTED_LIVE && !later &&
	    use_find_node(hosted->device.node.path, holder) && !force)
		service_in_use(call, holder);
	else
		delete(call, hosted, later ? JOB_UNUSED : JOB_DELETE, force, holder);
}

/* It may have come meanwhile. */
static void answer_in_use(struct job *job, const struct hosted *hosted)
{
	char holder[USE_TEXT_SIZE];

	if (use_find_node(hosted->device.node.path, holder))
		service_in_use(job->call, holder);
	else
		service_in_use(job->call, hosted->device.info.flags & UBLK_F_SAFE_STOP_DEV ?
					  "open by a program" : "claimed");
}

void manager_in_use(struct manager *manager, struct hosted *hosted)
{
	jobs_answer(manager, hosted, JOB_DELETE, answer_in_use);
}

/* ---- FailIo ------------------------------------------------------------------------- */

static void run_fail_io(struct service_call *call)
{
	struct table_entry *left;

	if (defer(call))
		return;
	if (device_parameter(call, &left))
		service_failed(call, EXIT_USAGE, SERVICE_IS_SERVED);
	else if (left)
		left_fail(call, left);
}

/* ---- Recover ------------------------------------------------------------------------ */

static void run_recover(struct service_call *call)
{
	struct table_entry *left;

	if (device_parameter(call, &left) || left)
		service_failed(call, EXIT_USAGE, SERVICE_NOT_DEAD);
}

/* ---- Quiesce, Resume ---------------------------------------------------------------- */

/* NULL, or why not, and then *status too. */
static const char *cannot_quiesce(const struct manager *manager, const struct hosted *hosted,
				  int *status)
{
	*status = EXIT_USAGE;
	if (!manager->worker)
		return "expected a server with --workers, where the process of a device can leave it";
	if (!device_can_stay(&hosted->device) || !features_keep_io(hosted->device.info.flags))
		return "expected a device that is live and whose I/O can wait for another process, see "
		       "on-crash";
	*status = EXIT_KERNEL;
	return hosted->device.info.flags & UBLK_F_QUIESCE ? NULL :
	       "expected a device that the driver can quiesce, which needs Linux 6.16, and batch=no";
}

/* Our end is that of the device's I/O; who told us starts the next process when that is wanted. */
static void run_quiesce(struct service_call *call)
{
	struct manager *manager = manager_of(call);
	struct table_entry *left;
	struct hosted *hosted = device_parameter(call, &left);
	const char *wrong;
	struct job *job;
	int status;

	if (left)
		service_failed(call, EXIT_USAGE, "expected a device that is live");
	if (!hosted)
		return;
	wrong = cannot_quiesce(manager, hosted, &status);
	if (wrong) {
		service_failed(call, status, wrong);
		return;
	}
	job = job_new(call, JOB_QUIESCE);
	if (!job)
		return;
	job_listen(job, hosted->name);
	job_begin(job, hosted);
	hosted->syncs = true;
	host_leave(manager->host);
}

static void answer_quiesced(struct service_call *call, const struct hosted *hosted,
			    const char *text)
{
	if (hosted->device.holds)
		service_failed(call, EXIT_TIMEOUT, "not all that had begun was done in time; it goes on");
	else if (hosted->status || !hosted->device.leaving)
		service_failed(call, hosted->status ? hosted->status : EXIT_RUNTIME,
			       *text ? text : LOG_SAYS_WHY);
	else
		service_reply(call, NULL);
}

static void run_resume(struct service_call *call)
{
	struct table_entry *left;

	if (device_parameter(call, &left) || left)
		service_failed(call, EXIT_USAGE, SERVICE_NOT_QUIESCED);
}

/* ---- Resize ------------------------------------------------------------------------- */

/* Somebody who would lose the end of the device. */
static bool is_needed(const struct hosted *hosted, uint64_t size, char holder[USE_TEXT_SIZE])
{
	const struct device *device = &hosted->device;

	return size >> UBLK_SECTOR_SHIFT < device->plan.sectors &&
	       use_find_node(device->node.path, holder);
}

static void resize(struct job *job, struct hosted *hosted, uint64_t size)
{
	bool shrink = service_flag(job->call, "shrink");
	int status = device_find_size(&hosted->device, &size, shrink);
	char holder[USE_TEXT_SIZE];

	if (status) {
		service_failed(job->call, status, job->listener.text);
		job_end(job);
	} else if (is_needed(hosted, size, holder)) {
		service_in_use(job->call, holder);
		job_end(job);
	} else {
		job_begin(job, hosted);
		device_resize(&hosted->device, size);
	}
}

static void run_resize(struct service_call *call)
{
	const json_t *size = json_object_get(call->parameters, "size");
	struct table_entry *left;
	struct hosted *hosted = device_parameter(call, &left);
	struct job *job;

	if (!hosted && !left)
		return;
	if (left || hosted->state != HOSTED_LIVE) {
		service_failed(call, EXIT_RUNTIME, "it is not usable yet, or not any more");
		return;
	}
	if (json_is_integer(size) && json_integer_value(size) <= 0) {
		service_failed(call, EXIT_USAGE, "size: expected a block or more, got none");
		return;
	}
	job = job_new(call, JOB_RESIZE);
	if (!job)
		return;
	job_listen(job, hosted->name);
	resize(job, hosted, (uint64_t)json_integer_value(size));
}

static void answer_resized(struct job *job, const struct hosted *hosted)
{
	const struct device *device = &hosted->device;
	int status = device->resize.status;

	if (!status)
		service_reply(job->call, json_pack("{s:I}", "size", (json_int_t)device->plan.sectors <<
						   UBLK_SECTOR_SHIFT));
	else if (status == EXIT_TAKEN)
		service_in_use(job->call, "claimed");
	else
		service_failed(job->call, status, job->listener.text);
}

void manager_resized(struct manager *manager, struct hosted *hosted)
{
	jobs_answer(manager, hosted, JOB_RESIZE, answer_resized);
}

/* ---- Collect ------------------------------------------------------------------------ */

static void run_collect(struct service_call *call)
{
	if (!defer(call))
		left_collect(call);
}

/* ---- the end of a device ------------------------------------------------------------ */

/* It is gone, and the first error that was heard may be of a single request. */
static void answer_lost(struct service_call *call, const struct hosted *hosted)
{
	char text[256];

	snprintf(text, sizeof(text), "'%s' is deleted, but what was cached for it could not be written "
		 "back, and is lost%s", hosted->name,
		 hosted->device.lingers ? "; its number is free when its last user is gone" : "");
	service_failed(call, hosted->status, text);
}

static void answer_ended(struct job *job, const struct hosted *hosted)
{
	int status = hosted->status;
	const char *text = job->listener.text;

	bool deletes = job->kind == JOB_DELETE || job->kind == JOB_UNUSED;

	/* Somebody who waits until it is unused did not ask for that, nor that its file goes. */
	if (job->kind == JOB_QUIESCE)
		answer_quiesced(job->call, hosted, text);
	else if (job->kind == JOB_UNUSED && hosted->host->stopped)
		service_failed(job->call, EXIT_RUNTIME, "the server was stopped meanwhile, and the device with it");
	else if (deletes && hosted->device.leaving)
		service_failed(job->call, EXIT_RUNTIME, "it is left to the next server");
	else if (deletes && !status)
		service_reply(job->call, deleted_json(job->call, hosted->name, job->holder,
						      hosted->device.lingers));
	else if (job->kind == JOB_DELETE && hosted->device.lost && hosted->state != HOSTED_STUCK)
		answer_lost(job->call, hosted);
	else if (job->kind == JOB_SHOW)
		service_not_found(job->call, service_text(job->call, "device"));
	else
		service_failed(job->call, status ? status : EXIT_RUNTIME,
		     *text  ? text :
		     status ? LOG_SAYS_WHY : "it was stopped before it was usable");
}

/* As many as there are files, and entries of the table. */
void manager_note(struct manager *manager, const char *name, int status)
{
	if (!status) {
		json_object_del(manager->failed, name);
		return;
	}
	if (!manager->failed)
		manager->failed = json_object();
	json_object_set_new(manager->failed, name, json_integer(status));
}

void manager_ended(struct manager *manager, struct hosted *hosted)
{
	if (hosted->owner)
		forget_prepared(manager, hosted->owner);
	jobs_answer(manager, hosted, -1, answer_ended);
	if (hosted->status && !hosted->quiet)
		manager_note(manager, hosted->name, hosted->status);
	if (hosted->owner && hosted->state != HOSTED_STUCK)
		free_added(hosted->owner);
}

/* ---- the end of a client ------------------------------------------------------------ */

static bool is_wanted_gone(const struct manager *manager, const struct hosted *hosted)
{
	const struct job *job = manager->jobs;

	while (job && (job->hosted != hosted || job->kind != JOB_UNUSED))
		job = job->next;
	return job;
}

static bool takes_any_time(const struct job *job)
{
	return job->kind == JOB_UNUSED || job->kind == JOB_WAIT || job->kind == JOB_EARLY;
}

/* What may take any time is no wish any more of who does not wait for it. */
void manager_hang_up(struct service_call *call)
{
	struct manager *manager = manager_of(call);
	struct job **link = &manager->jobs, *job;

	while ((job = *link) && job->call != call)
		link = &job->next;
	if (!job || !takes_any_time(job))
		return;
	*link = job->next;
	if (job->kind == JOB_UNUSED && !is_wanted_gone(manager, job->hosted))
		device_stay(&job->hosted->device);
	service_reply(call, NULL);
	job_end(job);
}

/* ---- Features, Backends ------------------------------------------------------------- */

struct features_job {
	struct features_query query;
	struct service_call *call; /* NULL: it was answered, but the driver has not ended yet */
};

static json_t *features_json(uint64_t flags)
{
	json_t *features = json_array();

	for (const struct feature *f = driver_features; f->name; f++)
		json_array_append_new(features, json_pack("{s:s, s:b, s:s, s:s}", "name", f->name,
							  "offered", !!(flags & f->flag), "since",
							  f->since, "what", f->what));
	return json_pack("{s:I, s:o}", "flags", (json_int_t)flags, "features", features);
}

static void features_answered(struct features_query *query, int result)
{
	struct features_job *job = container_of(query, struct features_job, query);
	struct service_call *call = job->call;

	job->call = NULL;
	if (call && features_unknown(result))
		service_failed(call, EXIT_KERNEL, "this kernel's ublk driver cannot say what it offers; "
		     "expected Linux 6.5 or later");
	else if (call && result)
		service_failed(call, result == -ETIMEDOUT ? EXIT_TIMEOUT : EXIT_KERNEL, strerror(-result));
	else if (call)
		service_reply(call, features_json(query->flags));
	/* The driver writes to it when it comes to it. */
	if (result != -ETIMEDOUT)
		free(job);
}

static void run_features(struct service_call *call)
{
	struct features_job *job = calloc(1, sizeof(*job));

	if (!job) {
		service_failed(call, EXIT_RUNTIME, "no memory");
		return;
	}
	job->call = call;
	job->query.done = features_answered;
	features_ask(&job->query, manager_of(call)->host->ctrl);
}

static json_t *options_json(const struct ublkd_option *table)
{
	json_t *options = json_array();

	for (const struct ublkd_option *o = table; o->name; o++)
		json_array_append_new(options,
				      json_pack("{s:s, s:s, s:b, s:o, s:o, s:s}", "name", o->name,
						"type", option_type_name(o), "required", o->required,
						"preset", text_or_null(o->preset), "argument",
						text_or_null(o->arg), "help", o->help));
	return options;
}

static void run_backends(struct service_call *call)
{
	json_t *all = json_array();

	for (unsigned i = 0; backends[i]; i++)
		json_array_append_new(all, json_pack("{s:s, s:s, s:b, s:o}", "name",
						     backends[i]->name, "summary",
						     backends[i]->summary, "filter",
						     backends[i]->filter, "options",
						     options_json(backends[i]->options)));
	service_reply(call, json_pack("{s:o, s:o}", "device", options_json(device_options),
				      "backends", all));
}

/* ---- what every service has --------------------------------------------------------- */

static void run_info(struct service_call *call)
{
	service_reply(call, json_pack("{s:s, s:s, s:s, s:s, s:[s, s]}", "vendor", "ublkd",
				      "product", "ublkd", "version", PACKAGE_VERSION, "url", "",
				      "interfaces", "org.varlink.service", "io.ublkd"));
}

static void run_description(struct service_call *call)
{
	const char *name = service_text(call, "interface");
	const char *text = !strcmp(name, "io.ublkd") ? interface_io_ublkd :
			   !strcmp(name, "org.varlink.service") ? interface_org_varlink_service :
								  NULL;

	if (text)
		service_reply(call, json_pack("{s:s}", "description", text));
	else
		service_error(call, VARLINK_ERROR "InterfaceNotFound",
			      json_pack("{s:s}", "interface", name));
}

/* ---- calls -------------------------------------------------------------------------- */

struct parameter {
	const char *name;
	json_type type; /* JSON_TRUE: or JSON_FALSE */
	bool required;
};

static const struct method {
	const char *name;
	void (*run)(struct service_call *call);
	struct parameter parameters[5]; /* name NULL at the end */
} methods[] = {
	{ VARLINK_ERROR "GetInfo", run_info, {} },
	{ VARLINK_ERROR "GetInterfaceDescription", run_description,
	  { { "interface", JSON_STRING, true } } },
	{ OURS "List", run_list, {} },
	{ OURS "Show", run_show, { { "device", JSON_STRING, true } } },
	{ OURS "Add", run_add,
	  { { "name", JSON_STRING, false }, { "backend", JSON_STRING, true },
	    { "options", JSON_OBJECT, false }, { "persist", JSON_TRUE, false } } },
	{ OURS "Delete", run_delete,
	  { { "device", JSON_STRING, true }, { "force", JSON_TRUE, false },
	    { "when_unused", JSON_TRUE, false }, { "persist", JSON_TRUE, false } } },
	{ OURS "FailIo", run_fail_io, { { "device", JSON_STRING, true } } },
	{ OURS "Recover", run_recover, { { "device", JSON_STRING, true } } },
	{ OURS "Quiesce", run_quiesce, { { "device", JSON_STRING, true } } },
	{ OURS "Resume", run_resume, { { "device", JSON_STRING, true } } },
	{ OURS "Resize", run_resize,
	  { { "device", JSON_STRING, true }, { "size", JSON_INTEGER, false },
	    { "shrink", JSON_TRUE, false } } },
	{ OURS "Features", run_features, {} },
	{ OURS "Backends", run_backends, {} },
	{ OURS "Wait", run_wait, { { "device", JSON_STRING, true } } },
	{ OURS "Collect", run_collect, { { "force", JSON_TRUE, false } } },
};

static const struct parameter *find_parameter(const struct method *method, const char *name)
{
	for (const struct parameter *p = method->parameters; p->name; p++) {
		if (!strcmp(p->name, name))
			return p;
	}
	return NULL;
}

static bool is_of_type(const json_t *value, const struct parameter *parameter)
{
	return json_typeof(value) == parameter->type ||
	       (json_is_false(value) && parameter->type == JSON_TRUE) ||
	       (json_is_null(value) && !parameter->required);
}

/* The name of a parameter that is unknown, missing, or not of its type; NULL: all is well. */
static const char *wrong_parameter(const struct method *method, json_t *parameters)
{
	const char *name;
	json_t *value;

	json_object_foreach(parameters, name, value) {
		const struct parameter *parameter = find_parameter(method, name);

		if (!parameter || !is_of_type(value, parameter))
			return name;
	}
	for (const struct parameter *p = method->parameters; p->name; p++) {
		if (p->required && !json_object_get(parameters, p->name))
			return p->name;
	}
	return NULL;
}

static void unknown_method(struct service_call *call)
{
	const char *dot = strrchr(call->method, '.');
	size_t length = dot ? (size_t)(dot - call->method) : 0;

	for (size_t i = 0; dot && i < ARRAY_SIZE(methods); i++) {
		if (!strncmp(methods[i].name, call->method, length + 1) &&
		    !strchr(methods[i].name + length + 1, '.')) {
			service_error(call, VARLINK_ERROR "MethodNotFound",
				      json_pack("{s:s}", "method", call->method));
			return;
		}
	}
	if (!dot)
		service_invalid(call, "method");
	else
		service_error(call, VARLINK_ERROR "InterfaceNotFound",
			      json_pack("{s:s%}", "interface", call->method, length));
}

void manager_call(struct service_call *call)
{
	const struct method *method = NULL;
	const char *wrong;

	for (size_t i = 0; i < ARRAY_SIZE(methods) && !method; i++) {
		if (!strcmp(methods[i].name, call->method))
			method = &methods[i];
	}
	if (!method) {
		unknown_method(call);
		return;
	}
	/* There is one answer to each. */
	wrong = call->more ? "more" : wrong_parameter(method, call->parameters);
	if (wrong)
		service_invalid(call, wrong);
	else if (service_flag(call, "persist") && !persist_folder(manager_of(call)->conf))
		service_failed(call, EXIT_USAGE, "persist: expected a server that was given one folder of files "
			       "that describe devices, got one that was given none, or several");
	else if (!manager_of(call)->route || !manager_of(call)->route(call))
		method->run(call);
}

int manager_open(struct manager *manager, const char *path)
{
	manager->service.on_call = manager_call;
	manager->service.on_hang_up = manager_hang_up;
	return service_open(&manager->service, path);
}

void manager_close(struct manager *manager)
{
	service_close(&manager->service);
	json_decref(manager->failed);
	manager->failed = NULL;
}
