/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd serve as the supervisor of workers, which serve a device each. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "exit.h"
#include "log.h"
#include "serve.h"
#include "service-calls.h"
#include "service-failed.h"
#include "util/macros.h"

#define FILES_PER_WORKER 5
/* Seconds for a user's worker to write back and end. */
#define USER_PATIENCE 120
/* Seconds between tries to have the socket again. */
#define LISTEN_PAUSE 0.5
#define MOST_LISTENS 20

/* What has a worker waits for no other server, as it is not for us to know otherwise. */
static void note_entry(const struct supervisor *supervisor, const char *name, bool served)
{
	struct table_entry *entry = table_find(supervisor->table, name);

	if (entry && entry->state != TABLE_DAMAGED)
		entry->state = served				     ? TABLE_SERVED :
			       table_has(supervisor->table, name) ? TABLE_WAITS :
								     TABLE_GONE;
}

/* What one device cannot, the others had better not try: the server before us has them back. */
static void on_failed(struct worker *worker)
{
	struct serve *serve = worker->supervisor->owner;

	router_failed(&serve->router, worker);
	if (!serve->supervisor.one_by_one || worker->state == WORKER_QUIESCED)
		return;
	ublkd_error("it could not be taken over: process %d goes on with all devices",
		    serve->handover.pid);
	serve_leave(serve);
}

static void on_given_up(struct worker *worker)
{
	struct serve *serve = worker->supervisor->owner;

	router_give_up(&serve->router, worker);
}

static void on_live(struct worker *worker)
{
	struct serve *serve = worker->supervisor->owner;

	failed_forget(&serve->manager, worker->name);
	note_entry(worker->supervisor, worker->name, true);
	router_live(&serve->router, worker);
	/* Again is no news for who reads the lines. */
	if (!worker->asked && !worker->was_live)
		serve_print(serve, worker->name, worker->path);
}

static void on_change(struct supervisor *supervisor)
{
	struct serve *serve = supervisor->owner;

	notify_changed(&serve->process.notify);
}

/* What the server before us has still is none of what we have. */
static void on_settled(struct supervisor *supervisor)
{
	struct serve *serve = supervisor->owner;

	if (!handover_is_on(&serve->handover)) {
		serve_settled(serve);
		return;
	}
	/* It takes nothing back from now on. */
	supervisor->one_by_one = false;
	handover_finish(&serve->handover);
}

/* From now on what has a server is no concern of ours. */
static void other_is_gone(struct handover *handover)
{
	struct serve *serve = container_of(handover, struct serve, handover);

	serve->supervisor.one_by_one = false; /* it may have died */
	if (serve->supervisor.settled && !serve->supervisor.stopped)
		serve_settled(serve);
}

