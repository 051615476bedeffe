/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commits that are linked behind the I/O, and faults injected into it (fake-reactor.h). */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/uio.h>

#include "dispatch.h"
#include "fake-reactor.h"
#include "util/macros.h"

#define IN_CHAIN (IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS)

struct way {
	enum data_mode mode;
	enum link_mode link;
};

static struct way copy_no = { DATA_COPY, LINK_NO };
static struct way copy_yes = { DATA_COPY, LINK_YES };
static struct way copy_auto = { DATA_COPY, LINK_AUTO };
static struct way get_data_yes = { DATA_GET_DATA, LINK_YES };
static struct way user_copy_yes = { DATA_USER_COPY, LINK_YES };

static int open_way(void **state)
{
	const struct way *way = *state;

	bench_open(way->mode, way->link);
	bench.serve = use_ring;
	return 0;
}

static int close_bench(void **state)
{
	(void)state;
	bench_close();
	return 0;
}

/* ---- what is to be seen -------------------------------------------------- */

/*
 * The next two SQEs are a backend's and, linked behind it, the commit of the
 * tag with this result; there are no others. Returns the first.
 */
static const struct io_uring_sqe *linked(unsigned tag, int32_t result)
{
	const struct io_uring_sqe *head = next_sqe(), *command = next_sqe();

	/* Not IOSQE_IO_HARDLINK: that would commit after a failure too. */
	assert_int_equal(head->flags, IOSQE_FIXED_FILE | IN_CHAIN);
	assert_int_equal(head->user_data, dispatch_to_part(&bench.ios[tag].parts[0]));
	is_command(command, UBLK_IO_COMMIT_AND_FETCH_REQ, tag, result, bench.ios[tag].buffer);
	/* Where no other SQE overwrites it before its turn. */
	assert_int_equal(own_slot(command), BENCH_OWN_BASE + tag);
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.ios[tag].state, IO_LINKED);
	assert_int_equal(bench.queue.stats.in_flight, 0);
	return head;
}

/* The next SQE is the backend's, linked to nothing, and there is no other. */
static const struct io_uring_sqe *alone(unsigned tag)
{
	const struct io_uring_sqe *sqe = next_sqe();

	assert_int_equal(sqe->flags, IOSQE_FIXED_FILE);
	assert_int_equal(sqe->user_data, dispatch_to_part(&bench.ios[tag].parts[0]));
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.ios[tag].state, IO_PROCESS);
	assert_int_equal(bench.queue.stats.in_flight, 1);
	return sqe;
}

static void is_rw(const struct io_uring_sqe *sqe, uint8_t opcode, unsigned file, uint64_t off,
		  const void *data, uint32_t length)
{
	assert_int_equal(sqe->opcode, opcode);
	assert_int_equal(sqe->fd, BENCH_FILE_BASE + 1 + file);
	assert_int_equal(sqe->off, off);
	assert_ptr_equal((const void *)(uintptr_t)sqe->addr, data);
	assert_int_equal(sqe->len, length);
}

/* ---- links --------------------------------------------------------------- */

static void the_commit_with_the_full_result_is_linked_behind_the_io(void **state)
{
	static const struct {
		uint32_t op;
		uint8_t opcode;
		int32_t result;
	} cases[] = {
		{ UBLK_IO_OP_READ, IORING_OP_READ, 4096 },
		{ UBLK_IO_OP_WRITE, IORING_OP_WRITE, 4096 },
	};

	(void)state;
	/* Each arrives while its tag is LINKED: the success of a link posts nothing else. */
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		arrive(1, cases[i].op, 8, 8);
		assert_int_equal(linked(1, cases[i].result)->opcode, cases[i].opcode);
		assert_int_equal(bench.queue.stats.linked, i + 1);
	}
	assert_int_equal(bench.served, ARRAY_SIZE(cases));
	assert_int_equal(bench.queue.stats.broken, 0);
	assert_int_equal(bench.queue.stats.max_in_flight, 1);
	assert_int_equal(bench.failed_requests, 0);
	assert_int_equal(bench.submits, 0);
}

