/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files that describe devices which were added at run time to stay: in the folder
 * that the server was given, NAME.conf, as conf.c reads them. Such a file is
 * prepared under a hidden name before there is a device, so that what is wrong is
 * known then, and gets its name when the device is usable. Main thread.
 *
 * Functions that return an exit status have said why it is not EXIT_DONE, about name.
 */
#ifndef PERSIST_H
#define PERSIST_H

#include <jansson.h>

#include "conf.h"

/* Where they are; NULL: the server was given no folder, or several. */
const char *persist_folder(const struct conf *conf);
/*
 * Writes the description, and reads it again together with all others, as the next
 * start will. options: texts; NULL: none.
 */
int persist_prepare(const struct conf *conf, const char *name, const char *backend,
		    json_t *options);
/*
 * Complains about files that clients have opened, if they are not what this process opens
 * by the same paths, as the next start will.
 */
int persist_check_passed(const struct spec *spec);
/* Returns when it is on the disk. A file that is there is left as it is. */
int persist_commit(const struct conf *conf, const char *name);
void persist_abandon(const struct conf *conf, const char *name);

/* The path of the file that describes a device of this name, to be freed; NULL: none is known. */
char *persist_find(const struct conf *conf, const char *name);
/* Such a file is in the folder, so that it may be changed; else it is said why not. */
int persist_may_change(const struct conf *conf, const char *name);
/* Sets these options, texts, in such a file, which is the old or the new one at any time. */
int persist_change(const struct conf *conf, const char *name, json_t *options);
/* Removes such a file if it is in the folder. */
int persist_remove(const struct conf *conf, const char *name);

#endif
