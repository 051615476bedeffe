/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ublkd whose reactors do nothing but wait in their rings: no watcher gets a
 * turn, so no order reaches them, and they never rest. To measure what libev
 * costs. Takes the place of wait.c.
 */
#define _GNU_SOURCE
#include "wait.h"

__attribute__((unused)) static void serve_with_watchers(struct reactor *reactor);
#define wait_serve serve_with_watchers
#include "wait.c"
#undef wait_serve

void wait_serve(struct reactor *reactor)
{
	ring_notify(&reactor->ring, false);
	for (unsigned rounds = 0; !has_ended(reactor); rounds++) {
		/* It is to get its queue, or to end. */
		if (!reactor->queues || reactor->over) {
			reactor_close_over(reactor);
			ev_run(reactor->loop, EVRUN_ONCE);
			continue;
		}
		/* As often as with libev. */
		if (rounds % ROUNDS_PER_LOOK == 0)
			schedule_adapt(&reactor->schedule, reactor->arrived, reactor->arrivals);
		turn(reactor, true);
	}
}
