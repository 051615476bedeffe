/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a reactor waits. At rest its thread sleeps in libev's poll, where the
 * ring's eventfd is one descriptor of many. Busy, it waits in the ring, with
 * one system call for submitting, waiting and fetching completions, while the
 * ring polls libev's own descriptor; after some milliseconds without a
 * completion it goes back to rest. Neither can starve the other: the watchers
 * get a turn when one of them has something, and every few milliseconds. With
 * poll= it looks for a completion for some time before it sleeps in the ring
 * (spin.h).
 *
 * A watcher that shows on no descriptor (ev_timer, ev_async) may be some
 * milliseconds late while the reactor is busy; what must be prompt wakes it
 * through a descriptor: an order by a mailbox, a timer by struct loop_timer.
 *
 * Everything here runs on the reactor's thread.
 */
#ifndef WAIT_H
#define WAIT_H

#include "reactor.h"

/* Starts the watchers; the loop and the ring are open. */
void wait_start(struct reactor *reactor);
/* Submits what is queued and dispatches what has completed, without waiting. */
void wait_turn(struct reactor *reactor);
/* Serves until the reactor has failed or is told to stop. */
void wait_serve(struct reactor *reactor);

#endif
