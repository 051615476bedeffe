/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mailbox.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "macros.h"

void mailbox_deliver(struct mailbox *box)
{
	struct message *message;

	pthread_mutex_lock(&box->lock);
	message = box->first;
	box->first = NULL;
	box->last = &box->first;
	pthread_mutex_unlock(&box->lock);
	while (message) {
		/* deliver() may free or post the message again. */
		struct message *next = message->next;

		message->deliver(message);
		message = next;
	}
}

static void on_post(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct mailbox *box = container_of(watcher, struct mailbox, on_post);
	uint64_t count;

	(void)loop;
	(void)events;
	/* Before the list is taken: a later post makes it readable again. */
	if (read(box->event_fd, &count, sizeof(count)) < 0)
		return;
	mailbox_deliver(box);
}

int mailbox_open(struct mailbox *box)
{
	*box = (struct mailbox){ .lock = PTHREAD_MUTEX_INITIALIZER };
	box->last = &box->first;
	box->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return box->event_fd < 0 ? -errno : 0;
}

void mailbox_start(struct mailbox *box, struct ev_loop *loop)
{
	ev_io_init(&box->on_post, on_post, box->event_fd, EV_READ);
	ev_io_start(loop, &box->on_post);
}

void mailbox_stop(struct mailbox *box, struct ev_loop *loop)
{
	ev_io_stop(loop, &box->on_post);
}

void mailbox_close(struct mailbox *box)
{
	if (box->event_fd >= 0)
		close(box->event_fd);
	box->event_fd = -1;
	pthread_mutex_destroy(&box->lock);
}

void mailbox_post(struct mailbox *box, struct message *message)
{
	const uint64_t one = 1;

	message->next = NULL;
	pthread_mutex_lock(&box->lock);
	*box->last = message;
	box->last = &message->next;
	pthread_mutex_unlock(&box->lock);
	/* Only an overflow of 2^64 - 1 posts could fail. */
	if (write(box->event_fd, &one, sizeof(one)) < 0)
		return;
}
