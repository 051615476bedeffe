/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "ctrl-helper.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ctrl.h"
#include "helper.h"
#include "log.h"
#include "util/child.h"
#include "util/macros.h"
#include "util/self.h"

/* A device's commands come in quick succession, and then none for days. Seconds. */
#define IDLE_SECONDS 3
/* For who was killed, unless the driver has it. */
#define DEATH_SECONDS 1

/* ---- the end of one ----------------------------------------------------------------- */

/* It ends when it finds this end closed. */
static void retire(struct ctrl_helper *helper)
{
	if (helper->fd < 0)
		return;
	ev_io_stop(helper->ctrl->loop, &helper->readable);
	ev_timer_stop(helper->ctrl->loop, &helper->timer);
	close(helper->fd);
	helper->fd = -1;
}

static void end_command(struct ctrl_helper *helper, int result)
{
	struct ctrl_command *command = helper->command;

	helper->command = NULL;
	if (command)
		ctrl_ended(command, result);
}

static void on_idle(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	retire(container_of(timer, struct ctrl_helper, timer));
}

static void on_not_dead(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct ctrl_helper *helper = container_of(timer, struct ctrl_helper, timer);

	(void)loop;
	(void)events;
	stuck_add(&helper->ctrl->stuck, &helper->info, false);
}

/* -EAGAIN: there is none yet; 0, or another error: none comes any more. */
static ssize_t receive(struct ctrl_helper *helper, struct ctrl_outcome *outcome)
{
	ssize_t got = recv(helper->fd, outcome, sizeof(*outcome), MSG_DONTWAIT);

	return got < 0 ? -errno : got;
}

static void read_outcome(struct ctrl_helper *helper)
{
	struct ctrl_command *command = helper->command;
	struct ctrl_outcome outcome;
	ssize_t got = receive(helper, &outcome);

	if (got == -EAGAIN || got == -EINTR)
		return;
	if (got < (ssize_t)ctrl_outcome_size(0)) {
		ev_io_stop(helper->ctrl->loop, &helper->readable);
		return;
	}
	if (command && command->length)
		memcpy(command->buffer, outcome.buffer,
		       MIN((size_t)got - ctrl_outcome_size(0), command->length));
	if (helper->late) {
		retire(helper);
	} else {
		helper->idle = true;
		ev_timer_set(&helper->timer, IDLE_SECONDS, 0);
		ev_timer_start(helper->ctrl->loop, &helper->timer);
	}
	end_command(helper, outcome.result);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)loop;
	(void)events;
	read_outcome(container_of(watcher, struct ctrl_helper, readable));
}

static void on_exit_status(struct ev_loop *loop, ev_child *watcher, int events)
{
	struct ctrl_helper *helper = container_of(watcher, struct ctrl_helper, child);
	struct ctrl_helper **link = &helper->ctrl->helpers;

	(void)events;
	ev_child_stop(loop, watcher);
	while (*link != helper)
		link = &(*link)->next;
	*link = helper->next;
	/* What it said last. */
	if (helper->command && helper->fd >= 0)
		read_outcome(helper);
	retire(helper);
	ev_timer_stop(loop, &helper->timer);
	end_command(helper, -EINTR);
	free(helper);
}

void ctrl_helper_late(struct ctrl_helper *helper)
{
	if (helper->late)
		return;
	helper->late = true;
	if (helper->command) {
		stuck_add(&helper->ctrl->stuck, &helper->info, false);
		return;
	}
	/* Killed just now; it is stuck if it does not die of that. */
	ev_timer_init(&helper->timer, on_not_dead, DEATH_SECONDS, 0);
	ev_timer_start(helper->ctrl->loop, &helper->timer);
}

void ctrl_helper_abandon(struct ctrl_helper *helper)
{
	helper->command = NULL;
	child_signal(&helper->child, SIGKILL);
	retire(helper);
}

