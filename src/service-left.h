/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that the last server left in the table, that wait for a server, and that
 * this one does not serve: they can be seen and deleted. Main thread.
 */
#ifndef SERVICE_LEFT_H
#define SERVICE_LEFT_H

#include "service-methods.h"

/* By name, path or number; NULL: there is none. */
struct table_entry *left_find(const struct manager *manager, const char *text);
/* As in Show. */
json_t *left_details_json(const struct manager *manager, const struct table_entry *entry);
/* Adds them to what List tells. */
void left_list(const struct manager *manager, json_t *devices);
/* FailIo: Delete, whoever uses it. */
void left_fail(struct service_call *call, struct table_entry *entry);
/* The same by number or path, of a device that an ublkd has left and no table has. */
void left_fail_lost(struct service_call *call);
/*
 * The same of a device that a process of ours served until it died. done() is called before
 * the call is answered. false: it was answered by now, and that does not follow.
 */
bool left_fail_named(struct service_call *call, const char *name,
		     void (*done)(void *arg, bool gone), void *arg);
/* The same, and nobody has asked for it: the log says how it goes. */
bool left_give_up(struct manager *manager, const char *name, void (*done)(void *arg, bool gone),
		  void *arg);
/* Delete, and Collect: of those that nothing describes. */
void left_delete(struct service_call *call, struct table_entry *entry);
void left_collect(struct service_call *call);

#endif
