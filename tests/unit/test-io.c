/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The state machine of a tag, on a ring that is none (fake-reactor.h). */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include <ublkd/ublk_abi.h>

#include "dispatch.h"
#include "fake-reactor.h"
#include "util/macros.h"

#define SECTORS_MAX (BENCH_MAX_IO / 512)
#define DEVICE_SECTORS (BENCH_SIZE / 512)
#define DISCARD_COMMAND 0x1200u

static int open_copying(void **state)
{
	(void)state;
	bench_open(DATA_COPY, LINK_NO);
	return 0;
}

/* BENCH_POOL buffers for four tags. */
static int open_lending(void **state)
{
	(void)state;
	bench_open(DATA_GET_DATA, LINK_NO);
	return 0;
}

static int close_bench(void **state)
{
	(void)state;
	bench_close();
	return 0;
}

/* ---- what backends may do with a request --------------------------------- */

static int fail_at_once(struct ublkd_io *io)
{
	(void)io;
	return -ENOSPC;
}

/* ---- what is to be seen -------------------------------------------------- */

static void is_rw(const struct io_uring_sqe *sqe, uint8_t opcode, unsigned file, uint64_t off,
		  const void *data, uint32_t length)
{
	assert_int_equal(sqe->opcode, opcode);
	assert_int_equal(sqe->flags, IOSQE_FIXED_FILE);
	assert_int_equal(sqe->fd, BENCH_FILE_BASE + 1 + file);
	assert_int_equal(sqe->off, off);
	assert_ptr_equal((const void *)(uintptr_t)sqe->addr, data);
	assert_int_equal(sqe->len, length);
}

/* ---- commands and descriptors -------------------------------------------- */

static void a_fetch_names_queue_tag_and_buffer(void **state)
{
	(void)state;
	for (unsigned tag = 0; tag < BENCH_DEPTH; tag++) {
		is_command(sqe_queued(tag), UBLK_IO_FETCH_REQ, tag, 0,
			   bench.queue.buffers.memory + tag * BENCH_MAX_IO);
		assert_int_equal(bench.ios[tag].state, IO_FETCH);
	}
	assert_int_equal(bench.reactor.ring.uring.sq.sqe_tail, BENCH_DEPTH);
}

static void a_request_reaches_the_backend_as_the_driver_described_it(void **state)
{
	static const struct {
		uint32_t op_flags;
		uint8_t op, flags;
	} requests[] = {
		{ UBLK_IO_OP_READ | UBLK_IO_F_META, UBLKD_OP_READ, 0 },
		{ UBLK_IO_OP_WRITE | UBLK_IO_F_FUA, UBLKD_OP_WRITE, UBLKD_IO_FUA },
		{ UBLK_IO_OP_WRITE | UBLK_IO_F_SWAP, UBLKD_OP_WRITE, 0 },
		{ UBLK_IO_OP_DISCARD, UBLKD_OP_DISCARD, 0 },
		{ UBLK_IO_OP_WRITE_ZEROES, UBLKD_OP_WRITE_ZEROES, 0 },
		{ UBLK_IO_OP_WRITE_ZEROES | UBLK_IO_F_NOUNMAP, UBLKD_OP_WRITE_ZEROES,
		  UBLKD_IO_NOUNMAP },
	};

	(void)state;
	bench.serve = keep;
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		bool has_data = requests[i].op <= UBLKD_OP_WRITE;

		arrive(2, requests[i].op_flags, 0x100000001ull, 3);
		assert_ptr_equal(bench.request, &bench.ios[2].pub);
		assert_int_equal(bench.request->op, requests[i].op);
		assert_int_equal(bench.request->flags, requests[i].flags);
		assert_int_equal(bench.request->tag, 2);
		assert_int_equal(bench.request->offset, 0x100000001ull * 512);
		assert_int_equal(bench.request->length, 1536);
		assert_ptr_equal(bench.request->data, has_data ? bench.ios[2].buffer : NULL);
		ublkd_complete(bench.request, 0);
	}
	assert_int_equal(bench.served, ARRAY_SIZE(requests));
}

static void a_flush_has_no_range(void **state)
{
	(void)state;
	arrive(0, UBLK_IO_OP_FLUSH, 0, 0);
	assert_int_equal(bench.served, 1);
	assert_int_equal(bench.request->op, UBLKD_OP_FLUSH);
	assert_int_equal(bench.request->length, 0);
	assert_null(bench.request->data);
	commits(0, 0);
}

static void reads_and_writes_commit_their_bytes_all_else_zero(void **state)
{
	static const struct {
		uint32_t op;
		int32_t result;
	} cases[] = {
		{ UBLK_IO_OP_READ, 4096 },	{ UBLK_IO_OP_WRITE, 4096 },
		{ UBLK_IO_OP_FLUSH, 0 },	{ UBLK_IO_OP_DISCARD, 0 },
		{ UBLK_IO_OP_WRITE_ZEROES, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		arrive(1, cases[i].op, 8, 8);
		commits(1, cases[i].result);
	}
	assert_int_equal(bench.failed_requests, 0);
}

static void a_descriptor_out_of_bounds_never_reaches_the_backend(void **state)
{
	static const struct {
		uint32_t op;
		uint64_t start;
		uint32_t sectors;
	} bad[] = {
		{ UBLK_IO_OP_READ, DEVICE_SECTORS - 1, 2 },
		{ UBLK_IO_OP_WRITE, DEVICE_SECTORS, 1 },
		{ UBLK_IO_OP_DISCARD, DEVICE_SECTORS + 1, 1 },
		{ UBLK_IO_OP_WRITE_ZEROES, UINT64_MAX >> 9, 1 },
		{ UBLK_IO_OP_READ, 0, SECTORS_MAX + 1 },
		{ UBLK_IO_OP_WRITE, 0, SECTORS_MAX + 1 },
		{ UBLK_IO_OP_READ, 0, 0 },
		{ UBLK_IO_OP_DISCARD, 8, 0 },
		{ UBLK_IO_OP_DISCARD, 0, 1u << 23 }, /* 4 GiB */
		{ UBLK_IO_OP_WRITE_ZEROES, 0, UINT32_MAX },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		arrive(0, bad[i].op, bad[i].start, bad[i].sectors);
		commits(0, -EINVAL);
		assert_int_equal(bench.failed_requests, i + 1);
		assert_int_equal(bench.request_error, -EINVAL);
	}
	assert_int_equal(bench.served, 0);
}

static void an_operation_we_do_not_know_never_reaches_the_backend(void **state)
{
	static const uint32_t ops[] = { UBLK_IO_OP_WRITE_SAME, UBLK_IO_OP_ZONE_APPEND, 6, 0xff };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		arrive(0, ops[i], 0, 8);
		commits(0, -EOPNOTSUPP);
	}
	assert_int_equal(bench.served, 0);
}

