/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "service-failed.h"

#include <string.h>

#include "exit.h"
#include "log.h"
#include "service-calls.h"
#include "service-job.h"
#include "service-left.h"

/* As many as there are files, and entries of the table. */
void failed_note(struct manager *manager, const char *name, const struct failure *failure)
{
	json_t *device = NULL;

	if (failure->config)
		device = json_pack("{s:s, s:s?, s:n, s:n, s:s, s:n, s:s, s:n, s:O?, s:n, s:n, s:o}", "name",
				   name, "uuid", failure->uuid, "path", "number", "state", "failed", "size",
				   "backend", failure->backend, "pid", "worker",
				   json_object_get(failure->config, "worker"), "owner_uid", "owner_gid",
				   "error", error_or_null(*failure->error ? failure->error : LOG_SAYS_WHY));
	if (!manager->failed)
		manager->failed = json_object();
	json_object_set_new(manager->failed, name,
			    json_pack("{s:i, s:o*, s:O*}", "status", failure->status, "device", device,
				      "config", failure->config));
}

void failed_forget(struct manager *manager, const char *name)
{
	json_object_del(manager->failed, name);
}

/* ---- what there is of them -------------------------------------------------------------- */

/* While it is tried again it is among those that are served. */
static json_t *find(const struct manager *manager, const char *name)
{
	json_t *failed = json_object_get(manager->failed, name);

	return json_object_get(failed, "device") && !manager_has(manager, name) ? failed : NULL;
}

static const char *text_of(json_t *failed, const char *key)
{
	return json_string_value(json_object_get(json_object_get(failed, "device"), key));
}

const char *failed_error(const struct manager *manager, const char *name)
{
	return text_of(find(manager, name), "error");
}

const char *failed_backend(const struct manager *manager, const char *name)
{
	return text_of(find(manager, name), "backend");
}

json_t *failed_config(const struct manager *manager, const char *name)
{
	return json_object_get(find(manager, name), "config");
}

const char *failed_find_uuid(const struct manager *manager, const char *uuid)
{
	const char *name;
	json_t *failed;

	json_object_foreach(manager->failed, name, failed) {
		const char *its = text_of(failed, "uuid");

		if (its && !strcmp(its, uuid))
			return name;
	}
	return NULL;
}

/* One that waits for a server all the same is told as that. */
void failed_list(const struct manager *manager, json_t *devices)
{
	const char *name;
	json_t *failed;

	json_object_foreach(manager->failed, name, failed) {
		if (find(manager, name) && !left_find(manager, name))
			json_array_append(devices, json_object_get(failed, "device"));
	}
}

/* ---- methods ---------------------------------------------------------------------------- */

bool failed_show(struct service_call *call)
{
	const struct manager *manager = manager_of(call);
	const char *name = service_text(call, "device");
	json_t *failed = left_find(manager, name) ? NULL : find(manager, name);

	if (!failed)
		return false;
	service_reply_with_stuck(call, json_pack("{s:O, s:O, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n}",
						 "device", json_object_get(failed, "device"), "config",
						 json_object_get(failed, "config"), "queues", "depth",
						 "data", "data_reason", "batch", "batch_reason", "ring",
						 "pause", "counters"));
	return true;
}

bool failed_wait(struct service_call *call)
{
	json_t *failed = json_object_get(manager_of(call)->failed, service_text(call, "device"));
	const char *error = text_of(failed, "error");

	if (!failed)
		return false;
	service_failed(call, (int)json_integer_value(json_object_get(failed, "status")),
		       error ? error : LOG_SAYS_WHY);
	return true;
}

bool failed_delete(struct service_call *call)
{
	struct manager *manager = manager_of(call);
	const char *name = service_text(call, "device");

	if (!find(manager, name) || left_find(manager, name))
		return false;
	failed_forget(manager, name);
	service_reply(call, deleted_json(call, name, NULL, false));
	manager->on_forgotten(manager);
	return true;
}

bool failed_refuse(struct service_call *call)
{
	json_t *failed = find(manager_of(call), service_text(call, "device"));
	char text[640];

	if (!failed)
		return false;
	snprintf(text, sizeof(text), "it is not served, and 'ublkctl recover' starts it again: %s",
		 text_of(failed, "error"));
	service_failed(call, (int)json_integer_value(json_object_get(failed, "status")), text);
	return true;
}

struct conf_device *failed_read(struct service_call *call)
{
	struct conf *conf = manager_of(call)->conf;
	const char *name = service_text(call, "device");
	struct log_listener listener = { .any = true };
	struct conf_device **device = conf_find(conf, name);
	char text[640];
	int status;

	log_listen(&listener);
	status = conf_renew(conf, device);
	log_stop_listening(&listener);
	if (!status)
		return *device;
	snprintf(text, sizeof(text), "what describes it cannot be used, '%s': %s", (*device)->place,
		 listener.text);
	service_failed(call, status, text);
	return NULL;
}
