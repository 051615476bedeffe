/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "supervisor-methods.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "exit.h"
#include "forward.h"
#include "identity.h"
#include "log.h"
#include "persist.h"
#include "service-calls.h"
#include "service-failed.h"
#include "service-job.h"
#include "service-left.h"
#include "supervisor-recover.h"
#include "use.h"
#include "util/macros.h"
#include "util/parse.h"

/* For a worker to say what it has; the others' devices are listed all the same. */
#define LIST_PATIENCE 5

struct router *router_of(const struct service_call *call)
{
	return manager_of(call)->owner;
}

/* ---- calls that wait for a worker ---------------------------------------------------------- */

/* To be live, or, with the answer that is given then, to have ended. */
struct waiting {
	struct waiting *next;
	struct service_call *call;
	const struct worker *worker;
	json_t *answer;
	bool again; /* once it is live, it answers the call itself */
	bool silent; /* that it is live is all of the answer */
};

static int wait_for(struct service_call *call, const struct worker *worker, json_t *answer)
{
	struct router *router = router_of(call);
	struct waiting *waiting = calloc(1, sizeof(*waiting));

	if (!waiting)
		return -ENOMEM;
	*waiting = (struct waiting){ router->waiting, call, worker, answer, false, false };
	router->waiting = waiting;
	return 0;
}

/* All of a worker, off the list: an answer may bring the next call. */
static struct waiting *take_all_waiting(struct router *router, const struct worker *worker)
{
	struct waiting **link = &router->waiting, *taken = NULL, **end = &taken;

	while (*link) {
		struct waiting *waiting = *link;

		if (waiting->worker != worker) {
			link = &waiting->next;
			continue;
		}
		*link = waiting->next;
		waiting->next = NULL;
		*end = waiting;
		end = &waiting->next;
	}
	return taken;
}

/* The call, if there is memory for it to wait; else it was told. */
static struct waiting *wait_until_live(struct service_call *call, const struct worker *worker)
{
	if (!wait_for(call, worker, NULL))
		return router_of(call)->waiting;
	service_failed(call, EXIT_RUNTIME, "no memory");
	return NULL;
}

void router_wait_in_silence(struct service_call *call, const struct worker *worker)
{
	struct waiting *waiting = wait_until_live(call, worker);

	if (waiting)
		waiting->silent = true;
}

/* One, off the list, to be freed; call NULL: any. */
static struct waiting *take_waiting(struct router *router, const struct service_call *call)
{
	struct waiting **link = &router->waiting, *taken;

	while (*link && call && (*link)->call != call)
		link = &(*link)->next;
	taken = *link;
	if (taken)
		*link = taken->next;
	return taken;
}

/* It is not going to be usable. */
static void forget_prepared(const struct router *router, struct worker *worker)
{
	if (worker->prepared)
		persist_abandon(router->manager->conf, worker->name);
	worker->prepared = false;
}

/* How it went: error NULL, and the parameters of its answer, which are taken over, or why not. */
static void answer_waiting(struct waiting *waiting, json_t *parameters, int status,
			   const char *error)
{
	if (error) {
		service_failed(waiting->call, status, error);
		json_decref(parameters);
	} else {
		service_reply(waiting->call, parameters);
	}
	free(waiting);
}

void router_stop(struct router *router)
{
	struct waiting *waiting;

	for (struct worker *w = router->supervisor->workers; w; w = w->next)
		forget_prepared(router, w);
	while ((waiting = take_waiting(router, NULL)))
		answer_waiting(waiting, waiting->answer, EXIT_RUNTIME,
			       waiting->answer ? NULL : "it was stopped before it was usable");
	recover_stop(router);
}

/* ---- calls that a worker answers -------------------------------------------------------- */

struct passed_on {
	struct forward forward;
	struct service_call *call;
	char name[65]; /* of its device */
};

static bool is_delete(const struct passed_on *passed)
{
	return !strcmp(passed->call->method, "io.ublkd.Delete");
}

static bool is_set(const struct passed_on *passed)
{
	return !strcmp(passed->call->method, "io.ublkd.Set");
}