static void the_bounds_themselves_are_served(void **state)
{
	(void)state;
	arrive(0, UBLK_IO_OP_READ, DEVICE_SECTORS - 1, 1);
	commits(0, 512);
	arrive(0, UBLK_IO_OP_WRITE, 0, SECTORS_MAX);
	commits(0, BENCH_MAX_IO);
	/* What moves no data is not limited by max-io. */
	arrive(0, UBLK_IO_OP_DISCARD, 0, 1u << 21);
	commits(0, 0);
	assert_int_equal(bench.served, 3);
}

static void a_failed_request_leaves_nothing_behind_for_the_next(void **state)
{
	(void)state;
	bench.serve = fail_at_once;
	arrive(1, UBLK_IO_OP_WRITE | UBLK_IO_F_FUA, 0, 8);
	commits(1, -ENOSPC);
	assert_int_equal(bench.failed_requests, 1);
	assert_int_equal(bench.failed_op, UBLKD_OP_WRITE);
	bench.serve = use_ring;
	arrive(1, UBLK_IO_OP_WRITE, 0, 1);
	complete(next_sqe(), 512);
	commits(1, 512);
	assert_int_equal(bench.failed_requests, 1);
}

/* ---- SQEs of the backend ------------------------------------------------- */

static void a_read_moves_the_range_between_file_and_buffer(void **state)
{
	(void)state;
	bench.serve = use_ring;
	arrive(3, UBLK_IO_OP_READ | UBLK_IO_F_FUA, 8, 16);
	assert_int_equal(sqe_queued(bench.seen)->rw_flags, 0);
	is_rw(next_sqe(), IORING_OP_READ, 1, 4096 + 4096, bench.ios[3].buffer, 8192);
	assert_int_equal(bench.ios[3].state, IO_PROCESS);
	assert_int_equal(sqes_left(), 0);
	complete(sqe_queued(bench.seen - 1), 8192);
	commits(3, 8192);
}

static void a_write_that_must_be_durable_says_so(void **state)
{
	static const struct {
		uint32_t op;
		bool through;
		int rw_flags;
	} cases[] = {
		{ UBLK_IO_OP_WRITE, false, 0 },
		{ UBLK_IO_OP_WRITE, true, RWF_DSYNC },
		{ UBLK_IO_OP_WRITE | UBLK_IO_F_FUA, false, RWF_DSYNC },
		{ UBLK_IO_OP_WRITE_ZEROES, false, 0 },
		{ UBLK_IO_OP_WRITE_ZEROES, true, RWF_DSYNC },
		{ UBLK_IO_OP_WRITE_ZEROES | UBLK_IO_F_FUA, false, RWF_DSYNC },
		{ UBLK_IO_OP_READ, true, 0 },
	};

	(void)state;
	bench.serve = use_ring;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct io_uring_sqe *sqe;

		bench.target.write_through = cases[i].through;
		arrive(0, cases[i].op, 0, 8);
		sqe = next_sqe();
		assert_int_equal(sqe->rw_flags, cases[i].rw_flags);
		/* Its continuation as well. */
		complete(sqe, 512);
		sqe = next_sqe();
		assert_int_equal(sqe->rw_flags, cases[i].rw_flags);
		complete(sqe, 3584);
		next_sqe();
	}
}

static void a_sync_is_one_of_data(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_FLUSH, 0, 0);
	sqe = next_sqe();
	assert_int_equal(sqe->opcode, IORING_OP_FSYNC);
	assert_int_equal(sqe->flags, IOSQE_FIXED_FILE);
	assert_int_equal(sqe->fd, BENCH_FILE_BASE + 1);
	assert_int_equal(sqe->fsync_flags, IORING_FSYNC_DATASYNC);
	complete(sqe, 0);
	commits(0, 0);
}

static void a_fallocate_has_mode_place_and_length(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.serve = allocate;
	arrive(0, UBLK_IO_OP_WRITE_ZEROES, 2, 1u << 21);
	sqe = next_sqe();
	assert_int_equal(sqe->opcode, IORING_OP_FALLOCATE);
	assert_int_equal(sqe->fd, BENCH_FILE_BASE + 2);
	assert_int_equal(sqe->len, FALLOC_FL_ZERO_RANGE);
	assert_int_equal(sqe->off, 2048);
	assert_int_equal(sqe->addr, 1u << 30);
	complete(sqe, 0);
	commits(0, 0);
}

static void a_discard_goes_to_the_block_device(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_DISCARD, 8, 1u << 21);
	sqe = next_sqe();
	assert_int_equal(sqe->opcode, IORING_OP_URING_CMD);
	assert_int_equal(sqe->fd, BENCH_FILE_BASE + 1);
	assert_int_equal(sqe->cmd_op, DISCARD_COMMAND);
	assert_int_equal(sqe->addr, 4096 + 512);
	assert_int_equal(sqe->addr3, 1u << 30);
	complete(sqe, 0);
	commits(0, 0);
}

static void zeros_are_written_in_pieces(void **state)
{
	const uint32_t length = 2 * REACTOR_ZEROS + 4096;
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_WRITE_ZEROES, 8, length / 512);
	for (uint32_t done = 0; done < length; done += REACTOR_ZEROS) {
		sqe = next_sqe();
		is_rw(sqe, IORING_OP_WRITE, 0, 4096 + done, bench.reactor.zeros,
		      MIN(REACTOR_ZEROS, length - done));
		complete(sqe, (int)sqe->len);
	}
	commits(0, 0);
	assert_int_equal(bench.queue.stats.short_parts, 0);
}

/* ---- results of the ring ------------------------------------------------- */

