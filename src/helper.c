/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "helper.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>

#include "ctrl.h"
#include "exit.h"
#include "log.h"
#include "util/macros.h"
#include "util/parse.h"

extern char **environ;

/* ---- the server's side ------------------------------------------------------ */

static void on_exit_status(struct ev_loop *loop, ev_child *watcher, int events)
{
	struct helper *helper = container_of(watcher, struct helper, child);

	(void)loop;
	(void)events;
	ev_child_stop(helper->loop, &helper->child);
	ev_timer_stop(helper->loop, &helper->timer);
	helper->done(helper, WIFEXITED(watcher->rstatus) ? WEXITSTATUS(watcher->rstatus) : -1);
}

static void on_deadline(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct helper *helper = container_of(watcher, struct helper, timer);

	(void)loop;
	(void)events;
	helper_abandon(helper);
	helper->done(helper, -1);
}

void helper_abandon(struct helper *helper)
{
	kill(helper->child.pid, SIGKILL);
	ev_child_stop(helper->loop, &helper->child);
	ev_timer_stop(helper->loop, &helper->timer);
}

/* With the signals that stop us blocked, and in a group that no terminal signals. */
static int spawn(pid_t *pid, char *const *argv)
{
	posix_spawnattr_t attr;
	sigset_t stops;
	int ret;

	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGHUP);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attr, &stops);
	ret = -posix_spawn(pid, "/proc/self/exe", NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	return ret;
}

int helper_start(struct helper *helper, struct ev_loop *loop, const char *const *args,
		 double deadline)
{
	char *argv[2 + HELPER_ARGS + 1] = { "ublkd", "--helper" };
	pid_t pid;
	int ret;

	for (unsigned i = 0; args[i]; i++) {
		assert(i < HELPER_ARGS);
		argv[2 + i] = (char *)(uintptr_t)args[i];
	}
	ret = spawn(&pid, argv);
	if (ret)
		return ret;
	helper->loop = loop;
	ev_child_init(&helper->child, on_exit_status, pid, 0);
	ev_child_start(loop, &helper->child);
	ev_timer_init(&helper->timer, on_deadline, deadline, 0);
	if (deadline > 0)
		ev_timer_start(loop, &helper->timer);
	return 0;
}

/* ---- the helper's side ------------------------------------------------------- */

#define RESCAN_TRIES 500
#define RESCAN_PAUSE_NS 10000000 /* 10 ms */

static void pause_briefly(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = RESCAN_PAUSE_NS }, NULL);
}

/* EINVAL: the kernel still suppresses scans, as its own is yet to come. */
static int scan_once(int fd)
{
	for (int i = 0; i < RESCAN_TRIES; i++) {
		if (!ioctl(fd, BLKRRPART) || errno == EBUSY)
			return 0;
		if (errno != EINVAL)
			return -errno;
		pause_briefly();
	}
	return -ETIMEDOUT;
}

/*
 * Where the kernel scans in a work item of its own, it allows other scans
 * just before it begins. The second one comes behind it.
 */
static int rescan(int fd)
{
	int ret = scan_once(fd);

	if (ret)
		return ret;
	pause_briefly();
	return scan_once(fd);
}

static int drop_partitions(int fd)
{
	struct blkpg_partition partition = { 0 };
	struct blkpg_ioctl_arg arg = {
		.op = BLKPG_DEL_PARTITION, .datalen = sizeof(partition), .data = &partition,
	};

	rescan(fd);
	for (partition.pno = 1; partition.pno <= 255; partition.pno++) {
		for (int i = 0; ioctl(fd, BLKPG, &arg) && errno == EBUSY && i < RESCAN_TRIES; i++)
			pause_briefly();
	}
	return 0;
}

static int control(char **args)
{
	uint64_t op, id, data;
	int ret;

	if (parse_uint(args[0], &op) || parse_uint(args[1], &id) || parse_uint(args[2], &data))
		return EXIT_USAGE;
	ret = ctrl_run((uint32_t)op, (uint32_t)id, data);
	return ret < 0 ? -ret : 0;
}

static int on_node(const char *verb, const char *node)
{
	bool probe = !strcmp(verb, HELPER_PROBE);
	_cleanup_fd_ int fd = open(node, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (probe ? O_EXCL : 0));
	int ret = 0;

	if (fd < 0)
		return EXIT_RUNTIME;
	if (!strcmp(verb, HELPER_RESCAN))
		ret = rescan(fd);
	else if (!strcmp(verb, HELPER_DROP))
		ret = drop_partitions(fd);
	else if (!probe)
		return EXIT_USAGE;
	if (ret)
		ublkd_error("%s of '%s': %s", verb, node, strerror(-ret));
	return ret ? EXIT_RUNTIME : EXIT_DONE;
}

int helper_main(int argc, char **argv)
{
	if (argc == 6 && !strcmp(argv[2], HELPER_CONTROL))
		return control(argv + 3);
	return argc == 4 ? on_node(argv[2], argv[3]) : EXIT_USAGE;
}
