/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Batch mode: what goes to the driver and what its answers lead to (fake-reactor.h). */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch.h"
#include "fake-reactor.h"
#include "util/macros.h"

#define MULTISHOT (1u << 1) /* IORING_URING_CMD_MULTISHOT */

static enum data_mode copy = DATA_COPY, zero_copy = DATA_ZERO_COPY, by_register = DATA_REGISTER,
		      user_copy = DATA_USER_COPY;

/* How far the kernel has taken what the ring was lent. */
static unsigned short lent_head;

static int open_raw(void **state)
{
	const enum data_mode *mode = *state;

	bench_open_batch(*mode);
	bench.serve = use_ring;
	lent_head = 0;
	return 0;
}

static int close_bench(void **state)
{
	(void)state;
	bench_close();
	return 0;
}

/* ---- the driver's side --------------------------------------------------- */

static struct batch *batch(void)
{
	return bench.queue.batch;
}

/* Something is not in the ring yet. */
static bool due(void)
{
	assert_true(!bench.reactor.batches || bench.reactor.batches == batch());
	return bench.reactor.batches;
}

static const struct ublk_batch_cmd *batch_of(const struct io_uring_sqe *sqe)
{
	return (const void *)command_of(sqe);
}

static void answer(const struct io_uring_sqe *sqe, int result)
{
	assert_int_equal(dispatch_kind(sqe->user_data), DISPATCH_BATCH);
	batch_command_done(dispatch_pointer(sqe->user_data), result, 0);
}

/* The n-th element of a command. */
static const struct ublk_batch_elem *element(const struct io_uring_sqe *sqe, unsigned n)
{
	assert_true(n < batch_of(sqe)->nr_elem);
	return (const void *)((const uint8_t *)(uintptr_t)sqe->addr + n * batch_of(sqe)->elem_bytes);
}

static unsigned element_bytes(void)
{
	return bench.shape.data == DATA_COPY ? 16 : 8;
}

/* The next SQE is this command, with so many elements. */
static const struct io_uring_sqe *next_command(uint32_t op, unsigned elements, unsigned sqe_flags)
{
	static const uint16_t flags[] = {
		[DATA_COPY] = UBLK_BATCH_F_HAS_BUF_ADDR,
		[DATA_ZERO_COPY] = UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK,
		[DATA_USER_COPY] = 0,
	};
	const struct io_uring_sqe *sqe = next_sqe();

	assert_int_equal(sqe->opcode, IORING_OP_URING_CMD);
	assert_int_equal(sqe->flags, IOSQE_FIXED_FILE | sqe_flags);
	assert_int_equal(sqe->fd, BENCH_FILE_BASE);
	assert_int_equal(sqe->cmd_op, op);
	assert_int_equal(batch_of(sqe)->q_id, BENCH_QUEUE_ID);
	assert_int_equal(batch_of(sqe)->flags, flags[bench.shape.data]);
	assert_int_equal(batch_of(sqe)->nr_elem, elements);
	assert_int_equal(batch_of(sqe)->elem_bytes, element_bytes());
	return sqe;
}

static const struct io_uring_sqe *next_batch(uint32_t op, unsigned elements)
{
	return next_command(op, elements, 0);
}

static void is_element(const struct io_uring_sqe *sqe, unsigned n, unsigned tag, int32_t result)
{
	const struct ublk_batch_elem *elem = element(sqe, n);

	assert_int_equal(elem->tag, tag);
	assert_int_equal(elem->buf_index, BENCH_SLOT_BASE + tag);
	assert_int_equal(elem->result, result);
	if (bench.shape.data == DATA_COPY)
		assert_int_equal(*(const uint64_t *)(const void *)(elem + 1),
				 (uintptr_t)bench.queue.buffers.memory + tag * BENCH_MAX_IO);
}

/* One commit, of one tag. */
static const struct io_uring_sqe *commits_alone(unsigned tag, int32_t result)
{
	const struct io_uring_sqe *sqe;

	assert_int_equal(batches_give(&bench.reactor.batches), 1);
	sqe = next_batch(UBLK_IO_COMMIT_IO_CMDS, 1);
	is_element(sqe, 0, tag, result);
	assert_int_equal(sqes_left(), 0);
	return sqe;
}