static void a_short_read_is_continued_from_where_it_ended(void **state)
{
	uint8_t *buffer = bench.ios[0].buffer;
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_READ, 0, 16);
	complete(next_sqe(), 1000);
	sqe = next_sqe();
	is_rw(sqe, IORING_OP_READ, 1, 4096 + 1000, buffer + 1000, 8192 - 1000);
	complete(sqe, 3000);
	sqe = next_sqe();
	is_rw(sqe, IORING_OP_READ, 1, 4096 + 4000, buffer + 4000, 8192 - 4000);
	complete(sqe, 4192);
	commits(0, 8192);
	assert_int_equal(bench.queue.stats.short_parts, 2);
}

static void a_short_write_is_continued_from_where_it_ended(void **state)
{
	uint8_t *buffer = bench.ios[0].buffer;
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_WRITE, 0, 16);
	complete(next_sqe(), 1);
	sqe = next_sqe();
	is_rw(sqe, IORING_OP_WRITE, 1, 4096 + 1, buffer + 1, 8191);
	complete(sqe, 8191);
	commits(0, 8192);
}

static void direct_io_is_continued_at_an_aligned_place(void **state)
{
	uint8_t *buffer = bench.ios[0].buffer;
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.serve = use_ring;
	bench.target.dio_align = 512;
	arrive(0, UBLK_IO_OP_READ, 0, 16);
	complete(next_sqe(), 1500);
	sqe = next_sqe();
	is_rw(sqe, IORING_OP_READ, 1, 4096 + 1024, buffer + 1024, 8192 - 1024);
	complete(sqe, 8192 - 1024);
	commits(0, 8192);
}

static void a_read_past_the_end_of_the_file_gives_zeros(void **state)
{
	uint8_t *buffer = bench.ios[0].buffer;

	(void)state;
	bench.serve = use_ring;
	memset(buffer, 'x', 8192);
	arrive(0, UBLK_IO_OP_READ, 0, 16);
	complete(next_sqe(), 5000);
	complete(next_sqe(), 0);
	commits(0, 8192);
	assert_int_equal(buffer[4999], 'x');
	for (unsigned i = 5000; i < 8192; i++)
		assert_int_equal(buffer[i], 0);
}

/* A direct read ends within a block only where the file does. */
static void a_direct_read_that_ends_within_a_block_is_at_the_end(void **state)
{
	uint8_t *buffer = bench.ios[0].buffer;

	(void)state;
	bench.serve = use_ring;
	bench.target.dio_align = 512;
	memset(buffer, 'x', 4096);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(next_sqe(), 100);
	commits(0, 4096);
	assert_int_equal(buffer[99], 'x');
	assert_int_equal(buffer[100], 0);
	assert_int_equal(buffer[4095], 0);
}

static void a_write_without_progress_is_an_io_error(void **state)
{
	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	complete(next_sqe(), 2048);
	complete(next_sqe(), 0);
	commits(0, -EIO);
}

static void errors_are_passed_on(void **state)
{
	static const int errors[] = { -EIO, -ENOSPC, -EINVAL, -EOPNOTSUPP, -ENODATA, -EDQUOT };

	(void)state;
	bench.serve = use_ring;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		arrive(0, UBLK_IO_OP_WRITE, 0, 8);
		complete(next_sqe(), errors[i]);
		commits(0, errors[i]);
		assert_int_equal(bench.request_error, errors[i]);
	}
	assert_int_equal(bench.queue.stats.errors, ARRAY_SIZE(errors));
}

static void an_error_behind_a_short_result_fails_the_whole_request(void **state)
{
	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	complete(next_sqe(), 512);
	complete(next_sqe(), -ENOSPC);
	commits(0, -ENOSPC);
}

/* Answers an error that may pass until the request ends; how often it was tried. */
static unsigned tries_until_commit(int error)
{
	unsigned tries = 0;

	while (bench.ios[0].state == IO_PROCESS && tries < 1000) {
		complete(next_sqe(), error);
		tries++;
	}
	return tries;
}

static void errors_that_may_pass_are_tried_again_a_bounded_number_of_times(void **state)
{
	static const struct {
		int error, result;
	} cases[] = {
		/* -EAGAIN means something else to the block layer. */
		{ -EAGAIN, -EIO }, { -EINTR, -EIO }, { -ECANCELED, -EIO }, { -ENOMEM, -ENOMEM },
	};

	(void)state;
	bench.serve = use_ring;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		arrive(0, UBLK_IO_OP_READ, 0, 8);
		assert_in_range(tries_until_commit(cases[i].error), 2, 100);
		commits(0, cases[i].result);
	}
}

static void progress_earns_new_tries(void **state)
{
	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_READ, 0, 16);
	for (unsigned i = 0; i < 15; i++) {
		for (unsigned j = 0; j < 10; j++)
			complete(next_sqe(), -EAGAIN);
		complete(next_sqe(), 512);
	}
	complete(next_sqe(), 512);
	commits(0, 8192);
}

static void an_interrupted_sync_is_repeated(void **state)
{
	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_FLUSH, 0, 0);
	complete(next_sqe(), -EINTR);
	assert_int_equal(sqe_queued(bench.seen)->opcode, IORING_OP_FSYNC);
	complete(next_sqe(), 0);
	commits(0, 0);
}

static void more_bytes_than_were_asked_for_are_not_believed(void **state)
{
	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(next_sqe(), 4097);
	commits(0, -EIO);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(next_sqe(), 4000);
	complete(next_sqe(), 97);
	commits(0, -EIO);
}

static void a_request_of_two_parts_ends_with_the_last(void **state)
{
	const struct io_uring_sqe *first, *second;

	(void)state;
	bench.serve = use_both_files;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	first = next_sqe();
	second = next_sqe();
	is_rw(first, IORING_OP_WRITE, 0, 0, bench.ios[0].buffer, 4096);
	is_rw(second, IORING_OP_WRITE, 1, 0, bench.ios[0].buffer, 4096);
	complete(second, 4096);
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.ios[0].state, IO_PROCESS);
	complete(first, 4096);
	commits(0, 4096);
}

