/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who a client of the control socket is: user, group and other groups. Main thread. */
#ifndef IDENTITY_H
#define IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

#define IDENTITY_GROUPS 256 /* most beside the first */

struct identity {
	uid_t uid;
	gid_t gid;
	unsigned nr_groups;
	gid_t groups[IDENTITY_GROUPS];
};

/*
 * That of who is at the other end of a Unix socket. -errno; -ERANGE: it has more groups, none
 * of which is said.
 */
int identity_of_peer(struct identity *identity, int fd);
bool identity_is_member(const struct identity *identity, gid_t group);

/* UID:GID:GROUP,GROUP,… as all of us keep and compare it; NULL: no memory. */
char *identity_text(const struct identity *identity);
/* -EINVAL: it is none. */
int identity_read(struct identity *identity, const char *text);

#endif