/* For the next process, and the next start. An exit status. */
static int keep_settings(const struct passed_on *passed)
{
	const struct router *router = router_of(passed->call);
	struct worker *worker = supervisor_find(router->supervisor, passed->name);
	json_t *options = json_object_get(passed->call->parameters, "options");

	/* A file's are those that it said at the start. */
	if (worker) {
		json_t *settings = json_copy(worker->settings);

		json_object_update(settings, options);
		json_decref(worker->settings);
		worker->settings = settings;
	}
	return service_flag(passed->call, "persist") ?
		       persist_change(router->manager->conf, passed->name, options) : EXIT_DONE;
}

static bool wait_for_end(struct service_call *call, const char *name, json_t *answer)
{
	const struct supervisor *supervisor = router_of(call)->supervisor;
	const struct worker *worker = supervisor->stopped ? NULL : supervisor_find(supervisor, name);

	return answer && worker && !wait_for(call, worker, answer);
}

static bool is_quiesce(const struct passed_on *passed)
{
	return !strcmp(passed->call->method, "io.ublkd.Quiesce");
}

/* Of commands that are stuck a worker knows only its own. */
static bool is_show(const struct passed_on *passed)
{
	return !strcmp(passed->call->method, "io.ublkd.Show");
}

/* Its process has yet to end; or, where that failed, goes on or is followed by another. */
static bool wait_for_quiet(const struct passed_on *passed, bool well, json_t *answer)
{
	struct worker *worker = supervisor_find(router_of(passed->call)->supervisor, passed->name);

	if (worker && !well)
		worker_again(worker);
	return worker && well && worker->state != WORKER_QUIESCED &&
	       !wait_for(passed->call, worker, answer);
}

/* What a worker cannot see. */
static void name_program(const struct passed_on *passed, json_t *in_use)
{
	const struct worker *worker = supervisor_find(router_of(passed->call)->supervisor, passed->name);
	const char *holder = json_string_value(json_object_get(in_use, "holder"));
	char text[USE_TEXT_SIZE];

	if (worker && holder && !strcmp(holder, SERVICE_OPEN) &&
	    use_find_open_node(worker->path, text))
		json_object_set_new(in_use, "holder", json_string(text));
}

/* As it was when it was added, whatever its process says. */
static void set_owner(json_t *device, const struct worker *worker)
{
	struct identity user;

	if (!worker->user || identity_read(&user, worker->user))
		return;
	json_object_set_new(device, "owner_uid", json_integer(user.uid));
	json_object_set_new(device, "owner_gid", json_integer(user.gid));
}

static void show_owner(const struct passed_on *passed, json_t *parameters)
{
	const struct worker *worker = supervisor_find(router_of(passed->call)->supervisor,
						      passed->name);

	if (worker)
		set_owner(json_object_get(parameters, "device"), worker);
	service_reply_with_stuck(passed->call, json_incref(parameters));
}

static void answered(struct forward *forward, json_t *answer)
{
	struct passed_on *passed = container_of(forward, struct passed_on, forward);
	const char *error = json_string_value(json_object_get(answer, "error"));
	json_t *parameters = json_incref(json_object_get(answer, "parameters"));
	bool well = answer && !error;
	int status = well && is_set(passed) ? keep_settings(passed) : EXIT_DONE;

	/* Its device is deleted, and until the worker has ended its name is taken. */
	if (well && is_delete(passed))
		json_object_set_new(parameters, "file", file_left_json(passed->call, passed->name));
	if ((well && is_delete(passed) && wait_for_end(passed->call, passed->name, parameters)) ||
	    (is_quiesce(passed) && wait_for_quiet(passed, well, parameters))) {
		free(passed);
		return;
	}
	if (error && is_delete(passed))
		name_program(passed, parameters);
	if (!answer)
		service_failed(passed->call, EXIT_RUNTIME,
			       "its process died before it could answer");
	else if (error)
		service_error(passed->call, error, json_incref(parameters));
	else if (status)
		service_failed(passed->call, status, SERVICE_NOT_CHANGED);
	else if (is_show(passed))
		show_owner(passed, parameters);
	else
		service_reply(passed->call, json_incref(parameters));
	json_decref(parameters);
	free(passed);
}

/* As it would be for its process, which so is not started. */
bool router_is_stuck(struct service_call *call, const char *name)
{
	if (!stuck_has_name(router_of(call)->supervisor->stuck, name))
		return false;
	service_failed(call, EXIT_TIMEOUT, "the driver does not answer: it still has a command for a "
		       "device of this name; 'ublkctl list' says which");
	return true;
}

