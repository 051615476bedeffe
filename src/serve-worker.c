/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd serve as a worker: the devices that the supervisor gives it, and what that asks of them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "exit.h"
#include "log.h"
#include "privilege.h"
#include "serve.h"
#include "util/json.h"
#include "util/macros.h"
#include "util/self.h"
#include "worker-process.h"

/* A device that was given to us; the host has it once it is known what became of it. */
struct member {
	struct member *next;
	struct serve *serve;
	char *name;
	bool added;
	struct spec spec;
	struct table table;
	struct recover recover;
};

/* What the supervisor reads. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	fflush(stdout);
}

/* For it to know what others would wait for, also when we are gone. */
static void say_stuck(struct stuck_list *list, const struct stuck *stuck)
{
	const struct stuck_info *info = &stuck->info;

	(void)list;
	say("%s " WORKER_SAYS_STUCK " %d %s %" PRIu32 " %" PRIu64 "\n", info->name, (int)info->pid,
	    info->command, info->number, info->since);
}

/* ---- a device ------------------------------------------------------------------------- */

static void free_member(struct member *member)
{
	struct member **link = &member->serve->given.members;

	while (*link != member)
		link = &(*link)->next;
	*link = member->next;
	table_close(&member->table);
	spec_free(&member->spec);
	free(member->name);
	free(member);
}

/* Its device has come to nothing. */
static void give_back(struct member *member, int status)
{
	say("%s " WORKER_SAYS_GONE " %d\n", member->name, status);
	/* The driver writes to it when it comes to it. */
	if (!member->recover.given_up)
		free_member(member);
}

static bool is_wanted(struct recover *recover, const char *name)
{
	(void)recover, (void)name;
	return true;
}

/* When its last server was asked to leave it, which was for another that this one had, too. */
static void note_asked(struct member *member)
{
	struct table_entry *entry = table_find(&member->table, member->name);

	if (!entry || !member->recover.asks || entry->left > 0)
		return;
	for (const struct member *m = member->serve->given.members; m; m = m->next) {
		const struct table_entry *other = table_find(&m->table, m->name);

		if (other && other->left > 0)
			entry->left = entry->left > 0 ? MIN(entry->left, other->left) : other->left;
	}
}

static void recovered(struct recover *recover)
{
	struct member *member = container_of(recover, struct member, recover);
	struct serve *serve = member->serve;
	struct hosted *hosted;

	/* It is the next process's. */
	if (serve->host.stopped)
		return;
	log_switch(NULL); /* for good: the name that was goes with the member */
	hosted = host_add(&serve->host, member->name, &member->spec);
	if (!hosted) {
		give_back(member, EXIT_RUNTIME);
		return;
	}
	note_asked(member);
	hosted->added = member->added;
	if (serve->config.state)
		hosted->table = &member->table;
	serve->manager.on_more(&serve->manager);
	host_go_on(&serve->host);
}

static int pass_files(struct member *member, json_t *names, int *fds, unsigned count)
{
	int status = json_array_size(names) == count ? EXIT_DONE : EXIT_USAGE;

	for (unsigned i = 0; !status && i < count; i++)
		status = spec_pass(&member->spec, json_string_value(json_array_get(names, i)),
				   steal_fd(&fds[i]));
	return status;
}

/* What worker_process_give() has written. */
static int fill(struct member *member, json_t *device, int *fds, unsigned count)
{
	struct recover *recover = &member->recover;
	json_t *settings, *files;
	const char *backend;
	int added, asks, status;

	if (json_unpack(device, "{s:s, s:o, s:b, s:b, s:o}", "backend", &backend, "settings",
			&settings, "added", &added, "asks", &asks, "files", &files))
		return EXIT_USAGE;
	member->added = added;
	recover->asks = asks;
	recover->ctrl = &member->serve->ctrl;
	recover->table = &member->table;
	recover->wanted = is_wanted;
	recover->done = recovered;
	status = spec_fill(&member->spec, backend, settings);
	if (!status)
		status = pass_files(member, files, fds, count);
	if (!status && member->serve->config.state &&
	    table_open_entry(&member->table, &member->serve->table, member->name))
		status = EXIT_RUNTIME;
	return status;
}

