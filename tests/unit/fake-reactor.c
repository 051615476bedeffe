/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include "fake-reactor.h"

#include <errno.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>

#include "dispatch.h"
#include "util/macros.h"

struct bench bench;

/* ---- ring.h -------------------------------------------------------------- */

int ring_submit(struct ring *ring)
{
	unsigned queued = ring->uring.sq.sqe_tail;

	/* What is submitted apart is not a chain. */
	assert_false(queued && sqe_queued(queued - 1)->flags & IOSQE_IO_LINK);
	bench.submits++;
	if (!bench.submit_result)
		ring->room = MAX(ring->room, bench.room_by_submit);
	return bench.submit_result;
}

/* ---- reactor.h ----------------------------------------------------------- */

int reactor_lend(struct reactor *reactor, struct io_uring_buf_ring *buffers, unsigned entries)
{
	assert_ptr_equal(reactor, &bench.reactor);
	bench.lent = buffers;
	bench.lent_entries = entries;
	return bench.lend_result ? bench.lend_result : BENCH_GROUP;
}

void reactor_take_back(struct reactor *reactor, uint16_t group)
{
	assert_ptr_equal(reactor, &bench.reactor);
	assert_int_equal(group, BENCH_GROUP);
	bench.lent = NULL;
}

void reactor_park(struct reactor *reactor, struct io *io)
{
	assert_ptr_equal(reactor, &bench.reactor);
	for (unsigned i = 0; i < bench.nr_parked; i++)
		assert_ptr_not_equal(bench.parked[i], io);
	assert_true(bench.nr_parked < ARRAY_SIZE(bench.parked));
	bench.parked[bench.nr_parked++] = io;
}

void reactor_tag_ended(struct reactor *reactor, struct queue *queue)
{
	assert_ptr_equal(reactor, &bench.reactor);
	assert_ptr_equal(queue, &bench.queue);
	bench.tags_ended++;
}

void reactor_fail_queue(struct queue *queue, int error, const char *format, ...)
{
	va_list args;

	assert_ptr_equal(queue, &bench.queue);
	bench.failure = error;
	va_start(args, format);
	vsnprintf(bench.failure_text, sizeof(bench.failure_text), format, args);
	va_end(args);
}

void reactor_report_failure(struct queue *queue, const struct ublkd_io *io, int error)
{
	assert_ptr_equal(queue, &bench.queue);
	bench.failed_requests++;
	bench.failed_op = io->op;
	bench.request_error = error;
}

/* ---- the bench ----------------------------------------------------------- */

static int serve(struct ublkd_target *target, struct ublkd_io *io)
{
	assert_ptr_equal(target, &bench.target);
	bench.served++;
	bench.request = io;
	return bench.serve(io);
}

int use_ring(struct ublkd_io *io)
{
	switch ((enum ublkd_op)io->op) {
	case UBLKD_OP_READ:
	case UBLKD_OP_WRITE:
		return ublkd_ring_rw(io, 1, io->offset + 4096);
	case UBLKD_OP_FLUSH:
		return ublkd_ring_sync(io, 0);
	case UBLKD_OP_DISCARD:
		return ublkd_ring_discard(io, 0, io->offset + 512);
	case UBLKD_OP_WRITE_ZEROES:
		return ublkd_ring_write_zeros(io, 0, io->offset);
	default:
		return -EOPNOTSUPP;
	}
}

int use_both_files(struct ublkd_io *io)
{
	return ublkd_ring_rw(io, 0, io->offset) + ublkd_ring_rw(io, 1, io->offset);
}

int allocate(struct ublkd_io *io)
{
	return ublkd_ring_fallocate(io, 1, FALLOC_FL_ZERO_RANGE, io->offset + 1024);
}

int keep(struct ublkd_io *io)
{
	(void)io;
	return UBLKD_KEPT;
}

static int done_at_once(struct ublkd_io *io)
{
	(void)io;
	return UBLKD_DONE;
}