static void the_first_error_of_the_parts_is_the_requests(void **state)
{
	const struct io_uring_sqe *first, *second;

	(void)state;
	bench.serve = use_both_files;
	for (int i = 0; i < 3; i++) {
		arrive(0, UBLK_IO_OP_WRITE, 0, 8);
		first = next_sqe();
		second = next_sqe();
		complete(i < 2 ? first : second, i ? -ENOSPC : 4096);
		assert_int_equal(sqes_left(), 0);
		complete(i < 2 ? second : first, i ? -EIO : -ENOSPC);
		commits(0, -ENOSPC);
	}
	/* A success that comes later does not hide it. */
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	first = next_sqe();
	second = next_sqe();
	complete(first, -ENOSPC);
	complete(second, 4096);
	commits(0, -ENOSPC);
}

/* ---- requests that the backend keeps ------------------------------------- */

static void a_kept_request_is_committed_when_it_is_completed(void **state)
{
	(void)state;
	bench.serve = keep;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.ios[0].state, IO_PROCESS);
	ublkd_complete(bench.request, 0);
	commits(0, 4096);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	ublkd_complete(bench.request, -EREMOTEIO);
	commits(0, -EREMOTEIO);
	/* Only 0 and errors are results; a count is taken for success. */
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	ublkd_complete(bench.request, 512);
	commits(0, 4096);
}

/* ---- no room in the ring ------------------------------------------------- */

static void a_full_ring_is_submitted_before_anybody_waits(void **state)
{
	(void)state;
	bench.reactor.ring.room = 0;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	assert_int_equal(bench.submits, 1);
	assert_int_equal(bench.nr_parked, 0);
	commits(0, 4096);
}

static void while_there_is_room_nothing_is_submitted(void **state)
{
	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(next_sqe(), 512);
	complete(next_sqe(), 3584);
	commits(0, 4096);
	assert_int_equal(bench.submits, 0);
}

/* Room for all its SQEs and the commit is made sure before the backend sees it. */
static void without_room_the_backend_is_not_asked_yet(void **state)
{
	(void)state;
	bench.serve = use_ring;
	bench.reactor.ring.room = bench.room_by_submit = IO_SQES - 1;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	is_waiting(0);
	assert_int_equal(bench.served, 0);
	reactor_turn();
	is_waiting(0);
	bench.room_by_submit = IO_SQES;
	reactor_turn();
	assert_int_equal(bench.served, 1);
	complete(next_sqe(), 4096);
	commits(0, 4096);
	assert_int_equal(bench.nr_parked, 0);
}

static void without_room_a_continuation_waits(void **state)
{
	uint8_t *buffer = bench.ios[0].buffer;
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	sqe = next_sqe();
	bench.reactor.ring.room = bench.room_by_submit = 0;
	complete(sqe, 1024);
	is_waiting(0);
	reactor_turn();
	is_waiting(0);
	bench.room_by_submit = 1;
	reactor_turn();
	sqe = next_sqe();
	is_rw(sqe, IORING_OP_READ, 1, 4096 + 1024, buffer + 1024, 3072);
	bench.reactor.ring.room = 1;
	complete(sqe, 3072);
	commits(0, 4096);
}

static void two_continuations_wait_as_one_request(void **state)
{
	const struct io_uring_sqe *first, *second;

	(void)state;
	bench.serve = use_both_files;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	first = next_sqe();
	second = next_sqe();
	bench.reactor.ring.room = bench.room_by_submit = 0;
	complete(first, 512);
	complete(second, 1024);
	is_waiting(0);
	/* One at a time, as there is room. */
	bench.reactor.ring.room = 1;
	reactor_turn();
	first = next_sqe();
	is_waiting(0);
	bench.reactor.ring.room = 8;
	reactor_turn();
	second = next_sqe();
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(first->off, 512);
	assert_int_equal(second->off, 1024);
	complete(second, 3072);
	complete(first, 3584);
	commits(0, 4096);
}

static void a_part_may_fail_while_the_other_waits(void **state)
{
	const struct io_uring_sqe *first, *second;

	(void)state;
	bench.serve = use_both_files;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	first = next_sqe();
	second = next_sqe();
	bench.reactor.ring.room = bench.room_by_submit = 0;
	complete(first, 512);
	complete(second, -EIO);
	is_waiting(0);
	bench.room_by_submit = 8;
	reactor_turn();
	complete(next_sqe(), 3584);
	commits(0, -EIO);
}

static void without_room_a_commit_waits_with_its_result(void **state)
{
	static const int results[] = { 0, -ENOSPC };

	(void)state;
	bench.serve = keep;
	for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
		arrive(0, UBLK_IO_OP_WRITE, 0, 8);
		bench.reactor.ring.room = bench.room_by_submit = 0;
		ublkd_complete(bench.request, results[i]);
		is_waiting(0);
		reactor_turn();
		is_waiting(0);
		bench.room_by_submit = 16;
		reactor_turn();
		commits(0, results[i] ? results[i] : 4096);
	}
}

static void a_submit_that_fails_makes_no_room(void **state)
{
	(void)state;
	bench.reactor.ring.room = 0;
	bench.submit_result = -EBUSY;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	is_waiting(0);
	bench.submit_result = 0;
	reactor_turn();
	commits(0, 4096);
}

/* ---- get-data mode ------------------------------------------------------- */

static void want_data(unsigned tag, uint32_t sectors)
{
	bench.descriptors[tag] = (struct ublk_io_desc){
		.op_flags = UBLK_IO_OP_WRITE, .nr_sectors = sectors,
	};
	io_command_done(&bench.ios[tag], UBLK_IO_RES_NEED_GET_DATA);
}

static void a_fetch_brings_no_buffer(void **state)
{
	(void)state;
	for (unsigned tag = 0; tag < BENCH_DEPTH; tag++)
		is_command(sqe_queued(tag), UBLK_IO_FETCH_REQ, tag, 0, NULL);
}

static void a_writes_data_is_asked_for_before_it_is_served(void **state)
{
	const void *buffer;

	(void)state;
	want_data(1, 8);
	buffer = bench.ios[1].buffer;
	assert_non_null(buffer);
	is_command(next_sqe(), UBLK_IO_NEED_GET_DATA, 1, 0, buffer);
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.ios[1].state, IO_GET_DATA);
	assert_int_equal(bench.served, 0);
	arrive(1, UBLK_IO_OP_WRITE, 0, 8);
	assert_int_equal(bench.served, 1);
	assert_ptr_equal(bench.request->data, buffer);
	is_command(next_sqe(), UBLK_IO_COMMIT_AND_FETCH_REQ, 1, 4096, NULL);
}

