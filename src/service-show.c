/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "service-calls.h"

#include <string.h>
#include <unistd.h>

#include "exit.h"
#include "interfaces.h"
#include "service-failed.h"
#include "service-job.h"
#include "service-left.h"

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

	return json_pack("{s:s, s:s?, s:o, s:o, s:s, s:o, s:o, s:i, s:s?, s:o, s:o, s:n}", "name",
			 hosted->name, "uuid", device->entry.uuid[0] ? device->entry.uuid : NULL, "path",
			 device->node.path[0] ? json_string(device->node.path) : json_null(),
			 "number", number_if(device->added, device->id), "state", state_name(hosted),
			 "size", number_if(hosted->state == HOSTED_LIVE,
					   device->plan.sectors << UBLK_SECTOR_SHIFT),
			 "backend", backend_names(hosted->spec), "pid", (int)getpid(), "worker",
			 hosted->spec->device.worker, "owner_uid",
			 number_if(device_is_of_user(device), device->info.owner_uid), "owner_gid",
			 number_if(device_is_of_user(device), device->info.owner_gid), "error");
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

/* Of several rings each is granted the same. NULL while there is none. */
static const char *ring_granted(const struct device *device)
{
	const struct queue *first = device->queues;

	return device->live && first->serving ? ring_mode_name(first->reactor->ring.mode) : NULL;
}

static json_t *details_json(const struct hosted *hosted, bool counted)
{
	const struct device *device = &hosted->device;
	bool granted = device->nr_queues > 0 && hosted->state != HOSTED_STUCK;

	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
			 "device", device_json(hosted), "config", config_json(hosted->spec),
			 "queues", number_if(granted, device->info.nr_hw_queues),
			 "depth", number_if(granted, device->info.queue_depth),
			 "data", text_or_null(granted ? data_mode_name(device->plan.data) : NULL),
			 "data_reason", text_or_null(granted ? device->plan.data_why : NULL),
			 "batch", granted ? json_boolean(device->shape.batch) : json_null(),
			 "batch_reason", text_or_null(granted ? device->plan.batch_why : NULL),
			 "ring", text_or_null(granted ? ring_granted(device) : NULL),
			 "pause", number_if(device->pause > 0, (uint64_t)(device->pause * 1000)),
			 "counters", counted ? counters_json(device) : json_null());
}

/* ---- List, Show --------------------------------------------------------------------- */

void call_list(struct service_call *call)
{
	const struct host *host = manager_of(call)->host;
	json_t *devices = json_array();

	for (unsigned i = 0; i < host->count; i++)
		json_array_append_new(devices, device_json(host->devices[i]));
	left_list(manager_of(call), devices);
	failed_list(manager_of(call), devices);
	service_reply_with_stuck(call, json_pack("{s:o}", "devices", devices));
}

void call_show(struct service_call *call)
{
	struct table_entry *left;
	struct hosted *hosted;
	struct job *job;

	if (failed_show(call))
		return;
	hosted = service_device(call, &left);
	if (left)
		service_reply_with_stuck(call, left_details_json(manager_of(call), left));
	if (!hosted)
		return;
	if (hosted->state != HOSTED_LIVE || hosted->device.stopping) {
		service_reply_with_stuck(call, details_json(hosted, false));
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
	service_reply_with_stuck(job->call, details_json(hosted, true));
}

void manager_counted(struct manager *manager, struct hosted *hosted)
{
	jobs_answer(manager, hosted, JOB_SHOW, answer_counted);
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

void call_features(struct service_call *call)
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

static json_t *option_json(const struct ublkd_option *option)
{
	return json_pack("{s:s, s:s, s:b, s:b, s:b, s:o, s:o, s:s}", "name", option->name, "type",
			 option_type_name(option), "required", option->required, "makes",
			 option->makes, "live", option->live, "preset", text_or_null(option->preset),
			 "argument", text_or_null(option->arg), "help", option->help);
}

/* files: only those that are paths of files, or have one made. */
static json_t *options_json(const struct ublkd_option *table, bool files)
{
	json_t *options = json_array();

	for (const struct ublkd_option *o = table; o->name; o++) {
		if (!files || o->makes || o->type == UBLKD_OPT_PATH)
			json_array_append_new(options, option_json(o));
	}
	return options;
}

void call_backends(struct service_call *call)
{
	bool files = service_flag(call, "files");
	json_t *all = json_array();

	for (unsigned i = 0; backends[i]; i++)
		json_array_append_new(all, json_pack("{s:s, s:s, s:b, s:o}", "name",
						     backends[i]->name, "summary",
						     backends[i]->summary, "filter",
						     backends[i]->filter, "options",
						     options_json(backends[i]->options, files)));
	service_reply(call, json_pack("{s:o, s:o}", "device", options_json(device_options, files),
				      "backends", all));
}

/* ---- what every service has --------------------------------------------------------- */

void call_info(struct service_call *call)
{
	service_reply(call, json_pack("{s:s, s:s, s:s, s:s, s:[s, s]}", "vendor", "ublkd",
				      "product", "ublkd", "version", PACKAGE_VERSION, "url", "",
				      "interfaces", "org.varlink.service", "io.ublkd"));
}

void call_description(struct service_call *call)
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