/* The ring does not break the link of an FSYNC or a FALLOCATE that failed. */
static void only_reads_and_writes_are_linked(void **state)
{
	static const uint32_t ops[] = { UBLK_IO_OP_FLUSH, UBLK_IO_OP_DISCARD,
					UBLK_IO_OP_WRITE_ZEROES };

	(void)state;
	for (unsigned use_fallocate = 0; use_fallocate < 2; use_fallocate++) {
		for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
			arrive(0, ops[i], 8, 8);
			complete(alone(0), -EIO);
			commits(0, -EIO);
		}
		bench.serve = allocate;
	}
	assert_int_equal(bench.queue.stats.linked, 0);
}

static void a_link_leaves_nothing_behind_for_the_next_request(void **state)
{
	(void)state;
	arrive(2, UBLK_IO_OP_READ, 0, 8);
	linked(2, 4096);
	bench.serve = keep;
	arrive(2, UBLK_IO_OP_WRITE, 64, 1);
	assert_int_equal(bench.ios[2].state, IO_PROCESS);
	assert_int_equal(bench.request->op, UBLKD_OP_WRITE);
	assert_int_equal(bench.request->offset, 64 * 512);
	assert_int_equal(bench.queue.stats.in_flight, 1);
	ublkd_complete(bench.request, -ENOSPC);
	commits(2, -ENOSPC);
	/* Nor for one that the backend never sees. */
	bench.serve = use_ring;
	arrive(2, UBLK_IO_OP_READ, 0, 8);
	linked(2, 4096);
	arrive(2, UBLK_IO_OP_READ, 0, 0);
	commits(2, -EINVAL);
}

/* ---- links that break ---------------------------------------------------- */

static void a_short_result_is_continued_and_committed_unlinked(void **state)
{
	uint8_t *buffer = bench.ios[0].buffer;
	const struct io_uring_sqe *sqe;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		uint8_t opcode = i ? IORING_OP_WRITE : IORING_OP_READ;

		arrive(0, i ? UBLK_IO_OP_WRITE : UBLK_IO_OP_READ, 0, 16);
		complete(linked(0, 8192), 1000);
		sqe = alone(0);
		is_rw(sqe, opcode, 1, 4096 + 1000, buffer + 1000, 8192 - 1000);
		complete(sqe, 3000);
		sqe = alone(0);
		is_rw(sqe, opcode, 1, 4096 + 4000, buffer + 4000, 8192 - 4000);
		complete(sqe, 4192);
		commits(0, 8192);
		assert_int_equal(bench.queue.stats.broken, i + 1);
		assert_int_equal(bench.queue.stats.linked, i + 1);
	}
	assert_int_equal(bench.queue.stats.short_parts, 4);
	assert_int_equal(bench.served, 2);
}

static void behind_the_end_of_the_file_are_zeros(void **state)
{
	uint8_t *buffer = bench.ios[0].buffer;

	(void)state;
	bench.target.dio_align = 512;
	memset(buffer, 'x', 4096);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(linked(0, 4096), 100);
	commits(0, 4096);
	assert_int_equal(buffer[99], 'x');
	for (unsigned i = 100; i < 4096; i++)
		assert_int_equal(buffer[i], 0);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	memset(buffer, 'x', 4096);
	complete(linked(0, 4096), 0);
	commits(0, 4096);
	assert_int_equal(buffer[0], 0);
	assert_int_equal(bench.queue.stats.broken, 2);
	assert_int_equal(bench.queue.stats.errors, 0);
}

