/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: a Unix stream socket that speaks Varlink, that is, JSON
 * objects with a NUL behind each. Connections, framing and limits; what the
 * methods do is in service-methods.h. Main thread; nothing here blocks.
 *
 * A client is heard one call at a time, in order: neither is its next one
 * read, before the answer was taken, nor does more than one answer wait for
 * it. So what a client can make us keep is bounded by a message and an answer.
 */
#ifndef SERVICE_H
#define SERVICE_H

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#define SERVICE_MESSAGE_MAX (64u << 10) /* bytes, without the NUL */
#define SERVICE_CLIENTS 1024
#define SERVICE_PATIENCE 10 /* seconds for a message to be complete, and for an answer to be taken */

#define VARLINK_ERROR "org.varlink.service."

struct client;

/* A method that was called, until it was answered, once. */
struct service_call {
	struct service *service;
	struct client *client; /* NULL: it is gone, and nobody hears the answer */
	json_t *message;
	const char *method;    /* of message */
	json_t *parameters;    /* of message, an object; NULL: none */
	bool oneway, more;
};

struct service {
	/* Set by the caller. */
	struct ev_loop *loop;
	gid_t group;          /* may use it beside root and our user; (gid_t)-1: none */
	unsigned most_clients;
	double patience;      /* seconds, see SERVICE_PATIENCE */
	/* A call came; it is to be answered now or later. */
	void (*on_call)(struct service_call *call);
	/*
	 * Nobody hears the answer any more, which is still to be given. Not called where the
	 * client has sent more, or has said that nothing more comes. NULL: nobody asks.
	 */
	void (*on_hang_up)(struct service_call *call);
	void *owner;

	char *path;           /* service.c's from here on; of the socket, to be removed */
	int fd;
	ev_io on_client;
	ev_timer pause;       /* while there are no files for more clients */
	struct client *clients;
	unsigned nr_clients;
};

/*
 * Listens at the path. The file of a server that is gone is replaced. -errno
 * after an error text.
 */
int service_open(struct service *service, const char *path);
/* Another client, which is connected already. */
void service_take(struct service *service, int fd);
/* Hangs up. Calls that are not answered stay, and still have to be. */
void service_close(struct service *service);

/* The answer. The call is gone then; parameters, which may be NULL, are taken over. */
void service_reply(struct service_call *call, json_t *parameters);
void service_error(struct service_call *call, const char *error, json_t *parameters);
/* That of Varlink for a parameter that is missing, unknown or wrong. */
void service_invalid(struct service_call *call, const char *parameter);

#endif
