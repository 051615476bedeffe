/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd serve as the supervisor of workers, which serve a device each. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>

#include "exit.h"
#include "log.h"
#include "serve.h"
#include "util/macros.h"

#define FILES_PER_WORKER 4

/* What has a worker waits for no other server, as it is not for us to know otherwise. */
static void note_entry(const struct supervisor *supervisor, const char *name, bool served)
{
	struct table_entry *entry = table_find(supervisor->table, name);

	if (entry && entry->state != TABLE_DAMAGED)
		entry->state = served				     ? TABLE_SERVED :
			       table_has(supervisor->table, name) ? TABLE_WAITS :
								     TABLE_GONE;
}

static void on_failed(struct worker *worker)
{
	struct serve *serve = worker->supervisor->owner;

	router_failed(&serve->router, worker);
}

static void on_live(struct worker *worker)
{
	struct serve *serve = worker->supervisor->owner;

	manager_note(&serve->manager, worker->name, EXIT_DONE);
	note_entry(worker->supervisor, worker->name, true);
	router_live(&serve->router, worker);
	/* Again is no news for who reads the lines. */
	if (!worker->asked && !worker->was_live)
		serve_print(serve, worker->name, worker->path);
}

static void on_settled(struct supervisor *supervisor)
{
	serve_settled(supervisor->owner);
}

static void end(struct serve *serve)
{
	int status = serve->supervisor.status;

	serve_end(serve, status ? status : serve->failed ? EXIT_RUNTIME : EXIT_DONE);
}

/* number: of a device that may still be held for a moment, or UBLK_DEV_ID_ANY. */
static void hunt(struct serve *serve, uint32_t number);

static void hunted(struct orphan_hunt *orphans)
{
	struct serve *serve = container_of(orphans, struct serve, hunt);

	serve->hunting = false;
	if (serve->hunt_again)
		hunt(serve, serve->hunt_next);
	else if (serve->ending)
		end(serve);
}

static void hunt(struct serve *serve, uint32_t number)
{
	/* Of several that came meanwhile, those that are held still are the next start's. */
	serve->hunt_next = serve->hunt_again ? UBLK_DEV_ID_ANY : number;
	serve->hunt_again = serve->hunting;
	if (serve->hunting || serve->hunt.given_up)
		return;
	serve->hunting = true;
	serve->hunt = (struct orphan_hunt){ .wanted = number, .done = hunted };
	orphan_hunt(&serve->hunt, &serve->ctrl);
}

static void on_end(struct worker *worker)
{
	struct serve *serve = worker->supervisor->owner;
	const char *before;
	uint32_t number = UBLK_DEV_ID_ANY;

	router_failed(&serve->router, worker);
	if (!worker->quiet)
		manager_note(&serve->manager, worker->name, worker->status);
	note_entry(worker->supervisor, worker->name, false);
	/* Its process has died before it could delete the device. The worker's name ends here. */
	before = log_switch(NULL);
	if (worker->status && sscanf(worker->path, "/dev/ublkb%" SCNu32, &number) < 2)
		hunt(serve, number);
	log_switch(before);
}

static void on_gone(struct supervisor *supervisor)
{
	struct serve *serve = supervisor->owner;

	serve->ending = true;
	if (!serve->hunting)
		end(serve);
}

static void need_files(struct serve *serve)
{
	rlim_t files = FILES_PER_PROCESS + (serve->config.socket ? 2 * SERVICE_CLIENTS : 0);

	for (const struct worker *w = serve->supervisor.workers; w; w = w->next)
		files += FILES_PER_WORKER;
	process_need_files(files);
}

static void on_more(struct router *router)
{
	need_files(container_of(router, struct serve, router));
}

/* Those of ours that are theirs too. */
static int make_options(struct serve *serve)
{
	static char keep[] = "--keep", stats[] = "--stats", verbose[] = "--verbose";
	const struct serve_config *config = &serve->config;
	unsigned n = 0;

	if (asprintf(&serve->worker_options[n++], "--state=%s", config->state) < 0) {
		serve->worker_options[0] = NULL;
		return -ENOMEM;
	}
	if (config->keep)
		serve->worker_options[n++] = keep;
	if (config->process.stats)
		serve->worker_options[n++] = stats;
	if (config->process.verbose)
		serve->worker_options[n++] = verbose;
	return 0;
}