static void end(struct serve *serve)
{
	serve_end_gone(serve, serve->supervisor.status);
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

/*
 * What was usable once is seen no more, unless it was given up. Nor is a user's, as what is seen
 * can be started again, which would not be by that user.
 */
static void note_failure(struct serve *serve, const struct worker *worker)
{
	bool seen = worker->seen && !worker->user && (!worker->was_live || worker->given_up);

	failed_note(&serve->manager, worker->name, &(struct failure){
		.status = worker->status,
		.error = worker->error,
		.uuid = worker_uuid(worker),
		.backend = worker->backend,
		.config = seen ? worker->settings : NULL,
	});
}

static void on_end(struct worker *worker)
{
	struct serve *serve = worker->supervisor->owner;
	const char *before;
	uint32_t number = UBLK_DEV_ID_ANY;

	router_failed(&serve->router, worker);
	if (worker->status && (!worker->quiet || worker->given_up))
		note_failure(serve, worker);
	note_entry(worker->supervisor, worker->name, false);
	/* Its process has died before it could delete the device. The worker's name ends here. */
	before = log_switch(NULL);
	if (worker->status && sscanf(worker->path, "/dev/ublkb%" SCNu32, &number) < 2)
		hunt(serve, number);
	log_switch(before);
}

static void on_process_end(struct supervisor *supervisor, pid_t pid)
{
	struct serve *serve = supervisor->owner;

	router_process_ended(&serve->router, pid);
}

static void on_remains(struct supervisor *supervisor)
{
	hunt(supervisor->owner, UBLK_DEV_ID_ANY);
}

static void on_gone(struct supervisor *supervisor)
{
	struct serve *serve = supervisor->owner;

	serve->ending = true;
	if (!serve->hunting)
		end(serve);
}

/* What another server's clients had added. */
static void add_waiting(struct serve *serve, const struct table *table)
{
	for (unsigned i = 0; i < table->count; i++) {
		const struct table_entry *entry = &table->entries[i];

		if (entry->state == TABLE_WAITS && entry->options &&
		    !supervisor_find(&serve->supervisor, entry->name) &&
		    !supervisor_add(&serve->supervisor, entry->name, entry->backend, entry->options,
				    true, NULL, NULL))
			ublkd_error("%s: no memory to take it over", entry->name);
	}
}

/* ---- UUIDs ------------------------------------------------------------------------------ */

/* With its settings it comes to each of its processes, which need not know how it was chosen. */
static void give_uuid(const struct table *table, struct worker *worker)
{
	char uuid[UUID_SIZE];
	json_t *settings;

	if (worker_uuid(worker))
		return;
	table_choose_uuid(table, worker->name, !worker->added, uuid);
	settings = json_copy(worker->settings);
	json_object_set_new(settings, "uuid", json_string(uuid));
	json_decref(worker->settings);
	worker->settings = settings;
}

/* Once it is known what the last server left. */
static void give_uuids(struct serve *serve, const struct table *table)
{
	for (struct worker *w = serve->supervisor.workers; w; w = w->next)
		give_uuid(table, w);
}

static int check_uuid(struct serve *serve, struct worker *worker)
{
	struct log_listener listener = { .about = worker->name };
	const char *uuid = worker_uuid(worker), *owner, *before;

	owner = host_find_uuid(&serve->host, uuid, worker->name);
	if (!owner)
		owner = router_find_uuid(&serve->router, uuid, worker->name);
	if (!owner)
		return EXIT_DONE;
	before = log_switch(worker->name);
	log_listen(&listener);
	host_uuid_is_taken(uuid, owner);
	log_stop_listening(&listener);
	log_switch(before);
	snprintf(worker->error, sizeof(worker->error), "%s", listener.text);
	worker_refuse(worker, EXIT_TAKEN);
	return EXIT_TAKEN;
}

static void check_uuids(struct serve *serve)
{
	struct worker *next;

	for (struct worker *w = serve->supervisor.workers; w; w = next) {
		next = w->next;
		check_uuid(serve, w);
	}
}

/* ---- one by one ------------------------------------------------------------------------- */

/* A process that our successor was about to start when it died may have its socket still. */
static void listen_again(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct serve *serve = container_of(timer, struct serve, listen);

	(void)events;
	if (!serve->mode->listen(serve) || ++serve->listens == MOST_LISTENS)
		ev_timer_stop(loop, timer);
}

/* What the successor's clients did to those that it had. */
static void renew(struct serve *serve, const struct table *now)
{
	for (struct worker *w = serve->supervisor.workers; w; w = w->next) {
		const struct table_entry *entry = table_find(now, w->name);

		if (entry && entry->options)
			worker_renew(w, entry->backend, entry->options, true);
		else if (!entry && !w->added && !service_is_described(&serve->manager, w->name))
			w->added = true; /* and deleted, with its file */
	}
}

/* Those that our successor had by now wait, as its workers have left them, or will. */
static void take_back(struct serve *serve)
{
	struct table now;

	if (table_reclaim(&serve->table, &now)) {
		serve_leave(serve);
		return;
	}
	renew(serve, &now);
	add_waiting(serve, &now);
	give_uuids(serve, &now);
	table_close(&now);
	serve->process.leaves = false;
	supervisor_take_back(&serve->supervisor);
	notify_state(&serve->process.notify, NOTIFY_READY);
	serve->listens = 0;
	ev_timer_init(&serve->listen, listen_again, 0, LISTEN_PAUSE);
	ev_timer_start(serve->loop, &serve->listen);
}

static void on_successor_end(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct serve *serve = container_of(watcher, struct serve, on_successor_end);

	(void)events;
	ev_io_stop(loop, watcher);
	cleanup_fd(&serve->successor_fd);
	serve->successor_fd = -1;
	ublkd_error("the process that takes the devices over has ended before it had all: they are "
		    "taken back");
	/* Told to stop meanwhile, we leave them all the same. */
	if (serve->supervisor.handed && !serve->supervisor.gone && !serve->process.stops)
		take_back(serve);
}

/* Whoever claims the table and asks us to leave takes its time. */
static bool find_successor(struct serve *serve)
{
	int pid = table_claimant(&serve->table);

	if (pid > 0)
		serve->successor_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* The number may be another process's by now. */
	if (serve->successor_fd >= 0 && table_claimant(&serve->table) != pid) {
		cleanup_fd(&serve->successor_fd);
		serve->successor_fd = -1;
	}
	if (serve->successor_fd < 0)
		return false;
	ev_io_init(&serve->on_successor_end, on_successor_end, serve->successor_fd, EV_READ);
	ev_io_start(serve->loop, &serve->on_successor_end);
	ublkd_note("process %d takes the devices over one by one", pid);
	return true;
}

/* The others go on, until our successor asks their workers to leave. */
static void on_handed(struct supervisor *supervisor)
{
	struct serve *serve = supervisor->owner;

	if (serve->successor_fd < 0 && !serve->process.stops && !supervisor->hurries)
		take_back(serve);
	else
		table_release(&serve->table);
}

static bool is_asked(const struct worker *worker)
{
	const struct serve *serve = worker->supervisor->owner;

	return router_asks(&serve->router, worker);
}

/* By now we may be in another folder than a relative path is from. */
static void remember_socket(struct serve *serve)
{
	char *path = serve->manager.service.path ? strdup(serve->manager.service.path) : NULL;

	if (!path)
		return;
	free(serve->config.socket);
	serve->config.socket = path;
}

/* Calls that are not answered by now end with what they are about. */
static void hand_over(struct serve *serve)
{
	remember_socket(serve);
	ev_timer_stop(serve->loop, &serve->listen);
	router_stop(&serve->router);
	manager_close(&serve->manager);
	supervisor_hand_over(&serve->supervisor, SIGNAL_LEAVE, is_asked);
}

/* ---- the workers -------------------------------------------------------------------------- */

static void need_files(struct serve *serve)
{
	rlim_t files = FILES_PER_PROCESS + FILES_PER_WORKER; /* the spare one's */

	if (serve->config.socket)
		files += 2 * SERVICE_CLIENTS + SERVICE_ALL_FILES;
	for (const struct worker *w = serve->supervisor.workers; w; w = w->next)
		files += FILES_PER_WORKER + (w->passed[0].option ? WORKER_FILES : 0);
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
	/* A user's device is not for the next server, and the table not for a user. */
	serve->supervisor.options_of_users = serve->worker_options + n;
	if (config->process.stats)
		serve->worker_options[n++] = stats;
	if (config->process.verbose)
		serve->worker_options[n++] = verbose;
	return 0;
}

static int describe(struct serve *serve, const struct conf_device *device, struct worker **worker)
{
	char backend[256];

	if (device->spec.untold) {
		ublkd_error("expected settings in UTF-8 with --workers");
		return EXIT_USAGE;
	}
	spec_name(&device->spec, backend, sizeof(backend));
	if (*worker)
		worker_renew(*worker, backend, device->spec.given, false);
	else
		*worker = supervisor_add(&serve->supervisor, device->name, backend,
					 device->spec.given, false, NULL, NULL);
	if (!*worker) {
		ublkd_error("no memory");
		return EXIT_RUNTIME;
	}
	(*worker)->seen = true;
	return EXIT_DONE;
}

static int add(struct serve *serve, const struct conf_device *device)
{
	const char *before = log_switch(device->name);
	struct worker *worker = NULL;
	int status = describe(serve, device, &worker);

	log_switch(before);
	return status;
}

/* Behind the start. */
static int on_described(struct router *router, const struct conf_device *device,
			struct worker **worker)
{
	struct serve *serve = container_of(router, struct serve, router);
	const char *before = log_switch(device->name);
	int status = describe(serve, device, worker);

	log_switch(before);
	if (status)
		return status;
	note_entry(&serve->supervisor, device->name, true);
	give_uuid(&serve->table, *worker);
	return check_uuid(serve, *worker);
}

/* A device whose worker has died is for the next one, or, where none comes, left by it. */
static void on_unstuck(struct stuck_list *list, const struct stuck *stuck)
{
	struct serve *serve = list->owner;

	if (!supervisor_find(&serve->supervisor, stuck->info.name))
		hunt(serve, stuck->info.number);
	supervisor_go_on(&serve->supervisor);
}

static int open_workers(struct serve *serve)
{
	struct supervisor *supervisor = &serve->supervisor;
	int status;

	/* Without a device of its own it would be gone at once. */
	serve->host.stays = true;
	supervisor->loop = serve->loop;
	supervisor->table = &serve->table;
	supervisor->stuck = &serve->ctrl.stuck;
	supervisor->stuck->on_end = on_unstuck;
	supervisor->stuck->owner = serve;
	supervisor->options = serve->worker_options;
	supervisor->patience = USER_PATIENCE;
	supervisor->stays = serve->config.socket;
	supervisor->on_live = on_live;
	supervisor->on_settled = on_settled;
	supervisor->on_failed = on_failed;
	supervisor->on_given_up = on_given_up;
	supervisor->on_end = on_end;
	supervisor->on_process_end = on_process_end;
	supervisor->on_change = on_change;
	supervisor->on_remains = on_remains;
	supervisor->on_gone = on_gone;
	supervisor->on_handed = on_handed;
	serve->handover.gone = other_is_gone;
	supervisor->owner = serve;
	serve->router.supervisor = supervisor;
	serve->router.manager = &serve->manager;
	serve->router.on_more = on_more;
	serve->router.on_described = on_described;
	status = supervisor_open(supervisor) || make_options(serve) ? EXIT_RUNTIME : EXIT_DONE;
	for (unsigned i = 0; !status && i < serve->conf.count; i++)
		status = add(serve, serve->conf.devices[i]);
	return status;
}

static void close_workers(struct serve *serve)
{
	router_close(&serve->router);
	supervisor_close(&serve->supervisor);
	cleanup_fd(&serve->successor_fd);
	free(serve->worker_options[0]);
}

/* The devices are known by now, and the dead ones of others are gone. */
static void start_workers(struct serve *serve)
{
	need_files(serve);
	check_uuids(serve);
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
	/* The devices are another's by now, or still: that one has them back. */
	if (serve->supervisor.hands_over || handover_is_on(&serve->handover)) {
		signal = SIGNAL_LEAVE;
		leaves = true;
	}
	serve->process.leaves = leaves;
	router_stop(&serve->router);
	supervisor_stop(&serve->supervisor, signal, leaves);
}

static void leave_workers(struct serve *serve)
{
	struct supervisor *supervisor = &serve->supervisor;

	if (!supervisor->begun)
		serve_leave_host(serve);
	else if (!supervisor->stopped && find_successor(serve))
		hand_over(serve);
	/* Another has come, as the first died before it had anything. */
	else if (supervisor->hands_over && !supervisor->handed && serve->successor_fd < 0 &&
		 find_successor(serve))
		return;
	else
		stop_workers(serve, SIGNAL_LEAVE, true);
}

static void visit_workers(const struct serve *serve, serve_visitor *visit, void *arg)
{
	for (const struct worker *w = serve->supervisor.workers; w; w = w->next) {
		if (w->state == WORKER_LIVE)
			visit(arg, w->name, w->path);
	}
}

static void take_over(struct serve *serve)
{
	add_waiting(serve, &serve->table);
	give_uuids(serve, &serve->table);
	serve->supervisor.one_by_one = handover_is_on(&serve->handover);
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
