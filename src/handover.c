/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "handover.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "log.h"
#include "process.h"
#include "table.h"
#include "util/clock.h"
#include "util/macros.h"

/* It stops what cannot be left, which writes back as long as it takes. */
#define REMINDER 30
/* Between looks whether it has let go of the table. */
#define LOOK_SECONDS 0.02
#define WORKER "ublkd\0--worker" /* how the arguments of one begin */

void handover_init(struct handover *handover)
{
	*handover = (struct handover){ .pid_fd = -1, .claim = -1 };
}

bool handover_is_on(const struct handover *handover)
{
	return handover->pid_fd >= 0;
}

static void end(struct handover *handover)
{
	ev_io_stop(handover->loop, &handover->on_end);
	ev_timer_stop(handover->loop, &handover->look);
	ev_timer_stop(handover->loop, &handover->reminder);
	cleanup_fd(&handover->pid_fd);
	cleanup_fd(&handover->claim);
	handover->pid_fd = handover->claim = -1;
}

static void ready(struct handover *handover)
{
	handover->ready = true;
	ev_timer_stop(handover->loop, &handover->look);
	handover->done(handover);
}

static void on_end(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct handover *handover = container_of(watcher, struct handover, on_end);

	(void)loop;
	(void)events;
	end(handover);
	if (handover->ready)
		handover->gone(handover);
	else
		ready(handover);
}

static void on_look(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct handover *handover = container_of(timer, struct handover, look);
	int holder = table_holder(handover->path);

	(void)events;
	if (holder < 0)
		ev_timer_stop(loop, timer);
	else if (holder != handover->pid)
		ready(handover);
}

static void on_reminder(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	ublkd_note("still waiting for process %d to leave its devices",
		   container_of(timer, struct handover, reminder)->pid);
}

/* The number may be another process's by the time that we hold on to it. */
static int hold_on(struct handover *handover)
{
	int holder;

	do {
		cleanup_fd(&handover->pid_fd);
		handover->pid_fd = -1;
		handover->pid = table_holder(handover->path);
		if (handover->pid <= 0)
			return handover->pid;
		handover->pid_fd = (int)syscall(SYS_pidfd_open, handover->pid, 0);
		if (handover->pid_fd < 0 && errno != ESRCH) {
			int ret = -errno;

			ublkd_error("cannot hold on to process %d: %s", handover->pid,
				    strerror(-ret));
			return ret;
		}
		holder = table_holder(handover->path);
	} while (handover->pid_fd < 0 || holder != handover->pid);
	return 1;
}

static int ask(int pid_fd, int pid)
{
	int ret = 0;

	if (syscall(SYS_pidfd_send_signal, pid_fd, SIGNAL_LEAVE, NULL, 0) && errno != ESRCH) {
		ret = -errno;
		ublkd_error("cannot ask process %d to leave its devices: %s", pid, strerror(-ret));
	}
	return ret;
}

/* It looks for a claim when it is asked. */
static int claim_and_ask(struct handover *handover)
{
	int ret = 0;

	if (handover->one_by_one)
		ret = handover->claim = table_claim(handover->path);
	return ret < 0 ? ret : ask(handover->pid_fd, handover->pid);
}

int handover_start(struct handover *handover, const char *path)
{
	int ret;

	handover->path = path;
	ret = hold_on(handover);
	if (ret <= 0)
		return ret;
	ublkd_note("asking process %d to leave its devices", handover->pid);
	ev_io_init(&handover->on_end, on_end, handover->pid_fd, EV_READ);
	ev_timer_init(&handover->look, on_look, LOOK_SECONDS, LOOK_SECONDS);
	ev_timer_init(&handover->reminder, on_reminder, REMINDER, REMINDER);
	handover->asked = clock_now();
	ret = claim_and_ask(handover);
	if (ret) {
		end(handover);
		return ret;
	}
	ev_io_start(handover->loop, &handover->on_end);
	ev_timer_start(handover->loop, &handover->reminder);
	if (handover->one_by_one)
		ev_timer_start(handover->loop, &handover->look);
	return 1;
}

void handover_finish(struct handover *handover)
{
	ask(handover->pid_fd, handover->pid);
}

void handover_abandon(struct handover *handover)
{
	end(handover);
}

/* Its number may be another process's by now, whom the signal would kill. */
static bool is_worker(int pid)
{
	_cleanup_fd_ int fd = -1;
	char path[32], text[sizeof(WORKER)];

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, text, sizeof(text)) == sizeof(text) &&
	       !memcmp(text, WORKER, sizeof(WORKER));
}

void handover_ask_worker(int pid)
{
	_cleanup_fd_ int pid_fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	if (pid_fd >= 0 && is_worker(pid))
		ask(pid_fd, pid);
}
