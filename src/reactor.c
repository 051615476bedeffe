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
#include <sys/prctl.h>

#include "util/macros.h"
#include "wait.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define MAX_SQES 32768u /* IORING_MAX_ENTRIES */

/* ---- services to io.c ----------------------------------------------------- */

void reactor_park(struct reactor *reactor, struct io *io)
{
	io->next = NULL;
	*reactor->parked_last = io;
	reactor->parked_last = &io->next;
}

void reactor_tag_ended(struct reactor *reactor, struct queue *queue)
{
	if (++queue->ended == queue->shape->depth)
		reactor->queues_ended++;
}

void reactor_fail(struct reactor *reactor, int error, const char *format, ...)
{
	size_t used;
	va_list args;

	if (reactor->error)
		return;
	va_start(args, format);
	vsnprintf(reactor->error_text, sizeof(reactor->error_text), format, args);
	va_end(args);
	used = strlen(reactor->error_text);
	snprintf(reactor->error_text + used, sizeof(reactor->error_text) - used, ": %s",
		 strerror(-error));
	reactor->error = error;
}

static void failure_delivered(struct message *message)
{
	struct queue_failure *failure = container_of(message, struct queue_failure, message);

	failure->queue->reactor->on_failure(failure);
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
	mailbox_post(queue->reactor->main_box, &failure->message);
}

/* ---- orders from the main thread ------------------------------------------ */

static void on_drain(struct message *message)
{
	struct reactor *reactor = container_of(message, struct reactor, drain);

	reactor->draining = true;
	for (unsigned q = 0; q < reactor->nr_queues; q++) {
		struct queue *queue = reactor->queues[q];

		for (unsigned tag = 0; tag < queue->shape->depth; tag++)
			io_cancel(&queue->ios[tag]);
	}
}

static void stats_delivered(struct message *message)
{
	struct reactor *reactor = container_of(message, struct reactor, stats);

	reactor->stats_due = false;
	reactor->on_stats(reactor);
}

/* By the reactor when it is asked, by the main thread when the reactor has ended. */
static void copy_stats(struct reactor *reactor)
{
	for (unsigned q = 0; q < reactor->nr_queues; q++)
		reactor->queues[q]->stats_copy = reactor->queues[q]->stats;
	reactor->stats_enters = reactor->ring.enters;
	reactor->stats_cqes = reactor->ring.cqes;
	reactor->stats_polled = reactor->spin.caught;
}

static void on_stats(struct message *message)
{
	struct reactor *reactor = container_of(message, struct reactor, stats);

	copy_stats(reactor);
	reactor->stats.deliver = stats_delivered;
	mailbox_post(reactor->main_box, &reactor->stats);
}

void reactor_drain(struct reactor *reactor)
{
	reactor->drain.deliver = on_drain;
	mailbox_post(&reactor->inbox, &reactor->drain);
}

void reactor_ask_stats(struct reactor *reactor)
{
	if (reactor->stats_due)
		return;
	reactor->stats_due = true;
	reactor->stats.deliver = on_stats;
	mailbox_post(&reactor->inbox, &reactor->stats);
}

/* ---- the thread ------------------------------------------------------------ */

static int register_files(struct reactor *reactor)
{
	const struct queue_shape *shape = reactor->queues[0]->shape;
	unsigned nr_files = shape->target->nr_files;
	int fds[2 + UBLKD_TARGET_FILES] = { shape->char_fd };

	memcpy(&fds[1], shape->target->files, sizeof(shape->target->files));
	fds[1 + nr_files] = reactor->zero_fd;
	for (unsigned q = 0; q < reactor->nr_queues; q++) {
		reactor->queues[q]->file_base = 0;
		reactor->queues[q]->zero_file = 1 + nr_files;
	}
	return io_uring_register_files(&reactor->ring.uring, fds, 2 + nr_files);
}

/* A table with a slot for each tag, which the requests' pages come and go from. */
static int register_buffer_table(struct reactor *reactor, unsigned tags)
{
	if (!data_mode_zero_copy(reactor->queues[0]->shape->data))
		return 0;
	return io_uring_register_buffers_sparse(&reactor->ring.uring, tags);
}

