/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd serve by itself: all devices are served by this process. */
#include <string.h>

#include "exit.h"
#include "serve.h"

static int open_alone(struct serve *serve)
{
	for (unsigned i = 0; i < serve->conf.count; i++) {
		struct conf_device *device = serve->conf.devices[i];

		if (!host_add(&serve->host, device->name, &device->spec))
			return EXIT_RUNTIME;
	}
	return EXIT_DONE;
}

static int listen_alone(struct serve *serve)
{
	if (!serve->config.socket)
		return EXIT_DONE;
	return manager_open(&serve->manager, serve->config.socket) ? EXIT_RUNTIME : EXIT_DONE;
}

static void take_over(struct serve *serve)
{
	manager_take_over(&serve->manager, &serve->table);
}

const struct serve_mode serve_alone = {
	.open = open_alone,
	.listen = listen_alone,
	.open_table = serve_open_table,
	.wants = serve_describes,
	.take_over = take_over,
	.settled = serve_settled,
	.visit_live = serve_visit_host,
	.stop = serve_stop_host,
	.leave = serve_leave_host,
};
