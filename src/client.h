/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other side of the control socket: calls a method and waits for its
 * answer, with a deadline. For programs that do nothing else meanwhile.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define DEFAULT_SOCKET "/run/ublkd/socket" /* of a server of the system's */
#define CLIENT_FILES 8 /* most descriptors with a call */

struct connection {
	int fd;
	double timeout; /* seconds for each call, and until we are connected */
	char *input;
	size_t used, size;
	double deadline; /* of the call that was sent */
	int sent;        /* how that went: 0 or -errno */
};

/* await: a server that is not there yet, too. -errno after an error text. */
int client_open(struct connection *connection, const char *path, double timeout, bool await);
void client_close(struct connection *connection);

/*
 * Sends descriptors along, which stay the caller's; none: NULL and 0.
 * Takes parameters over, which may be NULL. The answer is a reference for the
 * caller, an object with "error" (a string) or without, and "parameters" (an
 * object). NULL after an error text, and *status says how that is.
 */
json_t *client_call(struct connection *connection, const char *method, json_t *parameters,
		    const int *files, unsigned nr_files, int *status);
/* The same in two steps, between which other connections can be called. */
void client_send(struct connection *connection, const char *method, json_t *parameters,
		 const int *files, unsigned nr_files);
json_t *client_receive(struct connection *connection, int *status);

#endif