static int open_ring(struct reactor *reactor)
{
	unsigned tags = 0, own;
	int ret;

	for (unsigned q = 0; q < reactor->nr_queues; q++) {
		reactor->queues[q]->slot_base = tags;
		tags += reactor->queues[q]->shape->depth;
	}
	/*
	 * So that nobody has to wait for room, a request's SQE and its commit
	 * fit for each tag at once, as far as the kernel goes; and each tag
	 * has an SQE of its own for a linked commit. Without room for these,
	 * nothing is linked.
	 */
	own = tags <= MAX_SQES / 2 ? tags : 0;
	ret = ring_open(&reactor->ring, MIN(MAX(2 * tags, 64u), MAX_SQES - own), own,
			reactor->ring_mode, 0);
	if (ret) {
		reactor_fail(reactor, ret, "cannot make an io_uring (mode %s)",
			     ring_mode_name(reactor->ring_mode));
		return ret;
	}
	ret = register_files(reactor);
	if (ret)
		reactor_fail(reactor, ret, "cannot register the files with the ring");
	if (!ret) {
		ret = register_buffer_table(reactor, tags);
		if (ret)
			reactor_fail(reactor, ret, "cannot make a table of %u buffers in the ring",
				     tags);
	}
	if (ret)
		ring_close(&reactor->ring);
	return ret;
}

/* On the reactor's CPUs, so that their buffers are on its node. */
static int open_queues(struct reactor *reactor)
{
	for (unsigned q = 0; q < reactor->nr_queues; q++) {
		const char *what;
		int ret = queue_open(reactor->queues[q], &what);

		if (ret) {
			reactor_fail(reactor, ret, "queue %u: cannot %s", reactor->queues[q]->id,
				     what);
			return ret;
		}
	}
	return 0;
}

static void fetch_all(struct reactor *reactor)
{
	for (unsigned q = 0; q < reactor->nr_queues; q++) {
		struct queue *queue = reactor->queues[q];

		for (unsigned tag = 0; tag < queue->shape->depth; tag++) {
			while (!reactor->ring.room && !reactor->error)
				wait_turn(reactor);
			if (reactor->error)
				return;
			io_fetch(&queue->ios[tag]);
		}
	}
	/* A FETCH that the driver refuses completes at once. */
	wait_turn(reactor);
}

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
	fetch_all(reactor);
	reactor->started.deliver = started_delivered;
	mailbox_post(reactor->main_box, &reactor->started);
	wait_serve(reactor);
	mailbox_stop(&reactor->inbox, reactor->loop);
}

static void *reactor_main(void *arg)
{
	struct reactor *reactor = arg;

	pthread_setname_np(pthread_self(), reactor->name);
	/* Memory reclaim on this thread must not wait for the device it serves. */
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
		reactor->io_flusher_error = errno;
	reactor->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
	reactor->pooled = data_mode_pooled(reactor->queues[0]->shape->data);
	reactor->batches = reactor->queues[0]->shape->batch;
	reactor->zeros = mmap(NULL, REACTOR_ZEROS, PROT_READ,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	reactor->zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	if (!reactor->loop || reactor->zeros == MAP_FAILED || reactor->zero_fd < 0) {
		reactor_fail(reactor, -errno, "cannot make the event loop or open '/dev/zero'");
	} else if (!open_ring(reactor)) {
		if (!open_queues(reactor))
			serve(reactor);
		/*
		 * The ring first: closing it is what gives up commands that
		 * still refer to the descriptors and the buffers.
		 */
		ring_close(&reactor->ring);
	}
	for (unsigned q = 0; q < reactor->nr_queues; q++)
		queue_close(reactor->queues[q]);
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

void reactor_join(struct reactor *reactor)
{
	pthread_join(reactor->thread, NULL);
	copy_stats(reactor);
	mailbox_close(&reactor->inbox);
	reactor->running = false;
}
