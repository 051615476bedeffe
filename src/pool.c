/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "pool.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "log.h"
#include "util/macros.h"
#include "util/parse.h"

#define MAX_SQES 32768u /* IORING_MAX_ENTRIES */

/*
 * A shared ring is as large whatever it serves: requests that find no room
 * wait for the next submit, which is near when there are so many. 1.5 MiB.
 */
static const struct reactor_size shared_size = {
	.sqes = 4096,
	.own = 12288,
	.files = 16384,
	.buffers = REACTOR_MOST_BUFFERS,
};

struct pool_reactor {
	struct reactor reactor;
	struct pool *pool;
	struct pool_reactor *next;
	bool shared;
	unsigned queues;  /* that have not ended */
	unsigned tags;    /* of these, and those of them that take a buffer slot */
	unsigned buffers;
};

static struct pool_reactor *of(struct reactor *reactor)
{
	return container_of(reactor, struct pool_reactor, reactor);
}

/* ---- reactors come and go ------------------------------------------------------ */

static void started(struct reactor *reactor)
{
	if (reactor->loop_not_polled)
		log_debug("%s: libev's descriptor cannot be polled here: orders may be some "
			  "milliseconds late", reactor->name);
	log_debug("%s runs, ring mode %s", reactor->name, ring_mode_name(reactor->ring.mode));
}

static void forget(struct pool_reactor *member)
{
	struct pool_reactor **link = &member->pool->reactors;

	while (*link != member)
		link = &(*link)->next;
	*link = member->next;
	member->pool->nr_shared -= member->shared;
	free(member);
}

static void ended(struct reactor *reactor)
{
	reactor_join(reactor);
	if (reactor->error && of(reactor)->shared)
		ublkd_error("%s: %s", reactor->name, reactor->error_text);
	/* Else when the last of its queues is released. */
	if (!of(reactor)->queues)
		forget(of(reactor));
}

static struct pool_reactor *make(struct pool *pool, bool shared)
{
	struct pool_reactor *member = calloc(1, sizeof(*member));
	struct reactor *reactor;

	if (!member)
		return NULL;
	reactor = &member->reactor;
	member->pool = pool;
	member->shared = shared;
	member->next = pool->reactors;
	pool->reactors = member;
	pool->nr_shared += shared;
	reactor->main_box = &pool->box;
	reactor->on_started = started;
	reactor->on_ended = ended;
	return member;
}

static int start(struct pool_reactor *member)
{
	int ret = reactor_start(&member->reactor);

	if (ret) {
		ublkd_error("cannot start the thread %s: %s", member->reactor.name,
			    strerror(-ret));
		forget(member);
	}
	return ret;
}

/* ---- each device has its own ------------------------------------------------------ */

/*
 * A tag has one SQE at a time in the ring, as a rule its I/O or its commit; who
 * finds no room submits what is there. And each tag has one of its own for a
 * linked commit; without room for these, nothing is linked. The kernel rounds
 * the sum up to a power of two, and of an idle device the ring is the largest
 * part.
 */
static struct reactor_size size_for(const struct queue *queues, unsigned count)
{
	unsigned tags = 0, own;

	for (unsigned i = 0; i < count; i++)
		tags += queues[i].nr_tags;
	own = tags <= MAX_SQES / 2 ? tags : 0;

	return (struct reactor_size){
		.sqes = MIN(MAX(tags, 64u), MAX_SQES - own),
		.own = own,
		.files = 1 + count * (1 + queues->shape->target->nr_files),
		.buffers = MIN(tags, REACTOR_MOST_BUFFERS),
	};
}

/* Queue q belongs to reactor q * reactors / queues: neighbours stay together. */
static int make_own(struct pool *pool, const struct device_config *config, uint32_t id,
		    struct queue *queues, unsigned nr_queues, const cpu_set_t *cpus)
{
	unsigned nr_reactors = config->reactors ? (unsigned)MIN(config->reactors, nr_queues) :
						  nr_queues;
	unsigned next = 0;

	for (unsigned i = 0; i < nr_reactors; i++) {
		struct pool_reactor *member = make(pool, false);
		unsigned first = next;
		struct reactor *reactor;

		if (!member) {
			ublkd_error("no memory for the threads");
			return -ENOMEM;
		}
		reactor = &member->reactor;
		/* At most 15 characters: ids end below 2^20, reactors at 128. */
		snprintf(reactor->name, sizeof(reactor->name), "ublk%u/%u",
			 id % UBLK_MAX_DEVICES, i % 1000);
		reactor->ring_mode = (enum ring_mode)config->ring;
		reactor->schedule_adapts = config->schedule == SCHEDULE_ADAPT;
		reactor->poll_ns = config->poll * 1000;
		reactor->one_device = true;
		for (; next < nr_queues && next * nr_reactors / nr_queues == i; next++) {
			queues[next].reactor = reactor;
			CPU_OR(&reactor->cpus, &reactor->cpus, &cpus[queues[next].id]);
		}
		if (config->cpus)
			cpu_list_to_set(config->cpus, &reactor->cpus);
		reactor->size = size_for(&queues[first], next - first);
		if (start(member))
			return -EAGAIN;
	}
	return 0;
}