static const char *why_not(const struct worker *worker)
{
	switch (worker->state) {
	case WORKER_RESTS:
		return "its process died; another is started after a while, or by 'ublkctl recover'";
	case WORKER_FAILED:
		return "its process died too often; 'ublkctl recover' starts another, 'ublkctl "
		       "fail-io' gives the device up";
	case WORKER_QUIESCED:
		return "it is quiesced; 'ublkctl resume' goes on with it";
	case WORKER_ENDS:
		return "it is being deleted";
	case WORKER_STUCK:
		return "the driver did not let go of it";
	default:
		return "it is not usable yet";
	}
}

/* What one says that is well is no reason for anything. */
static const char *error_of(const struct worker *worker)
{
	return worker->error[0] && (worker->state == WORKER_RESTS || worker->state == WORKER_FAILED ||
				    worker->state == WORKER_STUCK) ? worker->error : NULL;
}

static void fail_with(struct service_call *call, const struct worker *worker, int status)
{
	const char *error = error_of(worker);
	char text[768];

	snprintf(text, sizeof(text), "%s%s%s", why_not(worker), error ? ": " : "", error ? error : "");
	service_failed(call, status, text);
}

static void fail_unusable(struct service_call *call, const struct worker *worker)
{
	fail_with(call, worker, worker->state == WORKER_STUCK ? EXIT_TIMEOUT : EXIT_RUNTIME);
}

/* false: it was answered by now. */
static bool pass_on(struct service_call *call, struct worker *worker)
{
	json_t *parameters;
	struct passed_on *passed;
	int fd;

	if (worker->state != WORKER_LIVE) {
		fail_unusable(call, worker);
		return false;
	}
	passed = calloc(1, sizeof(*passed));
	fd = passed ? worker_connect(worker) : -1;
	if (fd >= 0) {
		passed->call = call;
		snprintf(passed->name, sizeof(passed->name), "%s", worker->name);
		passed->forward.done = answered;
		parameters = json_copy(call->parameters);
		/* Files are not the worker's. */
		json_object_del(parameters, "persist");
		fd = forward_start(&passed->forward, &router_of(call)->forwards,
				   worker->supervisor->loop, fd, call->method, parameters, 0);
		json_decref(parameters);
		if (!fd)
			return true;
	}
	free(passed);
	service_failed(call, EXIT_RUNTIME, "its process cannot be reached");
	return false;
}

/* ---- List --------------------------------------------------------------------------------- */

/* The answers of all, each device's in its place. */
struct gathering {
	struct service_call *call;
	json_t *devices;
	unsigned left;
};

/* That of a process. */
struct share {
	struct forward forward;
	struct gathering *gathering;
	char *user; /* whose it is, see worker */
};

static json_t *device_json(const struct worker *worker)
{
	static const char *const states[] = {
		[WORKER_WAITS] = "waiting",      [WORKER_STARTS] = "starting",
		[WORKER_LIVE] = "unreachable",   [WORKER_RESTS] = "recovering",
		[WORKER_FAILED] = "failed",      [WORKER_QUIESCED] = "quiesced",
		[WORKER_ENDS] = "stopping",      [WORKER_STUCK] = "stuck",
	};
	json_t *device;

	device = json_pack("{s:s, s:s?, s:s?, s:n, s:s, s:n, s:s, s:o, s:s?, s:n, s:n, s:o}", "name",
			   worker->name, "uuid", worker_uuid(worker), "path",
			   worker->path[0] ? worker->path : NULL, "number", "state",
			   states[worker->state], "size", "backend", worker->backend, "pid",
			   worker_pid(worker) ? json_integer(worker_pid(worker)) : json_null(),
			   "worker", worker->group->named ? worker->group->name : NULL,
			   "owner_uid", "owner_gid", "error", error_or_null(error_of(worker)));
	set_owner(device, worker);
	return device;
}

/* As in Show. What no process says of it is not known. */
static json_t *details_json(const struct worker *worker)
{
	return json_pack("{s:o, s:O, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n}", "device",
			 device_json(worker), "config", worker->settings, "queues", "depth", "data",
			 "data_reason", "batch", "batch_reason", "ring", "pause", "counters");
}

static void gathered(struct gathering *gathering)
{
	if (--gathering->left)
		return;
	service_reply_with_stuck(gathering->call,
				 json_pack("{s:o}", "devices", gathering->devices));
	free(gathering);
}

/* false: there is no memory. */
static bool keep_user(struct share *share, const struct worker *worker)
{
	share->user = worker->user ? strdup(worker->user) : NULL;
	return !worker->user || share->user;
}

