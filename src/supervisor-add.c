/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "supervisor-add.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "exit.h"
#include "identity.h"
#include "log.h"
#include "persist.h"
#include "service-calls.h"
#include "service-job.h"
#include "util/macros.h"
#include "worker-group.h"

static char *make_name(struct router *router, const char *backend)
{
	const struct supervisor *supervisor = router->supervisor;
	char name[80];

	do
		service_make_name(name, sizeof(name), backend, ++router->numbered);
	while (supervisor_find(supervisor, name) || table_has(supervisor->table, name) ||
	       service_is_described(router->manager, name));
	return strdup(name);
}

static int take_files(struct service_call *call, const char *name, json_t *options,
		      struct spec *spec)
{
	const char *before = log_switch(name);
	int status = json_object_size(json_object_get(call->parameters, "files")) ?
			     spec_fill(spec, service_text(call, "backend"), options) : EXIT_DONE;

	if (!status)
		status = service_pass(call, spec);
	log_switch(before);
	return status;
}

/*
 * The file that is to describe it, and those that a client has opened. Answers the call if they
 * cannot be.
 */
static bool prepare(struct service_call *call, const char *name, json_t *options, struct spec *spec)
{
	const struct conf *conf = router_of(call)->manager->conf;
	struct log_listener listener = { .about = name };
	int status;

	log_listen(&listener);
	status = service_check_uuid(call, name, options);
	if (!status)
		status = take_files(call, name, options, spec);
	if (!status && service_flag(call, "persist"))
		status = persist_prepare(conf, name, service_text(call, "backend"), options);
	log_stop_listening(&listener);
	if (status)
		service_failed(call, status, listener.text[0] ? listener.text : LOG_SAYS_WHY);
	return !status;
}

/* Why the device cannot be the client's; NULL: it can. */
static const char *why_not_its(const struct service_call *call, struct identity *client)
{
	int ret = service_peer(call, client);

	if (geteuid())
		return SERVICE_NO_USERS;
	if (ret == -ERANGE)
		return "unprivileged: expected a client of fewer groups, as a process keeps 256 at most";
	if (ret)
		return "unprivileged: the client cannot be known";
	if (!client->uid)
		return "unprivileged: expected an ordinary user as the client, got root; 'setpriv "
		       "--reuid=USER --regid=GROUP --init-groups ublkctl add' is one";
	if (service_flag(call, "persist"))
		return "persist: expected none with unprivileged, as the driver keeps a user's device for "
		       "no other server";
	return NULL;
}

/* *user: whose the device is to be, allocated; NULL: nobody's. false: the call is answered. */
static bool find_user(struct service_call *call, char **user)
{
	struct identity client;
	const char *why_not;

	*user = NULL;
	if (!service_flag(call, "unprivileged"))
		return true;
	why_not = why_not_its(call, &client);
	if (!why_not)
		*user = identity_text(&client);
	if (!*user)
		service_failed(call, why_not ? EXIT_USAGE : EXIT_RUNTIME, why_not ? why_not : "no memory");
	return *user;
}

/* No process is of two users. false: the call is answered. */
static bool may_join(struct service_call *call, const char *user)
{
	json_t *options = json_object_get(call->parameters, "options");
	const char *name = json_string_value(json_object_get(options, "worker"));
	const struct worker_group *others;
	char text[160];

	others = name ? worker_group_of_others(router_of(call)->supervisor, name, user) : NULL;
	if (!others)
		return true;
	snprintf(text, sizeof(text), "worker: expected one that has %s, got '%s'",
		 user ? "devices of that user with the same groups alone" : "no user's devices", name);
	service_failed(call, EXIT_USAGE, text);
	return false;
}

/* name NULL: there was no memory for it. NULL: the call is answered. */
static struct worker *add_worker(struct service_call *call, const char *name, const char *user)
{
	struct router *router = router_of(call);
	json_t *options = name ? service_options(call, name) : NULL;
	struct worker *worker = NULL;
	struct spec spec;
	bool prepared;

	spec_init(&spec);
	spec.workers = true;
	prepared = name && prepare(call, name, options, &spec);
	if (prepared)
		worker = supervisor_add(router->supervisor, name, service_text(call, "backend"), options,
					true, &spec, user);
	json_decref(options);
	spec_free(&spec);
	if (prepared && !worker && service_flag(call, "persist"))
		persist_abandon(router->manager->conf, name);
	if (!name || (prepared && !worker))
		service_failed(call, EXIT_RUNTIME, "no memory, or no file descriptors");
	return worker;
}

void add_call(struct service_call *call)
{
	struct router *router = router_of(call);
	const char *name = service_text(call, "name"), *backend = service_text(call, "backend");
	const char *wrong = service_wrong_in_add(call);
	_cleanup_free_ char *made = NULL, *user = NULL;
	struct worker *worker;

	if (wrong) {
		service_invalid(call, wrong);
		return;
	}
	if (router->supervisor->stopped || router->manager->host->stopped) {
		service_failed(call, EXIT_RUNTIME, "the server is stopping");
		return;
	}
	if (name && supervisor_find(router->supervisor, name)) {
		service_failed(call, EXIT_TAKEN, SERVICE_NAME_TAKEN);
		return;
	}
	if (name && router_is_stuck(call, name))
		return;
	if (!find_user(call, &user) || !may_join(call, user))
		return;
	if (!name)
		name = made = make_name(router, backend);
	if (made && !spec_name_fits(made)) {
		service_failed(call, EXIT_USAGE, "expected a backend; 'ublkd help' lists them");
		return;
	}
	worker = add_worker(call, name, user);
	if (!worker)
		return;
	worker->quiet = worker->asked = true;
	worker->prepared = service_flag(call, "persist");
	router_wait_until_live(call, worker);
	router->on_more(router);
	supervisor_go_on(router->supervisor);
}