static void an_error_is_committed_unlinked(void **state)
{
	static const int errors[] = { -EIO, -EINVAL, -EFBIG, -ENOSPC, -ENODATA, -EOPNOTSUPP };
	static const uint32_t ops[] = { UBLK_IO_OP_READ, UBLK_IO_OP_WRITE };
	unsigned failed = 0;

	(void)state;
	for (size_t o = 0; o < ARRAY_SIZE(ops); o++) {
		for (size_t e = 0; e < ARRAY_SIZE(errors); e++) {
			arrive(0, ops[o], 8, 8);
			complete(linked(0, 4096), errors[e]);
			commits(0, errors[e]);
			assert_int_equal(bench.failed_requests, ++failed);
			assert_int_equal(bench.request_error, errors[e]);
		}
	}
	assert_int_equal(bench.queue.stats.broken, failed);
	assert_int_equal(bench.queue.stats.errors, failed);
}

static void a_write_without_progress_fails(void **state)
{
	(void)state;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	complete(linked(0, 4096), 0);
	commits(0, -EIO);
}

static void an_error_that_may_pass_is_tried_again_unlinked(void **state)
{
	static const int errors[] = { -ECANCELED, -EAGAIN, -EINTR, -ENOMEM };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		arrive(0, UBLK_IO_OP_WRITE, 8, 8);
		complete(linked(0, 4096), errors[i]);
		is_rw(sqe_queued(bench.seen), IORING_OP_WRITE, 1, 8192, bench.ios[0].buffer, 4096);
		complete(alone(0), 4096);
		commits(0, 4096);
		arrive(0, UBLK_IO_OP_FLUSH, 0, 0);
		complete(alone(0), errors[i]);
		complete(alone(0), 0);
		commits(0, 0);
	}
	assert_int_equal(bench.queue.stats.errors, 0);
}

static void the_next_request_is_linked_again(void **state)
{
	(void)state;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(linked(0, 4096), -EIO);
	commits(0, -EIO);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	linked(0, 4096);
	assert_int_equal(bench.queue.stats.linked, 2);
	assert_int_equal(bench.queue.stats.broken, 1);
}

/* ---- what is not linked -------------------------------------------------- */

static void two_parts_are_not_linked(void **state)
{
	const struct io_uring_sqe *first, *second;

	(void)state;
	bench.serve = use_both_files;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	first = next_sqe();
	second = next_sqe();
	assert_int_equal(first->flags, IOSQE_FIXED_FILE);
	assert_int_equal(second->flags, IOSQE_FIXED_FILE);
	assert_int_equal(sqes_left(), 0);
	complete(first, 4096);
	complete(second, 4096);
	commits(0, 4096);
	assert_int_equal(bench.queue.stats.linked, 0);
}

static int fail_at_once(struct ublkd_io *io)
{
	(void)io;
	return -ENOSPC;
}

static int done(struct ublkd_io *io)
{
	(void)io;
	return UBLKD_DONE;
}

static void what_queues_nothing_is_not_linked(void **state)
{
	(void)state;
	bench.serve = done;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	commits(0, 4096);
	bench.serve = fail_at_once;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	commits(0, -ENOSPC);
	bench.serve = keep;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	assert_int_equal(sqes_left(), 0);
	ublkd_complete(bench.request, 0);
	commits(0, 4096);
	assert_int_equal(bench.queue.stats.linked, 0);
}

/* A borrowed buffer is returned when the commit is queued, which is too early here. */
static void borrowed_buffers_forbid_links(void **state)
{
	(void)state;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	alone(0);
	/* Without a buffer too: what a tag does must not depend on it. */
	bench.queue.stats.in_flight = 0;
	arrive(1, UBLK_IO_OP_FLUSH, 0, 0);
	complete(alone(1), 0);
	commits(1, 0);
	assert_int_equal(bench.queue.stats.linked, 0);
}

static void a_draining_reactor_links_nothing(void **state)
{
	(void)state;
	bench.queue.draining = true;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	commits(0, -EIO);
	assert_int_equal(bench.served, 0);
	assert_int_equal(bench.queue.stats.linked, 0);
}