static void a_reads_commit_says_where_its_data_is(void **state)
{
	const void *buffer;

	(void)state;
	bench.serve = keep;
	arrive(2, UBLK_IO_OP_READ, 0, 8);
	buffer = bench.ios[2].buffer;
	assert_non_null(buffer);
	assert_ptr_equal(bench.request->data, buffer);
	ublkd_complete(bench.request, 0);
	is_command(next_sqe(), UBLK_IO_COMMIT_AND_FETCH_REQ, 2, 4096, buffer);
}

/* The driver refuses a READ's commit without an address. */
static void even_a_read_that_never_had_a_buffer_commits_an_address(void **state)
{
	(void)state;
	arrive(0, UBLK_IO_OP_READ, 0, SECTORS_MAX + 1);
	assert_int_equal(bench.served, 0);
	assert_null(bench.ios[0].buffer);
	assert_true(command_of(sqe_queued(bench.seen))->addr != 0);
	commits(0, -EINVAL);
	assert_int_equal(bench.queue.buffers.nr_returned, 0);
}

static void requests_without_data_borrow_nothing(void **state)
{
	static const uint32_t ops[] = { UBLK_IO_OP_FLUSH, UBLK_IO_OP_DISCARD,
					UBLK_IO_OP_WRITE_ZEROES };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		arrive(0, ops[i], 0, 8);
		is_command(next_sqe(), UBLK_IO_COMMIT_AND_FETCH_REQ, 0, 0, NULL);
		assert_int_equal(bench.queue.buffers.nr_free, 2);
	}
	assert_int_equal(bench.queue.buffers.nr_returned, 0);
}

static void a_buffer_returns_only_after_the_submit(void **state)
{
	(void)state;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	next_sqe();
	/* The kernel has not copied from it yet. */
	assert_int_equal(bench.queue.buffers.nr_free, 1);
	assert_int_equal(bench.queue.buffers.nr_returned, 1);
	reactor_turn();
	assert_int_equal(bench.queue.buffers.nr_free, 2);
	assert_null(bench.ios[0].buffer);
}

static void a_buffer_whose_commit_may_be_on_its_way_is_nobodys(void **state)
{
	const void *first;

	(void)state;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	first = (const void *)(uintptr_t)command_of(next_sqe())->addr;
	/* Another request's search for room submits it, and the tag's next I/O comes at once. */
	ring_submit(&bench.reactor.ring);
	bench.serve = keep;
	arrive(0, UBLK_IO_OP_READ, 64, 8);
	assert_ptr_not_equal(bench.request->data, first);
	reactor_turn();
	arrive(1, UBLK_IO_OP_READ, 128, 8);
	assert_ptr_not_equal(bench.ios[1].pub.data, bench.ios[0].pub.data);
}

static void an_aborted_tag_leaves_its_buffer_to_others(void **state)
{
	(void)state;
	bench.serve = use_ring;
	for (unsigned tag = 0; tag < 3; tag++) {
		bench.descriptors[tag] = (struct ublk_io_desc){
			.op_flags = UBLK_IO_OP_WRITE, .nr_sectors = 8,
		};
		io_command_done(&bench.ios[tag], UBLK_IO_RES_NEED_GET_DATA);
	}
	next_sqe();
	next_sqe();
	assert_int_equal(sqes_left(), 0);
	io_command_done(&bench.ios[0], UBLK_IO_RES_ABORT);
	reactor_turn();
	assert_int_equal(sqes_left(), 1);
}

static void who_finds_no_buffer_waits_in_line(void **state)
{
	(void)state;
	bench.serve = keep;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	arrive(1, UBLK_IO_OP_READ, 0, 8);
	arrive(2, UBLK_IO_OP_READ, 16, 8);
	want_data(3, 8);
	assert_int_equal(bench.served, 2);
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.nr_parked, 0);
	ublkd_complete(&bench.ios[1].pub, 0);
	next_sqe();
	reactor_turn();
	/* Tag 2 came first, it has the buffer. */
	assert_int_equal(bench.served, 3);
	assert_ptr_equal(bench.request, &bench.ios[2].pub);
	assert_int_equal(bench.request->offset, 8192);
	assert_non_null(bench.request->data);
	assert_int_equal(sqes_left(), 0);
	ublkd_complete(&bench.ios[0].pub, 0);
	next_sqe();
	reactor_turn();
	is_command(next_sqe(), UBLK_IO_NEED_GET_DATA, 3, 0, bench.ios[3].buffer);
	assert_non_null(bench.ios[3].buffer);
	assert_ptr_not_equal(bench.ios[3].buffer, bench.ios[2].buffer);
	arrive(3, UBLK_IO_OP_WRITE, 0, 8);
	assert_int_equal(bench.served, 4);
}

static void without_room_the_data_is_asked_for_later_with_the_same_buffer(void **state)
{
	const void *buffer;

	(void)state;
	bench.reactor.ring.room = bench.room_by_submit = 0;
	want_data(0, 8);
	is_waiting(0);
	buffer = bench.ios[0].buffer;
	assert_int_equal(bench.queue.buffers.nr_free, 1);
	reactor_turn();
	is_waiting(0);
	bench.room_by_submit = 1;
	reactor_turn();
	is_command(next_sqe(), UBLK_IO_NEED_GET_DATA, 0, 0, buffer);
	assert_int_equal(bench.queue.buffers.nr_free, 1);
}

static void a_write_that_is_refused_after_its_data_came_returns_the_buffer(void **state)
{
	(void)state;
	want_data(0, 8);
	next_sqe();
	arrive(0, UBLK_IO_OP_WRITE, DEVICE_SECTORS, 8);
	is_command(next_sqe(), UBLK_IO_COMMIT_AND_FETCH_REQ, 0, -EINVAL, NULL);
	reactor_turn();
	assert_int_equal(bench.queue.buffers.nr_free, 2);
}

/* ---- the end ------------------------------------------------------------- */

static void a_draining_reactor_fails_what_arrives(void **state)
{
	(void)state;
	bench.queue.draining = true;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	commits(0, -EIO);
	assert_int_equal(bench.served, 0);
}