void ctrl_helpers_close(struct ctrl *ctrl)
{
	struct ctrl_helper *helper, *next;

	for (helper = ctrl->helpers; helper; helper = next) {
		next = helper->next;
		ctrl_helper_abandon(helper);
		ev_child_stop(ctrl->loop, &helper->child);
		ev_timer_stop(ctrl->loop, &helper->timer);
		free(helper);
	}
	ctrl->helpers = NULL;
}

/* ---- the beginning ------------------------------------------------------------------ */

/*
 * It says in the last argument what it runs, which is seen by ps and by doctor, and
 * is as long as that may get. Nothing of ours that somebody reads to its end stays open in it.
 */
static int spawn(struct ctrl_helper *helper, int fd, const char *runs)
{
	char self[16], title[HELPER_TITLE_SIZE];
	char *argv[] = { "ublkd", "--helper", HELPER_OF, self, "ublkd", HELPER_CONTROL, title, NULL };
	posix_spawn_file_actions_t actions;
	int ret;

	snprintf(self, sizeof(self), "%d", (int)getpid());
	snprintf(title, sizeof(title), "%-*s", HELPER_TITLE_SIZE - 1, runs);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, STDIN_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
	ret = self_spawn(&helper->info.pid, argv, &actions);
	posix_spawn_file_actions_destroy(&actions);
	return ret;
}

static struct ctrl_helper *start(struct ctrl *ctrl, const char *runs)
{
	struct ctrl_helper *helper = calloc(1, sizeof(*helper));
	int pair[2];

	if (!helper || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		free(helper);
		return NULL;
	}
	helper->ctrl = ctrl;
	helper->fd = pair[0];
	if (spawn(helper, pair[1], runs)) {
		close(pair[0]);
		close(pair[1]);
		free(helper);
		return NULL;
	}
	close(pair[1]);
	helper->next = ctrl->helpers;
	ctrl->helpers = helper;
	ev_io_init(&helper->readable, on_readable, helper->fd, EV_READ);
	ev_io_start(ctrl->loop, &helper->readable);
	ev_child_init(&helper->child, on_exit_status, helper->info.pid, 0);
	ev_child_start(ctrl->loop, &helper->child);
	ev_timer_init(&helper->timer, on_idle, IDLE_SECONDS, 0);
	return helper;
}

static void note(struct ctrl_helper *helper, const struct ctrl_command *command)
{
	struct stuck_info *info = &helper->info;
	uint64_t now = (uint64_t)time(NULL);

	*info = (struct stuck_info){
		.number = command->dev_id,
		.since = now,
		.late = now + (uint64_t)command->deadline,
		.pid = info->pid,
	};
	snprintf(info->command, sizeof(info->command), "%s", ctrl_op_name(command->op));
	if (command->about)
		snprintf(info->name, sizeof(info->name), "%s", command->about);
}

static int send_order(struct ctrl_helper *helper, struct ctrl_command *command)
{
	struct ctrl_order order = {
		.op = command->op,
		.dev_id = command->dev_id,
		.data = command->data,
		.of_user = command->of_user,
		.length = command->length,
	};

	assert(command->length <= sizeof(order.buffer));
	note(helper, command);
	order.info = helper->info;
	if (command->length)
		memcpy(order.buffer, command->buffer, command->length);
	if (send(helper->fd, &order, ctrl_order_size(command->length),
		 MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return -errno;
	helper->idle = false;
	ev_timer_stop(helper->ctrl->loop, &helper->timer);
	helper->command = command;
	command->helper = helper;
	return 0;
}

int ctrl_helper_run(struct ctrl *ctrl, struct ctrl_command *command)
{
	struct ctrl_helper *helper, *next;

	for (helper = ctrl->helpers; helper; helper = next) {
		next = helper->next;
		if (helper->fd < 0 || !helper->idle)
			continue;
		if (!send_order(helper, command))
			return 0;
		retire(helper); /* somebody has killed it */
	}
	helper = start(ctrl, "");
	return helper ? send_order(helper, command) : -EAGAIN;
}

void ctrl_helper_prepare(struct ctrl *ctrl)
{
	struct ctrl_helper *helper = start(ctrl, HELPER_SPARE);

	if (helper)
		helper->idle = true;
}