static void a_burst_is_not_linked_unless_asked(void **state)
{
	static const unsigned bursts[] = { 1, 8, 9, 64, 1 };
	const struct way *way = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bursts); i++) {
		bench.reactor.burst = bursts[i];
		arrive(0, UBLK_IO_OP_READ, 0, 8);
		if (way->link == LINK_YES || (way->link == LINK_AUTO && bursts[i] <= 8)) {
			linked(0, 4096);
		} else {
			complete(alone(0), 4096);
			commits(0, 4096);
		}
	}
}

/* ---- the end of a linked tag --------------------------------------------- */

static void an_abort_ends_a_linked_tag(void **state)
{
	(void)state;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	linked(0, 4096);
	io_command_done(&bench.ios[0], UBLK_IO_RES_ABORT);
	assert_int_equal(bench.ios[0].state, IO_ENDED);
	assert_int_equal(bench.tags_ended, 1);
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.failure, 0);
	io_cancel(&bench.ios[0]);
	assert_int_equal(sqes_left(), 0);
}

static void a_linked_commit_that_the_driver_refuses_fails_the_queue(void **state)
{
	(void)state;
	arrive(1, UBLK_IO_OP_READ, 0, 8);
	linked(1, 4096);
	io_command_done(&bench.ios[1], -EINVAL);
	assert_int_equal(bench.failure, -EINVAL);
	assert_string_equal(bench.failure_text,
			    "queue 3 tag 1: the driver refused the COMMIT_AND_FETCH_REQ command");
	assert_int_equal(bench.ios[1].state, IO_ENDED);
	assert_int_equal(bench.tags_ended, 1);
}

static void cancelling_a_linked_tag_asks_for_its_io(void **state)
{
	const struct io_uring_sqe *head, *cancel;

	(void)state;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	head = linked(0, 4096);
	bench.queue.draining = true;
	io_cancel(&bench.ios[0]);
	cancel = next_sqe();
	assert_int_equal(cancel->opcode, IORING_OP_ASYNC_CANCEL);
	assert_int_equal(cancel->addr, head->user_data);
	assert_int_equal(cancel->user_data, DISPATCH_NOBODY);
	assert_int_equal(cancel->flags, 0);
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.ios[0].state, IO_LINKED);
	complete(head, -ECANCELED);
	commits(0, -EIO);
	assert_int_equal(bench.queue.stats.broken, 1);
}

static void what_a_link_has_done_is_not_cancelled(void **state)
{
	(void)state;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	linked(0, 4096);
	/* The next request waits before the backend has seen it. */
	bench.reactor.ring.room = bench.room_by_submit = IO_SQES - 1;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	is_waiting(0);
	io_cancel(&bench.ios[0]);
	assert_int_equal(sqes_left(), 0);
}

static void the_io_ends_after_the_commit(void *arg)
{
	const struct io_uring_sqe *head;

	(void)arg;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	head = next_sqe();
	bench.serve = keep;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(head, 4096);
}

static void both_of_a_link_end(void *arg)
{
	(void)arg;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(next_sqe(), -EAGAIN);
	io_command_done(&bench.ios[0], UBLK_IO_RES_OK);
}

static void two_ends_of_a_link_are_asserted(void **state)
{
	(void)state;
	assert_true(aborts(the_io_ends_after_the_commit, NULL));
	assert_true(aborts(both_of_a_link_end, NULL));
}

/* ---- room ---------------------------------------------------------------- */

/* ring_submit() of the bench fails where it would tear a chain. */
static void a_pair_is_never_split(void **state)
{
	(void)state;
	bench.reactor.ring.room = 1;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	assert_int_equal(bench.submits, 1);
	linked(0, 4096);
	bench.reactor.ring.room = bench.room_by_submit = IO_SQES - 1;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	is_waiting(0);
	assert_int_equal(bench.served, 1);
	bench.room_by_submit = IO_SQES;
	reactor_turn();
	linked(0, 4096);
	bench.submits = 0;
	bench.reactor.ring.room = IO_SQES;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	linked(0, 4096);
	assert_int_equal(bench.submits, 0);
}