static void a_draining_reactor_fails_what_waited(void **state)
{
	(void)state;
	bench.reactor.ring.room = bench.room_by_submit = 2;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	is_waiting(0);
	bench.queue.draining = true;
	reactor_turn();
	assert_int_equal(bench.served, 0);
	commits(0, -EIO);
}

static void a_draining_reactor_does_not_continue(void **state)
{
	static const int results[] = { 512, -ECANCELED, -EAGAIN };

	(void)state;
	bench.serve = use_ring;
	for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
		bench.queue.draining = false;
		arrive(0, UBLK_IO_OP_READ, 0, 8);
		bench.queue.draining = true;
		complete(next_sqe(), results[i]);
		commits(0, -EIO);
	}
}

static void a_draining_reactor_still_takes_results(void **state)
{
	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	bench.queue.draining = true;
	complete(next_sqe(), 4096);
	commits(0, 4096);
}

static void a_draining_reactor_does_not_continue_what_waited_for_room(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	sqe = next_sqe();
	bench.reactor.ring.room = bench.room_by_submit = 0;
	complete(sqe, 1024);
	bench.queue.draining = true;
	bench.room_by_submit = 8;
	reactor_turn();
	commits(0, -EIO);
}

static void cancelling_asks_for_the_parts_that_are_in_the_ring(void **state)
{
	const struct io_uring_sqe *first, *second, *cancel;

	(void)state;
	bench.serve = use_both_files;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	first = next_sqe();
	second = next_sqe();
	complete(first, 4096);
	io_cancel(&bench.ios[0]);
	cancel = next_sqe();
	assert_int_equal(cancel->opcode, IORING_OP_ASYNC_CANCEL);
	assert_int_equal(cancel->addr, second->user_data);
	assert_int_equal(cancel->user_data, DISPATCH_NOBODY);
	assert_int_equal(cancel->flags, 0);
	assert_int_equal(sqes_left(), 0);
	complete(second, 4096);
	commits(0, 4096);
	/* Nothing is in the ring now, nor of a tag that waits for I/O. */
	io_cancel(&bench.ios[0]);
	io_cancel(&bench.ios[1]);
	assert_int_equal(sqes_left(), 0);
}

static void an_abort_ends_the_tag(void **state)
{
	(void)state;
	io_command_done(&bench.ios[0], UBLK_IO_RES_ABORT);
	assert_int_equal(bench.ios[0].state, IO_ENDED);
	assert_int_equal(bench.tags_ended, 1);
	arrive(1, UBLK_IO_OP_FLUSH, 0, 0);
	next_sqe();
	io_command_done(&bench.ios[1], UBLK_IO_RES_ABORT);
	assert_int_equal(bench.ios[1].state, IO_ENDED);
	assert_int_equal(bench.tags_ended, 2);
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.failure, 0);
}

static void an_abort_while_data_is_asked_for_ends_the_tag(void **state)
{
	(void)state;
	want_data(0, 8);
	next_sqe();
	io_command_done(&bench.ios[0], UBLK_IO_RES_ABORT);
	assert_int_equal(bench.ios[0].state, IO_ENDED);
	assert_int_equal(bench.tags_ended, 1);
}

static void a_command_that_the_driver_refuses_fails_the_queue(void **state)
{
	(void)state;
	io_command_done(&bench.ios[2], -EINVAL);
	assert_int_equal(bench.failure, -EINVAL);
	assert_string_equal(bench.failure_text,
			    "queue 3 tag 2: the driver refused the FETCH_REQ command");
	assert_int_equal(bench.ios[2].state, IO_ENDED);
	assert_int_equal(bench.tags_ended, 1);
	arrive(1, UBLK_IO_OP_FLUSH, 0, 0);
	io_command_done(&bench.ios[1], -EBUSY);
	assert_int_equal(bench.failure, -EBUSY);
	assert_contains(bench.failure_text, "tag 1: the driver refused the COMMIT_AND_FETCH_REQ");
}

/* ---- our own mistakes ---------------------------------------------------- */

static void fetch_again(void *arg)
{
	(void)arg;
	io_fetch(&bench.ios[0]);
}

static void arrive_while_in_process(void *arg)
{
	(void)arg;
	bench.serve = keep;
	arrive(0, UBLK_IO_OP_FLUSH, 0, 0);
	arrive(0, UBLK_IO_OP_FLUSH, 0, 0);
}

static void abort_while_in_process(void *arg)
{
	(void)arg;
	bench.serve = keep;
	arrive(0, UBLK_IO_OP_FLUSH, 0, 0);
	io_command_done(&bench.ios[0], UBLK_IO_RES_ABORT);
}

static void complete_what_was_not_kept(void *arg)
{
	(void)arg;
	ublkd_complete(&bench.ios[0].pub, 0);
}

static void complete_twice(void *arg)
{
	(void)arg;
	bench.serve = keep;
	arrive(0, UBLK_IO_OP_FLUSH, 0, 0);
	ublkd_complete(bench.request, 0);
	ublkd_complete(bench.request, 0);
}

static void a_part_ends_twice(void *arg)
{
	(void)arg;
	bench.serve = use_both_files;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	complete(sqe_queued(bench.seen), 4096);
	complete(sqe_queued(bench.seen), 4096);
}

static int count_too_many(struct ublkd_io *io)
{
	return ublkd_ring_sync(io, 0) + 1;
}

static int fail_after_queueing(struct ublkd_io *io)
{
	ublkd_ring_sync(io, 0);
	return -EIO;
}

static int keep_after_queueing(struct ublkd_io *io)
{
	ublkd_ring_sync(io, 0);
	return UBLKD_KEPT;
}

static int use_a_file_that_is_none(struct ublkd_io *io)
{
	return ublkd_ring_sync(io, BENCH_FILES);
}

static int queue_too_much(struct ublkd_io *io)
{
	int queued = 0;

	for (unsigned i = 0; i <= UBLKD_SQES_PER_IO; i++)
		queued += ublkd_ring_sync(io, 0);
	return queued;
}

static void serve_with(void *arg)
{
	bench.serve = *(int (**)(struct ublkd_io *))arg;
	arrive(0, UBLK_IO_OP_FLUSH, 0, 0);
}