static void is_fetch(const struct io_uring_sqe *sqe)
{
	assert_int_equal(sqe->opcode, IORING_OP_URING_CMD);
	assert_int_equal(sqe->flags, IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT);
	assert_int_equal(sqe->fd, BENCH_FILE_BASE);
	assert_int_equal(sqe->cmd_op, UBLK_IO_FETCH_IO_CMDS);
	assert_int_equal(sqe->uring_cmd_flags, MULTISHOT);
	assert_int_equal(sqe->buf_group, BENCH_GROUP);
	assert_int_equal(sqe->addr, 0);
	assert_int_equal(batch_of(sqe)->q_id, BENCH_QUEUE_ID);
	assert_int_equal(batch_of(sqe)->flags, 0);
	assert_int_equal(batch_of(sqe)->nr_elem, 0);
	assert_int_equal(batch_of(sqe)->elem_bytes, 2);
}

/* The tags are prepared and their requests fetched. */
static int open_fetching(void **state)
{
	open_raw(state);
	batches_give(&bench.reactor.batches);
	answer(next_sqe(), 0);
	batches_give(&bench.reactor.batches);
	is_fetch(next_sqe());
	return 0;
}

static unsigned buffers_lent(void)
{
	return (unsigned short)(bench.lent->tail - lent_head);
}

/* The kernel takes the next buffer that it was lent. */
static const struct io_uring_buf *take_buffer(void)
{
	assert_true(buffers_lent() > 0);
	return &bench.lent->bufs[lent_head++ & (bench.lent_entries - 1)];
}

static void fetched_with(int result, uint32_t flags)
{
	batch_command_done(&batch()->fetch, result, flags);
}

/* Reads of 4096 bytes arrive, with these tags. */
static void arrive_tags(const uint16_t *tags, unsigned n)
{
	const struct io_uring_buf *buffer = take_buffer();

	assert_true(n * sizeof(*tags) <= buffer->len);
	for (unsigned i = 0; i < n; i++) {
		if (tags[i] < BENCH_DEPTH)
			bench.descriptors[tags[i]] = (struct ublk_io_desc){
				.op_flags = UBLK_IO_OP_READ, .nr_sectors = 8,
			};
	}
	memcpy((void *)(uintptr_t)buffer->addr, tags, n * sizeof(*tags));
	fetched_with((int)(n * sizeof(*tags)),
		     IORING_CQE_F_BUFFER | IORING_CQE_F_MORE |
			     (uint32_t)buffer->bid << IORING_CQE_BUFFER_SHIFT);
}

#define ARRIVE(...) \
	arrive_tags((const uint16_t[]){ __VA_ARGS__ }, \
		    sizeof((const uint16_t[]){ __VA_ARGS__ }) / sizeof(uint16_t))

/* Their reads complete, in the order in which they were queued. */
static void complete_reads(unsigned n)
{
	const struct io_uring_sqe *reads[BENCH_DEPTH];

	for (unsigned i = 0; i < n; i++)
		reads[i] = next_sqe();
	assert_int_equal(sqes_left(), 0);
	for (unsigned i = 0; i < n; i++)
		complete(reads[i], 4096);
}

/* ---- the commands -------------------------------------------------------- */

static void all_tags_are_prepared_by_one_command(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	assert_true(due());
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(batches_give(&bench.reactor.batches), 1);
	sqe = next_batch(UBLK_IO_PREP_IO_CMDS, BENCH_DEPTH);
	for (unsigned tag = 0; tag < BENCH_DEPTH; tag++) {
		is_element(sqe, tag, tag, 0);
		assert_int_equal(bench.ios[tag].state, IO_FETCH);
	}
	assert_int_equal(sqes_left(), 0);
	/* Nothing is fetched before that is done. */
	assert_false(due());
	assert_int_equal(batches_give(&bench.reactor.batches), 0);
	answer(sqe, 0);
	assert_true(due());
	/* Whose end is not to be waited for. */
	assert_int_equal(batches_give(&bench.reactor.batches), 0);
	is_fetch(next_sqe());
	assert_int_equal(sqes_left(), 0);
	assert_false(due());
	assert_int_equal(bench.queue.stats.batches, 0);
}

