/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * List where each device has a process of its own: what all processes say, and what is known of
 * devices whose process says nothing. Main thread.
 */
#ifndef SUPERVISOR_LIST_H
#define SUPERVISOR_LIST_H

#include "supervisor-methods.h"

void list_call(struct service_call *call);
/* As in Show. What no process says of it is not known. */
json_t *list_details(const struct worker *worker);
/* What one says that is well is no reason for anything. NULL: there is none. */
const char *list_error(const struct worker *worker);

#endif
