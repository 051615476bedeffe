/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What became of the devices that the last server had, by the table that it
 * left: looked at once, before anything is started. Those that go on waiting then
 * can be deleted one by one. Main thread.
 */
#ifndef RECOVER_H
#define RECOVER_H

#include "ctrl.h"
#include "helper.h"
#include "table.h"

struct recover {
	/* Set by the caller. */
	struct table *table;
	struct ctrl *ctrl;
	bool drop; /* delete devices that are not wanted, which are left waiting otherwise */
	bool unsure; /* some may be wanted, by files that are wrong */
	bool handed; /* what has a server still is taken over from that later, each by its worker */
	bool asks;   /* the worker that serves a device to leave it */
	bool (*wanted)(struct recover *recover, const char *name);
	/* The state of each entry is known. */
	void (*done)(struct recover *recover);

	struct ctrl_command command;
	struct ublk_dev_info info;
	struct ublk_params params;
	struct table_entry *entry; /* that is looked at */
	bool alone;      /* by recover_delete() */
	bool gentle;     /* alone: not what is claimed, or, where the driver can tell, open */
	bool open;       /* gentle: it was that */
	struct helper probe;
	bool patient;    /* alone: the driver need not have seen yet that the last server is dead */
	bool stuck;      /* alone: the driver still has a command for it */
	ino_t in_driver; /* before it is deleted, see node_in_driver() */
	bool late;       /* alone: deleted, and its command is still out */
	bool lingers;    /* alone: late, as its number is its last user's still */
	unsigned next;
	ev_timer timer;  /* between looks at a device that still seems to be served */
	ev_tstamp until; /* it may */
	bool given_up;   /* the driver does not answer; the command is still out */
};

void recover_start(struct recover *recover);
/*
 * Deletes the device of an entry that waits; of a struct of its own, with table, ctrl,
 * gentle, patient and done() set. Then it is gone by its state, or the cause was logged,
 * or it is open. Where given_up is set, the struct is the driver's.
 */
void recover_delete(struct recover *recover, struct table_entry *entry);
/* Waits for nothing any more; done() follows. */
void recover_hurry(struct recover *recover);

#endif
