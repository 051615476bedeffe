/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "service-job.h"

#include "exit.h"
#include "persist.h"

struct job *job_new(struct service_call *call, enum job_kind kind)
{
	struct job *job = calloc(1, sizeof(*job));

	if (job)
		*job = (struct job){ .call = call, .kind = kind };
	else
		service_failed(call, EXIT_RUNTIME, "no memory");
	return job;
}

void job_begin(struct job *job, struct hosted *hosted)
{
	struct manager *manager = manager_of(job->call);

	job->hosted = hosted;
	job->next = manager->jobs;
	manager->jobs = job;
}

void job_listen(struct job *job, const char *about)
{
	job->listener.about = about;
	log_listen(&job->listener);
}

void job_end(struct job *job)
{
	if (job->listener.about)
		log_stop_listening(&job->listener);
	free(job->holder);
	free(job);
}

void jobs_answer(struct manager *manager, const struct hosted *hosted, int kind,
		 void (*answer)(struct job *job, const struct hosted *hosted))
{
	struct job **link = &manager->jobs, *taken = NULL, *next;

	while (*link) {
		struct job *job = *link;

		if (job->hosted != hosted || (kind >= 0 && kind != (int)job->kind)) {
			link = &job->next;
			continue;
		}
		*link = job->next;
		job->next = taken;
		taken = job;
	}
	for (; taken; taken = next) {
		next = taken->next;
		answer(taken, hosted);
		job_end(taken);
	}
}

/* ---- parameters and answers --------------------------------------------------------- */

const char *service_text(const struct service_call *call, const char *name)
{
	return json_string_value(json_object_get(call->parameters, name));
}

bool service_flag(const struct service_call *call, const char *name)
{
	return json_is_true(json_object_get(call->parameters, name));
}

void service_failed(struct service_call *call, int status, const char *message)
{
	service_error(call, OURS "Failed",
		      json_pack("{s:i, s:s}", "status", status, "message", message));
}

void service_not_found(struct service_call *call, const char *device)
{
	service_error(call, OURS "NotFound", json_pack("{s:s}", "device", device));
}

void service_in_use(struct service_call *call, const char *holder)
{
	service_error(call, OURS "InUse",
		      json_pack("{s:s, s:s}", "device", service_text(call, "device"), "holder",
				holder));
}

json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

json_t *file_left_json(const struct service_call *call, const char *name)
{
	const struct conf *conf = manager_of(call)->conf;
	_cleanup_free_ char *file = persist_find(conf, name);

	if (file && service_flag(call, "persist") && !persist_remove(conf, name))
		return json_null();
	return text_or_null(file);
}

json_t *deleted_json(const struct service_call *call, const char *name, const char *holder,
		     bool lingers)
{
	return json_pack("{s:s, s:o, s:b, s:o}", "name", name, "holder", text_or_null(holder),
			 "lingers", lingers, "file", file_left_json(call, name));
}
