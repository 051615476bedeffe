/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UUIDs (RFC 9562) as texts: 8-4-4-4-12 hexadecimal digits, here in lower case. */
#ifndef UTIL_UUID_H
#define UTIL_UUID_H

#define UUID_SIZE 37 /* of the text, with its end */

/* In any case. 0 or -EINVAL; uuid may be the text itself. */
int uuid_read(const char *text, char uuid[UUID_SIZE]);
/* Another each time: version 4. */
void uuid_make(char uuid[UUID_SIZE]);
/*
 * The same for a name each time, where the file, such as /etc/machine-id, has the same 32
 * hexadecimal digits: version 5, with those as the namespace, of which nothing can be told by
 * it. -errno: there is no such file, or no digits in it.
 */
int uuid_of_name(const char *file, const char *name, char uuid[UUID_SIZE]);

#endif
