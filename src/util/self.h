/* SPDX-License-Identifier: GPL-2.0-or-later */
/* This process, and others of our own program. */
#ifndef UTIL_SELF_H
#define UTIL_SELF_H

#include <spawn.h>
#include <sys/types.h>

/*
 * What the kernel calls this thread, the main one, in its log and ps: NAME, or NAME:OF, the first
 * 15 bytes. One that was started below is a number else, that of a descriptor.
 */
void self_set_name(const char *name, const char *of);

/* Starts one; actions and attr may be NULL. 0 or -errno. */
int self_spawn_as(pid_t *pid, char *const *argv, const posix_spawn_file_actions_t *actions,
		  const posix_spawnattr_t *attr);
/*
 * The same, in a group that no terminal signals, and with the signals blocked that would end it
 * before it knows what to do with them; see process_watch_signals().
 */
int self_spawn(pid_t *pid, char *const *argv, const posix_spawn_file_actions_t *actions);

#endif
