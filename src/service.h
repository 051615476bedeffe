/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: a Unix stream socket that speaks Varlink, that is, JSON
 * objects with a NUL behind each. Connections, framing and limits; what the
 * methods do is in service-methods.h. Main thread; nothing here blocks.
 *
 * A client is heard one call at a time, in order: neither is its next one
 * read, before the answer was taken, nor does more than one answer wait for
 * it. So what a client can make us keep is bounded by a message and an answer.
 *
 * With a message may come descriptors of files (SCM_RIGHTS). They are those of the message
 * that the last byte which came along with them is of: a client sends one message at a
 * time. on_call() takes those that it wants, and the rest is closed when it returns. What
 * waits for that is bounded, for a client and for all of them.
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
#define SERVICE_FILES 8     /* most descriptors that may come with a message */
#define SERVICE_ALL_FILES 256 /* and that may wait to be taken, of all messages */

#define VARLINK_ERROR "org.varlink.service."

struct client;
struct identity;

/* A method that was called, until it was answered, once. */
struct service_call {
	struct service *service;
	struct client *client; /* NULL: it is gone, and nobody hears the answer */
	json_t *message;
	const char *method;    /* of message */
	json_t *parameters;    /* of message, an object; NULL: none */
	ev_tstamp came;
	bool oneway, more;
	bool unopened; /* what it is about was looked for in all programs; see service_waits_for_programs() */
	int files[SERVICE_FILES]; /* that came with it, for service_take_file(); -1: taken */
	unsigned nr_files;
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
	unsigned nr_files;    /* that came, and are not taken */
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

/* Who called, see identity_of_peer(). */
int service_peer(const struct service_call *call, struct identity *identity);
/* From on_call(): a descriptor that came, the caller's from now on; -1: none, or none any more. */
int service_take_file(struct service_call *call, unsigned index);
/* The answer. The call is gone then; parameters, which may be NULL, are taken over. */
void service_reply(struct service_call *call, json_t *parameters);
void service_error(struct service_call *call, const char *error, json_t *parameters);
/* That of Varlink for a parameter that is missing, unknown or wrong. */
void service_invalid(struct service_call *call, const char *parameter);

#endif
