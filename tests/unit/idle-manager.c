/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "idle-manager.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/macros.h"

static void on_more(struct manager *manager)
{
	(void)manager;
}

static void on_forgotten(struct manager *manager)
{
	container_of(manager, struct idle_manager, manager)->forgotten++;
}

static void on_end(struct hosted *hosted)
{
	manager_ended(&container_of(hosted->host, struct idle_manager, host)->manager, hosted);
}

static void on_gone(struct host *host, int status)
{
	(void)host;
	(void)status;
}

int idle_manager_begin(struct idle_manager *idle, void (*on_call)(struct service_call *call))
{
	int fds[2];

	*idle = (struct idle_manager){
		.host = { .ctrl = &idle->ctrl, .pool = &idle->pool, .stays = true, .on_end = on_end,
			  .on_gone = on_gone },
		.manager = {
			.host = &idle->host,
			.on_more = on_more,
			.on_forgotten = on_forgotten,
			.service = {
				.loop = ev_default_loop(EVFLAG_NOENV),
				.group = (gid_t)-1,
				.most_clients = 2,
				.patience = 5,
				.on_call = on_call,
				.on_hang_up = manager_hang_up,
			},
		},
	};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds))
		return -errno;
	service_take(&idle->manager.service, fds[0]);
	idle->client = fds[1];
	return 0;
}

void idle_manager_stop(struct idle_manager *idle)
{
	idle->host.hunted = true;
	host_stop(&idle->host, false);
}

void idle_manager_end(struct idle_manager *idle)
{
	manager_close(&idle->manager);
	idle->host.table = NULL;
	host_free(&idle->host);
	if (idle->client >= 0)
		close(idle->client);
}
