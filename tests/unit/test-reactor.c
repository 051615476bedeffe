/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Queues that come to a reactor and go: its thread, ring and loop are real,
 * io.c and the driver are not. A tag's fetch is a poll of the device's eventfd,
 * which ends when the test stops the device.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dispatch.h"
#include "reactor.h"
#include "util/macros.h"

#define DEPTH 4

struct fake_device {
	struct queue_shape shape;
	struct queue queue;
	struct ublkd_target target;
	int stop_fd;
	int refused;         /* tag whose fetch fails; -1: none */
	atomic_bool breaks;  /* its commands are refused */
	atomic_uint cancelled;
	unsigned attached, broken, ended, drained, stats, resized;
};

/* ---- io.c ------------------------------------------------------------------ */

static struct fake_device *device_of(const struct io *io)
{
	return io->queue->shape->owner;
}

void io_init(struct io *io, struct queue *queue, uint16_t tag)
{
	*io = (struct io){ .queue = queue, .pub.tag = tag };
}

void io_fetch(struct io *io)
{
	struct fake_device *device = device_of(io);
	struct io_uring_sqe *sqe = ring_sqe(&io->queue->reactor->ring);

	if (device->refused == io->pub.tag)
		io_uring_prep_read(sqe, -1, NULL, 0, 0);
	else
		io_uring_prep_poll_add(sqe, device->stop_fd, POLLIN);
	sqe->user_data = dispatch_to_io(io);
}

void io_command_done(struct io *io, int result)
{
	if (result < 0 || device_of(io)->breaks)
		reactor_fail_queue(io->queue, result < 0 ? result : -EINVAL, "tag %u", io->pub.tag);
	reactor_tag_ended(io->queue->reactor, io->queue);
}

void io_cancel(struct io *io)
{
	device_of(io)->cancelled++;
}

void io_part_done(struct io_part *part, int result)
{
	(void)part;
	(void)result;
}

void io_registered(struct io *io, int result)
{
	(void)io;
	(void)result;
}

void io_unregister_failed(struct io *io, int result)
{
	(void)io;
	(void)result;
}

void io_resume(struct io *io)
{
	(void)io;
}

/* ---- the main thread ---------------------------------------------------------- */

static struct {
	struct ev_loop *loop;
	struct mailbox box;
	struct reactor reactor;
	unsigned started, ended;
} bench;

static void on_started(struct reactor *reactor)
{
	assert_ptr_equal(reactor, &bench.reactor);
	bench.started++;
}

static void on_ended(struct reactor *reactor)
{
	reactor_join(reactor);
	bench.ended++;
}

static void on_attached(struct queue *queue)
{
	((struct fake_device *)queue->shape->owner)->attached++;
}

static void on_broken(struct queue *queue)
{
	((struct fake_device *)queue->shape->owner)->broken++;
}

static void on_queue_ended(struct queue *queue)
{
	((struct fake_device *)queue->shape->owner)->ended++;
}

static void on_stats(struct queue *queue)
{
	((struct fake_device *)queue->shape->owner)->stats++;
}

static void on_drained(struct queue *queue)
{
	((struct fake_device *)queue->shape->owner)->drained++;
}

static void on_resized(struct queue *queue)
{
	((struct fake_device *)queue->shape->owner)->resized++;
}

/* Runs the main loop until the counter has this value. */
static void wait_for(const unsigned *counter, unsigned value)
{
	for (unsigned i = 0; *counter < value && i < 500; i++) {
		ev_run(bench.loop, EVRUN_NOWAIT);
		poll(NULL, 0, 10);
	}
	assert_int_equal(*counter, value);
}

/* What is under way would have come by then. */
static void nothing_more_for(const unsigned *counter)
{
	unsigned before = *counter;

	for (unsigned i = 0; i < 5; i++) {
		ev_run(bench.loop, EVRUN_NOWAIT);
		poll(NULL, 0, 10);
	}
	assert_int_equal(*counter, before);
}

static void start(struct reactor_size size, bool one_device)
{
	struct ring ring;

	if (ring_open(&ring, 4, 0, RING_AUTO, 0))
		skip();
	ring_close(&ring);
	memset(&bench, 0, sizeof(bench));
	bench.loop = ev_default_loop(EVBACKEND_EPOLL);
	assert_int_equal(mailbox_open(&bench.box), 0);
	mailbox_start(&bench.box, bench.loop);
	strcpy(bench.reactor.name, "test");
	bench.reactor.size = size;
	bench.reactor.one_device = one_device;
	bench.reactor.main_box = &bench.box;
	bench.reactor.on_started = on_started;
	bench.reactor.on_ended = on_ended;
	assert_int_equal(reactor_start(&bench.reactor), 0);
}

