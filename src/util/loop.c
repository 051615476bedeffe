/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "macros.h"

#define TEN_YEARS (10 * 365.25 * 86400)

/*
 * A loop that embeds another watches its descriptor, by a member of ev_embed
 * that ev.h declares but calls private: hence the trial below.
 */
static int embedded_fd(struct ev_loop *loop)
{
	struct ev_loop *outer;
	ev_embed embed;
	int fd;

	if (!(ev_backend(loop) & ev_embeddable_backends()))
		return -ENOTSUP;
	outer = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
	if (!outer)
		return -ENOMEM;
	memset(&embed, 0, sizeof(embed));
	ev_embed_init(&embed, NULL, loop);
	ev_embed_start(outer, &embed);
	fd = embed.io.fd;
	ev_embed_stop(outer, &embed);
	ev_loop_destroy(outer);
	return fd;
}

struct trial {
	ev_io watcher;
	bool seen;
};

static void on_trial(struct ev_loop *loop, ev_io *watcher, int events)
{
	uint64_t count;

	(void)loop;
	(void)events;
	if (read(watcher->fd, &count, sizeof(count)) == sizeof(count))
		container_of(watcher, struct trial, watcher)->seen = true;
}

static bool readable(int fd)
{
	return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) == 1;
}

/* It has to be readable while, and only while, a watcher has something. */
static bool works(struct ev_loop *loop, int fd)
{
	_cleanup_fd_ int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct trial trial = { .seen = false };
	bool before, during, after;

	if (event < 0)
		return false;
	ev_io_init(&trial.watcher, on_trial, event, EV_READ);
	ev_io_start(loop, &trial.watcher);
	ev_run(loop, EVRUN_NOWAIT);
	before = readable(fd);
	during = !eventfd_write(event, 1) && readable(fd);
	ev_run(loop, EVRUN_NOWAIT);
	after = readable(fd);
	ev_io_stop(loop, &trial.watcher);
	ev_run(loop, EVRUN_NOWAIT);
	return !before && during && trial.seen && !after;
}

int loop_fd(struct ev_loop *loop)
{
	int fd = embedded_fd(loop);

	if (fd < 0)
		return fd;
	return works(loop, fd) ? fd : -ENOTSUP;
}

static void on_far(struct ev_loop *loop, ev_periodic *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
}

void loop_rest_undisturbed(struct ev_loop *loop, ev_periodic *far)
{
	ev_periodic_init(far, on_far, ev_now(loop) + TEN_YEARS, 0, NULL);
	ev_periodic_start(loop, far);
}

static void on_expiry(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct loop_timer *timer = container_of(watcher, struct loop_timer, watcher);
	uint64_t times;

	(void)loop;
	(void)events;
	if (read(watcher->fd, &times, sizeof(times)) == sizeof(times))
		timer->expired(timer, times);
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000),
				  .tv_nsec = (long)(ns % 1000000000) };
}

int loop_timer_start(struct loop_timer *timer, struct ev_loop *loop, uint64_t first,
		     uint64_t repeat)
{
	/* A zero would not start it. */
	const struct itimerspec when = { .it_value = timespec_of(MAX(first, 1)),
					 .it_interval = timespec_of(repeat) };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (timerfd_settime(fd, 0, &when, NULL)) {
		int error = -errno;

		close(fd);
		return error;
	}
	ev_io_init(&timer->watcher, on_expiry, fd, EV_READ);
	ev_io_start(loop, &timer->watcher);
	return 0;
}

void loop_timer_stop(struct loop_timer *timer, struct ev_loop *loop)
{
	ev_io_stop(loop, &timer->watcher);
	close(timer->watcher.fd);
}
