/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Recover where each device has a process of its own: another process for one whose last one
 * died, hangs, or could not start it. Main thread.
 */
#ifndef SUPERVISOR_RECOVER_H
#define SUPERVISOR_RECOVER_H

#include "supervisor-methods.h"

/* Of a device that has a worker. */
void recover_call(struct service_call *call, struct worker *worker);
/* Of one that has failed, and has no worker any more; the answer says how it went. */
void recover_failed(struct service_call *call, const char *name);
/* No call waits for the end of a process any more. */
void recover_stop(struct router *router);

#endif