static void the_ring_is_lent_a_buffer_for_each_tag(void **state)
{
	(void)state;
	assert_int_equal(bench.lent_entries, BENCH_DEPTH);
	assert_int_equal((uintptr_t)bench.lent % 4096, 0);
	assert_int_equal(buffers_lent(), BENCH_DEPTH);
	for (unsigned i = 0; i < BENCH_DEPTH; i++) {
		assert_int_equal(bench.lent->bufs[i].bid, i);
		assert_int_equal(bench.lent->bufs[i].len, BENCH_DEPTH * 2);
	}
}

static void a_ring_that_borrows_nothing_leaves_nothing_behind(void **state)
{
	struct batch *none = NULL;

	(void)state;
	bench.lend_result = -EINVAL;
	assert_int_equal(batch_open(&none, &bench.queue), -EINVAL);
	assert_null(none);
}

static void what_a_turn_has_done_is_one_command(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	ARRIVE(2, 0, 3);
	assert_int_equal(bench.served, 3);
	complete_reads(3);
	assert_int_equal(sqes_left(), 0);
	for (unsigned tag = 0; tag < BENCH_DEPTH; tag++)
		assert_int_equal(bench.ios[tag].state, tag == 1 ? IO_FETCH : IO_COMMIT);
	assert_true(due());
	assert_int_equal(batches_give(&bench.reactor.batches), 1);
	sqe = next_batch(UBLK_IO_COMMIT_IO_CMDS, 3);
	is_element(sqe, 0, 2, 4096);
	is_element(sqe, 1, 0, 4096);
	is_element(sqe, 2, 3, 4096);
	assert_int_equal(sqes_left(), 0);
	assert_false(due());
	answer(sqe, (int)(3 * element_bytes()));
	assert_false(due());
	assert_int_equal(batches_give(&bench.reactor.batches), 0);
	assert_int_equal(bench.queue.stats.batches, 1);
	assert_int_equal(bench.queue.stats.in_flight, 0);
	/* And again, in the other list. */
	ARRIVE(3);
	complete_reads(1);
	answer(commits_alone(3, 4096), (int)element_bytes());
	assert_int_equal(bench.queue.stats.batches, 2);
}

static void errors_go_with_the_rest(void **state)
{
	const struct io_uring_sqe *sqe, *read;

	(void)state;
	ARRIVE(0, 1);
	read = next_sqe();
	complete(next_sqe(), 4096);
	complete(read, -ENOSPC);
	batches_give(&bench.reactor.batches);
	sqe = next_batch(UBLK_IO_COMMIT_IO_CMDS, 2);
	is_element(sqe, 0, 1, 4096);
	is_element(sqe, 1, 0, -ENOSPC);
	assert_int_equal(bench.failed_requests, 1);
}

static void what_is_done_meanwhile_waits_for_the_answer(void **state)
{
	const struct io_uring_sqe *first, *second;

	(void)state;
	ARRIVE(0);
	complete_reads(1);
	first = commits_alone(0, 4096);
	/* The next request of the same tag may be here first. */
	ARRIVE(0, 1);
	complete_reads(2);
	assert_int_equal(batches_give(&bench.reactor.batches), 0);
	assert_int_equal(sqes_left(), 0);
	assert_true(due());
	answer(first, (int)element_bytes());
	assert_int_equal(batches_give(&bench.reactor.batches), 1);
	second = next_batch(UBLK_IO_COMMIT_IO_CMDS, 2);
	is_element(second, 0, 0, 4096);
	is_element(second, 1, 1, 4096);
	is_element(first, 0, 0, 4096); /* its memory is left alone */
}