/* The commit that was dropped left no room behind. */
static void a_broken_link_waits_for_room(void **state)
{
	const struct io_uring_sqe *head;

	(void)state;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	head = linked(0, 4096);
	bench.reactor.ring.room = bench.room_by_submit = 0;
	complete(head, 512);
	is_waiting(0);
	bench.room_by_submit = 1;
	reactor_turn();
	head = alone(0);
	assert_int_equal(head->off, 4096 + 512);
	bench.room_by_submit = 0;
	complete(head, 3584);
	is_waiting(0);
	bench.room_by_submit = 1;
	reactor_turn();
	commits(0, 4096);
}

/* ---- FALLOCATE that a file cannot do ------------------------------------- */

static void zeros_are_written_where_a_file_cannot_allocate_them(void **state)
{
	const uint32_t length = REACTOR_ZEROS + 4096;
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.serve = allocate;
	for (unsigned fua = 0; fua < 2; fua++) {
		arrive(0, UBLK_IO_OP_WRITE_ZEROES | (fua ? UBLK_IO_F_FUA : 0), 8, length / 512);
		complete(alone(0), -EOPNOTSUPP);
		sqe = alone(0);
		is_rw(sqe, IORING_OP_WRITE, 1, 4096 + 1024, bench.reactor.zeros, REACTOR_ZEROS);
		assert_int_equal(sqe->rw_flags, fua ? RWF_DSYNC : 0);
		complete(sqe, REACTOR_ZEROS);
		sqe = alone(0);
		is_rw(sqe, IORING_OP_WRITE, 1, 4096 + 1024 + REACTOR_ZEROS, bench.reactor.zeros,
		      4096);
		complete(sqe, 4096);
		commits(0, 0);
	}
}

static void only_what_a_file_cannot_do_at_all_is_written_instead(void **state)
{
	(void)state;
	bench.serve = allocate;
	arrive(0, UBLK_IO_OP_WRITE_ZEROES, 8, 8);
	complete(alone(0), -ENOSPC);
	commits(0, -ENOSPC);
	/* A discard that is not done promises nothing. */
	arrive(0, UBLK_IO_OP_DISCARD, 8, 8);
	complete(alone(0), -EOPNOTSUPP);
	commits(0, -EOPNOTSUPP);
}

static void a_draining_reactor_writes_no_zeros_instead(void **state)
{
	(void)state;
	bench.serve = allocate;
	arrive(0, UBLK_IO_OP_WRITE_ZEROES, 8, 8);
	bench.queue.draining = true;
	complete(next_sqe(), -EOPNOTSUPP);
	commits(0, -EIO);
}

/* ---- faults that are injected -------------------------------------------- */

static uint64_t delay_ns;
static int32_t fault;
static int (*below)(struct ublkd_io *io);

static int inject(struct ublkd_io *io)
{
	ublkd_ring_inject(io, delay_ns, fault);
	return below(io);
}

static void inject_next(uint64_t ns, int32_t result)
{
	delay_ns = ns;
	fault = result;
	below = use_ring;
	bench.serve = inject;
}

static void is_delay(const struct io_uring_sqe *sqe, unsigned tag, long long seconds,
		     long long nanoseconds)
{
	const struct __kernel_timespec *ts = (const void *)(uintptr_t)sqe->addr;

	assert_int_equal(sqe->opcode, IORING_OP_TIMEOUT);
	assert_int_equal(sqe->flags, IN_CHAIN);
	assert_int_equal(sqe->fd, -1);
	assert_int_equal(sqe->len, 1);
	assert_int_equal(sqe->off, 0);
	/* Otherwise what waits behind it would be cancelled. */
	assert_int_equal(sqe->timeout_flags, IORING_TIMEOUT_ETIME_SUCCESS);
	assert_int_equal(sqe->user_data, dispatch_to_part(&bench.ios[tag].parts[0]));
	assert_int_equal(ts->tv_sec, seconds);
	assert_int_equal(ts->tv_nsec, nanoseconds);
}

