/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a case that gets no further says for whoever looks into it: which tasks wait in the kernel, and for what. */
#include "harness.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FRAMES_BYTES 1200

static size_t read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

/* A worker of io_uring sleeps so that a signal ends it, whatever its command waits for. */
static bool is_waiting(const char *stat)
{
	const char *end = strrchr(stat, ')');

	return end && (!strncmp(end, ") D", 3) || strstr(stat, "(iou-wrk-"));
}

static void show_task(const char *task)
{
	char path[600], text[FRAMES_BYTES], *line, *rest;

	snprintf(path, sizeof(path), "%s/stat", task);
	if (!read_text(path, text, sizeof(text)) || !is_waiting(text))
		return;
	printf("# %.*s\n", (int)(strrchr(text, ')') - text) + 3, text);
	snprintf(path, sizeof(path), "%s/stack", task);
	read_text(path, text, sizeof(text));
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		printf("#   %s\n", line);
}

static void show_tasks_of(const char *process)
{
	struct dirent *entry;
	char path[560];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/task", process);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/task/%s", process, entry->d_name);
		show_task(path);
	}
	if (dir)
		closedir(dir);
}

void show_waiting_tasks(void)
{
	struct dirent *entry;
	DIR *dir = opendir("/proc");

	while (dir && (entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]))
			show_tasks_of(entry->d_name);
	if (dir)
		closedir(dir);
	fflush(stdout);
}