static void what_was_not_taken_is_given_again(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	ARRIVE(3, 2, 1, 0);
	complete_reads(4);
	batches_give(&bench.reactor.batches);
	answer(next_batch(UBLK_IO_COMMIT_IO_CMDS, 4), (int)element_bytes());
	assert_true(due());
	/* Tag 3's next request is here and done, and comes behind. */
	ARRIVE(3);
	complete_reads(1);
	assert_int_equal(batches_give(&bench.reactor.batches), 1);
	sqe = next_batch(UBLK_IO_COMMIT_IO_CMDS, 3);
	is_element(sqe, 0, 2, 4096);
	is_element(sqe, 1, 1, 4096);
	is_element(sqe, 2, 0, 4096);
	/* Half an element is none. */
	answer(sqe, (int)(2 * element_bytes() + 4));
	batches_give(&bench.reactor.batches);
	sqe = next_batch(UBLK_IO_COMMIT_IO_CMDS, 1);
	is_element(sqe, 0, 0, 4096);
	answer(sqe, (int)element_bytes());
	answer(commits_alone(3, 4096), (int)element_bytes());
	assert_false(due());
	assert_int_equal(bench.failure, 0);
}

static void an_error_that_may_pass_is_tried_again(void **state)
{
	static const int errors[] = { -EAGAIN, -EINTR, -ENOMEM };

	(void)state;
	ARRIVE(1);
	complete_reads(1);
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		answer(commits_alone(1, 4096), errors[i]);
	answer(commits_alone(1, 4096), (int)element_bytes());
	assert_false(due());
	assert_int_equal(bench.failure, 0);
}

static void without_progress_it_is_not_tried_for_ever(void **state)
{
	unsigned tries = 0;

	(void)state;
	ARRIVE(1);
	complete_reads(1);
	while (!bench.failure && ++tries < 100)
		answer(commits_alone(1, 4096), -EAGAIN);
	assert_int_equal(tries, 16);
	assert_int_equal(bench.failure, -EAGAIN);
	assert_string_equal(bench.failure_text,
			    "queue 3: the driver refused the COMMIT_IO_CMDS command");
}

static void a_commit_that_takes_nothing_is_a_failure_in_the_end(void **state)
{
	(void)state;
	ARRIVE(1);
	complete_reads(1);
	for (unsigned i = 0; i < 16; i++)
		answer(commits_alone(1, 4096), 0);
	assert_int_equal(bench.failure, -EIO);
}

static void a_commit_that_is_refused_fails_the_queue(void **state)
{
	(void)state;
	ARRIVE(1);
	complete_reads(1);
	answer(commits_alone(1, 4096), -EINVAL);
	assert_int_equal(bench.failure, -EINVAL);
	assert_false(due());
	/* The fetch is in the ring, and may still write into what we lent. */
	assert_int_equal(bench.tags_ended, 0);
	fetched_with(UBLK_IO_RES_ABORT, 0);
	assert_int_equal(bench.tags_ended, BENCH_DEPTH);
}

/* What is left of a commit that the driver took in part. */
static void a_fetch_that_is_refused_ends_the_commits_as_well(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	ARRIVE(0, 1);
	complete_reads(2);
	batches_give(&bench.reactor.batches);
	sqe = next_sqe();
	answer(sqe, (int)element_bytes());
	assert_true(due());
	fetched_with(-EFAULT, 0);
	assert_int_equal(bench.failure, -EFAULT);
	assert_false(bench.queue.batch->give_due);
	assert_int_equal(batches_give(&bench.reactor.batches), 0);
	assert_int_equal(sqes_left(), 0);
}

static void a_prep_that_is_refused_fails_the_queue(void **state)
{
	(void)state;
	batches_give(&bench.reactor.batches);
	answer(next_sqe(), -EINVAL);
	assert_int_equal(bench.failure, -EINVAL);
	assert_string_equal(bench.failure_text,
			    "queue 3: the driver refused the PREP_IO_CMDS command");
	assert_false(due());
	assert_int_equal(bench.tags_ended, BENCH_DEPTH);
}

static void a_device_that_goes_before_it_starts_ends_the_tags(void **state)
{
	(void)state;
	batches_give(&bench.reactor.batches);
	answer(next_sqe(), UBLK_IO_RES_ABORT);
	assert_int_equal(bench.tags_ended, BENCH_DEPTH);
	assert_int_equal(bench.failure, 0);
	assert_false(due());
}

