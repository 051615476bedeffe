/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files that a client opens for the server, as it is the client who may do so and who
 * knows what its paths name.
 */
#ifndef CLIENT_FILES_H
#define CLIENT_FILES_H

#include <stdbool.h>

#include "client.h"

struct client_files {
	int fds[CLIENT_FILES];
	char *made[CLIENT_FILES]; /* the path of one that was not there before; NULL: it was */
	unsigned count;
};

enum client_makes {
	MAKES_NONE,
	MAKES_MISSING, /* if there is none */
	MAKES_NEW,     /* and there must be none */
};

/* One more. An exit status, after an error text. */
int client_files_open(struct client_files *files, const char *path, bool read_only,
		      enum client_makes makes);
/* unused: those that were made go again. */
void client_files_close(struct client_files *files, bool unused);

#endif
