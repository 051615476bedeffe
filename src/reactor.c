/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "reactor.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "log.h"
#include "util/macros.h"
#include "wait.h"

/* Linux 5.14. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/*
 * Since 6.13 each slot of the ring's table holds its file by itself. Before,
 * a file that was taken out was held until all requests that began earlier had
 * ended, also those of others: fetches, which end when somebody uses their
 * device. The kernel has no name for that; this one came next.
 */
#ifndef IORING_FEAT_RW_ATTR
#define IORING_FEAT_RW_ATTR (1U << 16)
#endif
#define FEAT_FILES_BY_THEMSELVES IORING_FEAT_RW_ATTR

/*
 * When the pages of large buffers are taken, in seconds: behind the making of a
 * device, which takes some hundredths, and with time for requests in between.
 */
#define TAKE_AFTER 0.1
#define TAKE_EVERY 0.005

/* ---- services to io.c ----------------------------------------------------- */

void reactor_park(struct reactor *reactor, struct io *io)
{
	io->next = NULL;
	*reactor->parked_last = io;
	reactor->parked_last = &io->next;
}

/* Not from within a completion, which may still look at the queue. */
static void let_go_soon(struct reactor *reactor, struct queue *queue)
{
	queue->next_over = reactor->over;
	reactor->over = queue;
	reactor->loop_due = true;
}

void reactor_tag_ended(struct reactor *reactor, struct queue *queue)
{
	if (++queue->ended == queue->fetched && queue->attached)
		let_go_soon(reactor, queue);
}

static void say_why(char *text, size_t size, int error, const char *format, va_list args)
	__attribute__((format(printf, 4, 0)));

static void say_why(char *text, size_t size, int error, const char *format, va_list args)
{
	size_t used;

	vsnprintf(text, size, format, args);
	used = strlen(text);
	snprintf(text + used, size - used, ": %s", strerror(-error));
}

void reactor_fail(struct reactor *reactor, int error, const char *format, ...)
{
	va_list args;

	if (reactor->error)
		return;
	va_start(args, format);
	say_why(reactor->error_text, sizeof(reactor->error_text), error, format, args);
	va_end(args);
	reactor->error = error;
}

/* main */
static void tell(struct queue *queue, void (*to)(struct queue *queue))
{
	const char *before = log_switch(queue->about);

	to(queue);
	log_switch(before);
}

static void broken_delivered(struct message *message)
{
	struct queue *queue = container_of(message, struct queue, broken);

	tell(queue, queue->shape->on_broken);
}

void reactor_fail_queue(struct queue *queue, int error, const char *format, ...)
{
	struct reactor *reactor = queue->reactor;
	va_list args;

	if (queue->error)
		return;
	va_start(args, format);
	say_why(queue->error_text, sizeof(queue->error_text), error, format, args);
	va_end(args);
	queue->error = error;
	if (reactor->one_device) {
		/* Closing the ring makes the driver give up at once whatever it has. */
		if (!reactor->error)
			memcpy(reactor->error_text, queue->error_text, sizeof(reactor->error_text));
		reactor->error = error;
	} else if (queue->attached) {
		queue->broken.deliver = broken_delivered;
		mailbox_post(queue->shape->main_box, &queue->broken);
	}
}

static void failure_delivered(struct message *message)
{
	struct queue_failure *failure = container_of(message, struct queue_failure, message);
	const char *before = log_switch(failure->queue->about);

	failure->queue->shape->on_failure(failure);
	log_switch(before);
	atomic_store_explicit(&failure->busy, false, memory_order_release);
}

void reactor_report_failure(struct queue *queue, const struct ublkd_io *io, int error)
{
	struct queue_failure *failure = &queue->failure;

	if (atomic_load_explicit(&failure->busy, memory_order_acquire)) {
		queue->unreported++;
		return;
	}
	atomic_store_explicit(&failure->busy, true, memory_order_relaxed);
	failure->queue = queue;
	failure->op = io->op;
	failure->length = io->length;
	failure->offset = io->offset;
	failure->error = error;
	failure->unreported = queue->unreported;
	queue->unreported = 0;
	failure->message.deliver = failure_delivered;
	mailbox_post(queue->shape->main_box, &failure->message);
}

/* ---- the ring ------------------------------------------------------------- */