/* An SQE that the kernel will refuse with -EBADF. */
static void is_failure(const struct io_uring_sqe *sqe, unsigned tag, uint8_t flags)
{
	assert_int_equal(sqe->opcode, IORING_OP_READ);
	assert_int_equal(sqe->flags, flags);
	assert_int_equal(sqe->fd, -1);
	assert_int_equal(sqe->user_data, dispatch_to_part(&bench.ios[tag].parts[0]));
}

static void a_delay_comes_before_the_io_once(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	inject_next(1500000001, 0);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	is_delay(next_sqe(), 0, 1, 500000001);
	sqe = alone(0);
	is_rw(sqe, IORING_OP_READ, 1, 4096, bench.ios[0].buffer, 4096);
	complete(sqe, 512);
	complete(alone(0), 3584);
	commits(0, 4096);
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(alone(0), 4096);
	commits(0, 4096);
}

static void a_delay_that_is_cancelled_leaves_the_io(void **state)
{
	const struct io_uring_sqe *delay;

	(void)state;
	inject_next(1000, 0);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	delay = next_sqe();
	is_delay(delay, 0, 0, 1000);
	alone(0);
	complete(delay, -ECANCELED);
	is_rw(sqe_queued(bench.seen), IORING_OP_READ, 1, 4096, bench.ios[0].buffer, 4096);
	complete(alone(0), 4096);
	commits(0, 4096);
}

static void an_injected_error_is_the_io_s(void **state)
{
	static const int errors[] = { -EIO, -ENOSPC, -ETIMEDOUT, -EOPNOTSUPP };
	const struct io_uring_sqe *sqe;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		inject_next(0, errors[i]);
		arrive(0, UBLK_IO_OP_WRITE, 0, 8);
		sqe = next_sqe();
		is_failure(sqe, 0, 0);
		assert_int_equal(sqes_left(), 0);
		complete(sqe, -EBADF);
		commits(0, errors[i]);
		bench.serve = use_ring;
		arrive(0, UBLK_IO_OP_WRITE, 0, 8);
		complete(alone(0), 4096);
		commits(0, 4096);
	}
}

static void an_injected_error_that_may_pass_is_followed_by_the_io(void **state)
{
	(void)state;
	inject_next(0, -EAGAIN);
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	complete(next_sqe(), -EBADF);
	is_rw(sqe_queued(bench.seen), IORING_OP_WRITE, 1, 4096, bench.ios[0].buffer, 4096);
	complete(alone(0), 4096);
	commits(0, 4096);
}

/* -EBADF of the I/O itself is no injected fault. */
static void an_error_that_was_not_injected_is_passed_on(void **state)
{
	(void)state;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	complete(alone(0), -EBADF);
	commits(0, -EBADF);
}

static void an_injected_short_result_moves_just_so_many_bytes(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	inject_next(0, 512);
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	sqe = next_sqe();
	assert_int_equal(sqe->flags, IOSQE_FIXED_FILE | IN_CHAIN);
	is_rw(sqe, IORING_OP_WRITE, 1, 4096, bench.ios[0].buffer, 512);
	sqe = next_sqe();
	is_failure(sqe, 0, 0);
	assert_int_equal(sqes_left(), 0);
	complete(sqe, -EBADF);
	sqe = alone(0);
	is_rw(sqe, IORING_OP_WRITE, 1, 4096 + 512, (uint8_t *)bench.ios[0].buffer + 512, 3584);
	complete(sqe, 3584);
	commits(0, 4096);
	assert_int_equal(bench.queue.stats.short_parts, 1);
}

static void a_short_result_may_be_shorter_than_the_injected(void **state)
{
	(void)state;
	inject_next(0, 512);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(next_sqe(), 100);
	next_sqe(); /* is cancelled and posts nothing */
	assert_int_equal(sqe_queued(bench.seen)->off, 4096 + 100);
	complete(alone(0), 3996);
	commits(0, 4096);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(next_sqe(), -EIO);
	next_sqe();
	commits(0, -EIO);
}

