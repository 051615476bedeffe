/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registry of backends, and their instances. What they are called is
 * known to backends/list.h alone.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include <ublkd/backend.h>

/* NULL at the end. */
extern const struct ublkd_backend *const backends[];

const struct ublkd_backend *backend_find(const char *name);

/* main. Opens a target; 0, or -errno as ublkd_backend.open gives it. */
int backend_open(struct ublkd_target **target, const struct ublkd_backend *backend,
		 const void *config, const struct ublkd_wish *wish);
/* used: the device was usable at some time. target may be NULL. */
void backend_close(struct ublkd_target *target, bool used);

#endif