static int register_files(struct reactor *reactor)
{
	struct ring *ring = &reactor->ring;
	int slot, ret;

	reactor->with_files = reactor->size.files &&
			      (reactor->one_device ||
			       ring->uring.features & FEAT_FILES_BY_THEMSELVES);
	if (!reactor->with_files)
		return 0;
	ret = io_uring_register_files_sparse(&ring->uring, reactor->size.files);
	if (ret)
		return ret;
	slot = ranges_take(&reactor->files, 1);
	assert(slot == 0);
	ret = io_uring_register_files_update(&ring->uring, 0, &reactor->zero_fd, 1);
	return ret < 0 ? ret : 0;
}

static int open_ring(struct reactor *reactor)
{
	const struct reactor_size *size = &reactor->size;
	int ret;

	ret = ring_open(&reactor->ring, size->sqes, size->own, reactor->ring_mode, 0);
	if (ret) {
		reactor_fail(reactor, ret, "cannot make an io_uring (mode %s)",
			     ring_mode_name(reactor->ring_mode));
		return ret;
	}
	if (ranges_open(&reactor->own, size->own) || ranges_open(&reactor->files, size->files) ||
	    ranges_open(&reactor->buffers, size->buffers) ||
	    ranges_open(&reactor->groups, UINT16_MAX)) {
		ret = -ENOMEM;
		reactor_fail(reactor, ret, "cannot make the lists of free slots");
	} else {
		ret = register_files(reactor);
		if (ret)
			reactor_fail(reactor, ret, "cannot register the files with the ring");
	}
	if (ret)
		ring_close(&reactor->ring);
	reactor->with_ring = !ret;
	return ret;
}

/* ---- what a queue takes of the ring ---------------------------------------- */

static void clear_files(struct reactor *reactor, unsigned base, unsigned count)
{
	const int none[1 + UBLKD_TARGET_FILES] = { -1, -1, -1, -1, -1 };

	if (reactor->with_ring)
		io_uring_register_files_update(&reactor->ring.uring, base, none, count);
	ranges_give(&reactor->files, base, count);
}

/* Without room for them, descriptors will do. */
static int take_files(struct reactor *reactor, struct queue *queue)
{
	const struct ublkd_target *target = queue->shape->target;
	int fds[1 + UBLKD_TARGET_FILES] = { queue->shape->char_fd };
	unsigned count = 1 + target->nr_files;
	int base = reactor->with_files ? ranges_take(&reactor->files, count) : -ENOSPC, ret;

	memcpy(&fds[1], target->files, sizeof(target->files));
	queue->sqe_flags = 0;
	queue->char_file = fds[0];
	memcpy(queue->files, target->files, sizeof(queue->files));
	queue->zero_file = reactor->zero_fd;
	if (base < 0)
		return base == -ENOSPC ? 0 : base;
	ret = io_uring_register_files_update(&reactor->ring.uring, (unsigned)base, fds, count);
	if (ret != (int)count) {
		clear_files(reactor, (unsigned)base, count);
		return ret < 0 ? ret : -EBADF;
	}
	queue->sqe_flags = IOSQE_FIXED_FILE;
	queue->char_file = base;
	for (unsigned i = 0; i < target->nr_files; i++)
		queue->files[i] = base + 1 + (int)i;
	queue->zero_file = 0;
	return 0;
}

static void give_files_back(struct reactor *reactor, struct queue *queue)
{
	if (!queue->sqe_flags)
		return;
	clear_files(reactor, (unsigned)queue->char_file, 1 + queue->shape->target->nr_files);
	queue->sqe_flags = 0;
}

static int take_slots(struct reactor *reactor, struct queue *queue)
{
	int base, ret;

	base = ranges_take(&reactor->buffers, queue->nr_tags);
	if (base < 0)
		return base;
	queue->slot_base = (unsigned)base;
	if (reactor->with_buffers)
		return 0;
	ret = io_uring_register_buffers_sparse(&reactor->ring.uring, reactor->size.buffers);
	reactor->with_buffers = !ret;
	if (ret)
		ranges_give(&reactor->buffers, queue->slot_base, queue->nr_tags);
	return ret;
}

/* Slots for the pages of its requests, which come and go. */
static int take_buffers(struct reactor *reactor, struct queue *queue)
{
	return data_mode_zero_copy(queue->shape->data) ? take_slots(reactor, queue) : 0;
}

/*
 * What the backend reads and writes in the ring the kernel then need not look up
 * and hold page by page for each request. It can do without: a ring that serves
 * other devices keeps its slots for those that cannot, and what is registered
 * stays so until the ring is closed.
 */
static bool can_fix_buffers(struct reactor *reactor, struct queue *queue)
{
	return queue->shape->data == DATA_COPY && queue->shape->target->ring_only &&
	       reactor->one_device && !take_slots(reactor, queue);
}

