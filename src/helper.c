/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "helper.h"

#include <dirent.h>
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

#include "exit.h"
#include "log.h"
#include "util/macros.h"

extern char **environ;

/* ---- the server's side ------------------------------------------------------ */

static void finish(struct helper *helper, bool success)
{
	ev_child_stop(helper->loop, &helper->child);
	ev_timer_stop(helper->loop, &helper->timer);
	helper->done(helper, success);
}

static void on_exit_status(struct ev_loop *loop, ev_child *watcher, int events)
{
	struct helper *helper = container_of(watcher, struct helper, child);

	(void)loop;
	(void)events;
	finish(helper, WIFEXITED(watcher->rstatus) && WEXITSTATUS(watcher->rstatus) == 0);
}

static void on_deadline(struct ev_loop *loop, ev_timer *watcher, int events)
{
	struct helper *helper = container_of(watcher, struct helper, timer);

	(void)loop;
	(void)events;
	helper_abandon(helper);
	helper->done(helper, false);
}

void helper_abandon(struct helper *helper)
{
	kill(helper->child.pid, SIGKILL);
	ev_child_stop(helper->loop, &helper->child);
	ev_timer_stop(helper->loop, &helper->timer);
}

int helper_start(struct helper *helper, struct ev_loop *loop, const char *verb, const char *node,
		 double deadline)
{
	char *argv[] = { "ublkd", "--helper", (char *)(uintptr_t)verb, (char *)(uintptr_t)node,
			 NULL };
	pid_t pid;
	int ret = -posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ);

	if (ret)
		return ret;
	helper->loop = loop;
	ev_child_init(&helper->child, on_exit_status, pid, 0);
	ev_child_start(loop, &helper->child);
	ev_timer_init(&helper->timer, on_deadline, deadline, 0);
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

int helper_main(int argc, char **argv)
{
	_cleanup_fd_ int fd = -1;
	int ret = -EINVAL, flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

	if (argc != 4)
		return EXIT_USAGE;
	if (!strcmp(argv[2], HELPER_PROBE))
		flags |= O_EXCL;
	fd = open(argv[3], flags);
	if (fd < 0)
		return EXIT_RUNTIME;
	if (!strcmp(argv[2], HELPER_RESCAN))
		ret = rescan(fd);
	else if (!strcmp(argv[2], HELPER_DROP))
		ret = drop_partitions(fd);
	else if (!strcmp(argv[2], HELPER_PROBE))
		ret = 0;
	if (ret)
		ublkd_error("%s of '%s': %s", argv[2], argv[3], strerror(-ret));
	return ret ? EXIT_RUNTIME : EXIT_DONE;
}
