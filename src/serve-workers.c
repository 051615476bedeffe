/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#include "exit.h"
#include "log.h"
#include "serve.h"
#include "util/macros.h"

#define FILES_PER_WORKER 4

/* ---- the supervisor ----------------------------------------------------------------------- */

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

int workers_open(struct serve *serve)
{
	struct supervisor *supervisor = &serve->supervisor;
	int status = make_options(serve) ? EXIT_RUNTIME : EXIT_DONE;

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

void workers_close(struct serve *serve)
{
	router_close(&serve->router);
	supervisor_close(&serve->supervisor);
	free(serve->worker_options[0]);
}

void workers_start(struct serve *serve)
{
	need_files(serve);
	supervisor_start(&serve->supervisor);
}

void workers_stop(struct serve *serve, int signal)
{
	router_stop(&serve->router);
	supervisor_stop(&serve->supervisor, signal, serve->process.leaves);
}

void workers_take_over(struct serve *serve)
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

/* ---- a worker ------------------------------------------------------------------------------- */

/* A socket on which the supervisor asks us something; or its end. */
static void on_channel(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct serve *serve = container_of(watcher, struct serve, only.on_channel);
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte;
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t got = recvmsg(serve->only.channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	int fd;

	(void)events;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		ev_io_stop(loop, watcher);
		ublkd_note("%s: the supervisor is gone: the device is left to the next one",
			   serve->only.name);
		serve_leave(serve);
		return;
	}
	if (header && header->cmsg_type == SCM_RIGHTS) {
		memcpy(&fd, CMSG_DATA(header), sizeof(fd));
		service_take(&serve->manager.service, fd);
	}
}

int worker_open(struct serve *serve)
{
	struct service *service = &serve->manager.service;
	struct hosted *hosted = host_add(&serve->host, serve->only.name, &serve->only.spec);

	if (!hosted || table_open_entry(&serve->table, serve->config.state, serve->only.name))
		return EXIT_RUNTIME;
	hosted->added = serve->only.added;
	serve->host.no_hunt = true;
	serve->manager.host = &serve->host;
	serve->manager.worker = true;
	service->loop = serve->loop;
	service->group = (gid_t)-1;
	service->most_clients = SERVICE_CLIENTS;
	service->patience = SERVICE_PATIENCE;
	service->on_call = manager_call;
	service->on_hang_up = manager_hang_up;
	ev_io_init(&serve->only.on_channel, on_channel, serve->only.channel, EV_READ);
	ev_io_start(serve->loop, &serve->only.on_channel);
	return EXIT_DONE;
}

/* CHANNEL [OPTION…] -- NAME KIND BACKEND SETTINGS */
static int read_arguments(struct serve *serve, int argc, char **argv)
{
	struct only *only = &serve->only;
	int i = 1, status = EXIT_DONE;
	json_t *settings;

	if (argc < 6)
		return EXIT_USAGE;
	only->channel = atoi(argv[0]);
	for (; i < argc && strcmp(argv[i], "--") && !status; i++)
		status = serve_flag(serve, argv[i]);
	if (status || argc - ++i != 4 || !serve->config.state)
		return EXIT_USAGE;
	only->name = argv[i];
	only->added = !strcmp(argv[i + 1], WORKER_ADDED);
	settings = json_loads(argv[i + 3], 0, NULL);
	log_switch(only->name);
	status = settings ? spec_fill(&only->spec, argv[i + 2], settings) : EXIT_USAGE;
	log_switch(NULL);
	json_decref(settings);
	return status;
}

int worker_main(int argc, char **argv)
{
	struct serve serve;
	int status;

	serve_init(&serve);
	spec_init(&serve.only.spec);
	status = read_arguments(&serve, argc - 2, argv + 2);
	if (!status)
		status = fcntl(serve.only.channel, F_SETFD, FD_CLOEXEC) ? EXIT_USAGE :
									 process_begin(&serve.process);
	if (status < 0)
		status = serve_all(&serve);
	spec_free(&serve.only.spec);
	serve_free(&serve);
	return status;
}