static void transitions_that_cannot_be_are_asserted(void **state)
{
	(void)state;
	assert_true(aborts(fetch_again, NULL));
	assert_true(aborts(arrive_while_in_process, NULL));
	assert_true(aborts(abort_while_in_process, NULL));
	assert_true(aborts(complete_what_was_not_kept, NULL));
	assert_true(aborts(complete_twice, NULL));
	assert_true(aborts(a_part_ends_twice, NULL));
}

static void backends_that_break_the_contract_are_caught(void **state)
{
	static int (*bad[])(struct ublkd_io *) = {
		count_too_many, fail_after_queueing, keep_after_queueing, use_a_file_that_is_none,
		queue_too_much,
	};
	static int (*good)(struct ublkd_io *) = use_ring;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(aborts(serve_with, &bad[i]));
	assert_false(aborts(serve_with, &good));
}

/* ---- counters and names -------------------------------------------------- */

static void requests_are_counted(void **state)
{
	const struct queue_stats *stats = &bench.queue.stats;

	(void)state;
	bench.serve = keep;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	arrive(1, UBLK_IO_OP_WRITE | UBLK_IO_F_FUA, 0, 2);
	arrive(2, UBLK_IO_OP_FLUSH, 0, 0);
	assert_int_equal(stats->in_flight, 3);
	for (unsigned tag = 0; tag < 3; tag++)
		ublkd_complete(&bench.ios[tag].pub, tag == 2 ? -EIO : 0);
	arrive(0, UBLK_IO_OP_DISCARD, 0, 8);
	ublkd_complete(&bench.ios[0].pub, 0);
	arrive(0, UBLK_IO_OP_WRITE_ZEROES | UBLK_IO_F_FUA, 0, 8);
	ublkd_complete(&bench.ios[0].pub, 0);
	for (unsigned op = 0; op < UBLKD_OP_COUNT; op++)
		assert_int_equal(stats->ops[op], 1);
	assert_int_equal(stats->read_bytes, 4096);
	assert_int_equal(stats->write_bytes, 1024);
	assert_int_equal(stats->errors, 1);
	assert_int_equal(stats->fua, 2);
	assert_int_equal(stats->in_flight, 0);
	assert_int_equal(stats->max_in_flight, 3);
	assert_int_equal(stats->tags_served, 3);
}

static void operations_have_names(void **state)
{
	(void)state;
	assert_string_equal(io_op_name(UBLKD_OP_READ), "read");
	assert_string_equal(io_op_name(UBLKD_OP_WRITE), "write");
	assert_string_equal(io_op_name(UBLKD_OP_FLUSH), "flush");
	assert_string_equal(io_op_name(UBLKD_OP_DISCARD), "discard");
	assert_string_equal(io_op_name(UBLKD_OP_WRITE_ZEROES), "write-zeroes");
	assert_string_equal(io_op_name(UBLKD_OP_COUNT), "unknown operation");
}

/* ---- any sequence of short results --------------------------------------- */

#define FILE_MAX 65536u

/*
 * What a kernel may answer to `asked` bytes at `at` of a file of `end` bytes:
 * any part of what there is, but not less than a direct block, unless the
 * file ends; or an error that passes.
 */
static int some_result(uint64_t *seed, uint32_t at, uint32_t asked, uint32_t end, uint32_t align)
{
	static const int passing[] = { -EAGAIN, -EINTR };
	uint32_t there = end > at ? MIN(asked, end - at) : 0;
	uint32_t least = MIN(there, MAX(align, 1));

	if (!random_below(seed, 5))
		return passing[random_below(seed, 2)];
	if (random_below(seed, 2))
		return (int)there;
	return (int)(least + (there > least ? random_below(seed, there - least + 1) : 0));
}

/* Moves one part through a simulated file; the last step. */
static enum io_step move(struct io_part *part, uint8_t *file, uint32_t end, uint32_t align,
			 uint64_t *seed)
{
	enum io_step step = IO_STEP_AGAIN;

	for (unsigned steps = 0; step == IO_STEP_AGAIN; steps++) {
		uint32_t at = (uint32_t)part->file_offset + part->start;
		int error = 0, result;

		/* Never more than a step per byte, and each error is tried 15 times. */
		assert_true(steps <= 16 * part->length);
		assert_int_equal(part->start % MAX(align, 1), 0);
		part->asked = part->length - part->start;
		result = some_result(seed, at, part->asked, end, align);
		/* Fewer tries than it has in a row. */
		if (result < 0 && part->tries == 14)
			result = (int)(end > at ? MIN(part->asked, end - at) : 0);
		if (result > 0 && part->kind == PART_READ)
			memcpy(part->data + part->start, file + at, (uint32_t)result);
		else if (result > 0)
			memcpy(file + at, part->data + part->start, (uint32_t)result);
		step = io_part_step(part, result, align, &error);
		assert_int_not_equal(step, IO_STEP_FAIL);
		assert_true(part->done <= part->length);
	}
	if (step == IO_STEP_EOF)
		memset(part->data + part->done, 0, part->length - part->done);
	return step;
}

static void fill(uint8_t *bytes, uint32_t count, uint64_t *seed)
{
	for (uint32_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)(1 + random_below(seed, 255));
}

static void any_short_reads_give_the_files_bytes_and_zeros_behind(void **state)
{
	static const uint32_t aligns[] = { 0, 512, 4096 };
	static uint8_t file[FILE_MAX], data[16384];
	uint64_t seed = 7;

	(void)state;
	fill(file, FILE_MAX, &seed);
	for (unsigned i = 0; i < 4000; i++) {
		uint32_t align = aligns[i % 3], unit = MAX(align, 512u);
		uint32_t length = unit * (1 + random_below(&seed, sizeof(data) / unit));
		uint32_t at = unit * random_below(&seed, (FILE_MAX - length) / unit + 1);
		uint32_t end = random_below(&seed, 2) ? FILE_MAX : random_below(&seed, FILE_MAX);
		uint32_t there = end > at ? MIN(end - at, length) : 0;
		struct io_part part = {
			.kind = PART_READ, .data = data, .length = length, .file_offset = at,
		};

		memset(data, 0xee, sizeof(data));
		assert_int_equal(move(&part, file, end, align, &seed),
				 there == length ? IO_STEP_DONE : IO_STEP_EOF);
		assert_memory_equal(data, file + at, there);
		for (uint32_t b = there; b < length; b++)
			assert_int_equal(data[b], 0);
		for (uint32_t b = length; b < sizeof(data); b++)
			assert_int_equal(data[b], 0xee);
	}
}

