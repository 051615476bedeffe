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

/*
 * main. Opens a target, over lower where the backend is a filter; 0, or
 * -errno as ublkd_backend.open gives it, and lower is the caller's still.
 */
int backend_open(struct ublkd_target **target, const struct ublkd_backend *backend,
		 const void *config, const struct ublkd_wish *wish, struct ublkd_target *lower);
/* main. See the members of struct ublkd_backend; where there is none, it is said. */
int backend_measure(struct ublkd_target *target, uint64_t *size);
int backend_resize(struct ublkd_target *target, uint64_t size);
/* size becomes that of the target, and of those below. */
void backend_resized(struct ublkd_target *target, uint64_t size);
/* What was written to the files of a target, and of those below, is kept: for good. */
int backend_sync(const struct ublkd_target *target);
/* used: the device was usable at some time. target may be NULL. Closes what is below too. */
void backend_close(struct ublkd_target *target, bool used);

#endif
