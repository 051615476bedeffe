/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Orders from other threads to the thread of a libev loop. The eventfd makes
 * the loop's own poll wake up, whatever the thread waits in. Messages are
 * embedded in what they are about: posting allocates nothing.
 */
#ifndef UTIL_MAILBOX_H
#define UTIL_MAILBOX_H

#include <ev.h>
#include <pthread.h>

/* Belongs to the receiver from mailbox_post() until deliver() is called. */
struct message {
	struct message *next;
	void (*deliver)(struct message *message); /* on the loop's thread */
};

struct mailbox {
	pthread_mutex_t lock;
	struct message *first, **last; /* under lock */
	int event_fd;
	ev_io on_post;
};

/* On any thread; 0 or -errno. */
int mailbox_open(struct mailbox *box);
/* On the loop's thread. */
void mailbox_start(struct mailbox *box, struct ev_loop *loop);
void mailbox_stop(struct mailbox *box, struct ev_loop *loop);
/* Delivers what is there, where no loop does: its thread is gone. */
void mailbox_deliver(struct mailbox *box);
/* When nobody posts any more. */
void mailbox_close(struct mailbox *box);
/* From any thread. */
void mailbox_post(struct mailbox *box, struct message *message);

#endif
