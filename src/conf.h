/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that files describe, one each. A file has the section [device], and
 * in it the backend, perhaps a name, and the settings that "run" takes, in any
 * order. All errors are said, with file and line, before anything is touched.
 * Main thread.
 */
#ifndef CONF_H
#define CONF_H

#include "spec.h"

#define CONF_SECTION "device"
#define CONF_SUFFIX ".conf"

struct conf_device {
	char *name;
	char *file;  /* as it was given, for messages */
	char *place; /* the same from the root, wherever we are */
	struct spec spec;
	struct conf_device *former; /* what the file said before, which somebody may have still */
};

struct conf {
	bool shared; /* the devices have no reactors of their own, so no settings for them */
	bool workers; /* the devices have processes of their own, which they may name */
	bool kept;   /* there is a table of them, so they can outlive the server */
	bool may_be_empty; /* a folder, as devices may come later */
	struct conf_device **devices;
	unsigned count;
	char **paths; /* that were read, from the root */
	unsigned nr_paths;
	unsigned wrong; /* files, or folders, that describe nothing, as they are wrong */
};

/*
 * Adds the device of a file, or those of all files *.conf in a folder, but for hidden
 * ones. An exit status; after an error the others may be read all the same.
 */
int conf_read(struct conf *conf, const char *path);
/* Where the device of this name is; NULL: none is called so. */
struct conf_device **conf_find(const struct conf *conf, const char *name);
/*
 * Reads the file of such a device again; what it says takes the place. An exit status: after an
 * error, which may be that it does not go with the others, nothing has changed.
 */
int conf_renew(struct conf *conf, struct conf_device **device);
/* What is to be different is different. An exit status. */
int conf_check(const struct conf *conf);
/* Of two that are not, the later one goes, and was wrong. */
void conf_drop_same(struct conf *conf);
void conf_free(struct conf *conf);

#endif
