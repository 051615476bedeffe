/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reactors of a process, and which queue goes to which: either each device
 * has some of its own, or all share a number of them. Main thread only.
 */
#ifndef POOL_H
#define POOL_H

#include "config.h"
#include "reactor.h"

struct pool_reactor;

struct pool {
	struct ev_loop *loop;
	struct mailbox box;  /* reports of the reactors and of what they serve */
	unsigned wanted;     /* reactors for all; 0: each device has its own */
	unsigned nr_shared;
	struct pool_reactor *reactors;
};

/* -errno after an error text. */
int pool_open(struct pool *pool, struct ev_loop *loop, unsigned shared);
/* When all queues have ended. Waits for the threads. */
void pool_close(struct pool *pool);
static inline bool pool_is_shared(const struct pool *pool)
{
	return pool->wanted > 0;
}

/*
 * Finds or makes reactors for the queues of a device, and attaches them all;
 * what follows is in queue_shape. cpus: of each queue, for reactors of its
 * own. -errno after an error text: none is attached.
 */
int pool_serve(struct pool *pool, const struct device_config *config, uint32_t id,
	       struct queue *queues, unsigned nr_queues, const cpu_set_t *cpus);
/* To be called for each queue that has ended. */
void pool_release(struct queue *queue);

#endif
