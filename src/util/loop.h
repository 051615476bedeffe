/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What libev does not offer by itself of a loop of its epoll backend. */
#ifndef UTIL_LOOP_H
#define UTIL_LOOP_H

#include <ev.h>
#include <stdint.h>

/*
 * The file descriptor that is readable when a watched one has something for
 * the loop, so that its thread can wait for it elsewhere and call
 * ev_run(EVRUN_NOWAIT) then. Timers, ev_async and watchers that were started
 * or stopped since the last pass do not show there. It is the loop's: not to
 * be closed. -errno where this libev has none that works.
 */
int loop_fd(struct ev_loop *loop);

/*
 * Without a far-off ev_periodic an idle loop wakes once a minute, to see
 * whether somebody set the clock. far: the caller's, until the loop ends.
 */
void loop_rest_undisturbed(struct ev_loop *loop, ev_periodic *far);

/*
 * A timer that shows on the loop's descriptor, so that it is in time in a loop
 * whose thread waits elsewhere. The caller's memory; belongs to the loop from
 * start to stop.
 */
struct loop_timer {
	ev_io watcher;
	/* times: how often it has expired since it was served last. */
	void (*expired)(struct loop_timer *timer, uint64_t times);
};

/* In nanoseconds: until it expires first, and then each time; 0: once only. 0 or -errno. */
int loop_timer_start(struct loop_timer *timer, struct ev_loop *loop, uint64_t first,
		     uint64_t repeat);
void loop_timer_stop(struct loop_timer *timer, struct ev_loop *loop);

#endif
