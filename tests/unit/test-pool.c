/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which queue goes to which reactor; no threads are there. */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <string.h>

#include "pool.h"
#include "util/macros.h"

static struct {
	unsigned started, attached, stopped, joined;
	unsigned refuse; /* the start of this one fails; 0: none */
} seen;

/* ---- reactor.h --------------------------------------------------------------- */

int reactor_start(struct reactor *reactor)
{
	if (++seen.started == seen.refuse)
		return -EAGAIN;
	reactor->running = true;
	return 0;
}

void reactor_stop(struct reactor *reactor)
{
	seen.stopped += !reactor->stop_asked;
	reactor->stop_asked = true;
}

void reactor_join(struct reactor *reactor)
{
	seen.joined++;
	reactor->running = false;
}

void reactor_attach(struct reactor *reactor, struct queue *queue)
{
	assert_ptr_equal(queue->reactor, reactor);
	seen.attached++;
}

/* ---- devices ------------------------------------------------------------------- */

#define QUEUES 4

struct fake_device {
	struct device_config config;
	struct queue_shape shape;
	struct ublkd_target target;
	struct queue queues[QUEUES];
	cpu_set_t cpus[QUEUES];
};

static struct fake_device device_of(unsigned depth, enum data_mode data)
{
	return (struct fake_device){
		.shape = { .depth = (uint16_t)depth, .data = data }, .target.nr_files = 1,
	};
}

static int serve(struct pool *pool, struct fake_device *device, unsigned queues)
{
	device->shape.target = &device->target;
	for (unsigned q = 0; q < queues; q++) {
		device->queues[q].shape = &device->shape;
		device->queues[q].id = (uint16_t)q;
		device->queues[q].tag_step = 1;
		device->queues[q].nr_tags = device->shape.depth;
		CPU_SET(q, &device->cpus[q]);
	}
	return pool_serve(pool, &device->config, 7, device->queues, queues, device->cpus);
}

static void open_pool(struct pool *pool, unsigned shared)
{
	memset(&seen, 0, sizeof(seen));
	assert_int_equal(pool_open(pool, ev_default_loop(EVBACKEND_EPOLL), shared), 0);
}

/* ---- tests --------------------------------------------------------------------- */

static void shared_ones_are_filled_evenly(void **state)
{
	struct fake_device devices[4];
	struct pool pool;

	(void)state;
	open_pool(&pool, 2);
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
		devices[i] = device_of(i == 0 ? 100 : 10, DATA_COPY);
		assert_int_equal(serve(&pool, &devices[i], 1), 0);
	}
	assert_int_equal(seen.started, 2);
	assert_int_equal(seen.attached, 4);
	assert_string_equal(devices[0].queues[0].reactor->name, "ublkd/0");
	assert_string_equal(devices[1].queues[0].reactor->name, "ublkd/1");
	assert_false(devices[0].queues[0].reactor->one_device);
	/* The first has a hundred tags. */
	assert_ptr_equal(devices[2].queues[0].reactor, devices[1].queues[0].reactor);
	assert_ptr_equal(devices[3].queues[0].reactor, devices[1].queues[0].reactor);
	/* And none, when its queue has ended. */
	pool_release(&devices[0].queues[0]);
	assert_int_equal(serve(&pool, &devices[0], 1), 0);
	assert_string_equal(devices[0].queues[0].reactor->name, "ublkd/0");
	assert_int_equal(seen.stopped, 0);
	pool_close(&pool);
	assert_int_equal(seen.joined, 2);
}

static void where_buffers_do_not_suffice_there_is_one_more(void **state)
{
	struct fake_device devices[6];
	struct pool pool;
	const char *said;
	int ret = 0;

	(void)state;
	open_pool(&pool, 1);
	capture_begin();
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
		devices[i] = device_of(4096, i == 5 ? DATA_COPY : DATA_ZERO_COPY);
		if (i == 5)
			devices[i].shape.depth = 1;
		ret |= serve(&pool, &devices[i], 1);
	}
	said = capture_end();
	assert_int_equal(ret, 0);
	assert_int_equal(seen.started, 2);
	assert_contains(said, "no room for 4096 more tags in zero copy");
	assert_ptr_equal(devices[3].queues[0].reactor, devices[0].queues[0].reactor);
	assert_ptr_not_equal(devices[4].queues[0].reactor, devices[0].queues[0].reactor);
	pool_close(&pool);
}

static void devices_have_their_own(void **state)
{
	struct fake_device device = device_of(100, DATA_ZERO_COPY);
	const struct reactor *first, *second;
	struct pool pool;

	(void)state;
	open_pool(&pool, 0);
	device.config.reactors = 2;
	assert_int_equal(serve(&pool, &device, 4), 0);
	first = device.queues[0].reactor;
	second = device.queues[2].reactor;
	assert_ptr_equal(device.queues[1].reactor, first);
	assert_ptr_equal(device.queues[3].reactor, second);
	assert_string_equal(first->name, "ublk7/0");
	assert_string_equal(second->name, "ublk7/1");
	assert_true(first->one_device);
	assert_true(CPU_ISSET(0, &first->cpus) && CPU_ISSET(1, &first->cpus));
	assert_int_equal(CPU_COUNT(&first->cpus), 2);
	/* One for each tag, and one that is its own. */
	assert_int_equal(first->size.sqes, 200);
	assert_int_equal(first->size.own, 200);
	assert_int_equal(first->size.buffers, 200);
	assert_int_equal(first->size.files, 1 + 2 * 2);
	pool_release(&device.queues[0]);
	assert_int_equal(seen.stopped, 0);
	pool_release(&device.queues[1]);
	assert_int_equal(seen.stopped, 1);
	pool_release(&device.queues[2]);
	pool_release(&device.queues[3]);
	assert_int_equal(seen.stopped, 2);
	pool_close(&pool);
	assert_int_equal(seen.joined, 2);
}

static void a_thread_that_cannot_start_leaves_nothing_attached(void **state)
{
	struct fake_device device = device_of(1, DATA_COPY);
	struct pool pool;
	const char *said;
	int ret;

	(void)state;
	for (unsigned shared = 0; shared <= 2; shared += 2) {
		open_pool(&pool, shared);
		seen.refuse = 2;
		capture_begin();
		ret = serve(&pool, &device, 2);
		said = capture_end();
		assert_true(ret < 0);
		assert_contains(said, "cannot start the thread");
		assert_int_equal(seen.attached, 0);
		assert_int_equal(seen.stopped, shared ? 0 : 1);
		pool_close(&pool);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shared_ones_are_filled_evenly),
		cmocka_unit_test(where_buffers_do_not_suffice_there_is_one_more),
		cmocka_unit_test(devices_have_their_own),
		cmocka_unit_test(a_thread_that_cannot_start_leaves_nothing_attached),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
