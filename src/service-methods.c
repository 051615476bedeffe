/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "service-methods.h"

#include <string.h>

#include "exit.h"
#include "log.h"
#include "persist.h"
#include "service-calls.h"
#include "service-failed.h"
#include "service-job.h"
#include "service-left.h"
#include "use.h"
#include "util/macros.h"

/* For who looks at each device that comes or changes, by programs that udev starts. Seconds. */
#define LOOK_PATIENCE 2
#define LOOK_PAUSE 0.1
/* Until the first look, for calls that come together: it is one for all of them. */
#define LOOK_SOON 0.01

/* ---- the end of a client ------------------------------------------------------------ */

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

/* ---- UUIDs -------------------------------------------------------------------------- */

const char *manager_find_uuid(const struct manager *manager, const char *uuid, const char *name)
{
	const char *owner = host_find_uuid(manager->host, uuid, name);

	return owner || !manager->find_uuid ? owner : manager->find_uuid(manager, uuid, name);
}

bool manager_has(const struct manager *manager, const char *name)
{
	return host_find_name(manager->host, name) ||
	       (manager->has_name && manager->has_name(manager, name));
}

static bool is_name(const struct manager *manager, const char *text)
{
	return manager_has(manager, text) || left_find(manager, text) ||
	       service_is_described(manager, text);
}

/* Whether it is served or not. */
static const char *find_described(const struct conf *conf, const char *uuid)
{
	for (unsigned i = 0; conf && i < conf->count; i++) {
		const struct conf_device *device = conf->devices[i];

		if (device->spec.device.uuid && !strcmp(device->spec.device.uuid, uuid))
			return device->name;
	}
	return NULL;
}

