/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "stuck.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <ublkd/ublk_abi.h>

#include "helper.h"
#include "log.h"
#include "util/macros.h"
#include "util/parse.h"

const char *stuck_text(const struct stuck_info *info, char text[STUCK_TEXT_SIZE])
{
	if (info->number == UBLK_DEV_ID_ANY)
		snprintf(text, STUCK_TEXT_SIZE, "%s for a new device", info->command);
	else
		snprintf(text, STUCK_TEXT_SIZE, "%s for device %" PRIu32, info->command,
			 info->number);
	return text;
}

/* ---- the list ------------------------------------------------------------------------ */

static void say(const struct stuck *stuck, bool ended)
{
	const struct stuck_info *info = &stuck->info;
	uint64_t now = (uint64_t)time(NULL), seconds = now - MIN(info->since, now);
	const char *before;
	char text[STUCK_TEXT_SIZE];

	if (stuck->told)
		return;
	before = log_switch(info->name[0] ? info->name : NULL);
	if (ended)
		ublkd_note("%s has ended after %" PRIu64 " s", stuck_text(info, text), seconds);
	else
		ublkd_note("the driver has had %s for %" PRIu64 " s: it is left to process %d, and "
			   "other devices go on", stuck_text(info, text), seconds, (int)info->pid);
	log_switch(before);
}

static void take_off(struct stuck *stuck)
{
	struct stuck **link = &stuck->list->first;

	while (*link != stuck)
		link = &(*link)->next;
	*link = stuck->next;
	ev_io_stop(stuck->list->loop, &stuck->gone);
	close(stuck->gone.fd);
}

static void on_gone(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct stuck *stuck = container_of(watcher, struct stuck, gone);
	struct stuck_list *list = stuck->list;

	(void)loop;
	(void)events;
	take_off(stuck);
	say(stuck, true);
	if (list->on_end)
		list->on_end(list, stuck);
	free(stuck);
}

void stuck_add(struct stuck_list *list, const struct stuck_info *info, bool told)
{
	_cleanup_fd_ int fd = (int)syscall(SYS_pidfd_open, info->pid, 0);
	struct stuck *stuck = fd < 0 ? NULL : malloc(sizeof(*stuck));

	if (!stuck)
		return;
	*stuck = (struct stuck){ .info = *info, .told = told, .list = list, .next = list->first };
	list->first = stuck;
	ev_io_init(&stuck->gone, on_gone, steal_fd(&fd), EV_READ);
	ev_io_start(list->loop, &stuck->gone);
	say(stuck, false);
	if (list->on_stuck)
		list->on_stuck(list, stuck);
}

void stuck_close(struct stuck_list *list)
{
	while (list->first) {
		struct stuck *stuck = list->first;

		take_off(stuck);
		free(stuck);
	}
}

const struct stuck *stuck_find(const struct stuck_list *list, uint32_t number)
{
	const struct stuck *stuck = list->first;

	while (stuck && (number == UBLK_DEV_ID_ANY || stuck->info.number != number))
		stuck = stuck->next;
	return stuck;
}

bool stuck_has_name(const struct stuck_list *list, const char *name)
{
	const struct stuck *stuck = list->first;

	while (stuck && strcmp(stuck->info.name, name))
		stuck = stuck->next;
	return stuck;
}

json_t *stuck_json(const struct stuck_list *list)
{
	json_t *all = json_array();

	for (const struct stuck *s = list->first; s; s = s->next) {
		const struct stuck_info *info = &s->info;

		json_array_append_new(
			all, json_pack("{s:s, s:s?, s:o, s:I, s:i}", "command", info->command,
				       "device", info->name[0] ? info->name : NULL, "number",
				       info->number == UBLK_DEV_ID_ANY ? json_null() :
									 json_integer(info->number),
				       "since", (json_int_t)info->since, "pid", (int)info->pid));
	}
	return all;
}

/* ---- what helpers say about themselves ------------------------------------------------ */

