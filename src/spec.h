/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a user says of one device: its backend, with filters before it, and the
 * settings of all of them, which are checked before anything is touched.
 * Main thread. Functions that return an exit status have said why it is not
 * EXIT_DONE.
 */
#ifndef SPEC_H
#define SPEC_H

#include <jansson.h>
#include <sys/types.h>

#include "backend.h"
#include "config.h"
#include "option.h"

#define SPEC_MOST_LAYERS 4
#define SPEC_MOST_FILES 8 /* of a layer, that a client has opened */
#define SPEC_NAME_MOST 64
#define SPEC_NAME_EXPECTED "1…64 letters, digits, '.', '_' or '-'"

/* A backend as it was named, or a filter before it. */
struct layer {
	const struct ublkd_backend *backend;
	void *config;
	struct options set;
	struct ublkd_passed passed[SPEC_MOST_FILES + 1]; /* option NULL behind them */
};

struct spec {
	bool shared; /* the reactors are not the device's own, so no settings for them */
	bool workers; /* it is served by a worker, which it may name */
	struct device_config device;
	struct options device_set;
	struct layer layers[SPEC_MOST_LAYERS]; /* the topmost first */
	unsigned nr_layers;
	json_t *given;   /* the settings as they were given, a UUID in lower case: texts */
	json_t *lasting; /* those of them that hold whenever the device is made again */
	bool untold;   /* one of them is no UTF-8, and so it is missing there */
	uid_t uid; /* of the node, see node.h; known when it was checked */
	gid_t gid;
};

/* A device's name stands before messages and in lines that scripts read. */
bool spec_name_fits(const char *name);
void spec_init(struct spec *spec);
void spec_free(struct spec *spec);
/* FILTER+…+BACKEND; once. filter_alone: for who asks for help, one will do. */
int spec_set_backend(struct spec *spec, const char *names, bool filter_alone);
/* A setting of the device or of a layer; value NULL: it was given bare. */
int spec_set(struct spec *spec, const char *name, size_t length, const char *value);
/*
 * Another value for a setting of the device that was checked, on a spec of its own, with all
 * others. An exit status.
 */
int spec_change(struct spec *spec, const char *name, const char *value);
/* There is such a setting, and it is the path of a file. */
bool spec_is_path(const struct spec *spec, const char *name);
/*
 * What a client has opened for such a setting, which is given: the descriptor is the
 * spec's from now on, also after an error.
 */
int spec_pass(struct spec *spec, const char *name, int fd);
/* A client has opened what a setting names. */
bool spec_is_passed(const struct spec *spec);
/* Calls visit for each of those files. */
void spec_visit_passed(const struct spec *spec,
		       void (*visit)(void *arg, const struct ublkd_passed *passed), void *arg);
/* All at once: the backend, settings (texts; NULL: none), and spec_check(). */
int spec_fill(struct spec *spec, const char *backend, json_t *settings);
/* Complains if on-crash= asks for what only a device in a table has. */
int spec_check_unkept(const struct spec *spec, const char *without);
/* What is required is given, and all goes together. There is a backend. */
int spec_check(struct spec *spec);
/* Calls visit for each setting that is given or has a preset, as it could be given. */
void spec_visit(const struct spec *spec,
		void (*visit)(void *arg, const char *name, const char *value), void *arg);
/* FILTER+…+BACKEND, as it was given. */
void spec_name(const struct spec *spec, char text[], size_t size);
/* Opens the layers, from the lowest up, and makes what the settings say. */
int spec_open(const struct spec *spec, struct ublkd_target **target);
/* The same for a device that is there: nothing is made. size, resized: see struct ublkd_wish. */
int spec_open_again(const struct spec *spec, uint64_t size, bool resized,
		    struct ublkd_target **target);
/* Again, and without a lock, only to be looked at and closed: another server may have it. */
int spec_look(const struct spec *spec, uint64_t size, bool resized, struct ublkd_target **target);

#endif