static struct member *new_member(struct serve *serve, const char *name)
{
	struct member *member = name ? calloc(1, sizeof(*member)) : NULL;

	if (!member)
		return NULL;
	*member = (struct member){ .next = serve->given.members, .serve = serve,
				   .name = strdup(name), .table = { .folder = -1, .lock = -1 } };
	serve->given.members = member;
	spec_init(&member->spec);
	member->spec.workers = true;
	if (member->name)
		return member;
	free_member(member);
	return NULL;
}

/* For ps, and for messages: a process that was there before has no name until its first device. */
static void take_name(struct given *given, const char *name)
{
	size_t size = strlen(given->title);

	if (given->name || !name)
		return;
	memset(given->title, 0, size);
	memcpy(given->title, name, MIN(strlen(name), size));
	given->name = given->title;
	self_set_name("ublkd", given->name);
}

/* The socket has all of it by now, and then its end. */
static void take_device(struct serve *serve, int socket, int *fds, unsigned count)
{
	json_t *device = json_read(socket, 0, NULL);
	json_t *name = json_object_get(device, "name");
	struct member *member = new_member(serve, json_string_value(name));
	const char *before;
	int status;

	/* The supervisor takes our end for that of what we have. */
	if (!member) {
		ublkd_error("no memory, or no device, where one was given");
		serve_leave(serve);
		json_decref(device);
		return;
	}
	take_name(&serve->given, json_string_value(json_object_get(device, "worker")));
	before = log_switch(member->name);
	status = fill(member, device, fds, count);
	log_switch(before);
	json_decref(device);
	if (status)
		give_back(member, status);
	else
		recover_start(&member->recover);
}

static bool can_stay(const struct host *host)
{
	for (unsigned i = 0; i < host->count; i++) {
		const struct hosted *hosted = host->devices[i];

		if (hosted->state == HOSTED_LIVE && !device_can_stay(&hosted->device))
			return false;
	}
	return true;
}

/*
 * What was left in the middle of requests goes to the next process when this one ends, unless
 * another's data would end with it.
 */
static void ended(struct serve *serve, struct hosted *hosted)
{
	struct member *member = container_of(hosted->spec, struct member, spec);

	if (hosted->state != HOSTED_STUCK) {
		give_back(member, hosted->status);
		return;
	}
	say("%s " WORKER_SAYS_HELD " %d\n", member->name, hosted->status);
	if (hosted->device.holds && !serve->host.stopped && can_stay(&serve->host))
		serve_leave(serve);
}

/* ---- the supervisor ------------------------------------------------------------------- */

/* No more, as it is gone, or has nothing for us. */
static void on_channel_end(struct serve *serve)
{
	const char *before = log_switch(serve->given.name);

	if (serve->host.count > serve->host.stuck)
		ublkd_note("the supervisor is gone: its devices are left to the next one");
	log_switch(before);
	serve_leave(serve);
}

/* Descriptors that came, of which the first is the socket. */
static void take_message(struct serve *serve, char what, int *fds, unsigned count)
{
	if (what == WORKER_CALL && count)
		service_take(&serve->manager.service, steal_fd(&fds[0]));
	else if (what == WORKER_DEVICE && count && !serve->host.stopped)
		take_device(serve, fds[0], fds + 1, count - 1);
	for (unsigned i = 0; i < count; i++)
		cleanup_fd(&fds[i]);
}

