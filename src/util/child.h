/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A process that a loop waits for. */
#ifndef UTIL_CHILD_H
#define UTIL_CHILD_H

#include <ev.h>
#include <signal.h>

/* Between its end and its callback, the number may be another process's by now. */
static inline void child_signal(ev_child *child, int signal)
{
	if (!ev_is_pending(child))
		kill(child->pid, signal);
}

#endif
