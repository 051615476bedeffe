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

struct connection {
	int fd;
	double timeout; /* seconds for each call */
	char *input;
	size_t used, size;
};

/* await: a server that is not there yet, too. -errno after an error text. */
int client_open(struct connection *connection, const char *path, double timeout, bool await);
void client_close(struct connection *connection);

/*
 * Takes parameters over, which may be NULL. The answer is a reference for the
 * caller, an object with "error" (a string) or without, and "parameters" (an
 * object). NULL after an error text, and *status says how that is.
 */
json_t *client_call(struct connection *connection, const char *method, json_t *parameters,
		    int *status);

#endif