/* Of those whose pages are there. */
static void fix_buffers(struct queue *queue)
{
	struct buffers *buffers = &queue->buffers;

	/* A huge page may have room for more than there are. */
	while (queue->fixable && queue->fixed_buffers < MIN(buffers->taken / buffers->each, buffers->count)) {
		unsigned tag = queue->fixed_buffers;
		struct iovec buffer = { buffers_of_tag(buffers, tag), queue->shape->max_io };

		if (io_uring_register_buffers_update_tag(&queue->reactor->ring.uring,
							 queue->slot_base + tag, &buffer, NULL,
							 1) != 1)
			queue->fixable = false;
		else
			queue->fixed_buffers++;
	}
}

static void take_more(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct queue *queue = container_of(timer, struct queue, take);
	int ret = buffers_take_more(&queue->buffers);

	(void)events;
	fix_buffers(queue);
	if (ret || buffers_are_taken(&queue->buffers))
		ev_timer_stop(loop, timer);
	/* Whoever writes would take the rest, or lose the end of it; see buffer.h. */
	if (ret)
		reactor_fail_queue(queue, ret, "queue %u: cannot take the pages of the I/O buffers",
				   queue->id);
}

static void prepare_buffers(struct reactor *reactor, struct queue *queue)
{
	queue->fixable = can_fix_buffers(reactor, queue);
	fix_buffers(queue);
	ev_timer_init(&queue->take, take_more, TAKE_AFTER, TAKE_EVERY);
	if (!buffers_are_taken(&queue->buffers))
		ev_timer_start(reactor->loop, &queue->take);
}

static void take_own(struct reactor *reactor, struct queue *queue)
{
	int base = ranges_take(&reactor->own, queue->nr_tags);

	queue->linkable = base >= 0;
	queue->own_base = base >= 0 ? (unsigned)base : 0;
}

int reactor_lend(struct reactor *reactor, struct io_uring_buf_ring *buffers, unsigned entries)
{
	int group = ranges_take(&reactor->groups, 1), ret;

	if (group < 0)
		return group;
	ret = ring_lend(&reactor->ring, (unsigned)group, buffers, entries);
	if (!ret)
		return group;
	ranges_give(&reactor->groups, (unsigned)group, 1);
	return ret;
}

void reactor_take_back(struct reactor *reactor, uint16_t group)
{
	if (reactor->with_ring)
		ring_take_back(&reactor->ring, group);
	ranges_give(&reactor->groups, group, 1);
}

/*
 * On the reactor's CPUs, so that the buffers are on its node. Nothing is left
 * behind where it fails; the cause is in queue->error.
 */
static void open_queue(struct reactor *reactor, struct queue *queue)
{
	const char *what = "register its files with the ring";
	int ret = take_files(reactor, queue);

	if (!ret) {
		what = "get a buffer of the ring's table for each tag";
		ret = take_buffers(reactor, queue);
		if (!ret) {
			ret = queue_open(queue, &what);
			if (!ret) {
				take_own(reactor, queue);
				prepare_buffers(reactor, queue);
				return;
			}
			if (data_mode_zero_copy(queue->shape->data))
				ranges_give(&reactor->buffers, queue->slot_base,
					    queue->nr_tags);
		}
		give_files_back(reactor, queue);
	}
	reactor_fail_queue(queue, ret, "queue %u: cannot %s", queue->id, what);
}

static void close_queue(struct reactor *reactor, struct queue *queue)
{
	if (!queue->ios)
		return; /* it was never open */
	ev_timer_stop(reactor->loop, &queue->take);
	if (queue->linkable)
		ranges_give(&reactor->own, queue->own_base, queue->nr_tags);
	if (data_mode_zero_copy(queue->shape->data))
		ranges_give(&reactor->buffers, queue->slot_base, queue->nr_tags);
	give_files_back(reactor, queue);
	queue_close(queue);
}

/* ---- orders from the main thread ------------------------------------------ */

static void count_of_reactor(struct queue *queue)
{
	queue->stats.enters = queue->reactor->ring.enters;
	queue->stats.cqes = queue->reactor->ring.cqes;
	queue->stats.polled = queue->reactor->spin.caught;
}

static void end_delivered(struct message *message)
{
	struct queue *queue = container_of(message, struct queue, end);

	queue->serving = false;
	queue->owed--;
	queue->stats_copy = queue->stats;
	tell(queue, queue->shape->on_ended);
}

static void unlist_due(struct reactor *reactor, struct queue *queue)
{
	struct queue **link = &reactor->due;

	if (!queue->due)
		return;
	while (*link != queue)
		link = &(*link)->next_due;
	*link = queue->next_due;
	queue->due = false;
}