static void a_result_that_is_not_short_is_not_injected(void **state)
{
	(void)state;
	inject_next(0, 4096);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(alone(0), -EBADF);
	commits(0, -EBADF);
	arrive(0, UBLK_IO_OP_FLUSH, 0, 0);
	complete(alone(0), 0);
	commits(0, 0);
}

static void a_fault_is_the_first_parts_alone(void **state)
{
	const struct io_uring_sqe *failure, *second;

	(void)state;
	inject_next(0, -EIO);
	below = use_both_files;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	failure = next_sqe();
	second = next_sqe();
	is_failure(failure, 0, 0);
	assert_int_equal(second->fd, BENCH_FILE_BASE + 2);
	assert_int_equal(second->opcode, IORING_OP_WRITE);
	assert_int_equal(second->flags, IOSQE_FIXED_FILE);
	complete(second, 4096);
	complete(failure, -EBADF);
	commits(0, -EIO);
}

/* Delay, I/O, failure and commit in one chain, whose end is the failure's. */
static void faults_are_linked_as_well(void **state)
{
	const struct io_uring_sqe *failure;

	(void)state;
	inject_next(2000000000, 512);
	bench.reactor.ring.room = IO_SQES;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	is_delay(next_sqe(), 0, 2, 0);
	assert_int_equal(sqe_queued(bench.seen)->len, 512);
	assert_int_equal(next_sqe()->flags, IOSQE_FIXED_FILE | IN_CHAIN);
	failure = next_sqe();
	is_failure(failure, 0, IN_CHAIN);
	is_command(next_sqe(), UBLK_IO_COMMIT_AND_FETCH_REQ, 0, 4096, bench.ios[0].buffer);
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.submits, 0);
	assert_int_equal(bench.ios[0].state, IO_LINKED);
	complete(failure, -EBADF);
	assert_int_equal(bench.queue.stats.broken, 1);
	assert_int_equal(sqe_queued(bench.seen)->off, 4096 + 512);
	complete(alone(0), 3584);
	commits(0, 4096);
}

static void an_injected_error_breaks_a_link(void **state)
{
	const struct io_uring_sqe *failure;

	(void)state;
	inject_next(0, -ENOSPC);
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	failure = next_sqe();
	is_failure(failure, 0, IN_CHAIN);
	is_command(next_sqe(), UBLK_IO_COMMIT_AND_FETCH_REQ, 0, 4096, bench.ios[0].buffer);
	assert_int_equal(sqes_left(), 0);
	complete(failure, -EBADF);
	commits(0, -ENOSPC);
	assert_int_equal(bench.queue.stats.linked, 1);
	assert_int_equal(bench.queue.stats.broken, 1);
}

static void a_delay_alone_does_not_break_a_link(void **state)
{
	(void)state;
	inject_next(1000, 0);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	is_delay(next_sqe(), 0, 0, 1000);
	linked(0, 4096);
	bench.serve = use_ring;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	linked(0, 4096);
}

/* It is a command behind a link as well. */
static void a_delayed_discard_has_its_own_sqe(void **state)
{
	const struct io_uring_sqe *discard;

	(void)state;
	inject_next(1000, 0);
	arrive(2, UBLK_IO_OP_DISCARD, 8, 8);
	is_delay(next_sqe(), 2, 0, 1000);
	discard = next_sqe();
	assert_int_equal(discard->opcode, IORING_OP_URING_CMD);
	assert_int_equal(own_slot(discard), BENCH_OWN_BASE + 2);
	complete(discard, 0);
	commits(2, 0);
	assert_int_equal(own_slot(sqe_queued(bench.seen - 1)), -1);
}

/* Then it has no slots of SQEs either. */
static void a_ring_without_such_sqes_links_nothing(void **state)
{
	(void)state;
	bench.queue.linkable = false;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(alone(0), 4096);
	commits(0, 4096);
}

