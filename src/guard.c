/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "exit.h"
#include "log.h"
#include "util/macros.h"
#include "util/self.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

void guard_from_reclaim(void)
{
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
		log_debug("IO_FLUSHER is not set: %s", strerror(errno));
}

/* ---- the OOM killer ---------------------------------------------------------------------- */

#define OOM_SCORE "/proc/self/oom_score_adj"
#define OOM_SCORE_BEFORE "UBLKD_OOM_SCORE_BEFORE"

static int write_score(const char *score)
{
	_cleanup_fd_ int fd = open(OOM_SCORE, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, score, strlen(score)) < 0 ? -errno : 0;
}

static int note_score(void)
{
	_cleanup_fd_ int fd = open(OOM_SCORE, O_RDONLY | O_CLOEXEC);
	char before[16] = "";

	if (fd < 0 || read(fd, before, sizeof(before) - 1) < 0)
		return -errno;
	before[strcspn(before, "\n")] = 0;
	return setenv(OOM_SCORE_BEFORE, before, 1) ? -errno : 0;
}

void guard_from_oom_killer(int score)
{
	char text[16];
	int ret;

	if (getenv(OOM_SCORE_BEFORE))
		return;
	snprintf(text, sizeof(text), "%d", score);
	ret = note_score();
	if (!ret)
		ret = write_score(text);
	if (ret)
		ublkd_note("when memory is short, the kernel may kill this server: its OOM score is "
			   "not set to %d: %s", score, strerror(-ret));
}

/* ---- memory ------------------------------------------------------------------------------- */

/*
 * With a limit, what is mapped beyond it could not be mapped at all, whether it is
 * used or not: stacks and heaps take much more room than memory.
 */
static bool may_lock_all(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
	struct rlimit limit;

	return (!syscall(SYS_capget, &header, data) &&
		data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK)) ||
	       (!getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur == RLIM_INFINITY);
}

void guard_memory(void)
{
	if (!may_lock_all())
		log_debug("memory is not locked: expected CAP_IPC_LOCK, or no limit of "
			  "RLIMIT_MEMLOCK");
	else if (mlockall(MCL_CURRENT) || mlockall(MCL_FUTURE | MCL_ONFAULT))
		log_debug("memory is not locked: %s", strerror(errno));
}

/* ---- other programs -------------------------------------------------------------------- */

void guard_give_back(void)
{
	const char *score = getenv(OOM_SCORE_BEFORE);

	/* It was inherited; where it may not be changed, it was not set either. */
	prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0);
	if (score)
		write_score(score);
	unsetenv(OOM_SCORE_BEFORE);
}

int guard_command_start(char *const *command, pid_t *pid)
{
	_cleanup_free_ char **argv = NULL;
	posix_spawnattr_t attr;
	sigset_t all;
	size_t count = 0;
	int ret;

	while (command[count])
		count++;
	argv = calloc(2 + count + 1, sizeof(*argv));
	if (!argv)
		return -ENOMEM;
	argv[0] = (char *)(uintptr_t)"ublkd";
	argv[1] = (char *)(uintptr_t)"--command";
	memcpy(argv + 2, command, count * sizeof(*argv));
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigdefault(&attr, &all);
	ret = self_spawn_as(pid, argv, NULL, &attr);
	posix_spawnattr_destroy(&attr);
	return ret;
}

int guard_command_main(int argc, char **argv)
{
	int error;

	if (argc < 3)
		return EXIT_USAGE;
	guard_give_back();
	execvp(argv[2], argv + 2);
	error = errno;
	ublkd_error("cannot run '%s': %s", argv[2], strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}