static void open_buffers(enum data_mode mode)
{
	bool pooled = data_mode_pooled(mode);
	const char *what;

	if (data_mode_zero_copy(mode))
		return;
	assert_int_equal(buffers_open(&bench.queue.buffers, pooled ? BENCH_POOL : BENCH_DEPTH,
				      BENCH_MAX_IO, pooled, HUGE_PAGES_NO, &what), 0);
}

/* One that nobody takes anything from. */
static void open_ring(struct ring *ring)
{
	ring->sqes = BENCH_SQES;
	ring->own = BENCH_SLOTS;
	ring->uring.sq.sqes = bench.sqes;
	ring->uring.sq.array = bench.order;
	ring->uring.sq.ring_mask = BENCH_SQES - 1;
	ring->room = bench.room_by_submit = 64;
}

static void open_bench(enum data_mode mode, enum link_mode link, bool batch)
{
	static uint8_t zeros[REACTOR_ZEROS];

	memset(&bench, 0, sizeof(bench));
	bench.backend.submit = serve;
	bench.target.ops = &bench.backend;
	bench.target.nr_files = BENCH_FILES;
	bench.shape = (struct queue_shape){
		.target = &bench.target,
		.char_fd = -1,
		.depth = BENCH_DEPTH,
		.max_io = BENCH_MAX_IO,
		.size = BENCH_SIZE,
		.data = mode,
		.link = link,
		.batch = batch,
		.pool = data_mode_pooled(mode) ? BENCH_POOL : 0,
	};
	bench.reactor.zeros = zeros;
	bench.reactor.burst = 1;
	bench.queue.shape = &bench.shape;
	bench.queue.tag_step = 1;
	bench.queue.nr_tags = BENCH_DEPTH;
	bench.queue.size = BENCH_SIZE;
	bench.queue.reactor = &bench.reactor;
	bench.queue.id = BENCH_QUEUE_ID;
	bench.queue.sqe_flags = IOSQE_FIXED_FILE;
	bench.queue.linkable = true;
	bench.queue.char_file = BENCH_FILE_BASE;
	for (int i = 0; i < BENCH_FILES; i++)
		bench.queue.files[i] = BENCH_FILE_BASE + 1 + i;
	bench.queue.zero_file = BENCH_ZERO_FILE;
	bench.queue.slot_base = BENCH_SLOT_BASE;
	bench.queue.own_base = BENCH_OWN_BASE;
	open_ring(&bench.reactor.ring);
	bench.queue.descriptors = bench.descriptors;
	bench.queue.ios = bench.ios;
	bench.queue.parts = bench.parts;
	bench.queue.parts_each = UBLKD_SQES_PER_IO;
	bench.serve = done_at_once;
	open_buffers(mode);
	if (batch)
		assert_int_equal(batch_open(&bench.queue.batch, &bench.queue), 0);
	for (uint16_t tag = 0; tag < BENCH_DEPTH; tag++) {
		io_init(&bench.ios[tag], &bench.queue, tag);
		io_fetch(&bench.ios[tag]);
	}
	bench.seen = bench.reactor.ring.uring.sq.sqe_tail;
}

void bench_open(enum data_mode mode, enum link_mode link)
{
	open_bench(mode, link, false);
}

void bench_open_batch(enum data_mode mode)
{
	open_bench(mode, LINK_NO, true);
}

void bench_close(void)
{
	batch_close(bench.queue.batch);
	buffers_close(&bench.queue.buffers);
}

unsigned sqes_left(void)
{
	return bench.reactor.ring.uring.sq.sqe_tail - bench.seen;
}

const struct io_uring_sqe *sqe_queued(unsigned n)
{
	assert_true(n < BENCH_SQES);
	return &bench.sqes[bench.order[n]];
}

const struct io_uring_sqe *next_sqe(void)
{
	assert_true(sqes_left() > 0);
	return sqe_queued(bench.seen++);
}

