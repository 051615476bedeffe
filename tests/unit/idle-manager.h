/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A control socket with a client, and a host behind it that never starts a device: it is as before host_start(). */
#ifndef IDLE_MANAGER_H
#define IDLE_MANAGER_H

#include "service-methods.h"

struct idle_manager {
	struct host host;
	struct ctrl ctrl; /* without a driver */
	struct pool pool;
	struct manager manager;
	unsigned forgotten; /* devices that were listed as failed */
	int client; /* does not block; -1: the test has closed it */
};

/* on_call: manager_call(), or what calls it. -errno: there is no socket. */
int idle_manager_begin(struct idle_manager *idle, void (*on_call)(struct service_call *call));
/* What waits to be started is gone at once, and that is answered. */
void idle_manager_stop(struct idle_manager *idle);
void idle_manager_end(struct idle_manager *idle);

#endif