static void free_share(struct share *share)
{
	if (share)
		free(share->user);
	free(share);
}

/* NULL: of our own, which may speak of any. */
static bool may_speak_of(const char *user, const struct worker *worker)
{
	return !user || (worker && worker->user && !strcmp(worker->user, user));
}

static void put_in_place(const struct share *share, json_t *device)
{
	json_t *devices = share->gathering->devices, *name = json_object_get(device, "name"), *other;
	const struct worker *worker = NULL;
	size_t i;

	if (json_is_string(name))
		worker = supervisor_find(router_of(share->gathering->call)->supervisor,
					 json_string_value(name));
	if (!may_speak_of(share->user, worker))
		return;
	json_array_foreach(devices, i, other) {
		if (json_equal(json_object_get(other, "name"), name)) {
			json_array_set(devices, i, device);
			if (worker)
				set_owner(device, worker);
			return;
		}
	}
}

static void told(struct forward *forward, json_t *answer)
{
	struct share *share = container_of(forward, struct share, forward);
	json_t *devices = json_object_get(json_object_get(answer, "parameters"), "devices"), *device;
	size_t i;

	json_array_foreach(devices, i, device)
		put_in_place(share, device);
	gathered(share->gathering);
	free_share(share);
}

static void ask(struct gathering *gathering, const struct worker *worker, json_t *parameters)
{
	struct share *share = calloc(1, sizeof(*share));
	int fd = share && keep_user(share, worker) ? worker_connect(worker) : -1;

	if (fd >= 0) {
		share->gathering = gathering;
		share->forward.done = told;
		gathering->left++;
		if (!forward_start(&share->forward, &router_of(gathering->call)->forwards,
				   worker->supervisor->loop, fd, gathering->call->method,
				   parameters, LIST_PATIENCE))
			return;
		gathering->left--;
	}
	free_share(share);
}

/* What it has can be asked of it. */
static const struct worker *first_served(const struct worker_group *group)
{
	const struct worker *w = group->members;

	while (w && w->state != WORKER_LIVE && w->state != WORKER_STUCK)
		w = w->next_member;
	return w;
}

static void run_list(struct service_call *call)
{
	struct supervisor *supervisor = router_of(call)->supervisor;
	struct gathering *gathering = calloc(1, sizeof(*gathering));
	json_t *nothing = json_object();

	if (!gathering) {
		json_decref(nothing);
		service_failed(call, EXIT_RUNTIME, "no memory");
		return;
	}
	*gathering = (struct gathering){ .call = call, .devices = json_array(), .left = 1 };
	for (const struct worker *w = supervisor->workers; w; w = w->next)
		json_array_append_new(gathering->devices, device_json(w));
	for (const struct worker_group *g = supervisor->groups; g; g = g->next) {
		const struct worker *served = first_served(g);

		if (served)
			ask(gathering, served, nothing);
	}
	json_decref(nothing);
	left_list(router_of(call)->manager, gathering->devices);
	failed_list(router_of(call)->manager, gathering->devices);
	gathered(gathering);
}

/* ---- Add, Wait ---------------------------------------------------------------------------- */

static json_t *live_json(const struct worker *worker)
{
	uint64_t number = 0;

	parse_uint(worker->path + strcspn(worker->path, "0123456789"), &number);
	return json_pack("{s:s, s:s, s:I}", "name", worker->name, "path", worker->path, "number",
			 (json_int_t)number);
}

/* Writes the file that was prepared, if any; how that went is of interest to who added it. */
static int describe(const struct router *router, struct worker *worker)
{
	int status;

	if (!worker->prepared)
		return EXIT_DONE;
	worker->prepared = false;
	status = persist_commit(router->manager->conf, worker->name);
	worker->added = status;
	return status;
}

/* The next process finds what the first has made. */
static void keep_lasting(struct worker *worker)
{
	struct spec spec;

	spec_init(&spec);
	spec.workers = true;
	if (!spec_fill(&spec, worker->backend, worker->settings)) {
		json_decref(worker->settings);
		worker->settings = json_incref(spec.lasting);
	}
	spec_free(&spec);
}

