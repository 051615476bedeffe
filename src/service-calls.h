/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The methods of the control socket, each a function that answers its call, by now or
 * later: with what there is (service-show.c), with a device more (service-add.c), with
 * other settings (service-set.c), or with a device that is changed or gone
 * (service-change.c). Main thread.
 */
#ifndef SERVICE_CALLS_H
#define SERVICE_CALLS_H

#include "service-methods.h"

void call_list(struct service_call *call);
void call_show(struct service_call *call);
void call_add(struct service_call *call);
void call_wait(struct service_call *call);
void call_delete(struct service_call *call);
void call_fail_io(struct service_call *call);
void call_recover(struct service_call *call);
void call_quiesce(struct service_call *call);
void call_resume(struct service_call *call);
void call_resize(struct service_call *call);
void call_set(struct service_call *call);
void call_collect(struct service_call *call);
void call_features(struct service_call *call);
void call_backends(struct service_call *call);
void call_info(struct service_call *call);
void call_description(struct service_call *call);

/* Recover, of one that has failed: it is started as its file says by now. */
void call_start_again(struct service_call *call);

/* ---- what adding and changing have in common wherever the device is served ------------- */

/* A file is known that describes a device of this name. */
bool service_is_described(const struct manager *manager, const char *name);
/* A name after the backend, "mem-1", where the caller has no wish. */
void service_make_name(char name[], size_t size, const char *backend, unsigned number);
/* NULL, or the name of a parameter that is wrong in a way that its type does not say. */
const char *service_wrong_in_add(const struct service_call *call);
/*
 * Those of an Add, a new reference, with a UUID, so that whoever serves and describes the device
 * has the same one.
 */
json_t *service_options(const struct service_call *call, const char *name);
/* That UUID is not another device's. An exit status, with an error text. */
int service_check_uuid(const struct service_call *call, const char *name, json_t *options);
/* The options of Set are none. */
bool service_wrong_in_set(const struct service_call *call);
/*
 * Of a Delete that neither forces nor waits, where the driver would not refuse it: whether a
 * program has the device's node open is looked for in the programs' files, soon, and once for all
 * calls that wait for it. Those that look at each device that comes are given a moment; then the
 * call is answered, or comes again. Without CAP_SYS_PTRACE not all programs are seen: not for
 * workers. false: it was done, or need not be.
 */
bool service_waits_for_programs(struct service_call *call, const char *node);
/*
 * Gives a spec, which is filled, the files that came with an Add; those are looked at, too,
 * if it is to persist. An exit status, with an error text.
 */
int service_pass(struct service_call *call, struct spec *spec);

/*
 * What a device that was added stands on goes when that is gone: before the answer, which
 * may bring the next of this name, the file that was to describe it, and then the rest.
 */
void added_forget(const struct manager *manager, const struct hosted *hosted);
void added_free(const struct hosted *hosted);

#endif