/* ---- room in the ring ---------------------------------------------------- */

static void without_room_it_stays_due(void **state)
{
	(void)state;
	ARRIVE(1);
	complete_reads(1);
	fetched_with(-ENOBUFS, 0);
	bench.reactor.ring.room = 0;
	bench.submit_result = -EAGAIN;
	assert_int_equal(batches_give(&bench.reactor.batches), 0);
	assert_int_equal(sqes_left(), 0);
	assert_true(due());
	bench.reactor.ring.room = 1;
	assert_int_equal(batches_give(&bench.reactor.batches), 0);
	is_fetch(next_sqe());
	assert_true(due());
	/* A submit makes room. */
	bench.submit_result = 0;
	commits_alone(1, 4096);
	assert_false(due());
}

/* ---- pages in the ring's table --------------------------------------------- */

static void our_own_registration_ends_before_the_commit(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	ARRIVE(2);
	if (bench.shape.data == DATA_ZERO_COPY) {
		/* The driver has registered it. */
		complete_reads(1);
		commits_alone(2, 4096);
		return;
	}
	sqe = next_sqe();
	assert_int_equal(sqe->cmd_op, UBLK_IO_REGISTER_IO_BUF);
	registered(sqe, 0);
	complete_reads(1);
	assert_int_equal(next_sqe()->cmd_op, UBLK_IO_UNREGISTER_IO_BUF);
	commits_alone(2, 4096);
}

static void pages_that_the_driver_could_not_register_are_registered(void **state)
{
	const struct io_uring_buf *buffer = take_buffer();
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.descriptors[2] = (struct ublk_io_desc){
		.op_flags = UBLK_IO_OP_WRITE | UBLK_IO_F_NEED_REG_BUF, .nr_sectors = 8,
	};
	*(uint16_t *)(uintptr_t)buffer->addr = 2;
	fetched_with(2, IORING_CQE_F_BUFFER | IORING_CQE_F_MORE |
				(uint32_t)buffer->bid << IORING_CQE_BUFFER_SHIFT);
	sqe = next_sqe();
	assert_int_equal(sqe->cmd_op, UBLK_IO_REGISTER_IO_BUF);
	registered(sqe, 0);
	complete_reads(1);
	assert_int_equal(next_sqe()->cmd_op, UBLK_IO_UNREGISTER_IO_BUF);
	commits_alone(2, 4096);
}

/* ---- fetching ------------------------------------------------------------ */

static void buffers_go_round_for_ever(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 70000; i++) { /* the counter has 16 bits */
		ARRIVE(i % BENCH_DEPTH);
		assert_int_equal(buffers_lent(), BENCH_DEPTH);
		complete_reads(1);
		answer(commits_alone(i % BENCH_DEPTH, 4096), (int)element_bytes());
		/* The bench notes only so many. */
		bench.reactor.ring.uring.sq.sqe_tail = bench.seen = 0;
		bench.reactor.ring.next = 0;
		bench.reactor.ring.room = 64;
	}
}

static void a_buffer_that_was_lost_is_lent_again(void **state)
{
	(void)state;
	/* The kernel took it and had no room for the completion. */
	take_buffer();
	fetched_with(-ENOBUFS, 0);
	batches_give(&bench.reactor.batches);
	is_fetch(next_sqe());
	assert_int_equal(buffers_lent(), BENCH_DEPTH - 1);
	ARRIVE(1);
	assert_int_equal(buffers_lent(), BENCH_DEPTH);
	for (unsigned i = 0; i < BENCH_DEPTH; i++)
		assert_int_equal(bench.lent->bufs[(lent_head + i) % BENCH_DEPTH].bid,
				 (2 + i) % BENCH_DEPTH);
}

static void a_fetch_that_ends_is_queued_again(void **state)
{
	static const int results[] = { -ENOBUFS, -ENOMEM, -EAGAIN, -EINTR, 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
		fetched_with(results[i], 0);
		assert_true(due());
		assert_int_equal(batches_give(&bench.reactor.batches), 0);
		is_fetch(next_sqe());
		assert_int_equal(sqes_left(), 0);
	}
	assert_int_equal(bench.failure, 0);
	assert_int_equal(bench.tags_ended, 0);
}

