/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "service-job.h"

#include "exit.h"
#include "persist.h"
#include "service-failed.h"
#include "service-left.h"

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

bool is_wanted_gone(const struct manager *manager, const struct hosted *hosted)
{
	const struct job *job = manager->jobs;

	while (job && (job->hosted != hosted || job->kind != JOB_UNUSED))
		job = job->next;
	return job;
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

struct hosted *service_device(struct service_call *call, struct table_entry **left)
{
	const char *name = service_text(call, "device");
	struct hosted *hosted = host_find(manager_of(call)->host, name);

	*left = hosted ? NULL : left_find(manager_of(call), name);
	if (!hosted && !*left && !failed_refuse(call))
		service_not_found(call, name);
	return hosted;
}

void service_failed(struct service_call *call, int status, const char *message)
{
	service_error(call, OURS "Failed",
		      json_pack("{s:i, s:o}", "status", status, "message", error_or_null(message)));
}

void service_not_found(struct service_call *call, const char *device)
{
	service_error(call, OURS "NotFound", json_pack("{s:s}", "device", device));
}

void service_reply_with_stuck(struct service_call *call, json_t *answer)
{
	json_object_set_new(answer, "stuck", stuck_json(&manager_of(call)->host->ctrl->stuck));
	service_reply(call, answer);
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

json_t *error_or_null(const char *error)
{
	json_t *json = text_or_null(error);

	return json ? json : json_string(LOG_SAYS_WHY);
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
