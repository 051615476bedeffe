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

struct conf_device {
	char *name;
	char *file;
	struct spec spec;
};

struct conf {
	bool shared; /* the devices have no reactors of their own, so no settings for them */
	bool kept;   /* there is a table of them, so they can outlive the server */
	struct conf_device **devices;
	unsigned count;
};

/*
 * Adds the device of a file, or those of all files *.conf in a folder. An exit
 * status; after an error the others may be read all the same.
 */
int conf_read(struct conf *conf, const char *path);
/* What is to be different is different. An exit status. */
int conf_check(const struct conf *conf);
void conf_free(struct conf *conf);

#endif
