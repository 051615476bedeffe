/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd serve as a worker: one device, and what the supervisor asks of it. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "exit.h"
#include "log.h"
#include "serve.h"
#include "util/macros.h"

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

static int open_device(struct serve *serve)
{
	struct hosted *hosted = host_add(&serve->host, serve->only.name, &serve->only.spec);

	if (!hosted)
		return EXIT_RUNTIME;
	hosted->added = serve->only.added;
	serve->host.no_hunt = true;
	return EXIT_DONE;
}

static int listen_to_supervisor(struct serve *serve)
{
	struct service *service = &serve->manager.service;

	serve->manager.worker = true;
	service->group = (gid_t)-1;
	service->on_call = manager_call;
	service->on_hang_up = manager_hang_up;
	ev_io_init(&serve->only.on_channel, on_channel, serve->only.channel, EV_READ);
	ev_io_start(serve->loop, &serve->only.on_channel);
	return EXIT_DONE;
}

static int open_entry(struct serve *serve)
{
	return table_open_entry(&serve->table, serve->config.state, serve->only.name);
}

static bool wants(const struct serve *serve, const char *name)
{
	(void)serve, (void)name;
	return true;
}

static const struct serve_mode serve_worker = {
	.open = open_device,
	.listen = listen_to_supervisor,
	.open_table = open_entry,
	.wants = wants,
	.settled = serve_settled,
	.visit_live = serve_visit_host,
	.stop = serve_stop_host,
	.leave = serve_leave_host,
};

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
	serve.mode = &serve_worker;
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
