/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "util/self.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "util/macros.h"

#define SELF_NAME_SIZE 16 /* TASK_COMM_LEN */

extern char **environ;

void self_set_name(const char *name, const char *of)
{
	char text[SELF_NAME_SIZE];

	snprintf(text, sizeof(text), "%s%s%s", name, of ? ":" : "", of ? of : "");
	prctl(PR_SET_NAME, text);
}

int self_spawn_as(pid_t *pid, char *const *argv, const posix_spawn_file_actions_t *actions,
		  const posix_spawnattr_t *attr)
{
	/* Opened, as to exec that name where valgrind runs us would exec valgrind. */
	_cleanup_fd_ int self = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	char path[32];

	if (self < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self);
	return -posix_spawn(pid, path, actions, attr, argv, environ);
}

int self_spawn(pid_t *pid, char *const *argv, const posix_spawn_file_actions_t *actions)
{
	posix_spawnattr_t attr;
	sigset_t stops;
	int ret;

	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGHUP);
	sigaddset(&stops, SIGUSR1);
	sigaddset(&stops, SIGUSR2);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attr, &stops);
	ret = self_spawn_as(pid, argv, actions, &attr);
	posix_spawnattr_destroy(&attr);
	return ret;
}
