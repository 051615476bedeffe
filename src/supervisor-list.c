/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "supervisor-list.h"

#include <stdio.h>
#include <string.h>

#include "believe.h"
#include "exit.h"
#include "forward.h"
#include "service-calls.h"
#include "service-failed.h"
#include "service-job.h"
#include "service-left.h"
#include "util/macros.h"
#include "worker-group.h"

/* For a worker to say what it has; the others' devices are listed all the same. */
#define LIST_PATIENCE 5
/* For one that has not answered the last time. */
#define SILENT_PATIENCE 0.5

const char *list_error(const struct worker *worker)
{
	return worker->error[0] && (worker->state == WORKER_RESTS || worker->state == WORKER_FAILED ||
				    worker->state == WORKER_STUCK) ? worker->error : NULL;
}

/* A call, and the answers of all processes, which are those of the calls behind it, too. */
struct gathering {
	struct gathering *next;
	struct service_call *call;
	json_t *devices; /* by name, in their order */
	json_t *others;  /* that have no process */
	unsigned left;
};

/* That of a process. */
struct share {
	struct forward forward;
	struct gathering *gathering;
	char name[65]; /* of one of its devices */
	char *user;    /* whose it is, see worker */
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
			   "owner_uid", "owner_gid", "error", error_or_null(list_error(worker)));
	believe_device(device, worker);
	return device;
}

json_t *list_details(const struct worker *worker)
{
	return json_pack("{s:o, s:O, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n, s:n}", "device",
			 device_json(worker), "config", worker->settings, "queues", "depth", "data",
			 "data_reason", "batch", "batch_reason", "ring", "pause", "counters");
}

static json_t *devices_of(const struct gathering *gathering)
{
	json_t *devices = json_array(), *device;
	const char *name;

	json_object_foreach(gathering->devices, name, device)
		json_array_append(devices, device);
	json_array_extend(devices, gathering->others);
	return devices;
}

static void gathered(struct gathering *gathering)
{
	struct router *router = router_of(gathering->call);
	json_t *devices;

	if (--gathering->left)
		return;
	devices = devices_of(gathering);
	json_decref(gathering->devices);
	json_decref(gathering->others);
	for (struct gathering *next; gathering; gathering = next) {
		next = gathering->next;
		service_reply_with_stuck(gathering->call, json_pack("{s:O}", "devices", devices));
		free(gathering);
	}
	json_decref(devices);
	router->gathering = NULL;
}

/* false: there is no memory. */
static bool keep_user(struct share *share, const struct worker *worker)
{
	snprintf(share->name, sizeof(share->name), "%s", worker->name);
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
	json_t *devices = share->gathering->devices;
	const char *name = json_string_value(json_object_get(device, "name"));
	const struct worker *worker = NULL;

	if (name)
		worker = supervisor_find(router_of(share->gathering->call)->supervisor, name);
	if (!may_speak_of(share->user, worker) || !json_object_get(devices, name))
		return;
	json_object_set(devices, name, device);
	if (worker)
		believe_device(device, worker);
}

static void note_silence(const struct router *router, const struct share *share, bool silent)
{
	const struct worker *worker = supervisor_find(router->supervisor, share->name);

	if (worker)
		worker->group->silent = silent;
}

static void gather(struct router *router);

static void told(struct forward *forward, json_t *answer)
{
	struct share *share = container_of(forward, struct share, forward);
	struct router *router = router_of(share->gathering->call);
	json_t *devices = json_object_get(json_object_get(answer, "parameters"), "devices"), *device;
	size_t i;

	json_array_foreach(devices, i, device)
		put_in_place(share, device);
	note_silence(router, share, !answer);
	gathered(share->gathering);
	free_share(share);
	gather(router);
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
				   worker->supervisor->loop, fd, "io.ublkd.List", parameters,
				   worker->group->silent ? SILENT_PATIENCE : LIST_PATIENCE))
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

static void gather_once(struct gathering *gathering)
{
	const struct router *router = router_of(gathering->call);
	json_t *nothing = json_object();

	gathering->devices = json_object();
	gathering->others = json_array();
	gathering->left = 1;
	for (const struct worker *w = router->supervisor->workers; w; w = w->next)
		json_object_set_new(gathering->devices, w->name, device_json(w));
	left_list(router->manager, gathering->others);
	failed_list(router->manager, gathering->others);
	for (const struct worker_group *g = router->supervisor->groups; g; g = g->next) {
		const struct worker *served = first_served(g);

		if (served)
			ask(gathering, served, nothing);
	}
	json_decref(nothing);
	gathered(gathering);
}

/*
 * For all that have called up to now, and one at a time: who calls meanwhile is answered with the
 * next, so that however many ask, each process is asked once, and nobody hears of how it was before.
 */
static void gather(struct router *router)
{
	while (!router->gathering && router->listed) {
		router->gathering = router->listed;
		router->listed = NULL;
		gather_once(router->gathering);
	}
}

void list_call(struct service_call *call)
{
	struct router *router = router_of(call);
	struct gathering *gathering = calloc(1, sizeof(*gathering));

	if (!gathering) {
		service_failed(call, EXIT_RUNTIME, "no memory");
		return;
	}
	gathering->call = call;
	gathering->next = router->listed;
	router->listed = gathering;
	gather(router);
}