static const struct reactor_size enough = { .sqes = 8, .own = 32, .files = 32, .buffers = 32 };

static void finish(void)
{
	if (bench.reactor.running)
		reactor_stop(&bench.reactor);
	wait_for(&bench.ended, 1);
	mailbox_stop(&bench.box, bench.loop);
	mailbox_close(&bench.box);
}

static struct fake_device *device_make(void)
{
	struct fake_device *device = alloc_lines(1, sizeof(*device));

	device->refused = -1;
	device->stop_fd = eventfd(0, EFD_CLOEXEC);
	device->target.nr_files = 1;
	device->target.files[0] = device->stop_fd;
	device->shape = (struct queue_shape){
		.main_box = &bench.box,
		.on_attached = on_attached,
		.on_broken = on_broken,
		.on_ended = on_queue_ended,
		.on_stats = on_stats,
		.on_drained = on_drained,
		.on_resized = on_resized,
		.owner = device,
		.target = &device->target,
		.char_fd = memfd_create("descriptors", MFD_CLOEXEC),
		.depth = DEPTH,
		.max_io = 4096,
		.size = 1 << 20,
		.data = DATA_ZERO_COPY,
	};
	assert_int_equal(ftruncate(device->shape.char_fd, 1 << 20), 0);
	device->queue.shape = &device->shape;
	device->queue.tag_step = 1;
	device->queue.nr_tags = DEPTH;
	return device;
}

static struct fake_device *attach(struct fake_device *device)
{
	reactor_attach(&bench.reactor, &device->queue);
	wait_for(&device->attached, 1);
	return device;
}

/* What STOP_DEV does: the driver gives all tags back. */
static void stop(struct fake_device *device)
{
	assert_int_equal(eventfd_write(device->stop_fd, 1), 0);
}

static void device_free(struct fake_device *device)
{
	assert_int_equal(device->ended, 1);
	assert_int_equal(device->queue.owed, 0);
	close(device->stop_fd);
	close(device->shape.char_fd);
	free(device);
}

static void stop_and_free(struct fake_device *device)
{
	stop(device);
	wait_for(&device->ended, 1);
	device_free(device);
}

/* ---- tests ------------------------------------------------------------------------ */

static void queues_of_several_devices_come_and_go(void **state)
{
	struct fake_device *a, *b, *c;

	(void)state;
	start(enough, false);
	a = attach(device_make());
	b = attach(device_make());
	assert_int_equal(a->queue.error, 0);
	assert_int_equal(b->queue.error, 0);
	assert_int_equal(a->queue.fetched, DEPTH);
	assert_int_not_equal(a->queue.slot_base, b->queue.slot_base);
	assert_int_not_equal(a->queue.own_base, b->queue.own_base);
	stop(a);
	wait_for(&a->ended, 1);
	nothing_more_for(&b->ended);
	c = attach(device_make());
	/* It has the places that became free. */
	assert_int_equal(c->queue.slot_base, a->queue.slot_base);
	reactor_ask_stats(&b->queue);
	wait_for(&b->stats, 1);
	device_free(a);
	stop_and_free(c);
	stop_and_free(b);
	assert_int_equal(bench.ended, 0);
	finish();
}

static void a_ring_smaller_than_all_tags_takes_them_all(void **state)
{
	struct fake_device *devices[20];

	(void)state;
	start((struct reactor_size){ .sqes = 4, .files = 100, .buffers = 100 }, false);
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++)
		devices[i] = attach(device_make());
	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
		assert_int_equal(devices[i]->queue.error, 0);
		stop_and_free(devices[i]);
	}
	finish();
}

static void a_refused_fetch_is_that_devices_alone(void **state)
{
	struct fake_device *a, *b = NULL;

	(void)state;
	start(enough, false);
	a = attach(device_make());
	b = device_make();
	b->refused = 2;
	attach(b);
	assert_int_equal(b->queue.error, -EBADF);
	assert_string_equal(b->queue.error_text, "tag 2: Bad file descriptor");
	/* The kernel has the others still, until the device is stopped. */
	nothing_more_for(&b->ended);
	nothing_more_for(&a->ended);
	stop_and_free(b);
	assert_int_equal(a->queue.error, 0);
	stop_and_free(a);
	finish();
}

