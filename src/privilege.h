/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this process may do by its capabilities. */
#ifndef PRIVILEGE_H
#define PRIVILEGE_H

#include <stdbool.h>

/*
 * A capability (CAP_*) that the driver, and the limits of a user, take for one: those of root
 * in a user namespace count for nothing there.
 */
bool privilege_have(unsigned capability);

/*
 * For a process that serves a device and starts nothing but itself: gives up, for good, all
 * capabilities that this does not take. Before the first thread; threads and programs inherit
 * it. -errno if not all of it was done, as for want of a privilege.
 */
int privilege_reduce(void);

/* For one that becomes an ordinary user's: before it does, so that no program gets any; */
int privilege_bound_none(void);
/* and then, so that it has none either, for good. */
int privilege_drop(void);

#endif