static void let_go(struct reactor *reactor, struct queue *queue)
{
	if (reactor->error && !queue->error) {
		queue->error = reactor->error;
		memcpy(queue->error_text, reactor->error_text, sizeof(queue->error_text));
	}
	*queue->link = queue->next;
	if (queue->next)
		queue->next->link = queue->link;
	unlist_due(reactor, queue);
	count_of_reactor(queue);
	close_queue(reactor, queue);
	queue->end.deliver = end_delivered;
	mailbox_post(queue->shape->main_box, &queue->end);
}

void reactor_close_over(struct reactor *reactor)
{
	while (reactor->over) {
		struct queue *queue = reactor->over;

		reactor->over = queue->next_over;
		let_go(reactor, queue);
	}
}

static void fetch_all(struct reactor *reactor, struct queue *queue)
{
	for (unsigned i = 0; i < queue->nr_tags; i++) {
		while (!reactor->ring.room && !reactor->error)
			wait_turn(reactor);
		if (reactor->error || queue->error)
			return;
		queue->fetched++;
		io_fetch(&queue->ios[i]);
	}
	/* A FETCH that the driver refuses completes at once. */
	wait_turn(reactor);
}

static void attach_delivered(struct message *message)
{
	struct queue *queue = container_of(message, struct queue, attach);

	queue->owed--;
	tell(queue, queue->shape->on_attached);
}

static void on_attach(struct message *message)
{
	struct queue *queue = container_of(message, struct queue, attach);
	struct reactor *reactor = queue->reactor;

	queue->next = reactor->queues;
	queue->link = &reactor->queues;
	if (queue->next)
		queue->next->link = &queue->next;
	reactor->queues = queue;
	if (!reactor->error) {
		open_queue(reactor, queue);
		if (!queue->error)
			fetch_all(reactor, queue);
	}
	if (reactor->error && !queue->error) {
		queue->error = reactor->error;
		memcpy(queue->error_text, reactor->error_text, sizeof(queue->error_text));
	}
	queue->attached = true;
	queue->attach_error = queue->error;
	queue->attach.deliver = attach_delivered;
	mailbox_post(queue->shape->main_box, &queue->attach);
	if (queue->ended == queue->fetched)
		let_go_soon(reactor, queue);
}

static void drain_delivered(struct message *message)
{
	struct queue *queue = container_of(message, struct queue, drain);

	queue->owed--;
	tell(queue, queue->shape->on_drained);
}

static void on_drain(struct message *message)
{
	struct queue *queue = container_of(message, struct queue, drain);

	queue->draining = true;
	for (unsigned i = 0; queue->ios && i < queue->nr_tags; i++)
		io_cancel(&queue->ios[i]);
	queue->drain.deliver = drain_delivered;
	mailbox_post(queue->shape->main_box, &queue->drain);
}

static void resize_delivered(struct message *message)
{
	struct queue *queue = container_of(message, struct queue, resize);

	queue->owed--;
	tell(queue, queue->shape->on_resized);
}

static void on_resize(struct message *message)
{
	struct queue *queue = container_of(message, struct queue, resize);

	queue->size = queue->new_size;
	queue->resize.deliver = resize_delivered;
	mailbox_post(queue->shape->main_box, &queue->resize);
}

static void ask_delivered(struct message *message)
{
	struct queue *queue = container_of(message, struct queue, ask);

	queue->asked = false;
	queue->owed--;
	tell(queue, queue->shape->on_stats);
}

static void on_ask(struct message *message)
{
	struct queue *queue = container_of(message, struct queue, ask);

	/* Not when it has ended: the copy is the main thread's then. */
	if (queue->ios) {
		count_of_reactor(queue);
		queue->stats_copy = queue->stats;
	}
	queue->ask.deliver = ask_delivered;
	mailbox_post(queue->shape->main_box, &queue->ask);
}

static void on_stop(struct message *message)
{
	struct reactor *reactor = container_of(message, struct reactor, stop);

	assert(!reactor->queues);
	reactor->stopping = true;
}

/* main. Where there is no thread any more, the main thread says so in its stead. */
static void order(struct reactor *reactor, struct message *message)
{
	if (reactor->running) {
		mailbox_post(&reactor->inbox, message);
	} else {
		message->deliver(message);
		reactor_close_over(reactor);
	}
}

void reactor_attach(struct reactor *reactor, struct queue *queue)
{
	queue->reactor = reactor;
	queue->about = log_about();
	queue->size = queue->shape->size;
	queue->serving = true;
	queue->owed += 2;
	queue->attach.deliver = on_attach;
	order(reactor, &queue->attach);
}

