/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "identity.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "util/macros.h"

/* ---- of a client -------------------------------------------------------------------------- */

int identity_of_peer(struct identity *identity, int fd)
{
	socklen_t size = sizeof(identity->groups);
	struct ucred peer;
	socklen_t peer_size = sizeof(peer);

	*identity = (struct identity){ .uid = (uid_t)-1, .gid = (gid_t)-1 };
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size))
		return -errno;
	identity->uid = peer.uid;
	identity->gid = peer.gid;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, identity->groups, &size))
		return -errno;
	identity->nr_groups = (unsigned)(size / sizeof(identity->groups[0]));
	return 0;
}

bool identity_is_member(const struct identity *identity, gid_t group)
{
	for (unsigned i = 0; i < identity->nr_groups; i++) {
		if (identity->groups[i] == group)
			return true;
	}
	return identity->gid == group;
}

/* ---- as text ------------------------------------------------------------------------------ */

char *identity_text(const struct identity *identity)
{
	size_t size, used;
	char *text;

	size = sizeof("4294967295:") * (identity->nr_groups + 2);
	text = malloc(size);
	if (!text)
		return NULL;
	used = (size_t)snprintf(text, size, "%u:%u:", identity->uid, identity->gid);
	for (unsigned i = 0; i < identity->nr_groups; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%u", i ? "," : "",
					 identity->groups[i]);
	return text;
}

/* Moves *text behind the number, and behind this character. */
static bool read_number(const char **text, char end, unsigned *number)
{
	unsigned long long value;
	char *behind;

	/* strtoull() would take a sign and blanks. */
	if (!isdigit((unsigned char)**text))
		return false;
	errno = 0;
	value = strtoull(*text, &behind, 10);
	/* The last one stands for none. */
	if (errno || value >= UINT32_MAX || *behind != end)
		return false;
	*number = (unsigned)value;
	*text = end ? behind + 1 : behind;
	return true;
}

int identity_read(struct identity *identity, const char *text)
{
	*identity = (struct identity){ 0 };
	if (!read_number(&text, ':', &identity->uid) || !read_number(&text, ':', &identity->gid))
		return -EINVAL;
	while (*text) {
		char end = strchr(text, ',') ? ',' : 0;

		if (identity->nr_groups == IDENTITY_GROUPS ||
		    !read_number(&text, end, &identity->groups[identity->nr_groups++]) ||
		    (end && !*text))
			return -EINVAL;
	}
	return 0;
}