static void an_injected_eopnotsupp_makes_zeros_be_written(void **state)
{
	(void)state;
	inject_next(0, -EOPNOTSUPP);
	below = allocate;
	arrive(0, UBLK_IO_OP_WRITE_ZEROES, 8, 8);
	complete(next_sqe(), -EBADF);
	is_rw(sqe_queued(bench.seen), IORING_OP_WRITE, 1, 4096 + 1024, bench.reactor.zeros, 4096);
	complete(alone(0), 4096);
	commits(0, 0);
}

int main(void)
{
#define TEST(name, way) \
	cmocka_unit_test_prestate_setup_teardown(name, open_way, close_bench, &(way))
	const struct CMUnitTest tests[] = {
		TEST(the_commit_with_the_full_result_is_linked_behind_the_io, copy_yes),
		TEST(only_reads_and_writes_are_linked, copy_yes),
		TEST(a_link_leaves_nothing_behind_for_the_next_request, copy_yes),
		TEST(a_short_result_is_continued_and_committed_unlinked, copy_yes),
		TEST(behind_the_end_of_the_file_are_zeros, copy_yes),
		TEST(an_error_is_committed_unlinked, copy_yes),
		TEST(a_write_without_progress_fails, copy_yes),
		TEST(an_error_that_may_pass_is_tried_again_unlinked, copy_yes),
		TEST(the_next_request_is_linked_again, copy_yes),
		TEST(two_parts_are_not_linked, copy_yes),
		TEST(what_queues_nothing_is_not_linked, copy_yes),
		TEST(borrowed_buffers_forbid_links, get_data_yes),
		TEST(borrowed_buffers_forbid_links, user_copy_yes),
		TEST(a_draining_reactor_links_nothing, copy_yes),
		TEST(a_burst_is_not_linked_unless_asked, copy_auto),
		TEST(a_burst_is_not_linked_unless_asked, copy_yes),
		TEST(a_burst_is_not_linked_unless_asked, copy_no),
		TEST(an_abort_ends_a_linked_tag, copy_yes),
		TEST(a_linked_commit_that_the_driver_refuses_fails_the_queue, copy_yes),
		TEST(cancelling_a_linked_tag_asks_for_its_io, copy_yes),
		TEST(what_a_link_has_done_is_not_cancelled, copy_yes),
		TEST(two_ends_of_a_link_are_asserted, copy_yes),
		TEST(a_pair_is_never_split, copy_yes),
		TEST(a_broken_link_waits_for_room, copy_yes),
		TEST(zeros_are_written_where_a_file_cannot_allocate_them, copy_no),
		TEST(zeros_are_written_where_a_file_cannot_allocate_them, copy_yes),
		TEST(only_what_a_file_cannot_do_at_all_is_written_instead, copy_no),
		TEST(only_what_a_file_cannot_do_at_all_is_written_instead, copy_yes),
		TEST(a_draining_reactor_writes_no_zeros_instead, copy_no),
		TEST(a_delay_comes_before_the_io_once, copy_no),
		TEST(a_delay_that_is_cancelled_leaves_the_io, copy_no),
		TEST(an_injected_error_is_the_io_s, copy_no),
		TEST(an_injected_error_that_may_pass_is_followed_by_the_io, copy_no),
		TEST(an_error_that_was_not_injected_is_passed_on, copy_no),
		TEST(an_injected_short_result_moves_just_so_many_bytes, copy_no),
		TEST(a_short_result_may_be_shorter_than_the_injected, copy_no),
		TEST(a_result_that_is_not_short_is_not_injected, copy_no),
		TEST(a_fault_is_the_first_parts_alone, copy_no),
		TEST(faults_are_linked_as_well, copy_yes),
		TEST(an_injected_error_breaks_a_link, copy_yes),
		TEST(a_delay_alone_does_not_break_a_link, copy_yes),
		TEST(a_delayed_discard_has_its_own_sqe, copy_yes),
		TEST(a_ring_without_such_sqes_links_nothing, copy_yes),
		TEST(an_injected_eopnotsupp_makes_zeros_be_written, copy_no),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
