/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a process that serves devices does so that it need not wait for its own
 * devices, such as when memory comes free only by I/O that it serves. Main thread,
 * before there are others, which inherit it. What the kernel does not allow is
 * done without.
 */
#ifndef GUARD_H
#define GUARD_H

#include <sys/resource.h>
#include <sys/types.h>

struct guard {
	int home; /* the mount namespace that we came from; -1: it is ours still */
};

/* Memory is not reclaimed by I/O while one of our threads waits for it. */
void guard_from_reclaim(void);
/* The variable of the environment that notes the OOM score; see guard_from_oom_killer(). */
#define GUARD_OOM_SCORE_BEFORE "UBLKD_OOM_SCORE_BEFORE"
/*
 * score: for oom_score_adj. The one before is noted in the environment, for the
 * processes that are to have it back; a worker has its supervisor's.
 */
void guard_from_oom_killer(int score);

/*
 * What is mapped now stays in memory, and what is mapped later does once it was used. A
 * backend whose data is to be swapped maps it, and munlock()s it.
 */
void guard_memory(void);

/*
 * A mount namespace of our own, without any mount, so that no mount of our devices ends
 * with us. Paths are those of the one that we came from, also of what is mounted there
 * later, as the root folder is still there. -errno if the process cannot go on.
 */
int guard_from_mounts(struct guard *guard);

/* For a process of ours that uses devices like any program: it has none of this. */
void guard_give_back(void);

/*
 * Starts a program of the user's, whose signals and guards are as if its caller had
 * started it, and that may open so many files, by "ublkd --command HOME FILES COMMAND…".
 * What is wrong with it is said by that process, which ends as shells do. 0 or -errno.
 */
int guard_command_start(const struct guard *guard, rlim_t files, char *const *command, pid_t *pid);
int guard_command_main(int argc, char **argv);

#endif