static void a_refused_commit_is_that_devices_alone(void **state)
{
	struct fake_device *a, *b;

	(void)state;
	start(enough, false);
	a = attach(device_make());
	b = attach(device_make());
	b->breaks = true;
	stop(b);
	wait_for(&b->ended, 1);
	assert_int_equal(b->broken, 1);
	assert_contains(b->queue.error_text, "Invalid argument");
	nothing_more_for(&a->ended);
	device_free(b);
	stop_and_free(a);
	finish();
}

static void draining_is_one_devices_too(void **state)
{
	struct fake_device *a, *b;

	(void)state;
	start(enough, false);
	a = attach(device_make());
	b = attach(device_make());
	reactor_drain(&a->queue);
	wait_for(&a->drained, 1);
	assert_int_equal(a->cancelled, DEPTH);
	assert_int_equal(b->cancelled, 0);
	assert_true(a->queue.draining);
	assert_false(b->queue.draining);
	stop_and_free(a);
	stop_and_free(b);
	finish();
}

static void a_size_is_one_devices_too(void **state)
{
	struct fake_device *a, *b;

	(void)state;
	start(enough, false);
	a = attach(device_make());
	b = attach(device_make());
	assert_int_equal(a->queue.size, 1 << 20);
	reactor_resize(&a->queue, UINT64_C(1) << 40);
	wait_for(&a->resized, 1);
	assert_int_equal(a->queue.size, UINT64_C(1) << 40);
	assert_int_equal(b->queue.size, 1 << 20);
	/* The end does not overtake the report. */
	reactor_resize(&a->queue, 4096);
	stop(a);
	wait_for(&a->ended, 1);
	wait_for(&a->resized, 2);
	assert_int_equal(a->queue.size, 4096);
	device_free(a);
	stop_and_free(b);
	finish();
}

static void without_room_for_buffers_a_queue_fails(void **state)
{
	struct fake_device *a, *b, *c;

	(void)state;
	start((struct reactor_size){ .sqes = 8, .files = 32, .buffers = DEPTH + 2 }, false);
	a = attach(device_make());
	assert_int_equal(a->queue.error, 0);
	b = attach(device_make());
	assert_int_equal(b->queue.error, -ENOSPC);
	assert_contains(b->queue.error_text, "cannot get a buffer of the ring's table for each tag");
	wait_for(&b->ended, 1);
	device_free(b);
	stop_and_free(a);
	c = attach(device_make());
	assert_int_equal(c->queue.error, 0);
	stop_and_free(c);
	finish();
}

static void without_room_in_other_tables_it_goes_without(void **state)
{
	struct fake_device *a, *b;

	(void)state;
	start((struct reactor_size){ .sqes = 8, .own = DEPTH, .files = 3, .buffers = 32 }, false);
	a = attach(device_make());
	b = attach(device_make());
	assert_true(a->queue.linkable);
	assert_false(b->queue.linkable);
	assert_int_equal(b->queue.error, 0);
	assert_int_equal(b->queue.sqe_flags, 0);
	assert_int_equal(b->queue.char_file, b->shape.char_fd);
	assert_int_equal(b->queue.files[0], b->stop_fd);
	stop_and_free(a);
	stop_and_free(b);
	finish();
}

static struct fake_device *copying_device_make(void)
{
	struct fake_device *device = device_make();

	device->target.ring_only = true;
	device->shape.data = DATA_COPY;
	device->shape.max_io = 1 << 20;
	return device;
}

/* At what is the reactor's, by its own thread. */
struct look {
	struct message message;
	const struct queue *queue;
	unsigned known; /* how many of the device's buffers the ring knows by now */
	bool taken;     /* their pages */
	unsigned answered;
};

static void look_delivered(struct message *message)
{
	container_of(message, struct look, message)->answered++;
}

static void look_here(struct message *message)
{
	struct look *look = container_of(message, struct look, message);

	look->known = look->queue->fixed_buffers;
	look->taken = buffers_are_taken(&look->queue->buffers);
	message->deliver = look_delivered;
	mailbox_post(&bench.box, message);
}

static struct look look_at_buffers(const struct fake_device *device)
{
	struct look look = { .message.deliver = look_here, .queue = &device->queue };

	mailbox_post(&bench.reactor.inbox, &look.message);
	wait_for(&look.answered, 1);
	return look;
}