/* From here on all go by the name. One that looks like a UUID is a name first. */
static void name_by_uuid(struct service_call *call)
{
	const struct manager *manager = manager_of(call);
	const char *text = service_text(call, "device"), *name;
	char uuid[UUID_SIZE];

	if (!text || uuid_read(text, uuid) || is_name(manager, text))
		return;
	name = manager_find_uuid(manager, uuid, "");
	if (!name)
		name = failed_find_uuid(manager, uuid);
	if (!name)
		name = find_described(manager->conf, uuid);
	if (name)
		json_object_set_new(call->parameters, "device", json_string(name));
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
	struct parameter parameters[7]; /* name NULL at the end */
} methods[] = {
	{ VARLINK_ERROR "GetInfo", call_info, {} },
	{ VARLINK_ERROR "GetInterfaceDescription", call_description,
	  { { "interface", JSON_STRING, true } } },
	{ OURS "List", call_list, {} },
	{ OURS "Show", call_show, { { "device", JSON_STRING, true } } },
	{ OURS "Add", call_add,
	  { { "name", JSON_STRING, false }, { "backend", JSON_STRING, true },
	    { "options", JSON_OBJECT, false }, { "persist", JSON_TRUE, false },
	    { "files", JSON_OBJECT, false }, { "unprivileged", JSON_TRUE, false } } },
	{ OURS "Delete", call_delete,
	  { { "device", JSON_STRING, true }, { "force", JSON_TRUE, false },
	    { "when_unused", JSON_TRUE, false }, { "persist", JSON_TRUE, false } } },
	{ OURS "FailIo", call_fail_io, { { "device", JSON_STRING, true } } },
	{ OURS "Recover", call_recover,
	  { { "device", JSON_STRING, true }, { "force", JSON_TRUE, false } } },
	{ OURS "Quiesce", call_quiesce, { { "device", JSON_STRING, true } } },
	{ OURS "Resume", call_resume, { { "device", JSON_STRING, true } } },
	{ OURS "Resize", call_resize,
	  { { "device", JSON_STRING, true }, { "size", JSON_INTEGER, false },
	    { "shrink", JSON_TRUE, false } } },
	{ OURS "Set", call_set,
	  { { "device", JSON_STRING, true }, { "options", JSON_OBJECT, true },
	    { "persist", JSON_TRUE, false } } },
	{ OURS "Features", call_features, {} },
	{ OURS "Backends", call_backends, { { "files", JSON_TRUE, false } } },
	{ OURS "Wait", call_wait, { { "device", JSON_STRING, true } } },
	{ OURS "Collect", call_collect, { { "force", JSON_TRUE, false } } },
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

static void run(struct service_call *call, const struct method *method)
{
	const struct manager *manager = manager_of(call);

	name_by_uuid(call);
	if (!manager->route || !manager->route(call))
		method->run(call);
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
	else
		run(call, method);
}

bool service_defer(struct service_call *call)
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

/* ---- programs that have it open ------------------------------------------------------- */

static void look(struct ev_loop *loop, ev_timer *timer, int events);

static void wait_for_programs(struct service_call *call, const char *name, double pause)
{
	struct manager *manager = manager_of(call);
	struct ev_loop *loop = manager->service.loop;
	struct job *job = job_new(call, JOB_OPEN);

	if (!job)
		return;
	snprintf(job->open.name, sizeof(job->open.name), "%s", name);
	job_begin(job, NULL);
	if (ev_is_active(&manager->look) && ev_timer_remaining(loop, &manager->look) <= pause)
		return;
	ev_timer_stop(loop, &manager->look);
	ev_timer_init(&manager->look, look, pause, 0);
	/* Behind the calls that have come by then. */
	ev_set_priority(&manager->look, EV_MINPRI);
	ev_timer_start(loop, &manager->look);
}

/* By the last look. */
static void answer_looked(struct job *job, const struct hosted *hosted)
{
	struct service_call *call = job->call;
	char holder[USE_TEXT_SIZE];

	(void)hosted;
	call->unopened = !job->open.found;
	if (call->unopened)
		manager_call(call);
	else if (use_find("", job->open.name, holder, sizeof(holder)))
		service_in_use(call, holder);
	else if (ev_now(call->service->loop) - call->came >= LOOK_PATIENCE)
		service_in_use(call, job->open.text);
	else
		wait_for_programs(call, job->open.name, LOOK_PAUSE);
}

/* Once for all that wait. */
static void look(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct manager *manager = container_of(timer, struct manager, look);
	struct use_open *devices = NULL;
	unsigned count = 0;

	(void)loop, (void)events;
	for (struct job *job = manager->jobs; job; job = job->next) {
		if (job->kind != JOB_OPEN)
			continue;
		job->open.next = devices;
		devices = &job->open;
		count++;
	}
	log_debug("%u device(s) are looked for in what programs have open", count);
	use_find_open("", devices);
	jobs_answer(manager, NULL, JOB_OPEN, answer_looked);
}

bool service_waits_for_programs(struct service_call *call, const char *node)
{
	if (manager_of(call)->driver_refuses || call->unopened || service_flag(call, "force") ||
	    service_flag(call, "when_unused"))
		return false;
	wait_for_programs(call, node + strlen("/dev/"), LOOK_SOON);
	return true;
}

void manager_knows(struct manager *manager)
{
	manager->knows = true;
	jobs_answer(manager, NULL, JOB_EARLY, run_again);
}

int manager_open(struct manager *manager, const char *path)
{
	manager->service.on_call = manager_call;
	manager->service.on_hang_up = manager_hang_up;
	return service_open(&manager->service, path);
}

static void give_up(struct job *job, const struct hosted *hosted)
{
	(void)hosted;
	service_failed(job->call, EXIT_RUNTIME, "the server is stopping");
}

void manager_close(struct manager *manager)
{
	if (manager->service.loop)
		ev_timer_stop(manager->service.loop, &manager->look);
	jobs_answer(manager, NULL, JOB_OPEN, give_up);
	service_close(&manager->service);
	json_decref(manager->failed);
	manager->failed = NULL;
}
