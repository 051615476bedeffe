/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What jansson does with descriptors, a block at a time: it reads by bytes, and writes by words. */
#ifndef UTIL_JSON_H
#define UTIL_JSON_H

#include <jansson.h>

/* As json_loadfd(). */
json_t *json_read(int fd, size_t flags, json_error_t *error);
/* As json_dumpfd(), in one piece; -errno. */
int json_write(const json_t *json, int fd, size_t flags);

#endif