int own_slot(const struct io_uring_sqe *sqe)
{
	ptrdiff_t index = sqe - bench.sqes;

	return index < BENCH_SQES ? -1 : (int)index - BENCH_SQES;
}

const struct ublk_io_cmd *command_of(const struct io_uring_sqe *sqe)
{
	/* Where the driver looks for it. */
	return (const void *)((const uint8_t *)sqe + 48);
}

void is_command(const struct io_uring_sqe *sqe, uint32_t command, unsigned tag, int32_t result,
		const void *addr)
{
	bool fetches = command == UBLK_IO_FETCH_REQ || command == UBLK_IO_COMMIT_AND_FETCH_REQ;
	bool registers = fetches && bench.shape.data == DATA_ZERO_COPY;

	assert_int_equal(sqe->opcode, IORING_OP_URING_CMD);
	assert_int_equal(sqe->flags, IOSQE_FIXED_FILE);
	assert_int_equal(sqe->fd, BENCH_FILE_BASE);
	assert_int_equal(sqe->cmd_op, command);
	assert_int_equal(sqe->user_data, dispatch_to_io(&bench.ios[tag]));
	/* The slot in the buffer table, and that a request may come without pages there. */
	assert_int_equal(sqe->addr, registers ? (BENCH_SLOT_BASE + tag) | 1u << 16 : 0);
	assert_int_equal(command_of(sqe)->q_id, BENCH_QUEUE_ID);
	assert_int_equal(command_of(sqe)->tag, tag);
	assert_int_equal(command_of(sqe)->result, result);
	assert_ptr_equal((const void *)(uintptr_t)command_of(sqe)->addr, addr);
}

void commits(unsigned tag, int32_t result)
{
	const struct io_uring_sqe *sqe = next_sqe();
	const void *addr = bench.ios[tag].buffer;

	if (bench.shape.data == DATA_GET_DATA)
		addr = (const void *)(uintptr_t)command_of(sqe)->addr;
	is_command(sqe, UBLK_IO_COMMIT_AND_FETCH_REQ, tag, result, addr);
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.ios[tag].state, IO_COMMIT);
	assert_int_equal(bench.queue.stats.in_flight, 0);
}

void is_waiting(unsigned tag)
{
	assert_int_equal(bench.nr_parked, 1);
	assert_ptr_equal(bench.parked[0], &bench.ios[tag]);
	assert_int_equal(bench.ios[tag].state, IO_PROCESS);
	assert_int_equal(sqes_left(), 0);
}

void arrive(unsigned tag, uint32_t op_flags, uint64_t start_sector, uint32_t sectors)
{
	bench.descriptors[tag] = (struct ublk_io_desc){
		.op_flags = op_flags, .start_sector = start_sector, .nr_sectors = sectors,
	};
	io_command_done(&bench.ios[tag], UBLK_IO_RES_OK);
}

void registered(const struct io_uring_sqe *sqe, int result)
{
	assert_int_equal(dispatch_kind(sqe->user_data), DISPATCH_REGISTER);
	io_registered(dispatch_pointer(sqe->user_data), result);
}

void complete(const struct io_uring_sqe *sqe, int result)
{
	assert_int_equal(dispatch_kind(sqe->user_data), DISPATCH_PART);
	io_part_done(dispatch_pointer(sqe->user_data), result);
}

void reactor_turn(void)
{
	struct io *parked[ARRAY_SIZE(bench.parked)], *io;
	unsigned nr_parked = bench.nr_parked;

	memcpy(parked, bench.parked, sizeof(parked));
	bench.nr_parked = 0;
	ring_submit(&bench.reactor.ring);
	for (io = buffers_release(&bench.queue.buffers); io;) {
		struct io *next = io->next;

		io_resume(io);
		io = next;
	}
	for (unsigned i = 0; i < nr_parked; i++)
		io_resume(parked[i]);
}
