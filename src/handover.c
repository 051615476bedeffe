/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "handover.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "log.h"
#include "process.h"
#include "table.h"
#include "util/macros.h"

/* It stops what cannot be left, which writes back as long as it takes. */
#define REMINDER 30

static void end(struct handover *handover)
{
	ev_io_stop(handover->loop, &handover->on_end);
	ev_timer_stop(handover->loop, &handover->reminder);
	cleanup_fd(&handover->pid_fd);
	handover->pid_fd = -1;
}

static void on_end(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct handover *handover = container_of(watcher, struct handover, on_end);

	(void)loop;
	(void)events;
	end(handover);
	handover->done(handover);
}

static void on_reminder(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	ublkd_note("still waiting for process %d to leave its devices",
		   container_of(timer, struct handover, reminder)->pid);
}

/* The number may be another process's by the time that we hold on to it. */
static int hold_on(struct handover *handover, const char *path)
{
	int holder;

	do {
		cleanup_fd(&handover->pid_fd);
		handover->pid_fd = -1;
		handover->pid = table_holder(path);
		if (handover->pid <= 0)
			return handover->pid;
		handover->pid_fd = (int)syscall(SYS_pidfd_open, handover->pid, 0);
		if (handover->pid_fd < 0 && errno != ESRCH) {
			int ret = -errno;

			ublkd_error("cannot hold on to process %d: %s", handover->pid,
				    strerror(-ret));
			return ret;
		}
		holder = table_holder(path);
	} while (handover->pid_fd < 0 || holder != handover->pid);
	return 1;
}

int handover_start(struct handover *handover, const char *path)
{
	int ret;

	handover->pid_fd = -1;
	ret = hold_on(handover, path);
	if (ret <= 0)
		return ret;
	ublkd_note("asking process %d to leave its devices", handover->pid);
	if (syscall(SYS_pidfd_send_signal, handover->pid_fd, SIGNAL_LEAVE, NULL, 0) &&
	    errno != ESRCH) {
		ret = -errno;
		ublkd_error("cannot ask process %d to leave its devices: %s", handover->pid,
			    strerror(-ret));
		cleanup_fd(&handover->pid_fd);
		return ret;
	}
	handover->asked = ev_now(handover->loop);
	ev_io_init(&handover->on_end, on_end, handover->pid_fd, EV_READ);
	ev_io_start(handover->loop, &handover->on_end);
	ev_timer_init(&handover->reminder, on_reminder, REMINDER, REMINDER);
	ev_timer_start(handover->loop, &handover->reminder);
	return 1;
}

void handover_abandon(struct handover *handover)
{
	end(handover);
}
