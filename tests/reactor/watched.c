/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ublkd, each of whose reactors has watchers of its own: a timer that shows on
 * a descriptor, one that does not, and orders from another thread, each every
 * millisecond. At its end a reactor says how late they were served while
 * requests came. For tests and contrib/bench; takes the place of wait.c.
 */
#define _GNU_SOURCE
#include "wait.h"

static void start_waiting(struct reactor *reactor);
static void serve_alone(struct reactor *reactor);
#define wait_start start_waiting
#define wait_serve serve_alone
#include "wait.c"
#undef wait_start
#undef wait_serve

#include <stdio.h>
#include <time.h>

#define PERIOD_NS 1000000
#define MOST_US 50000 /* later ones count as that late */

struct lateness {
	const char *what;
	unsigned count, over_1ms;
	unsigned by_us[MOST_US + 1];
};

struct watched {
	struct reactor *reactor;
	uint64_t arrived[3]; /* requests when each was served last */
	struct lateness late[3];
	struct loop_timer timer;
	uint64_t timer_due;
	ev_timer ev_timer;
	uint64_t ev_timer_due;
	pthread_t orderer;
	struct message order;
	atomic_bool ordered, stop;
	uint64_t ordered_at; /* by the other thread, until ordered is set */
};

enum { ON_DESCRIPTOR, ON_NONE, BY_ORDER };

static _Thread_local struct watched watched;

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Counts where requests have come since the last time. */
static void served(struct watched *w, int what, uint64_t due)
{
	struct lateness *late = &w->late[what];
	uint64_t time = now(), us = time > due ? (time - due) / 1000 : 0;
	bool loaded = w->reactor->arrived != w->arrived[what];

	w->arrived[what] = w->reactor->arrived;
	if (!loaded)
		return;
	late->count++;
	late->over_1ms += us >= 1000;
	late->by_us[MIN(us, MOST_US)]++;
}

static void on_timer(struct loop_timer *timer, uint64_t times)
{
	struct watched *w = container_of(timer, struct watched, timer);

	served(w, ON_DESCRIPTOR, w->timer_due);
	w->timer_due += times * PERIOD_NS;
}

static void set_ev_timer(struct watched *w)
{
	ev_now_update(w->reactor->loop);
	w->ev_timer_due = now() + PERIOD_NS;
	ev_timer_set(&w->ev_timer, PERIOD_NS / 1e9, 0);
	ev_timer_start(w->reactor->loop, &w->ev_timer);
}

static void on_ev_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct watched *w = container_of(timer, struct watched, ev_timer);

	(void)loop;
	(void)events;
	served(w, ON_NONE, w->ev_timer_due);
	set_ev_timer(w);
}

static void on_order(struct message *message)
{
	struct watched *w = container_of(message, struct watched, order);

	served(w, BY_ORDER, w->ordered_at);
	atomic_store(&w->ordered, false);
}

static void *give_orders(void *arg)
{
	const struct timespec period = { .tv_nsec = PERIOD_NS };
	struct watched *w = arg;

	while (!atomic_load(&w->stop)) {
		nanosleep(&period, NULL);
		if (atomic_load(&w->ordered))
			continue;
		w->order.deliver = on_order;
		w->ordered_at = now();
		atomic_store(&w->ordered, true);
		mailbox_post(&w->reactor->inbox, &w->order);
	}
	return NULL;
}

void wait_start(struct reactor *reactor)
{
	struct watched *w = &watched;

	start_waiting(reactor);
	w->reactor = reactor;
	w->late[ON_DESCRIPTOR].what = "timer";
	w->late[ON_NONE].what = "ev_timer";
	w->late[BY_ORDER].what = "order";
}

/* The least that so many of a thousand do not exceed. */
static unsigned percentile(const struct lateness *late, unsigned permille)
{
	unsigned us = 0, seen = late->by_us[0];

	while (us < MOST_US && (uint64_t)seen * 1000 < (uint64_t)late->count * permille)
		seen += late->by_us[++us];
	return us;
}

static void tell(const struct watched *w, const struct lateness *late)
{
	fprintf(stderr, "late: %s %s n=%u over-1ms=%u p50=%u p99=%u p999=%u max=%u\n",
		w->reactor->name, late->what, late->count, late->over_1ms, percentile(late, 500),
		percentile(late, 990), percentile(late, 999), percentile(late, 1000));
}

void wait_serve(struct reactor *reactor)
{
	struct watched *w = &watched;

	w->timer.expired = on_timer;
	w->timer_due = now() + PERIOD_NS;
	if (loop_timer_start(&w->timer, reactor->loop, PERIOD_NS, PERIOD_NS) ||
	    pthread_create(&w->orderer, NULL, give_orders, w)) {
		reactor_fail(reactor, -EAGAIN, "cannot make its watchers");
		return;
	}
	ev_timer_init(&w->ev_timer, on_ev_timer, 0, 0);
	set_ev_timer(w);
	serve_alone(reactor);
	atomic_store(&w->stop, true);
	pthread_join(w->orderer, NULL);
	ev_timer_stop(reactor->loop, &w->ev_timer);
	loop_timer_stop(&w->timer, reactor->loop);
	for (size_t i = 0; i < ARRAY_SIZE(w->late); i++)
		tell(w, &w->late[i]);
}