void router_live(struct router *router, struct worker *worker)
{
	struct waiting *waiting, *next = take_all_waiting(router, worker);
	int status = describe(router, worker);

	if (!worker->was_live)
		keep_lasting(worker);
	while ((waiting = next)) {
		next = waiting->next;
		if (waiting->again) {
			pass_on(waiting->call, worker);
			free(waiting);
		} else {
			answer_waiting(waiting,
				       waiting->answer ? waiting->answer :
				       waiting->silent ? NULL : live_json(worker),
				       EXIT_RUNTIME, status ? SERVICE_NOT_WRITTEN : NULL);
		}
	}
}

void router_failed(struct router *router, struct worker *worker)
{
	struct waiting *waiting, *next = take_all_waiting(router, worker);

	forget_prepared(router, worker);
	while ((waiting = next)) {
		next = waiting->next;
		answer_waiting(waiting, waiting->answer,
			       worker->status ? worker->status : EXIT_RUNTIME,
			       waiting->answer	? NULL :
			       worker->error[0] ? worker->error : LOG_SAYS_WHY);
	}
}

static void run_wait(struct service_call *call, const struct worker *worker)
{
	if (worker->state == WORKER_LIVE)
		service_reply(call, live_json(worker));
	else if (worker->state == WORKER_FAILED)
		fail_with(call, worker, worker->status ? worker->status : EXIT_RUNTIME);
	else if (worker->state == WORKER_STUCK)
		fail_unusable(call, worker);
	else
		wait_until_live(call, worker);
}

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

static void run_add(struct service_call *call)
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
	if (wait_for(call, worker, NULL))
		service_failed(call, EXIT_RUNTIME, "no memory to say how it went");
	router->on_more(router);
	supervisor_go_on(router->supervisor);
}

static void run_quiesce(struct service_call *call, struct worker *worker)
{
	if (worker->state == WORKER_QUIESCED)
		service_reply(call, NULL);
	else if (worker->pauses)
		service_failed(call, EXIT_RUNTIME, "it is being quiesced already");
	else if (pass_on(call, worker))
		worker_pause(worker);
}

static void run_resume(struct service_call *call, struct worker *worker)
{
	if (worker->state != WORKER_QUIESCED)
		service_failed(call, EXIT_USAGE, SERVICE_NOT_QUIESCED);
	else if (!router_is_stuck(call, worker->name) && wait_until_live(call, worker))
		worker_again(worker);
}

/* Its process writes back first, so there has to be one; whom we can name is looked for before. */
static void delete_quiesced(struct service_call *call, struct worker *worker)
{
	char holder[USE_TEXT_SIZE];
	struct waiting *waiting;

	if (!service_flag(call, "force") && !service_flag(call, "when_unused") &&
	    use_find_node(worker->path, holder)) {
		service_in_use(call, holder);
		return;
	}
	waiting = wait_until_live(call, worker);
	if (!waiting)
		return;
	waiting->again = true;
	worker_again(worker);
}

/* Who has it mounted its process sees itself; what programs have open is for us to see. */
static void run_delete(struct service_call *call, struct worker *worker)
{
	if (worker->state != WORKER_LIVE || !service_waits_for_programs(call, worker->path))
		pass_on(call, worker);
}

/* Its file is ours, and what a process has changed stays: so that is looked at before. */
static void run_set(struct service_call *call, struct worker *worker)
{
	struct log_listener listener = { .about = worker->name };
	int status = EXIT_DONE;

	if (service_wrong_in_set(call)) {
		service_invalid(call, "options");
		return;
	}
	log_listen(&listener);
	if (service_flag(call, "persist"))
		status = persist_may_change(router_of(call)->manager->conf, worker->name);
	log_stop_listening(&listener);
	if (status)
		service_failed(call, status, listener.text);
	else
		pass_on(call, worker);
}

static void io_failed(void *worker, bool gone)
{
	worker_let_go(worker, gone);
}

void router_give_up(struct router *router, struct worker *worker)
{
	if (worker_hold(worker) &&
	    !left_give_up(router->manager, worker->name, io_failed, worker))
		worker_let_go(worker, false);
}

static void run_fail_io(struct service_call *call, struct worker *worker)
{
	if (worker->supervisor->stopped)
		service_failed(call, EXIT_RUNTIME, "the server is stopping");
	else if (worker->state == WORKER_LIVE)
		service_failed(call, EXIT_USAGE, SERVICE_IS_SERVED);
	else if (!worker_hold(worker))
		fail_unusable(call, worker);
	else if (!left_fail_named(call, worker->name, io_failed, worker))
		worker_let_go(worker, false);
}

