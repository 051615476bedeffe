/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SHA-1 (RFC 3174), for names such as UUIDs of version 5, and nothing that has to be safe. */
#ifndef UTIL_SHA1_H
#define UTIL_SHA1_H

#include <stddef.h>
#include <stdint.h>

#define SHA1_SIZE 20

void sha1(const void *data, size_t length, uint8_t digest[SHA1_SIZE]);

#endif
