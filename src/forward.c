/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "forward.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "util/macros.h"

/* Of an answer, so that a process gone mad does not take our memory. */
#define MOST_INPUT (16u << 20)

void forward_abandon(struct forward *forward)
{
	*forward->link = forward->next;
	if (forward->next)
		forward->next->link = forward->link;
	ev_io_stop(forward->loop, &forward->readable);
	ev_timer_stop(forward->loop, &forward->timer);
	close(forward->fd);
	free(forward->input);
}

static void end(struct forward *forward, json_t *answer)
{
	forward_abandon(forward);
	forward->done(forward, answer);
	json_decref(answer);
}

static bool make_room(struct forward *forward)
{
	size_t size = MAX(2 * forward->size, 4096);
	char *more;

	if (forward->used < forward->size)
		return true;
	if (size > MOST_INPUT)
		return false;
	more = realloc(forward->input, size);
	if (!more)
		return false;
	forward->input = more;
	forward->size = size;
	return true;
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct forward *forward = container_of(watcher, struct forward, readable);
	ssize_t got = -1;
	char *nul;

	(void)loop;
	(void)events;
	if (make_room(forward)) {
		got = recv(forward->fd, forward->input + forward->used,
			   forward->size - forward->used, MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
	}
	if (got <= 0) {
		end(forward, NULL);
		return;
	}
	nul = memchr(forward->input + forward->used, 0, (size_t)got);
	forward->used += (size_t)got;
	if (nul)
		end(forward, json_loads(forward->input, 0, NULL));
}

static void on_late(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	end(container_of(timer, struct forward, timer), NULL);
}

/* A message that service.c has let in fits into a new socket's buffer. */
static int put(int fd, const char *method, json_t *parameters)
{
	json_t *call = json_pack("{s:s, s:O}", "method", method, "parameters", parameters);
	_cleanup_free_ char *text = call ? json_dumps(call, JSON_COMPACT) : NULL;
	size_t length = text ? strlen(text) + 1 : 0;

	json_decref(call);
	if (!text)
		return -ENOMEM;
	return send(fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)length ? 0 : -EIO;
}

int forward_start(struct forward *forward, struct forward **list, struct ev_loop *loop, int fd,
		  const char *method, json_t *parameters, double patience)
{
	int ret = put(fd, method, parameters);

	if (ret) {
		close(fd);
		return ret;
	}
	*forward = (struct forward){
		.done = forward->done, .next = *list, .link = list, .loop = loop, .fd = fd,
	};
	if (forward->next)
		forward->next->link = &forward->next;
	*list = forward;
	ev_io_init(&forward->readable, on_readable, fd, EV_READ);
	ev_io_start(loop, &forward->readable);
	ev_timer_init(&forward->timer, on_late, patience, 0);
	if (patience > 0)
		ev_timer_start(loop, &forward->timer);
	return 0;
}

void forward_end_all(struct forward **list)
{
	while (*list)
		end(*list, NULL);
}
