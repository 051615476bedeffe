/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices whose server died before it could delete them. The driver keeps a
 * number of the server's own with each device; ours says which process made
 * it, so that a dead one is told from one that is just being made, and ours
 * from everybody else's. Main thread.
 */
#ifndef ORPHAN_H
#define ORPHAN_H

#include <stdbool.h>

#include "ctrl.h"

/*
 * The number for a device that this process makes. lasting: it waits for
 * another server when this one dies, and is no orphan then. number: tells it
 * from others that the process makes, which may have had the same device
 * number before it; counted, as only so many bits of it are used.
 */
uint64_t orphan_cookie(bool lasting, unsigned number);
bool orphan_cookie_lasting(uint64_t cookie);
/* The cookie is an ublkd's. */
bool orphan_cookie_ours(uint64_t cookie);
/* The cookie is ours and its process is gone. */
bool orphan_cookie_dead(uint64_t cookie);

struct orphan_hunt {
	/* Of the caller: the number it needs, or UBLK_DEV_ID_ANY. */
	uint32_t wanted;
	bool no_others; /* look only at this number, if there is one */
	bool waits;     /* also what waits for a next server, as none will come for it */
	void (*done)(struct orphan_hunt *hunt);

	struct ctrl_command command;
	struct ublk_dev_info info;
	uint32_t *ids;
	unsigned count, next;
	bool removed;  /* one at least */
	bool given_up; /* a deletion does not end; the command is still out */
	ev_timer timer; /* between looks at the wanted one */
	unsigned looks;
};

/* Deletes them all, one after the other, then calls done(). */
void orphan_hunt(struct orphan_hunt *hunt, struct ctrl *ctrl);

#endif
