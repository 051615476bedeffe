/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "supervisor-methods.h"

#include <errno.h>
#include <string.h>

#include "exit.h"
#include "forward.h"
#include "log.h"
#include "persist.h"
#include "service-job.h"
#include "service-left.h"
#include "use.h"
#include "util/macros.h"
#include "util/parse.h"

/* For a worker to say what it has; the others' devices are listed all the same. */
#define LIST_PATIENCE 5

static struct router *router_of(const struct service_call *call)
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
};

static int wait_for(struct service_call *call, const struct worker *worker, json_t *answer)
{
	struct router *router = router_of(call);
	struct waiting *waiting = calloc(1, sizeof(*waiting));

	if (!waiting)
		return -ENOMEM;
	*waiting = (struct waiting){ router->waiting, call, worker, answer, false };
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

/* How it went: error NULL, and the parameters of its answer, or why not. */
static void answer_waiting(struct waiting *waiting, json_t *parameters, int status,
			   const char *error)
{
	if (error)
		service_failed(waiting->call, status, error);
	else
		service_reply(waiting->call, parameters);
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

/* Its process has yet to end; or, where that failed, goes on or is followed by another. */
static bool wait_for_quiet(const struct passed_on *passed, bool well, json_t *answer)
{
	struct worker *worker = supervisor_find(router_of(passed->call)->supervisor, passed->name);

	if (worker && !well)
		worker_again(worker);
	return worker && well && worker->state != WORKER_QUIESCED &&
	       !wait_for(passed->call, worker, answer);
}

static void answered(struct forward *forward, json_t *answer)
{
	struct passed_on *passed = container_of(forward, struct passed_on, forward);
	const char *error = json_string_value(json_object_get(answer, "error"));
	json_t *parameters = json_incref(json_object_get(answer, "parameters"));
	bool well = answer && !error;

	/* Its device is deleted, and until the worker has ended its name is taken. */
	if (well && is_delete(passed))
		json_object_set_new(parameters, "file", file_left_json(passed->call, passed->name));
	if ((well && is_delete(passed) && wait_for_end(passed->call, passed->name, parameters)) ||
	    (is_quiesce(passed) && wait_for_quiet(passed, well, parameters))) {
		free(passed);
		return;
	}
	if (!answer)
		service_failed(passed->call, EXIT_RUNTIME,
			       "its process died before it could answer");
	else if (error)
		service_error(passed->call, error, parameters);
	else
		service_reply(passed->call, parameters);
	free(passed);
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
	default:
		return "it is not usable yet";
	}
}

/* false: it was answered by now. */
static bool pass_on(struct service_call *call, struct worker *worker)
{
	json_t *parameters;
	struct passed_on *passed;
	int fd;

	if (worker->state != WORKER_LIVE) {
		service_failed(call, EXIT_RUNTIME, why_not(worker));
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

/* The answers of all, each in its place. */
struct gathering {
	struct service_call *call;
	json_t *devices;
	unsigned left;
};

struct share {
	struct forward forward;
	struct gathering *gathering;
	size_t place;
};

static json_t *device_json(const struct worker *worker)
{
	static const char *const states[] = {
		[WORKER_WAITS] = "waiting",      [WORKER_STARTS] = "starting",
		[WORKER_LIVE] = "unreachable",   [WORKER_RESTS] = "recovering",
		[WORKER_FAILED] = "failed",      [WORKER_QUIESCED] = "quiesced",
		[WORKER_ENDS] = "stopping",
	};

	return json_pack("{s:s, s:s?, s:n, s:s, s:n, s:s, s:o}", "name", worker->name, "path",
			 worker->path[0] ? worker->path : NULL, "number", "state",
			 states[worker->state], "size", "backend", worker->backend, "pid",
			 worker->pid ? json_integer(worker->pid) : json_null());
}

static void gathered(struct gathering *gathering)
{
	if (--gathering->left)
		return;
	service_reply(gathering->call, json_pack("{s:o}", "devices", gathering->devices));
	free(gathering);
}

static void told(struct forward *forward, json_t *answer)
{
	struct share *share = container_of(forward, struct share, forward);
	json_t *device = json_array_get(
		json_object_get(json_object_get(answer, "parameters"), "devices"), 0);

	if (device)
		json_array_set(share->gathering->devices, share->place, device);
	gathered(share->gathering);
	free(share);
}

static void ask(struct gathering *gathering, struct worker *worker, size_t place,
		json_t *parameters)
{
	struct share *share = calloc(1, sizeof(*share));
	int fd = share ? worker_connect(worker) : -1;

	if (fd >= 0) {
		share->gathering = gathering;
		share->place = place;
		share->forward.done = told;
		gathering->left++;
		if (!forward_start(&share->forward, &router_of(gathering->call)->forwards,
				   worker->supervisor->loop, fd, gathering->call->method,
				   parameters, LIST_PATIENCE))
			return;
		gathering->left--;
	}
	free(share);
}

static void run_list(struct service_call *call)
{
	struct supervisor *supervisor = router_of(call)->supervisor;
	struct gathering *gathering = calloc(1, sizeof(*gathering));
	json_t *nothing = json_object();
	size_t place = 0;

	if (!gathering) {
		json_decref(nothing);
		service_failed(call, EXIT_RUNTIME, "no memory");
		return;
	}
	*gathering = (struct gathering){ .call = call, .devices = json_array(), .left = 1 };
	for (struct worker *w = supervisor->workers; w; w = w->next) {
		json_array_append_new(gathering->devices, device_json(w));
		ask(gathering, w, place++, nothing);
	}
	json_decref(nothing);
	left_list(router_of(call)->manager, gathering->devices);
	gathered(gathering);
}

/* ---- Add, Wait, Recover ------------------------------------------------------------------- */

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
				       waiting->answer ? waiting->answer : live_json(worker),
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
		service_failed(call, EXIT_RUNTIME, why_not(worker));
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

/* Answers the call if the file cannot be. */
static bool prepare(struct service_call *call, const char *name, json_t *options)
{
	const struct conf *conf = router_of(call)->manager->conf;
	struct log_listener listener = { .about = name };
	int status;

	log_listen(&listener);
	status = persist_prepare(conf, name, service_text(call, "backend"), options);
	log_stop_listening(&listener);
	if (status)
		service_failed(call, status, listener.text[0] ? listener.text : LOG_SAYS_WHY);
	return !status;
}

static void run_add(struct service_call *call)
{
	struct router *router = router_of(call);
	const char *name = service_text(call, "name"), *backend = service_text(call, "backend");
	json_t *options = json_object_get(call->parameters, "options");
	bool persist = service_flag(call, "persist");
	const char *wrong = service_wrong_in_add(call);
	_cleanup_free_ char *made = NULL;
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
	if (!name)
		name = made = make_name(router, backend);
	if (made && !spec_name_fits(made)) {
		service_failed(call, EXIT_USAGE, "expected a backend; 'ublkd help' lists them");
		return;
	}
	if (name && persist && !prepare(call, name, options))
		return;
	options = options ? json_incref(options) : json_object();
	worker = name ? supervisor_add(router->supervisor, name, backend, options, true) : NULL;
	json_decref(options);
	if (!worker) {
		if (name && persist)
			persist_abandon(router->manager->conf, name);
		service_failed(call, EXIT_RUNTIME, "no memory");
		return;
	}
	worker->quiet = worker->asked = true;
	worker->prepared = persist;
	if (wait_for(call, worker, NULL))
		service_failed(call, EXIT_RUNTIME, "no memory to say how it went");
	router->on_more(router);
	supervisor_go_on(router->supervisor);
}

static void run_recover(struct service_call *call, struct worker *worker)
{
	if (worker->state == WORKER_RESTS || worker->state == WORKER_FAILED) {
		worker_again(worker);
		service_reply(call, NULL);
	} else {
		service_failed(call, EXIT_USAGE, SERVICE_NOT_DEAD);
	}
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
	else if (wait_until_live(call, worker))
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

static void io_failed(void *worker, bool gone)
{
	worker_let_go(worker, gone);
}

static void run_fail_io(struct service_call *call, struct worker *worker)
{
	if (worker->supervisor->stopped)
		service_failed(call, EXIT_RUNTIME, "the server is stopping");
	else if (worker->state == WORKER_LIVE)
		service_failed(call, EXIT_USAGE, SERVICE_IS_SERVED);
	else if (!worker_hold(worker))
		service_failed(call, EXIT_RUNTIME, why_not(worker));
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
		run_recover(call, worker);
	else if (worker && !strcmp(call->method, "io.ublkd.FailIo"))
		run_fail_io(call, worker);
	else if (worker && !strcmp(call->method, "io.ublkd.Quiesce"))
		run_quiesce(call, worker);
	else if (worker && !strcmp(call->method, "io.ublkd.Resume"))
		run_resume(call, worker);
	else if (worker && !strcmp(call->method, "io.ublkd.Delete") &&
		 worker->state == WORKER_QUIESCED)
		delete_quiesced(call, worker);
	else if (worker)
		pass_on(call, worker);
	else if (!strcmp(call->method, "io.ublkd.List"))
		run_list(call);
	else if (!strcmp(call->method, "io.ublkd.Add"))
		run_add(call);
	else
		return false;
	return true;
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

/* That a device was left, or deleted, and a file is to go with it, is for us to know. */
static bool is_heard_to_the_end(const struct passed_on *passed)
{
	return is_quiesce(passed) ||
	       (is_delete(passed) && !service_flag(passed->call, "when_unused"));
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
