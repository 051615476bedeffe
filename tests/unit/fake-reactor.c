/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include "fake-reactor.h"

#include <stdio.h>
#include <string.h>

#include "dispatch.h"
#include "util/macros.h"

struct bench bench;

/* ---- ring.h -------------------------------------------------------------- */

unsigned ring_room(struct ring *ring)
{
	(void)ring;
	return bench.room;
}

struct io_uring_sqe *ring_sqe(struct ring *ring)
{
	(void)ring;
	assert_true(bench.room > 0);
	assert_true(bench.nr_sqes < ARRAY_SIZE(bench.sqes));
	bench.room--;
	return &bench.sqes[bench.nr_sqes++];
}

int ring_submit(struct ring *ring)
{
	(void)ring;
	bench.submits++;
	if (!bench.submit_result)
		bench.room = MAX(bench.room, bench.room_by_submit);
	return bench.submit_result;
}

/* ---- reactor.h ----------------------------------------------------------- */

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

void reactor_fail(struct reactor *reactor, int error, const char *format, ...)
{
	va_list args;

	assert_ptr_equal(reactor, &bench.reactor);
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

static int done_at_once(struct ublkd_io *io)
{
	(void)io;
	return UBLKD_DONE;
}

void bench_open(unsigned pool)
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
		.data = pool > 0 ? DATA_GET_DATA : DATA_COPY,
		.link = LINK_NO,
		.pool = pool,
	};
	bench.reactor.zeros = zeros;
	bench.queue.shape = &bench.shape;
	bench.queue.reactor = &bench.reactor;
	bench.queue.id = BENCH_QUEUE_ID;
	bench.queue.file_base = BENCH_FILE_BASE;
	bench.queue.descriptors = bench.descriptors;
	bench.queue.ios = bench.ios;
	bench.room = bench.room_by_submit = 64;
	bench.serve = done_at_once;
	assert_int_equal(buffers_open(&bench.queue.buffers, pool ? pool : BENCH_DEPTH, BENCH_MAX_IO,
				      pool > 0), 0);
	for (uint16_t tag = 0; tag < BENCH_DEPTH; tag++) {
		io_init(&bench.ios[tag], &bench.queue, tag);
		io_fetch(&bench.ios[tag]);
	}
	bench.seen = bench.nr_sqes;
}

void bench_close(void)
{
	buffers_close(&bench.queue.buffers);
}

unsigned sqes_left(void)
{
	return bench.nr_sqes - bench.seen;
}

const struct io_uring_sqe *next_sqe(void)
{
	assert_true(sqes_left() > 0);
	return &bench.sqes[bench.seen++];
}

void arrive(unsigned tag, uint32_t op_flags, uint64_t start_sector, uint32_t sectors)
{
	bench.descriptors[tag] = (struct ublk_io_desc){
		.op_flags = op_flags, .start_sector = start_sector, .nr_sectors = sectors,
	};
	io_command_done(&bench.ios[tag], UBLK_IO_RES_OK);
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
