/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "supervisor-methods.h"

#include <errno.h>
#include <string.h>

#include "believe.h"
#include "exit.h"
#include "forward.h"
#include "log.h"
#include "persist.h"
#include "service-calls.h"
#include "service-failed.h"
#include "service-job.h"
#include "service-left.h"
#include "supervisor-add.h"
#include "supervisor-list.h"
#include "supervisor-recover.h"
#include "use.h"
#include "util/macros.h"
#include "util/parse.h"

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

struct waiting *router_wait_until_live(struct service_call *call, const struct worker *worker)
{
	if (!wait_for(call, worker, NULL))
		return router_of(call)->waiting;
	service_failed(call, EXIT_RUNTIME, "no memory");
	return NULL;
}

void router_wait_in_silence(struct service_call *call, const struct worker *worker)
{
	struct waiting *waiting = router_wait_until_live(call, worker);

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

static void show_believed(const struct passed_on *passed, json_t *parameters)
{
	const struct worker *worker = supervisor_find(router_of(passed->call)->supervisor,
						      passed->name);

	if (worker)
		believe_device(json_object_get(parameters, "device"), worker);
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
		show_believed(passed, parameters);
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

static void fail_with(struct service_call *call, const struct worker *worker, int status)
{
	const char *error = list_error(worker);
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

/* ---- a device is usable, or is not going to be ------------------------------------------- */

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
		router_wait_until_live(call, worker);
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
	else if (!router_is_stuck(call, worker->name) && router_wait_until_live(call, worker))
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
	waiting = router_wait_until_live(call, worker);
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
		service_reply_with_stuck(call, list_details(worker));
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
		list_call(call);
	else if (!strcmp(call->method, "io.ublkd.Add"))
		add_call(call);
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