static void any_short_writes_leave_the_requests_bytes_and_no_others(void **state)
{
	static const uint32_t aligns[] = { 0, 512, 4096 };
	static uint8_t file[FILE_MAX], model[FILE_MAX], data[16384];
	uint64_t seed = 11;

	(void)state;
	for (unsigned i = 0; i < 4000; i++) {
		uint32_t align = aligns[i % 3], unit = MAX(align, 512u);
		uint32_t length = unit * (1 + random_below(&seed, sizeof(data) / unit));
		uint32_t at = unit * random_below(&seed, (FILE_MAX - length) / unit + 1);
		struct io_part part = {
			.kind = PART_WRITE, .data = data, .length = length, .file_offset = at,
		};

		fill(data, length, &seed);
		memcpy(model + at, data, length);
		assert_int_equal(move(&part, file, FILE_MAX, align, &seed), IO_STEP_DONE);
		assert_memory_equal(file, model, FILE_MAX);
	}
}

static void a_write_into_a_full_device_ends_with_an_error(void **state)
{
	struct io_part part = { .kind = PART_WRITE, .length = 8192, .asked = 8192 };
	int error = 0;

	(void)state;
	assert_int_equal(io_part_step(&part, 4096, 4096, &error), IO_STEP_AGAIN);
	assert_int_equal(part.start, 4096);
	part.asked = 4096;
	assert_int_equal(io_part_step(&part, 100, 4096, &error), IO_STEP_FAIL);
	assert_int_equal(error, -EIO);
}

int main(void)
{
#define COPY(name) cmocka_unit_test_setup_teardown(name, open_copying, close_bench)
#define LEND(name) cmocka_unit_test_setup_teardown(name, open_lending, close_bench)
	const struct CMUnitTest tests[] = {
		COPY(a_fetch_names_queue_tag_and_buffer),
		COPY(a_request_reaches_the_backend_as_the_driver_described_it),
		COPY(a_flush_has_no_range),
		COPY(reads_and_writes_commit_their_bytes_all_else_zero),
		COPY(a_descriptor_out_of_bounds_never_reaches_the_backend),
		COPY(an_operation_we_do_not_know_never_reaches_the_backend),
		COPY(the_bounds_themselves_are_served),
		COPY(a_failed_request_leaves_nothing_behind_for_the_next),
		COPY(a_read_moves_the_range_between_file_and_buffer),
		COPY(a_write_that_must_be_durable_says_so),
		COPY(a_sync_is_one_of_data),
		COPY(a_fallocate_has_mode_place_and_length),
		COPY(a_discard_goes_to_the_block_device),
		COPY(zeros_are_written_in_pieces),
		COPY(a_short_read_is_continued_from_where_it_ended),
		COPY(a_short_write_is_continued_from_where_it_ended),
		COPY(direct_io_is_continued_at_an_aligned_place),
		COPY(a_read_past_the_end_of_the_file_gives_zeros),
		COPY(a_direct_read_that_ends_within_a_block_is_at_the_end),
		COPY(a_write_without_progress_is_an_io_error),
		COPY(errors_are_passed_on),
		COPY(an_error_behind_a_short_result_fails_the_whole_request),
		COPY(errors_that_may_pass_are_tried_again_a_bounded_number_of_times),
		COPY(progress_earns_new_tries),
		COPY(an_interrupted_sync_is_repeated),
		COPY(more_bytes_than_were_asked_for_are_not_believed),
		COPY(a_request_of_two_parts_ends_with_the_last),
		COPY(the_first_error_of_the_parts_is_the_requests),
		COPY(a_kept_request_is_committed_when_it_is_completed),
		COPY(a_full_ring_is_submitted_before_anybody_waits),
		COPY(while_there_is_room_nothing_is_submitted),
		COPY(without_room_the_backend_is_not_asked_yet),
		COPY(without_room_a_continuation_waits),
		COPY(two_continuations_wait_as_one_request),
		COPY(a_part_may_fail_while_the_other_waits),
		COPY(without_room_a_commit_waits_with_its_result),
		COPY(a_submit_that_fails_makes_no_room),
		LEND(a_fetch_brings_no_buffer),
		LEND(a_writes_data_is_asked_for_before_it_is_served),
		LEND(a_reads_commit_says_where_its_data_is),
		LEND(even_a_read_that_never_had_a_buffer_commits_an_address),
		LEND(requests_without_data_borrow_nothing),
		LEND(a_buffer_returns_only_after_the_submit),
		LEND(a_buffer_whose_commit_may_be_on_its_way_is_nobodys),
		LEND(an_aborted_tag_leaves_its_buffer_to_others),
		LEND(who_finds_no_buffer_waits_in_line),
		LEND(without_room_the_data_is_asked_for_later_with_the_same_buffer),
		LEND(a_write_that_is_refused_after_its_data_came_returns_the_buffer),
		COPY(a_draining_reactor_fails_what_arrives),
		COPY(a_draining_reactor_fails_what_waited),
		COPY(a_draining_reactor_does_not_continue),
		COPY(a_draining_reactor_does_not_continue_what_waited_for_room),
		COPY(a_draining_reactor_still_takes_results),
		COPY(cancelling_asks_for_the_parts_that_are_in_the_ring),
		COPY(an_abort_ends_the_tag),
		LEND(an_abort_while_data_is_asked_for_ends_the_tag),
		COPY(a_command_that_the_driver_refuses_fails_the_queue),
		COPY(transitions_that_cannot_be_are_asserted),
		COPY(backends_that_break_the_contract_are_caught),
		COPY(requests_are_counted),
		cmocka_unit_test(operations_have_names),
		cmocka_unit_test(any_short_reads_give_the_files_bytes_and_zeros_behind),
		cmocka_unit_test(any_short_writes_leave_the_requests_bytes_and_no_others),
		cmocka_unit_test(a_write_into_a_full_device_ends_with_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