static void the_pages_of_a_devices_buffers_come_by_and_by(void **state)
{
	struct fake_device *device;
	struct look look;
	unsigned looks = 0;

	(void)state;
	start(enough, true);
	device = attach(copying_device_make());
	assert_int_equal(device->queue.error, 0);
	do {
		look = look_at_buffers(device);
		assert_true(++looks < 200);
	} while (look.known < DEPTH);
	assert_true(look.taken);
	stop_and_free(device);
	finish();
}

static void it_may_end_before_they_are_taken(void **state)
{
	struct fake_device *a, *b;
	struct look look;

	(void)state;
	start(enough, false);
	a = attach(copying_device_make());
	b = attach(copying_device_make());
	stop_and_free(a);
	for (unsigned i = 0; i < 20; i++)
		look = look_at_buffers(b);
	/* A ring of several devices keeps its slots for those that cannot do without. */
	assert_int_equal(look.known, 0);
	assert_true(look.taken);
	stop_and_free(b);
	finish();
}

static void who_is_taken_over_has_them_before_its_requests_come(void **state)
{
	struct fake_device *device = copying_device_make();
	struct look look;

	(void)state;
	start(enough, true);
	device->shape.busy = true;
	attach(device);
	look = look_at_buffers(device);
	assert_true(look.taken);
	assert_int_equal(look.known, DEPTH);
	stop_and_free(device);
	finish();
}

/* Their pages are lost before the reactor takes them, unless it is quicker: then once more. */
static struct fake_device *device_without_pages(void)
{
	struct fake_device *device;

	for (;;) {
		device = attach(copying_device_make());
		munmap(buffers_of_tag(&device->queue.buffers, DEPTH - 1), 1);
		for (unsigned i = 0; i < 200 && !device->broken; i++)
			look_at_buffers(device);
		if (device->broken)
			return device;
		stop_and_free(device);
	}
}

static void who_cannot_have_them_fails(void **state)
{
	struct fake_device *a, *b;

	(void)state;
	start(enough, false);
	b = attach(copying_device_make());
	a = device_without_pages();
	assert_string_equal(a->queue.error_text,
			    "queue 0: cannot take the pages of the I/O buffers: Cannot allocate memory");
	stop_and_free(a);
	assert_int_equal(b->queue.error, 0);
	stop_and_free(b);
	finish();
}

/* Then the ring's end makes the driver give up what it has. */
static void with_one_device_its_failure_fails_the_queue(void **state)
{
	struct fake_device *a, *b;

	(void)state;
	start(enough, true);
	a = attach(device_make());
	assert_int_equal(a->queue.sqe_flags, IOSQE_FIXED_FILE);
	b = device_make();
	b->refused = 0;
	attach(b);
	wait_for(&a->ended, 1);
	wait_for(&b->ended, 1);
	wait_for(&bench.ended, 1);
	assert_string_equal(a->queue.error_text, "tag 0: Bad file descriptor");
	assert_string_equal(b->queue.error_text, a->queue.error_text);
	device_free(a);
	device_free(b);
	finish();
}

static void who_comes_too_late_is_told(void **state)
{
	struct fake_device *device;

	(void)state;
	/* No ring can be that large. */
	start((struct reactor_size){ .sqes = 1 << 20 }, false);
	device = device_make();
	reactor_attach(&bench.reactor, &device->queue);
	wait_for(&bench.ended, 1);
	wait_for(&device->ended, 1);
	assert_int_equal(device->attached, 1);
	assert_contains(device->queue.error_text, "cannot make an io_uring");
	device_free(device);
	device = attach(device_make());
	assert_contains(device->queue.error_text, "cannot make an io_uring");
	wait_for(&device->ended, 1);
	device_free(device);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queues_of_several_devices_come_and_go),
		cmocka_unit_test(a_ring_smaller_than_all_tags_takes_them_all),
		cmocka_unit_test(a_refused_fetch_is_that_devices_alone),
		cmocka_unit_test(a_refused_commit_is_that_devices_alone),
		cmocka_unit_test(draining_is_one_devices_too),
		cmocka_unit_test(a_size_is_one_devices_too),
		cmocka_unit_test(without_room_for_buffers_a_queue_fails),
		cmocka_unit_test(without_room_in_other_tables_it_goes_without),
		cmocka_unit_test(the_pages_of_a_devices_buffers_come_by_and_by),
		cmocka_unit_test(it_may_end_before_they_are_taken),
		cmocka_unit_test(who_is_taken_over_has_them_before_its_requests_come),
		cmocka_unit_test(who_cannot_have_them_fails),
		cmocka_unit_test(with_one_device_its_failure_fails_the_queue),
		cmocka_unit_test(who_comes_too_late_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
