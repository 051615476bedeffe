/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Set: settings of a device that change while it is served. */
#include <stdio.h>
#include <string.h>

#include "exit.h"
#include "persist.h"
#include "service-calls.h"
#include "service-job.h"
#include "use.h"

/* ---- what may change ---------------------------------------------------------------- */

static void list_live(char *text, size_t size)
{
	size_t used = 0;

	text[0] = 0;
	for (const struct ublkd_option *o = device_options; o->name && used < size; o++) {
		if (o->live)
			used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "",
						 o->name);
	}
}

static int check_names(json_t *options)
{
	char live[128];
	const char *name;
	json_t *value;

	list_live(live, sizeof(live));
	json_object_foreach(options, name, value) {
		const struct ublkd_option *option = option_find(device_options, name, strlen(name));

		if (option && option->live)
			continue;
		ublkd_error("expected a setting that can change while the device is served (%s), got '%s'; "
			    "for others it has to be deleted, and added again", live, name);
		return EXIT_USAGE;
	}
	return EXIT_DONE;
}

/* As the device would be described from now on. */
static int check_all(const struct spec *spec, json_t *options, struct spec *changed)
{
	json_t *all = json_copy(spec->given);
	char backend[256];
	int status;

	if (spec->untold) {
		json_decref(all);
		ublkd_error("expected a device whose settings are UTF-8, got one of a file that has others");
		return EXIT_USAGE;
	}
	json_object_update(all, options);
	spec_name(spec, backend, sizeof(backend));
	changed->shared = spec->shared;
	changed->workers = spec->workers;
	status = spec_fill(changed, backend, all);
	json_decref(all);
	return status;
}

/* ---- changing it -------------------------------------------------------------------- */

static int take_settings(struct spec *spec, const struct spec *changed, json_t *options)
{
	int status = EXIT_DONE;
	const char *name;
	json_t *value;

	json_object_foreach(options, name, value) {
		if (!status)
			status = spec_change(spec, name, json_string_value(value));
	}
	spec->device.mode_given = changed->device.mode_given;
	spec->uid = changed->uid;
	spec->gid = changed->gid;
	return status;
}

/* Whose failure leaves the rest as it was comes first. */
static int apply(struct hosted *hosted, const struct spec *changed, json_t *options)
{
	struct device *device = &hosted->device;
	int mode = changed->device.mode_given ? (int)changed->device.mode : -1, status;
	char holder[USE_TEXT_SIZE];

	if (device_set_permissions(device, changed->uid, changed->gid, mode))
		return EXIT_RUNTIME;
	status = take_settings(hosted->spec, changed, options);
	if (!status && device_set_others(device, use_find_node(device->node.path, holder)))
		status = EXIT_RUNTIME;
	return status;
}

static int set(struct service_call *call, struct hosted *hosted, json_t *options)
{
	struct manager *manager = manager_of(call);
	struct spec changed;
	int status = check_names(options);

	if (!status && service_flag(call, "persist"))
		status = persist_may_change(manager->conf, hosted->name);
	spec_init(&changed);
	if (!status)
		status = check_all(hosted->spec, options, &changed);
	if (!status)
		status = apply(hosted, &changed, options);
	spec_free(&changed);
	/* Whoever waits until it is unused has it watched still. */
	if (!status && !hosted->spec->device.autoclear && !is_wanted_gone(manager, hosted))
		device_stay(&hosted->device);
	return status;
}

bool service_wrong_in_set(const struct service_call *call)
{
	json_t *options = json_object_get(call->parameters, "options"), *value;
	const char *name;

	json_object_foreach(options, name, value) {
		if (!json_is_string(value))
			return true;
	}
	return !json_object_size(options);
}

void call_set(struct service_call *call)
{
	struct log_listener listener = { 0 };
	const char *before;
	struct table_entry *left;
	struct hosted *hosted;
	int status;

	if (service_wrong_in_set(call)) {
		service_invalid(call, "options");
		return;
	}
	hosted = service_device(call, &left);
	if (!hosted && !left)
		return;
	if (left || hosted->state != HOSTED_LIVE || hosted->device.stopping) {
		service_failed(call, EXIT_RUNTIME, "it is not usable yet, or not any more");
		return;
	}
	listener.about = hosted->name;
	log_listen(&listener);
	before = log_switch(hosted->name);
	status = set(call, hosted, json_object_get(call->parameters, "options"));
	log_switch(before);
	log_stop_listening(&listener);
	if (status) {
		service_failed(call, status, listener.text[0] ? listener.text : LOG_SAYS_WHY);
		return;
	}
	if (service_flag(call, "persist"))
		status = persist_change(manager_of(call)->conf, hosted->name,
					json_object_get(call->parameters, "options"));
	if (status)
		service_failed(call, status, SERVICE_NOT_CHANGED);
	else
		service_reply(call, NULL);
}