static void a_fetch_that_always_ends_fails_the_queue(void **state)
{
	unsigned tries = 0;

	(void)state;
	while (!bench.failure && ++tries < 100) {
		fetched_with(-ENOBUFS, 0);
		batches_give(&bench.reactor.batches);
	}
	assert_int_equal(tries, 16);
	assert_int_equal(bench.failure, -ENOBUFS);
	assert_string_equal(bench.failure_text,
			    "queue 3: the driver refused the FETCH_IO_CMDS command");
}

static void a_fetch_that_is_refused_fails_the_queue(void **state)
{
	(void)state;
	fetched_with(-EFAULT, 0);
	assert_int_equal(bench.failure, -EFAULT);
	assert_false(due());
	assert_int_equal(bench.tags_ended, BENCH_DEPTH);
}

static void a_tag_that_the_driver_does_not_have_fails_the_queue(void **state)
{
	(void)state;
	ARRIVE(1, BENCH_DEPTH, 2);
	assert_int_equal(bench.failure, -EPROTO);
	assert_contains(bench.failure_text, "got tag 4");
	assert_int_equal(bench.served, 1);
	bench.failure = 0;
	ARRIVE(1); /* ours */
	assert_int_equal(bench.failure, -EPROTO);
	assert_int_equal(bench.served, 1);
}

static void an_abort_of_the_fetch_ends_all_tags(void **state)
{
	(void)state;
	ARRIVE(0);
	complete_reads(1);
	answer(commits_alone(0, 4096), (int)element_bytes());
	fetched_with(UBLK_IO_RES_ABORT, 0);
	assert_int_equal(bench.tags_ended, BENCH_DEPTH);
	for (unsigned tag = 0; tag < BENCH_DEPTH; tag++)
		assert_int_equal(bench.ios[tag].state, IO_ENDED);
	assert_false(due());
	assert_int_equal(bench.failure, 0);
}

static void the_last_results_are_taken_before_the_tags_end(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	ARRIVE(0, 1);
	complete(next_sqe(), 4096);
	sqe = next_sqe();
	fetched_with(UBLK_IO_RES_ABORT, 0);
	assert_int_equal(bench.tags_ended, 0);
	answer(commits_alone(0, 4096), (int)element_bytes());
	/* Tag 1 is still served. */
	assert_int_equal(bench.tags_ended, BENCH_DEPTH - 1);
	complete(sqe, 4096);
	answer(commits_alone(1, 4096), (int)element_bytes());
	assert_int_equal(bench.tags_ended, BENCH_DEPTH);
}

/* ---- links ----------------------------------------------------------------- */

static int open_linking(void **state)
{
	open_fetching(state);
	bench.shape.link = LINK_AUTO;
	return 0;
}

/* The next SQEs are a read and, linked behind it, the commit of the tag. Returns the first. */
static const struct io_uring_sqe *linked(unsigned tag)
{
	const struct io_uring_sqe *read = next_sqe(), *commit;

	assert_int_equal(read->flags & (IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS),
			 IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS);
	/* One that is taken says nothing: the next request says so. */
	commit = next_command(UBLK_IO_COMMIT_IO_CMDS, 1, IOSQE_CQE_SKIP_SUCCESS);
	is_element(commit, 0, tag, 4096);
	assert_int_equal(commit->user_data, dispatch_to_io(&bench.ios[tag]));
	assert_int_equal(bench.ios[tag].state, IO_LINKED);
	return read;
}

static void a_single_request_is_linked(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		bench.reactor.burst = 1;
		ARRIVE(2);
		linked(2);
		assert_int_equal(sqes_left(), 0);
		assert_false(due());
	}
	assert_int_equal(bench.queue.stats.linked, 3);
	bench.reactor.burst = 1;
	ARRIVE(1, 3);
	complete_reads(2);
	batches_give(&bench.reactor.batches);
	next_batch(UBLK_IO_COMMIT_IO_CMDS, 2);
	assert_int_equal(bench.queue.stats.linked, 3);
	assert_int_equal(bench.queue.stats.batches, 1);
}

