/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Add where each device has a process of its own. Main thread. */
#ifndef SUPERVISOR_ADD_H
#define SUPERVISOR_ADD_H

#include "supervisor-methods.h"

/* It is answered when the device is usable, or is not going to be. */
void add_call(struct service_call *call);

#endif
