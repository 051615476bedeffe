/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In front of table.c and persist.c in the program that crashes: a step before each call by
 * which they change a file or its name, so that it can die there.
 */
#ifndef CRASHING_H
#define CRASHING_H

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "util/json.h"

/* Dies where this is the step of files that was asked for. */
void crash_before(const char *call);

#define json_write(object, fd, flags) (crash_before("write"), json_write(object, fd, flags))
#define fflush(file) (crash_before("write"), fflush(file))
#define fsync(fd) (crash_before("fsync"), fsync(fd))
#define rename(from, to) (crash_before("rename"), rename(from, to))
#define renameat(folder, from, other, to) \
	(crash_before("rename"), renameat(folder, from, other, to))
#define renameat2(folder, from, other, to, flags) \
	(crash_before("rename"), renameat2(folder, from, other, to, flags))
#define unlink(path) (crash_before("unlink"), unlink(path))
#define unlinkat(folder, path, flags) (crash_before("unlink"), unlinkat(folder, path, flags))

#endif