static void stop_unused(struct pool *pool)
{
	for (struct pool_reactor *m = pool->reactors; m; m = m->next) {
		if (!m->shared && !m->queues && m->reactor.running)
			reactor_stop(&m->reactor);
	}
}

/* ---- all share some ---------------------------------------------------------------- */

static unsigned buffers_of(const struct queue *queue)
{
	return data_mode_zero_copy(queue->shape->data) ? queue->nr_tags : 0;
}

static struct pool_reactor *make_shared(struct pool *pool)
{
	struct pool_reactor *member = make(pool, true);
	struct rlimit limit;

	if (!member) {
		ublkd_error("no memory for the threads");
		return NULL;
	}
	snprintf(member->reactor.name, sizeof(member->reactor.name), "ublkd/%u",
		 (pool->nr_shared - 1) % 1000);
	member->reactor.schedule_adapts = true;
	member->reactor.size = shared_size;
	/* The kernel makes no table that is larger. */
	if (!getrlimit(RLIMIT_NOFILE, &limit))
		member->reactor.size.files = (unsigned)MIN(shared_size.files, limit.rlim_cur);
	return start(member) ? NULL : member;
}

/* The one with the fewest tags that has room. */
static struct pool_reactor *choose_shared(struct pool *pool, const struct queue *queue)
{
	struct pool_reactor *best = NULL;

	if (pool->nr_shared < pool->wanted)
		return make_shared(pool);
	for (struct pool_reactor *m = pool->reactors; m; m = m->next) {
		if (m->shared && m->reactor.running && !m->reactor.stop_asked &&
		    m->buffers + buffers_of(queue) <= m->reactor.size.buffers &&
		    (!best || m->tags < best->tags))
			best = m;
	}
	if (best)
		return best;
	ublkd_note("%u reactors have no room for %u more tags in zero copy, at most %u each: "
		   "there is one more", pool->nr_shared, buffers_of(queue), REACTOR_MOST_BUFFERS);
	return make_shared(pool);
}

/* ---- the pool ------------------------------------------------------------------------ */

int pool_open(struct pool *pool, struct ev_loop *loop, unsigned shared)
{
	int ret;

	*pool = (struct pool){ .loop = loop, .wanted = shared };
	ret = mailbox_open(&pool->box);
	if (ret) {
		ublkd_error("cannot make an eventfd: %s", strerror(-ret));
		return ret;
	}
	mailbox_start(&pool->box, loop);
	return 0;
}

static void account(struct queue *queue, int sign)
{
	struct pool_reactor *member = of(queue->reactor);

	member->queues += (unsigned)sign;
	member->tags += (unsigned)sign * queue->nr_tags;
	member->buffers += (unsigned)sign * buffers_of(queue);
}

int pool_serve(struct pool *pool, const struct device_config *config, uint32_t id,
	       struct queue *queues, unsigned nr_queues, const cpu_set_t *cpus)
{
	int ret = 0;

	if (!pool_is_shared(pool))
		ret = make_own(pool, config, id, queues, nr_queues, cpus);
	for (unsigned i = 0; !ret && i < nr_queues; i++) {
		if (pool_is_shared(pool)) {
			struct pool_reactor *member = choose_shared(pool, &queues[i]);

			queues[i].reactor = member ? &member->reactor : NULL;
			ret = member ? 0 : -EAGAIN;
		}
		if (!ret)
			account(&queues[i], 1);
	}
	if (ret) {
		for (unsigned i = 0; pool_is_shared(pool) && i < nr_queues; i++) {
			if (queues[i].reactor)
				account(&queues[i], -1);
		}
		stop_unused(pool);
		return ret;
	}
	for (unsigned i = 0; i < nr_queues; i++)
		reactor_attach(queues[i].reactor, &queues[i]);
	return 0;
}

void pool_release(struct queue *queue)
{
	struct pool_reactor *member = of(queue->reactor);

	account(queue, -1);
	if (member->queues)
		return;
	if (!member->reactor.running)
		forget(member);
	else if (!member->shared)
		reactor_stop(&member->reactor);
}

void pool_close(struct pool *pool)
{
	/* What one has posted last stays in the box, and the next is chained to it: none is freed yet. */
	for (struct pool_reactor *m = pool->reactors; m; m = m->next) {
		if (!m->reactor.running)
			continue;
		reactor_stop(&m->reactor);
		reactor_join(&m->reactor);
	}
	while (pool->reactors)
		forget(pool->reactors);
	mailbox_stop(&pool->box, pool->loop);
	mailbox_close(&pool->box);
}