void stuck_title(char *title, size_t size, const struct stuck_info *info)
{
	snprintf(title, size, "%s %" PRId64 " %" PRIu64 " %" PRIu64 " %s", info->command,
		 info->number == UBLK_DEV_ID_ANY ? -1 : (int64_t)info->number, info->since,
		 info->late, info->name[0] ? info->name : "-");
}

/* false: it is none of a helper that has a command. */
static bool read_title(const char *title, struct stuck_info *info)
{
	int64_t number;

	if (sscanf(title, "%23s %" SCNd64 " %" SCNu64 " %" SCNu64 " %64s", info->command, &number,
		   &info->since, &info->late, info->name) != 5) {
		info->command[0] = 0;
		return false;
	}
	info->number = number < 0 ? UBLK_DEV_ID_ANY : (uint32_t)number;
	if (!strcmp(info->name, "-"))
		info->name[0] = 0;
	return true;
}

static bool read_proc_file(const char *root, const char *pid, const char *file, char *text,
			   size_t size, size_t *length)
{
	_cleanup_fd_ int fd = -1;
	char path[300];
	ssize_t got;

	snprintf(path, sizeof(path), "%s/proc/%s/%s", root, pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, text, size - 1);
	if (got <= 0)
		return false;
	text[got] = 0;
	*length = (size_t)got;
	return true;
}

/* "ublkd --helper of PID ublkd control TITLE"; NULL: it is no such process. */
static const char *title_of(const char *line, size_t length, pid_t *of)
{
	static const char *const expected[] = {
		NULL, "--helper", HELPER_OF, NULL, NULL, HELPER_CONTROL,
	};
	const char *word = line;

	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		if (word >= line + length || (expected[i] && strcmp(word, expected[i])))
			return NULL;
		if (i == 3)
			*of = (pid_t)atoi(word);
		word += strlen(word) + 1;
	}
	return word < line + length ? word : NULL;
}

/* Others' may say what they like. */
static bool is_to_be_believed(const char *root, const char *pid)
{
	char path[300];
	struct stat st;

	snprintf(path, sizeof(path), "%s/proc/%s", root, pid);
	return !stat(path, &st) && (!st.st_uid || st.st_uid == geteuid());
}

/* Its state and its parent (proc(5)). */
static void read_state(const char *root, const char *pid, struct stuck_helper *helper)
{
	char text[512];
	const char *p = NULL;
	size_t length;
	char state = 0;
	int parent = 0;

	/* Behind the name, which may hold anything but ends with ')'. */
	if (read_proc_file(root, pid, "stat", text, sizeof(text), &length))
		p = strrchr(text, ')');
	if (p && sscanf(p + 1, " %c %d", &state, &parent) == 2)
		helper->orphan = parent != helper->of;
	helper->stopped = state == 'T';
}

void stuck_scan(const char *root, void (*visit)(void *arg, const struct stuck_helper *helper),
		void *arg)
{
	char path[256], line[512];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/proc", root);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		struct stuck_helper helper = { 0 };
		const char *title = NULL;
		uint64_t pid;
		size_t length;

		if (!parse_uint(entry->d_name, &pid) &&
		    read_proc_file(root, entry->d_name, "cmdline", line, sizeof(line), &length))
			title = title_of(line, length, &helper.of);
		if (!title || !is_to_be_believed(root, entry->d_name))
			continue;
		read_state(root, entry->d_name, &helper);
		helper.info.pid = (pid_t)pid;
		if (read_title(title, &helper.info) || helper.stopped)
			visit(arg, &helper);
	}
	if (dir)
		closedir(dir);
}

/* Killed with its server, it would be gone if the driver let it. */
static void add_left(void *list, const struct stuck_helper *helper)
{
	if (helper->orphan && helper->info.command[0])
		stuck_add(list, &helper->info, false);
}

void stuck_add_left(struct stuck_list *list)
{
	stuck_scan("", add_left, list);
}
