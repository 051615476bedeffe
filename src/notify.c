/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "util/macros.h"
#include "util/parse.h"

#define SOCKET "NOTIFY_SOCKET"
#define WATCHDOG_TIME "WATCHDOG_USEC"
#define WATCHDOG_PROCESS "WATCHDOG_PID"

/* Many devices change at once, and all of that is one message. Seconds. */
#define SOON 0.2

/* ---- the environment --------------------------------------------------------------------- */

static int open_socket(struct notify *notify, const char *path)
{
	size_t length = strlen(path);

	if ((*path != '/' && *path != '@') || length >= sizeof(notify->address.sun_path))
		return -EINVAL;
	notify->address.sun_family = AF_UNIX;
	memcpy(notify->address.sun_path, path, length);
	/* The kernel's name of a socket that is not in the file system begins with a NUL. */
	if (*path == '@')
		notify->address.sun_path[0] = 0;
	notify->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return notify->fd < 0 ? -errno : 0;
}

static uint64_t watchdog_time(void)
{
	const char *time = getenv(WATCHDOG_TIME), *process = getenv(WATCHDOG_PROCESS);
	uint64_t microseconds, pid;

	if (!time || parse_uint(time, &microseconds))
		return 0;
	if (process && (parse_uint(process, &pid) || pid != (uint64_t)getpid()))
		return 0;
	return microseconds;
}

void notify_take(struct notify *notify)
{
	const char *path = getenv(SOCKET);
	int ret = 0;

	notify->fd = -1;
	if (path)
		ret = open_socket(notify, path);
	if (ret)
		log_debug("the service manager is told nothing at '%s': %s", path, strerror(-ret));
	if (notify->fd >= 0)
		notify->watchdog = watchdog_time();
	unsetenv(SOCKET);
	unsetenv(WATCHDOG_TIME);
	unsetenv(WATCHDOG_PROCESS);
}

/* ---- messages ---------------------------------------------------------------------------- */

static bool send_text(const struct notify *notify, const char *text, size_t length)
{
	if (sendto(notify->fd, text, length, MSG_NOSIGNAL, (const struct sockaddr *)&notify->address,
		   notify->address_size) >= 0)
		return true;
	if (errno == EAGAIN || errno == ENOBUFS)
		return false;
	/* It is not there: trying again is for the next message. */
	log_debug("the service manager was not told: %s", strerror(errno));
	return true;
}

static void send_all(struct notify *notify)
{
	char about[NOTIFY_TEXT] = "", text[NOTIFY_TEXT + 64];
	bool news;
	int length;

	notify->describe(notify, about);
	news = strcmp(about, notify->said);
	length = snprintf(text, sizeof(text), "%s%s%s%s%s%s", notify->state ? notify->state : "",
			  notify->state ? "\n" : "", news ? "STATUS=" : "", news ? about : "",
			  news ? "\n" : "", notify->pings ? "WATCHDOG=1\n" : "");
	if (length <= 0)
		return;
	if (!send_text(notify, text, (size_t)length)) {
		ev_timer_again(notify->loop, &notify->soon);
		return;
	}
	memcpy(notify->said, about, sizeof(about));
	notify->state = NULL;
	notify->pings = false;
}

static void on_soon(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct notify *notify = container_of(timer, struct notify, soon);

	(void)events;
	ev_timer_stop(loop, timer);
	send_all(notify);
}

static void on_ping(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct notify *notify = container_of(timer, struct notify, ping);

	(void)loop;
	(void)events;
	notify->pings = true;
	send_all(notify);
}

void notify_start(struct notify *notify, struct ev_loop *loop)
{
	notify->loop = loop;
	ev_timer_init(&notify->soon, on_soon, SOON, SOON);
	ev_timer_init(&notify->ping, on_ping, 0, 0);
	notify_watchdog(notify, notify->watchdog);
}

void notify_watchdog(struct notify *notify, uint64_t microseconds)
{
	notify->watchdog = microseconds;
	if (notify->fd < 0 || !microseconds)
		return;
	ev_timer_stop(notify->loop, &notify->ping);
	ev_timer_set(&notify->ping, 0, (double)microseconds / 1e6 / 2);
	ev_timer_start(notify->loop, &notify->ping);
}

void notify_state(struct notify *notify, const char *state)
{
	if (notify->fd < 0)
		return;
	notify->state = state;
	send_all(notify);
}

void notify_changed(struct notify *notify)
{
	if (notify->fd >= 0 && !ev_is_active(&notify->soon))
		ev_timer_again(notify->loop, &notify->soon);
}

void notify_end(struct notify *notify)
{
	if (notify->loop) {
		ev_timer_stop(notify->loop, &notify->soon);
		ev_timer_stop(notify->loop, &notify->ping);
	}
	cleanup_fd(&notify->fd);
	notify->fd = -1;
}
