/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the worker of an ordinary user's devices says, to the supervisor, which is root. The user
 * can make it say anything. So it counts as far as it can be seen to be so, and is about nothing
 * but that user's devices. Of our own workers all is believed. Main thread.
 */
#ifndef BELIEVE_H
#define BELIEVE_H

#include <jansson.h>
#include <stdbool.h>

struct stuck_info;
struct worker;
struct worker_group;

/* Its device is the one at this path. */
bool believe_path(const struct worker *worker, const char *path);
/* The driver has not ended a command. What cannot be seen is taken out of it. */
bool believe_stuck(const struct worker_group *group, struct stuck_info *info);
/* A device as List has it: whose and which it is, is what is known here. */
void believe_device(json_t *device, const struct worker *worker);

#endif