static void a_request_beside_another_is_not_linked(void **state)
{
	(void)state;
	ARRIVE(1, 3);
	bench.reactor.burst = 1;
	ARRIVE(2);
	complete_reads(3);
	assert_int_equal(bench.queue.stats.linked, 0);
	batches_give(&bench.reactor.batches);
	next_batch(UBLK_IO_COMMIT_IO_CMDS, 3);
}

static void a_broken_link_goes_with_the_next_batch(void **state)
{
	const struct io_uring_sqe *read;

	(void)state;
	ARRIVE(1);
	read = linked(1);
	complete(read, -ENOSPC);
	assert_int_equal(bench.queue.stats.broken, 1);
	answer(commits_alone(1, -ENOSPC), (int)element_bytes());
	assert_int_equal(bench.ios[1].state, IO_COMMIT);
	assert_int_equal(bench.failed_requests, 1);
}

static void a_linked_commit_that_is_refused_fails_the_queue(void **state)
{
	(void)state;
	ARRIVE(1);
	linked(1);
	io_command_done(&bench.ios[1], -EBUSY);
	assert_int_equal(bench.failure, -EBUSY);
	assert_int_equal(bench.ios[1].state, IO_ENDED);
}

static void an_abort_ends_linked_tags_as_well(void **state)
{
	(void)state;
	ARRIVE(0);
	linked(0);
	fetched_with(UBLK_IO_RES_ABORT, 0);
	assert_int_equal(bench.tags_ended, BENCH_DEPTH);
	assert_int_equal(bench.failure, 0);
}

/* It may break yet, and then writes to its queue. */
static void a_refused_fetch_ends_no_linked_tag(void **state)
{
	const struct io_uring_sqe *read;

	(void)state;
	ARRIVE(0);
	read = linked(0);
	fetched_with(-EFAULT, 0);
	assert_int_equal(bench.tags_ended, BENCH_DEPTH - 1);
	assert_int_equal(bench.ios[0].state, IO_LINKED);
	complete(read, -ENOSPC);
	assert_int_equal(bench.ios[0].state, IO_COMMIT);
}

/* ---- all of it, in any order ------------------------------------------------ */

struct driver {
	bool has[BENCH_DEPTH]; /* the tag waits for a request */
	const struct io_uring_sqe *reads[BENCH_DEPTH];
	unsigned nr_reads;
	const struct io_uring_sqe *commit;
	unsigned arrived, committed;
};

static void some_arrive(struct driver *driver)
{
	uint16_t tags[BENCH_DEPTH];
	unsigned n = 0;

	for (uint16_t tag = 0; tag < BENCH_DEPTH; tag++) {
		if (driver->has[tag] && rand() % 2)
			tags[n++] = tag;
	}
	if (!n)
		return;
	for (unsigned i = 0; i < n; i++)
		driver->has[tags[i]] = false;
	driver->arrived += n;
	arrive_tags(tags, n);
	for (unsigned i = 0; i < n; i++)
		driver->reads[driver->nr_reads++] = next_sqe();
}

/* The driver takes the first few of what it is given. */
static void take_some(struct driver *driver)
{
	const struct io_uring_sqe *sqe = driver->commit;
	unsigned n = (unsigned)rand() % (batch_of(sqe)->nr_elem + 1u);

	for (unsigned i = 0; i < n; i++) {
		assert_false(driver->has[element(sqe, i)->tag]);
		assert_int_equal(element(sqe, i)->result, 4096);
		driver->has[element(sqe, i)->tag] = true;
	}
	driver->committed += n;
	driver->commit = NULL;
	answer(sqe, n ? (int)(n * element_bytes()) : -EAGAIN);
}