void reactor_drain(struct queue *queue)
{
	queue->owed++;
	queue->drain.deliver = on_drain;
	order(queue->reactor, &queue->drain);
}

void reactor_resize(struct queue *queue, uint64_t size)
{
	queue->new_size = size;
	queue->owed++;
	queue->resize.deliver = on_resize;
	order(queue->reactor, &queue->resize);
}

void reactor_ask_stats(struct queue *queue)
{
	if (queue->asked)
		return;
	queue->asked = true;
	queue->owed++;
	queue->ask.deliver = on_ask;
	order(queue->reactor, &queue->ask);
}

/* ---- the thread ------------------------------------------------------------ */

static void started_delivered(struct message *message)
{
	struct reactor *reactor = container_of(message, struct reactor, started);

	reactor->on_started(reactor);
}

static void ended_delivered(struct message *message)
{
	struct reactor *reactor = container_of(message, struct reactor, ended);

	reactor->on_ended(reactor);
}

static void serve(struct reactor *reactor)
{
	wait_start(reactor);
	mailbox_start(&reactor->inbox, reactor->loop);
	reactor->started.deliver = started_delivered;
	mailbox_post(reactor->main_box, &reactor->started);
	wait_serve(reactor);
	mailbox_stop(&reactor->inbox, reactor->loop);
}

static void *reactor_main(void *arg)
{
	struct reactor *reactor = arg;

	pthread_setname_np(pthread_self(), reactor->name);
	reactor->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
	reactor->zeros = mmap(NULL, REACTOR_ZEROS, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* MAP_POPULATE does nothing in a process whose memory is locked once it is used. */
	madvise((void *)(uintptr_t)reactor->zeros, REACTOR_ZEROS, MADV_POPULATE_READ);
	reactor->zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	if (!reactor->loop || reactor->zeros == MAP_FAILED || reactor->zero_fd < 0) {
		reactor_fail(reactor, -errno, "cannot make the event loop or open '/dev/zero'");
	} else if (!open_ring(reactor)) {
		serve(reactor);
		/*
		 * Before the queues: closing it is what gives up commands that
		 * still refer to the descriptors and the buffers.
		 */
		ring_close(&reactor->ring);
		reactor->with_ring = false;
	}
	reactor->over = NULL;
	while (reactor->queues)
		let_go(reactor, reactor->queues);
	ranges_close(&reactor->own);
	ranges_close(&reactor->files);
	ranges_close(&reactor->buffers);
	ranges_close(&reactor->groups);
	if (reactor->zeros && reactor->zeros != MAP_FAILED)
		munmap((void *)(uintptr_t)reactor->zeros, REACTOR_ZEROS);
	if (reactor->zero_fd >= 0)
		close(reactor->zero_fd);
	if (reactor->loop)
		ev_loop_destroy(reactor->loop);
	reactor->ended.deliver = ended_delivered;
	mailbox_post(reactor->main_box, &reactor->ended);
	return NULL;
}

int reactor_start(struct reactor *reactor)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int ret;

	reactor->parked_last = &reactor->parked_first;
	ret = mailbox_open(&reactor->inbox);
	if (ret)
		return ret;
	pthread_attr_init(&attr);
	/* Bound before it runs, so that all memory that it uses first is on the node of its CPUs. */
	if (CPU_COUNT(&reactor->cpus))
		pthread_attr_setaffinity_np(&attr, sizeof(reactor->cpus), &reactor->cpus);
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = -pthread_create(&reactor->thread, &attr, reactor_main, reactor);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (ret)
		mailbox_close(&reactor->inbox);
	reactor->running = !ret;
	return ret;
}

void reactor_set_poll(struct reactor *reactor, uint64_t poll_ns)
{
	atomic_store_explicit(&reactor->spin.limit, poll_ns, memory_order_relaxed);
}

int reactor_set_cpus(struct reactor *reactor, const cpu_set_t *cpus)
{
	return -pthread_setaffinity_np(reactor->thread, sizeof(*cpus), cpus);
}

void reactor_stop(struct reactor *reactor)
{
	if (reactor->stop_asked)
		return;
	reactor->stop_asked = true;
	reactor->stop.deliver = on_stop;
	order(reactor, &reactor->stop);
}

void reactor_join(struct reactor *reactor)
{
	pthread_join(reactor->thread, NULL);
	reactor->running = false;
	/* What came too late for the thread. */
	mailbox_deliver(&reactor->inbox);
	reactor_close_over(reactor);
	mailbox_close(&reactor->inbox);
}
