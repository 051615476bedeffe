/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "exit.h"
#include "log.h"
#include "privilege.h"
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
	return setenv(GUARD_OOM_SCORE_BEFORE, before, 1) ? -errno : 0;
}

void guard_from_oom_killer(int score)
{
	char text[16];
	int ret;

	if (getenv(GUARD_OOM_SCORE_BEFORE))
		return;
	snprintf(text, sizeof(text), "%d", score);
	ret = note_score();
	if (!ret)
		ret = write_score(text);
	/* Nothing that an ordinary user could do about it. */
	if (ret == -EACCES)
		log_debug("the OOM score is not set to %d: expected CAP_SYS_RESOURCE", score);
	else if (ret)
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
	struct rlimit limit;

	return privilege_have(CAP_IPC_LOCK) ||
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

/* ---- mounts -------------------------------------------------------------------------------- */

/* Where paths begin, whichever namespace their mounts are of. */
struct folders {
	int root, current;
};

static int open_folders(struct folders *folders)
{
	folders->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	folders->current = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return folders->root < 0 || folders->current < 0 ? -errno : 0;
}

static void close_folders(struct folders *folders)
{
	cleanup_fd(&folders->root);
	cleanup_fd(&folders->current);
}

static int return_to(const struct folders *folders)
{
	return fchdir(folders->root) || chroot(".") || fchdir(folders->current) ? -errno : 0;
}

static int go_home(int home, const struct folders *folders)
{
	return setns(home, CLONE_NEWNS) ? -errno : return_to(folders);
}

/*
 * What we get is a copy of all mounts. Kept, each would hold a file system that is
 * unmounted elsewhere; so none of it stays but an empty one to be the namespace's root.
 */
static int drop_mounts(void)
{
	return mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) ||
	       mount("none", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) ||
	       chdir("/proc") || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) ?
		       -errno : 0;
}

int guard_from_mounts(struct guard *guard)
{
	struct folders folders = { -1, -1 };
	int ret = open_folders(&folders);

	guard->home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	/* That is what it takes to come back, so it is tried before. */
	if (ret || guard->home < 0 || chroot("/") || unshare(CLONE_NEWNS)) {
		log_debug("no mount namespace of our own: %s", strerror(errno));
		cleanup_fd(&guard->home);
		guard->home = -1;
		close_folders(&folders);
		return 0;
	}
	ret = drop_mounts();
	if (!ret) {
		ret = return_to(&folders);
	} else {
		log_debug("no mount namespace of our own: %s", strerror(-ret));
		ret = go_home(guard->home, &folders);
	}
	if (ret)
		ublkd_error("cannot come back to the root folder: %s", strerror(-ret));
	close_folders(&folders);
	return ret;
}

/* ---- other programs -------------------------------------------------------------------- */

void guard_give_back(void)
{
	const char *score = getenv(GUARD_OOM_SCORE_BEFORE);

	/* It was inherited; where it may not be changed, it was not set either. */
	prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0);
	if (score)
		write_score(score);
	unsetenv(GUARD_OOM_SCORE_BEFORE);
}

/* Arguments of the process, up to the command. */
enum { COMMAND_VERB = 1, COMMAND_HOME, COMMAND_FILES, COMMAND_ARGS };

int guard_command_start(const struct guard *guard, rlim_t files, char *const *command, pid_t *pid)
{
	_cleanup_free_ char **argv = NULL;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t all;
	char home[16], limit[24];
	size_t count = 0;
	int ret;

	while (command[count])
		count++;
	argv = calloc(COMMAND_ARGS + count + 1, sizeof(*argv));
	if (!argv)
		return -ENOMEM;
	argv[0] = (char *)(uintptr_t)"ublkd";
	argv[COMMAND_VERB] = (char *)(uintptr_t)"--command";
	argv[COMMAND_HOME] = home;
	argv[COMMAND_FILES] = limit;
	memcpy(argv + COMMAND_ARGS, command, count * sizeof(*argv));
	snprintf(home, sizeof(home), "%d", guard->home);
	snprintf(limit, sizeof(limit), "%llu", (unsigned long long)files);
	posix_spawn_file_actions_init(&actions);
	/* It stays open. */
	if (guard->home >= 0)
		posix_spawn_file_actions_adddup2(&actions, guard->home, guard->home);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigdefault(&attr, &all);
	ret = self_spawn_as(pid, argv, &actions, &attr);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return ret;
}

/* The folders' descriptors go with the program. */
static int leave_for_home(int home)
{
	struct folders folders = { -1, -1 };
	int ret = open_folders(&folders);

	if (!ret)
		ret = go_home(home, &folders);
	close(home);
	return ret;
}

int guard_command_main(int argc, char **argv)
{
	struct rlimit files;
	int home, error;

	if (argc <= COMMAND_ARGS)
		return EXIT_USAGE;
	home = atoi(argv[COMMAND_HOME]);
	error = home < 0 ? 0 : -leave_for_home(home);
	guard_give_back();
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = strtoull(argv[COMMAND_FILES], NULL, 10);
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (!error) {
		execvp(argv[COMMAND_ARGS], argv + COMMAND_ARGS);
		error = errno;
	}
	ublkd_error("cannot run '%s': %s", argv[COMMAND_ARGS], strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}