static void on_channel(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct serve *serve = container_of(watcher, struct serve, given.on_channel);
	int fds[1 + SPEC_MOST_FILES];
	char control[CMSG_SPACE(sizeof(fds))] = { 0 }, what;
	struct iovec data = { .iov_base = &what, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t got = recvmsg(serve->given.channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	bool has = header && header->cmsg_type == SCM_RIGHTS;
	size_t length = has ? header->cmsg_len - CMSG_LEN(0) : 0;

	(void)events;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		ev_io_stop(loop, watcher);
		on_channel_end(serve);
		return;
	}
	if (length)
		memcpy(fds, CMSG_DATA(header), length);
	take_message(serve, what, fds, (unsigned)(length / sizeof(fds[0])));
}

static int listen_to_supervisor(struct serve *serve)
{
	struct service *service = &serve->manager.service;

	serve->manager.worker = true;
	service->group = (gid_t)-1;
	service->on_call = manager_call;
	service->on_hang_up = manager_hang_up;
	ev_io_init(&serve->given.on_channel, on_channel, serve->given.channel, EV_READ);
	ev_io_start(serve->loop, &serve->given.on_channel);
	return EXIT_DONE;
}

/* ---- the process ---------------------------------------------------------------------- */

/* Until we are told that no device comes any more. */
static int open_worker(struct serve *serve)
{
	serve->host.no_hunt = true;
	serve->host.stays = true;
	serve->ctrl.stuck.on_stuck = say_stuck;
	if (!serve->given.name)
		ctrl_helper_prepare(&serve->ctrl);
	return EXIT_DONE;
}

static int open_folder(struct serve *serve)
{
	return table_open_folder(&serve->table, serve->config.state);
}

static bool wants(const struct serve *serve, const char *name)
{
	(void)serve, (void)name;
	return true;
}

/* What is given to us from now on would be lost. */
static void say_end(const struct serve *serve)
{
	if (!serve->host.stopped)
		say(WORKER_SAYS_ENDING "\n");
}

static void stop_worker(struct serve *serve, int signal, bool leaves)
{
	say_end(serve);
	serve_stop_host(serve, signal, leaves);
}

static void leave_worker(struct serve *serve)
{
	say_end(serve);
	serve_leave_host(serve);
}

static const struct serve_mode serve_worker = {
	.open = open_worker,
	.listen = listen_to_supervisor,
	.open_table = open_folder,
	.wants = wants,
	.settled = serve_settled,
	.ended = ended,
	.visit_live = serve_visit_host,
	.stop = stop_worker,
	.leave = leave_worker,
};

/*
 * CHANNEL [OPTION…] -- NAME, or WORKER_SPARE; without a state, which has no user's device, it is a
 * user's.
 */
static int read_arguments(struct serve *serve, int argc, char **argv)
{
	int i = 1, status = EXIT_DONE;

	if (argc < 3)
		return EXIT_USAGE;
	serve->given.channel = atoi(argv[0]);
	for (; i < argc && strcmp(argv[i], "--") && !status; i++)
		status = serve_flag(serve, argv[i]);
	if (status || argc - ++i != 1)
		return EXIT_USAGE;
	serve->given.title = argv[i];
	if (!strncmp(argv[i], WORKER_SPARE, strlen(WORKER_SPARE))) {
		self_set_name("ublkd", "spare");
	} else {
		serve->given.name = argv[i];
		self_set_name("ublkd", argv[i]);
	}
	return EXIT_DONE;
}

/* What a hostile image, or a client, makes of a fault of ours is then less than root. */
static void give_privileges_up(void)
{
	int ret = privilege_reduce();

	if (ret)
		log_debug("not all privileges are given up: %s", strerror(-ret));
}

int worker_main(int argc, char **argv)
{
	struct serve serve;
	int status;

	log_with_levels();
	serve_init(&serve);
	serve.mode = &serve_worker;
	status = read_arguments(&serve, argc - 2, argv + 2);
	if (!status)
		status = fcntl(serve.given.channel, F_SETFD, FD_CLOEXEC) ? EXIT_USAGE :
									  process_begin(&serve.process);
	if (status < 0) {
		/* What become.c leaves open is for us, and for no helper. */
		close_range(STDERR_FILENO + 1, UINT_MAX, CLOSE_RANGE_CLOEXEC);
		give_privileges_up();
		status = serve_all(&serve);
	}
	while (serve.given.members)
		free_member(serve.given.members);
	serve_free(&serve);
	return status;
}