static int add(struct serve *serve, const struct conf_device *device)
{
	char backend[256];

	if (device->spec.untold) {
		ublkd_error("%s: expected settings in UTF-8 with --workers", device->name);
		return EXIT_USAGE;
	}
	spec_name(&device->spec, backend, sizeof(backend));
	if (supervisor_add(&serve->supervisor, device->name, backend, device->spec.given,
			   false))
		return EXIT_DONE;
	ublkd_error("%s: no memory", device->name);
	return EXIT_RUNTIME;
}

static int open_workers(struct serve *serve)
{
	struct supervisor *supervisor = &serve->supervisor;
	int status = make_options(serve) ? EXIT_RUNTIME : EXIT_DONE;

	/* Without a device of its own it would be gone at once. */
	serve->host.stays = true;
	supervisor->loop = serve->loop;
	supervisor->table = &serve->table;
	supervisor->options = serve->worker_options;
	supervisor->stays = serve->config.socket;
	supervisor->on_live = on_live;
	supervisor->on_settled = on_settled;
	supervisor->on_failed = on_failed;
	supervisor->on_end = on_end;
	supervisor->on_gone = on_gone;
	supervisor->owner = serve;
	serve->router.supervisor = supervisor;
	serve->router.manager = &serve->manager;
	serve->router.on_more = on_more;
	for (unsigned i = 0; !status && i < serve->conf.count; i++)
		status = add(serve, serve->conf.devices[i]);
	if (status)
		return status;
	return supervisor_open(supervisor) ? EXIT_RUNTIME : EXIT_DONE;
}

static void close_workers(struct serve *serve)
{
	router_close(&serve->router);
	supervisor_close(&serve->supervisor);
	free(serve->worker_options[0]);
}

/* The devices are known by now, and the dead ones of others are gone. */
static void start_workers(struct serve *serve)
{
	need_files(serve);
	supervisor_start(&serve->supervisor);
}

static int listen_router(struct serve *serve)
{
	if (!serve->config.socket)
		return EXIT_DONE;
	return router_open(&serve->router, serve->config.socket) ? EXIT_RUNTIME : EXIT_DONE;
}

/* All are told by the signal; serve_end() follows. */
static void stop_workers(struct serve *serve, int signal, bool leaves)
{
	if (!serve->supervisor.begun) {
		serve_stop_host(serve, signal, leaves);
		return;
	}
	serve->process.leaves = leaves;
	router_stop(&serve->router);
	supervisor_stop(&serve->supervisor, signal, leaves);
}

static void leave_workers(struct serve *serve)
{
	if (serve->supervisor.begun)
		stop_workers(serve, SIGNAL_LEAVE, true);
	else
		serve_leave_host(serve);
}

static void visit_workers(const struct serve *serve, serve_visitor *visit, void *arg)
{
	for (const struct worker *w = serve->supervisor.workers; w; w = w->next) {
		if (w->state == WORKER_LIVE)
			visit(arg, w->name, w->path);
	}
}

/* What the last server's clients had added. */
static void take_over(struct serve *serve)
{
	for (unsigned i = 0; i < serve->table.count; i++) {
		const struct table_entry *entry = &serve->table.entries[i];

		if (entry->state == TABLE_WAITS && entry->options &&
		    !supervisor_find(&serve->supervisor, entry->name) &&
		    !supervisor_add(&serve->supervisor, entry->name, entry->backend, entry->options,
				    true))
			ublkd_error("%s: no memory to take it over", entry->name);
	}
	for (const struct worker *w = serve->supervisor.workers; w; w = w->next)
		note_entry(&serve->supervisor, w->name, true);
}

const struct serve_mode serve_supervisor = {
	.open = open_workers,
	.listen = listen_router,
	.open_table = serve_open_table,
	.wants = serve_describes,
	.take_over = take_over,
	.settled = start_workers,
	.visit_live = visit_workers,
	.stop = stop_workers,
	.leave = leave_workers,
	.close = close_workers,
};
