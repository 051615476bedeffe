/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control commands that the driver has had for longer than they were given. Such a
 * command cannot be taken back, and what it holds in the driver others wait for; so
 * whoever has something to do with its device looks here first. Each is run by a
 * process of its own (ctrl-helper.h), whose end is its end. Main thread.
 */
#ifndef STUCK_H
#define STUCK_H

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct stuck_list;

struct stuck_info {
	char command[24];  /* UBLK_CMD_* by name */
	char name[65];     /* what its messages begin with: its device; "": nothing */
	uint32_t number;   /* of the device; UBLK_DEV_ID_ANY: it has none yet */
	uint64_t since;    /* seconds since 1970 */
	uint64_t late;     /* when it ought to have ended */
	pid_t pid;         /* that runs it */
};

struct stuck {
	struct stuck_info info;
	bool told;         /* by a process of ours, which logs it itself */
	struct stuck_list *list;
	struct stuck *next;
	ev_io gone;        /* its pidfd */
};

struct stuck_list {
	/* Set by the caller. */
	struct ev_loop *loop;
	/* There is one more, or, after it has ended, one less. NULL: nobody asks. */
	void (*on_stuck)(struct stuck_list *list, const struct stuck *stuck);
	void (*on_end)(struct stuck_list *list, const struct stuck *stuck);
	void *owner;

	struct stuck *first; /* stuck.c's; others may read */
};

/* told: see above. A process that is gone by now is none. */
void stuck_add(struct stuck_list *list, const struct stuck_info *info, bool told);
void stuck_close(struct stuck_list *list);
/* For the device of this number; NULL: there is none. */
const struct stuck *stuck_find(const struct stuck_list *list, uint32_t number);
/* Of the device of this name. */
bool stuck_has_name(const struct stuck_list *list, const char *name);

/* A helper that has a command, whosever it is, or was stopped by a signal. */
struct stuck_helper {
	struct stuck_info info; /* command "": it has none */
	pid_t of;          /* who started it */
	bool orphan;       /* that process is gone */
	bool stopped;
};

/* Calls visit for each in this system; root: see doctor.h. */
void stuck_scan(const char *root, void (*visit)(void *arg, const struct stuck_helper *helper),
		void *arg);
/* Adds those that earlier servers left in the driver. */
void stuck_add_left(struct stuck_list *list);
/* What a helper says about itself while it runs the command; and what stuck_scan() reads. */
void stuck_title(char *title, size_t size, const struct stuck_info *info);

/* "STOP_DEV for device 3" */
#define STUCK_TEXT_SIZE 64
const char *stuck_text(const struct stuck_info *info, char text[STUCK_TEXT_SIZE]);
/* An array of objects as in io.ublkd.varlink. */
json_t *stuck_json(const struct stuck_list *list);

#endif