static void any_order_commits_each_request_once(void **state)
{
	struct driver driver = { .has = { true, true, true, true } };

	(void)state;
	srand(1);
	for (unsigned i = 0; i < 20000; i++) {
		some_arrive(&driver);
		while (driver.nr_reads && rand() % 3)
			complete(driver.reads[--driver.nr_reads], 4096);
		assert_int_equal(sqes_left(), 0);
		if (driver.commit)
			take_some(&driver);
		else if (batches_give(&bench.reactor.batches))
			driver.commit = next_sqe();
		if (sqes_left() || driver.commit || driver.nr_reads)
			continue;
		bench.reactor.ring.uring.sq.sqe_tail = bench.seen = 0;
		bench.reactor.ring.next = 0;
		bench.reactor.ring.room = 64;
	}
	assert_int_equal(bench.failure, 0);
	assert_true(driver.arrived > 5000);
	assert_true(driver.committed <= driver.arrived);
	assert_true(driver.arrived - driver.committed <= BENCH_DEPTH);
}

int main(void)
{
#define RAW(name, mode) \
	cmocka_unit_test_prestate_setup_teardown(name, open_raw, close_bench, &(mode))
#define TEST(name, mode) \
	cmocka_unit_test_prestate_setup_teardown(name, open_fetching, close_bench, &(mode))
#define LINKING(name, mode) \
	cmocka_unit_test_prestate_setup_teardown(name, open_linking, close_bench, &(mode))
	const struct CMUnitTest tests[] = {
		RAW(all_tags_are_prepared_by_one_command, copy),
		RAW(all_tags_are_prepared_by_one_command, zero_copy),
		RAW(all_tags_are_prepared_by_one_command, by_register),
		RAW(all_tags_are_prepared_by_one_command, user_copy),
		RAW(the_ring_is_lent_a_buffer_for_each_tag, copy),
		RAW(a_ring_that_borrows_nothing_leaves_nothing_behind, copy),
		TEST(what_a_turn_has_done_is_one_command, copy),
		TEST(what_a_turn_has_done_is_one_command, zero_copy),
		TEST(errors_go_with_the_rest, copy),
		TEST(what_is_done_meanwhile_waits_for_the_answer, copy),
		TEST(what_was_not_taken_is_given_again, copy),
		TEST(what_was_not_taken_is_given_again, zero_copy),
		TEST(an_error_that_may_pass_is_tried_again, copy),
		TEST(without_progress_it_is_not_tried_for_ever, copy),
		TEST(a_commit_that_takes_nothing_is_a_failure_in_the_end, copy),
		TEST(a_commit_that_is_refused_fails_the_queue, copy),
		TEST(a_fetch_that_is_refused_ends_the_commits_as_well, copy),
		RAW(a_prep_that_is_refused_fails_the_queue, copy),
		RAW(a_device_that_goes_before_it_starts_ends_the_tags, copy),
		TEST(without_room_it_stays_due, copy),
		TEST(our_own_registration_ends_before_the_commit, by_register),
		TEST(our_own_registration_ends_before_the_commit, zero_copy),
		TEST(pages_that_the_driver_could_not_register_are_registered, zero_copy),
		TEST(buffers_go_round_for_ever, copy),
		TEST(a_buffer_that_was_lost_is_lent_again, copy),
		TEST(a_fetch_that_ends_is_queued_again, copy),
		TEST(a_fetch_that_always_ends_fails_the_queue, copy),
		TEST(a_fetch_that_is_refused_fails_the_queue, copy),
		TEST(a_tag_that_the_driver_does_not_have_fails_the_queue, copy),
		TEST(an_abort_of_the_fetch_ends_all_tags, copy),
		TEST(the_last_results_are_taken_before_the_tags_end, copy),
		LINKING(a_single_request_is_linked, copy),
		LINKING(a_single_request_is_linked, zero_copy),
		LINKING(a_request_beside_another_is_not_linked, copy),
		LINKING(a_broken_link_goes_with_the_next_batch, copy),
		LINKING(a_linked_commit_that_is_refused_fails_the_queue, copy),
		LINKING(a_refused_fetch_ends_no_linked_tag, copy),
		LINKING(an_abort_ends_linked_tags_as_well, zero_copy),
		TEST(any_order_commits_each_request_once, copy),
		TEST(any_order_commits_each_request_once, zero_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
