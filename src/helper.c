/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "helper.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "util/child.h"
#include "util/macros.h"
#include "util/self.h"

#define MOST_ARGS (6 + HELPER_ARGS)
#define CUT_DEADLINE 1

static void ended(struct helper *helper, int status)
{
	const char *before = log_switch(helper->about);

	helper->done(helper, status);
	log_switch(before);
}

static void on_exit_status(struct ev_loop *loop, ev_child *watcher, int events)
{
	struct helper *helper = container_of(watcher, struct helper, child);

	(void)loop;
	(void)events;
	ev_child_stop(helper->loop, &helper->child);
	ev_timer_stop(helper->loop, &helper->timer);
	ended(helper, WIFEXITED(watcher->rstatus) ? WEXITSTATUS(watcher->rstatus) : -1);
}

static void on_deadline(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct helper *helper = container_of(watcher, struct helper, timer);

	(void)loop;
	(void)events;
	helper_abandon(helper);
	ended(helper, -1);
}

void helper_abandon(struct helper *helper)
{
	child_signal(&helper->child, SIGKILL);
	ev_child_stop(helper->loop, &helper->child);
	ev_timer_stop(helper->loop, &helper->timer);
}

void helper_cut(struct helper *helper)
{
	child_signal(&helper->child, SIGKILL);
	ev_timer_stop(helper->loop, &helper->timer);
	ev_timer_set(&helper->timer, CUT_DEADLINE, 0);
	ev_timer_start(helper->loop, &helper->timer);
}

int helper_start(struct helper *helper, struct ev_loop *loop, const char *const *args,
		 double deadline)
{
	const char *about = log_about() ? log_about() : "ublkd";
	char self[16], *argv[MOST_ARGS + 1] = { "ublkd", "--helper" };
	size_t used = 2;
	pid_t pid;
	int ret;

	snprintf(self, sizeof(self), "%d", (int)getpid());
	if (log_is_syslog())
		argv[used++] = HELPER_LOGS;
	argv[used++] = HELPER_OF;
	argv[used++] = self;
	argv[used++] = (char *)(uintptr_t)about;
	for (; *args; args++) {
		assert(used < MOST_ARGS);
		argv[used++] = (char *)(uintptr_t)*args;
	}
	ret = self_spawn(&pid, argv, NULL);
	if (ret)
		return ret;
	helper->loop = loop;
	helper->about = log_about();
	ev_child_init(&helper->child, on_exit_status, pid, 0);
	ev_child_start(loop, &helper->child);
	ev_timer_init(&helper->timer, on_deadline, deadline, 0);
	if (deadline > 0)
		ev_timer_start(loop, &helper->timer);
	return 0;
}