/* ---- calls ---------------------------------------------------------------------------------- */

static bool route(struct service_call *call)
{
	struct router *router = router_of(call);
	const char *device = service_text(call, "device");
	struct worker *worker = device ? supervisor_find(router->supervisor, device) : NULL;

	/* What no worker has may be one that waits for a server. */
	if (worker && !strcmp(call->method, "io.ublkd.Wait"))
		run_wait(call, worker);
	else if (worker && !strcmp(call->method, "io.ublkd.Recover"))
		recover_call(call, worker);
	else if (worker && !strcmp(call->method, "io.ublkd.FailIo"))
		run_fail_io(call, worker);
	else if (worker && !strcmp(call->method, "io.ublkd.Quiesce"))
		run_quiesce(call, worker);
	else if (worker && !strcmp(call->method, "io.ublkd.Set"))
		run_set(call, worker);
	else if (worker && !strcmp(call->method, "io.ublkd.Resume"))
		run_resume(call, worker);
	else if (worker && !strcmp(call->method, "io.ublkd.Show") &&
		 worker->state != WORKER_LIVE)
		service_reply_with_stuck(call, details_json(worker));
	else if (worker && !strcmp(call->method, "io.ublkd.Delete") &&
		 worker->state == WORKER_QUIESCED)
		delete_quiesced(call, worker);
	else if (worker && !strcmp(call->method, "io.ublkd.Delete"))
		run_delete(call, worker);
	else if (worker)
		pass_on(call, worker);
	else if (device && !strcmp(call->method, "io.ublkd.Recover") &&
		 failed_error(router->manager, device))
		recover_failed(call, device);
	else if (!strcmp(call->method, "io.ublkd.List"))
		run_list(call);
	else if (!strcmp(call->method, "io.ublkd.Add"))
		run_add(call);
	else
		return false;
	return true;
}

bool router_asks(const struct router *router, const struct worker *worker)
{
	for (const struct forward *f = router->forwards; f; f = f->next) {
		const struct passed_on *passed = container_of(f, struct passed_on, forward);

		if (f->done == answered && !strcmp(passed->name, worker->name))
			return true;
	}
	return false;
}

static struct passed_on *find_passed_on(const struct router *router, const struct service_call *call)
{
	for (struct forward *f = router->forwards; f; f = f->next) {
		struct passed_on *passed = container_of(f, struct passed_on, forward);

		if (f->done == answered && passed->call == call)
			return passed;
	}
	return NULL;
}

/* That a device was left, changed, or deleted, and a file is to go with it, is for us to know. */
static bool is_heard_to_the_end(const struct passed_on *passed)
{
	return is_quiesce(passed) || is_set(passed) ||
	       (is_delete(passed) && !service_flag(passed->call, "when_unused"));
}

const char *router_find_uuid(const struct router *router, const char *uuid, const char *name)
{
	for (const struct worker *w = router->supervisor->workers; w; w = w->next) {
		const char *its = worker_uuid(w);

		if (its && !strcmp(its, uuid) && strcmp(w->name, name))
			return w->name;
	}
	return NULL;
}

static bool has_name(const struct manager *manager, const char *name)
{
	const struct router *router = manager->owner;

	return supervisor_find(router->supervisor, name);
}

static const char *find_uuid(const struct manager *manager, const char *uuid, const char *name)
{
	return router_find_uuid(manager->owner, uuid, name);
}

/* Else a worker hears of it, too; what it has begun goes on. */
static void on_hang_up(struct service_call *call)
{
	struct router *router = router_of(call);
	struct passed_on *passed = find_passed_on(router, call);
	struct waiting *waiting = take_waiting(router, call);

	if (passed && !is_heard_to_the_end(passed)) {
		forward_abandon(&passed->forward);
		free(passed);
		service_reply(call, NULL);
	} else if (waiting) {
		answer_waiting(waiting, waiting->answer, 0, NULL);
	} else {
		manager_hang_up(call);
	}
}

int router_open(struct router *router, const char *path)
{
	int ret;

	router->manager->route = route;
	router->manager->has_name = has_name;
	router->manager->find_uuid = find_uuid;
	router->manager->owner = router;
	ret = manager_open(router->manager, path);
	router->manager->service.on_hang_up = on_hang_up;
	return ret;
}

void router_close(struct router *router)
{
	forward_end_all(&router->forwards);
	router_stop(router);
}
