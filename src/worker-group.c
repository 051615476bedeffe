/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "worker-group.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "log.h"
#include "supervisor.h"
#include "util/macros.h"

/* ---- who is in it ----------------------------------------------------------------------- */

/* NULL: a device of its own. What is no name is for its process to refuse. */
static const char *named_by(const struct worker *worker)
{
	const char *name = json_string_value(json_object_get(worker->settings, "worker"));

	return name && spec_name_fits(name) ? name : NULL;
}

/* NULL: nobody. */
static bool is_same_user(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static bool is_called(const struct worker_group *group, const char *name)
{
	return group->named && !strcmp(group->name, name);
}

/* What one user's process knows is not for another's. */
static struct worker_group *find(const struct supervisor *supervisor, const char *name,
				 const char *user)
{
	struct worker_group *group = supervisor->groups;

	while (group && !(is_called(group, name) && is_same_user(group->user, user)))
		group = group->next;
	return group;
}

const struct worker_group *worker_group_of_others(const struct supervisor *supervisor,
						  const char *name, const char *user)
{
	const struct worker_group *group = supervisor->groups;

	while (group && !(is_called(group, name) && !is_same_user(group->user, user)))
		group = group->next;
	return group;
}

static void free_group(struct worker_group *group)
{
	log_limit_end(&group->lines);
	free(group->name);
	free(group->user);
	free(group);
}

static struct worker_group *make(const struct worker *worker,
				 const struct worker_process *callbacks)
{
	const char *name = named_by(worker);
	struct supervisor *supervisor = worker->supervisor;
	struct worker_group *group = calloc(1, sizeof(*group));

	if (!group)
		return NULL;
	*group = (struct worker_group){
		.name = strdup(name ? name : worker->name),
		.named = name,
		.user = worker->user ? strdup(worker->user) : NULL,
		.supervisor = supervisor,
		.next = supervisor->groups,
		.process = *callbacks,
		.lines = { .loop = supervisor->loop, .what = "of a user's process" },
	};
	if (!group->name || (worker->user && !group->user)) {
		free_group(group);
		return NULL;
	}
	group->process.loop = supervisor->loop;
	group->process.channel = group->process.pidfd = -1;
	supervisor->groups = group;
	return group;
}

/* At the end, as the first is to be started first. */
static void join(struct worker *worker, struct worker_group *group)
{
	struct worker **link = &group->members;

	while (*link)
		link = &(*link)->next_member;
	*link = worker;
	worker->next_member = NULL;
	worker->group = group;
}

static struct worker_group *find_or_make(const struct worker *worker,
					 const struct worker_process *callbacks)
{
	const char *name = named_by(worker);
	struct worker_group *group = name ? find(worker->supervisor, name, worker->user) : NULL;

	return group ? group : make(worker, callbacks);
}

bool worker_group_join(struct worker *worker, const struct worker_process *callbacks)
{
	struct worker_group *group = find_or_make(worker, callbacks);

	if (group)
		join(worker, group);
	return group;
}

void worker_group_free_unused(struct worker_group *group)
{
	struct worker_group **link = &group->supervisor->groups;

	if (group->members || group->process.pid || group->ends)
		return;
	while (*link != group)
		link = &(*link)->next;
	*link = group->next;
	ev_timer_stop(group->supervisor->loop, &group->late);
	free_group(group);
}

void worker_group_leave(struct worker *worker)
{
	struct worker_group *group = worker->group;
	struct worker **link = &group->members;

	while (*link != worker)
		link = &(*link)->next_member;
	*link = worker->next_member;
	worker->group = NULL;
	worker_group_free_unused(group);
}

void worker_group_change(struct worker *worker, const struct worker_process *callbacks)
{
	const struct worker_group *before = worker->group;
	const char *name = named_by(worker);
	struct worker_group *group;

	if (before->named ? name && !strcmp(before->name, name) : !name)
		return;
	group = find_or_make(worker, callbacks);
	if (!group)
		return;
	worker_group_leave(worker);
	join(worker, group);
}

/* ---- its process ------------------------------------------------------------------------ */

static int start(struct worker_group *group)
{
	const struct supervisor *supervisor = group->supervisor;

	return worker_process_start(&group->process,
				    group->user ? supervisor->options_of_users : supervisor->options,
				    group->user, group->name, supervisor->folder);
}

/* Read by fill() of serve-worker.c. */
static json_t *describe(const struct worker *worker)
{
	json_t *files = json_array();

	for (const struct ublkd_passed *p = worker->passed; p->option; p++)
		json_array_append_new(files, json_string(p->option));
	return json_pack("{s:s, s:s, s:s, s:O, s:b, s:b, s:o}", "name", worker->name, "worker",
			 worker->group->name, "backend", worker->backend, "settings",
			 worker->settings, "added", worker->added, "asks",
			 worker->supervisor->one_by_one, "files", files);
}

bool worker_group_takes(const struct worker_group *group)
{
	return !group->ends && (!group->process.pid || group->process.channel >= 0);
}

int worker_group_give(struct worker_group *group, const struct worker *worker)
{
	json_t *device = describe(worker);
	int ret = device ? 0 : -ENOMEM;

	if (!ret && !group->process.pid)
		ret = start(group);
	if (!ret)
		ret = worker_process_give(&group->process, device, worker->passed);
	json_decref(device);
	return ret;
}

static bool serves(const struct worker_group *group)
{
	const struct worker *w = group->members;

	while (w && w->state != WORKER_STARTS && w->state != WORKER_LIVE)
		w = w->next_member;
	return w;
}

/* What it holds, and does not serve, is the next one's when it has ended. */
void worker_group_release(struct worker_group *group)
{
	if (!group->process.pid || group->ends || serves(group))
		return;
	group->ends = true;
	worker_process_shut(&group->process);
}

void worker_group_split(struct worker_group *group, const struct worker_process *callbacks)
{
	struct worker *next;

	if (!group->named || !group->process.pid || !group->ends || serves(group))
		return;
	group->named = false;
	for (struct worker *w = group->members; w; w = next) {
		next = w->next_member;
		if (w->state != WORKER_STUCK)
			worker_group_change(w, callbacks);
	}
}

static void on_late(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct worker_group *group = container_of(timer, struct worker_group, late);
	const char *before = log_switch(group->name);

	(void)loop, (void)events;
	ublkd_error("its process %d, a user's, has not ended within %.0f s: it is killed",
		    (int)group->process.pid, group->supervisor->patience);
	worker_process_signal(&group->process, SIGKILL);
	log_switch(before);
}

void worker_group_end(struct worker_group *group, int signal)
{
	if (!group->process.pid)
		return;
	group->ends = true;
	worker_process_signal(&group->process, signal);
	if (!group->user || ev_is_active(&group->late))
		return;
	ev_timer_init(&group->late, on_late, group->supervisor->patience, 0);
	ev_timer_start(group->supervisor->loop, &group->late);
}
