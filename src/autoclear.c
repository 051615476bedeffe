/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "autoclear.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

#include "log.h"
#include "use.h"
#include "util/macros.h"

/*
 * The device must be seen unused twice, this far apart: mount(8) opens and
 * closes the node once before the kernel claims the device for the mount.
 */
#define TICK_SECONDS 0.5
#define PROBE_SECONDS 10
/* As long as somebody has claimed it and the system does not say who, the next probe is twice as far. */
#define MOST_TICKS 16

#define USE_EVENTS (IN_OPEN | IN_CLOSE_WRITE | IN_CLOSE_NOWRITE)

/* The node itself, or one of its partitions: ublkb1p2, not ublkb12. */
static bool is_ours(const struct autoclear *watch, const char *name)
{
	const char *base = watch->node + strlen("/dev/");
	size_t length = strlen(base);

	return !strncmp(name, base, length) && (!name[length] || name[length] == 'p');
}

static void watch_node(struct autoclear *watch, const char *name)
{
	char path[sizeof("/dev/") + 256];

	if (!is_ours(watch, name))
		return;
	snprintf(path, sizeof(path), "/dev/%.255s", name);
	if (inotify_add_watch(watch->inotify_fd, path, USE_EVENTS) < 0)
		log_debug("cannot watch '%s': %s", path, strerror(errno));
}

static void watch_all(struct autoclear *watch)
{
	DIR *dir = opendir("/dev");
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		watch_node(watch, entry->d_name);
	if (dir)
		closedir(dir);
}

static void handle(struct autoclear *watch, const struct inotify_event *event)
{
	if (event->wd == watch->dev_watch && event->len) {
		watch_node(watch, event->name);
	} else if (event->mask & IN_Q_OVERFLOW) {
		watch->opens = 0; /* lost count: the driver has the last word */
	} else if (event->mask & IN_OPEN) {
		watch->opens++;
		watch->used = true;
	} else if (event->mask & (IN_CLOSE_WRITE | IN_CLOSE_NOWRITE) && watch->opens) {
		watch->opens--;
	}
}

static void read_events(struct autoclear *watch)
{
	_Alignas(struct inotify_event) char events[4096];
	ssize_t got;

	while ((got = read(watch->inotify_fd, events, sizeof(events))) > 0) {
		for (char *at = events; at < events + got;) {
			const struct inotify_event *event = (const void *)at;

			handle(watch, event);
			at += sizeof(*event) + event->len;
		}
	}
}

/* Idle while somebody has it open, or nobody ever had. */
static void adjust_tick(struct autoclear *watch)
{
	bool ticks = (watch->used || watch->wanted) && !watch->opens;

	if (ticks && !ev_is_active(&watch->tick)) {
		watch->quiet = false;
		watch->pause = watch->pauses = 1;
		ev_timer_set(&watch->tick, TICK_SECONDS, TICK_SECONDS);
		ev_timer_start(watch->loop, &watch->tick);
	} else if (!ticks) {
		ev_timer_stop(watch->loop, &watch->tick);
	}
}

static void on_event(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct autoclear *watch = container_of(watcher, struct autoclear, on_event);
	const char *before = log_switch(watch->about);

	(void)loop;
	(void)events;
	read_events(watch);
	adjust_tick(watch);
	log_switch(before);
}

static void probed(struct helper *probe, int status)
{
	struct autoclear *watch = container_of(probe, struct autoclear, probe);

	watch->probing = false;
	read_events(watch);
	watch->pauses = status ? MIN(2 * watch->pauses, MOST_TICKS) : 1;
	watch->pause = watch->pauses;
	if (!status && !watch->opens)
		watch->unused(watch);
}

static void look(struct autoclear *watch)
{
	bool was_quiet = watch->quiet;
	char holder[USE_TEXT_SIZE];

	read_events(watch);
	adjust_tick(watch);
	watch->quiet = ev_is_active(&watch->tick);
	if (!watch->quiet || !was_quiet || watch->probing || watch->paused || --watch->pause)
		return;
	watch->quiet = false;
	watch->pause = 1;
	if (use_find_node(watch->node, holder))
		return;
	watch->probe.done = probed;
	watch->probing = !helper_start(&watch->probe, watch->loop,
				       (const char *const[]){ HELPER_PROBE, watch->node, NULL },
				       PROBE_SECONDS);
}

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct autoclear *watch = container_of(timer, struct autoclear, tick);
	const char *before = log_switch(watch->about);

	(void)loop;
	(void)events;
	look(watch);
	log_switch(before);
}

int autoclear_start(struct autoclear *watch)
{
	watch->about = log_about();
	watch->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	watch->dev_watch = watch->inotify_fd < 0 ? -1 :
			   inotify_add_watch(watch->inotify_fd, "/dev", IN_CREATE);
	if (watch->dev_watch < 0) {
		int ret = -errno;

		ublkd_error("autoclear: cannot watch '/dev': %s", strerror(-ret));
		if (watch->inotify_fd >= 0)
			close(watch->inotify_fd);
		return ret;
	}
	watch_all(watch);
	ev_io_init(&watch->on_event, on_event, watch->inotify_fd, EV_READ);
	ev_io_start(watch->loop, &watch->on_event);
	ev_timer_init(&watch->tick, on_tick, TICK_SECONDS, TICK_SECONDS);
	adjust_tick(watch);
	return 0;
}

bool autoclear_is_unused(struct autoclear *watch)
{
	read_events(watch);
	adjust_tick(watch);
	return !watch->opens;
}

void autoclear_want(struct autoclear *watch, bool wanted)
{
	watch->wanted = wanted;
	adjust_tick(watch);
}

void autoclear_pause(struct autoclear *watch)
{
	read_events(watch);
	watch->paused = true;
	watch->used_before = watch->used;
}

void autoclear_go_on(struct autoclear *watch)
{
	read_events(watch);
	watch->paused = false;
	watch->used = watch->used_before || watch->opens;
	adjust_tick(watch);
}

void autoclear_stop(struct autoclear *watch)
{
	if (watch->probing)
		helper_abandon(&watch->probe);
	ev_timer_stop(watch->loop, &watch->tick);
	ev_io_stop(watch->loop, &watch->on_event);
	close(watch->inotify_fd);
}
