/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ublkctl: what its commands have in common. Each asks the server, prints the answer, and ends with
 * a status. NULL and other failures come after an error text. It is a program of one thread that
 * does nothing else meanwhile.
 */
#ifndef CTL_H
#define CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "client-device.h"
#include "client-files.h"
#include "client.h"
#include "option.h"

struct ctl_config {
	char *socket, *name;
	uint64_t timeout;
	bool all, backing, shrink, json, force, unmount, when_unused, persist, unprivileged, help,
		version;
	int open; /* enum ctl_opener */
};

enum ctl_opener { CTL_OPENS, CTL_SERVER_OPENS };

struct ctl {
	struct ctl_config config;
	struct options set;
	struct connection server;
	bool late; /* it has not answered in time */
	struct client_files files; /* to go with the next call */
	json_t *devices; /* with --backing: all, whose names are among args */
	char (*paths)[CLIENT_DEVICE_SIZE]; /* else: of devices, that are among args */
	char **args; /* behind the command, options left out */
	int nr_args;
};

/* ---- asking; ctl.c ---------------------------------------------------------------------- */

/* await: a server that is not there yet, too. An exit status. */
int ctl_connect(const struct ctl *ctl, struct connection *server, bool await);
/* A member that is a text, or "-". */
const char *ctl_text(const json_t *object, const char *name);
/* The status that the server gives to a failure. */
int ctl_failed_status(const json_t *failure);
/* The parameters of the answer, which is taken over, a reference; or NULL, and *status is set. */
json_t *ctl_parameters_of(json_t *answer, int *status);
/* The same of a call. Takes parameters over. */
json_t *ctl_call(struct ctl *ctl, const char *method, json_t *parameters, int *status);
/*
 * Prints an answer, which is taken over, as JSON or by the function. more: looks at it, too;
 * NULL: nothing does. status is that of a NULL.
 */
int ctl_tell(const struct ctl *ctl, json_t *answer, int status, void (*print)(const json_t *answer),
	     int (*more)(const json_t *answer));
/* A call whose answer is told. */
int ctl_ask_for(struct ctl *ctl, const char *method, json_t *parameters,
		void (*print)(const json_t *answer), int (*more)(const json_t *answer));
int ctl_ask(struct ctl *ctl, const char *method, json_t *parameters,
	    void (*print)(const json_t *answer));
/*
 * Asks about each device that is named. All are tried; the status is that of the first that
 * failed. more: parameters for all, taken over; judge: as in ctl_ask_for().
 */
int ctl_ask_each(struct ctl *ctl, const char *method, json_t *more,
		 void (*print)(const json_t *answer), int (*judge)(const json_t *answer));
void ctl_print_path(const json_t *answer);
void ctl_print_nothing(const json_t *answer);

/* ---- which devices are meant; ctl-name.c -------------------------------------------------- */

/*
 * The first of the arguments are devices, which may be paths, or files that devices stand on: puts
 * what the server calls them there instead. An exit status.
 */
int ctl_name_by_path(struct ctl *ctl, int count);
int ctl_name_by_backing(struct ctl *ctl, int count);
/* What List says of those that are named, null of others: who asks for more hears of that. */
json_t *ctl_list_named(struct ctl *ctl);

/* ---- commands -------------------------------------------------------------------------- */

int ctl_add(struct ctl *ctl);      /* ctl-add.c: what takes KEY=VALUE */
int ctl_set(struct ctl *ctl);
int ctl_delete(struct ctl *ctl);   /* ctl-delete.c: what ends with devices that are gone */
int ctl_collect(struct ctl *ctl);
int ctl_fail_io(struct ctl *ctl);
int ctl_list(struct ctl *ctl);     /* ctl-show.c: what prints all about something */
int ctl_show(struct ctl *ctl);
int ctl_features(struct ctl *ctl);

#endif
