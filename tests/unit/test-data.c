/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a request's data is: zero copy, registered pages, user copy (fake-reactor.h). */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "dispatch.h"
#include "fake-reactor.h"
#include "util/macros.h"

#define IN_CHAIN (IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS)
#define NEED_REG UBLK_IO_F_NEED_REG_BUF

struct way {
	enum data_mode mode;
	enum link_mode link;
};

static struct way zero_copy_no = { DATA_ZERO_COPY, LINK_NO };
static struct way zero_copy_yes = { DATA_ZERO_COPY, LINK_YES };
static struct way register_no = { DATA_REGISTER, LINK_NO };
static struct way register_yes = { DATA_REGISTER, LINK_YES };
static struct way copy_no = { DATA_COPY, LINK_NO };
static struct way user_copy_no = { DATA_USER_COPY, LINK_NO };

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
	if (bench.shape.char_fd >= 0)
		close(bench.shape.char_fd);
	bench_close();
	return 0;
}

/* ---- what is to be seen -------------------------------------------------- */

/* I/O between file 1 and the pages of the tag, from this byte of the request. */
static void is_fixed(const struct io_uring_sqe *sqe, uint8_t opcode, unsigned tag, uint64_t off,
		     uint64_t from, uint32_t length)
{
	assert_int_equal(sqe->opcode, opcode);
	assert_int_equal(sqe->fd, BENCH_FILE_BASE + 2);
	assert_int_equal(sqe->off, off);
	assert_int_equal(sqe->addr, from);
	assert_int_equal(sqe->len, length);
	assert_int_equal(sqe->buf_index, BENCH_SLOT_BASE + tag);
}

/* Zeros from /dev/zero into the pages of the tag. */
static void is_fill(const struct io_uring_sqe *sqe, unsigned tag, uint32_t from, uint32_t length)
{
	assert_int_equal(sqe->opcode, IORING_OP_READ_FIXED);
	assert_int_equal(sqe->flags, IOSQE_FIXED_FILE);
	assert_int_equal(sqe->fd, BENCH_ZERO_FILE);
	assert_int_equal(sqe->off, 0);
	assert_int_equal(sqe->addr, from);
	assert_int_equal(sqe->len, length);
	assert_int_equal(sqe->buf_index, BENCH_SLOT_BASE + tag);
	assert_int_equal(sqe->rw_flags, 0);
}

/* A command about the slot of the tag in the buffer table. */
static void is_slot_command(const struct io_uring_sqe *sqe, uint32_t command, unsigned tag,
			    uint8_t flags)
{
	bool on = command == UBLK_IO_REGISTER_IO_BUF;

	assert_int_equal(sqe->opcode, IORING_OP_URING_CMD);
	assert_int_equal(sqe->flags, flags);
	assert_int_equal(sqe->fd, BENCH_FILE_BASE);
	assert_int_equal(sqe->cmd_op, command);
	assert_int_equal(sqe->addr, 0);
	assert_int_equal(command_of(sqe)->q_id, BENCH_QUEUE_ID);
	assert_int_equal(command_of(sqe)->tag, tag);
	assert_int_equal(command_of(sqe)->addr, BENCH_SLOT_BASE + tag);
	assert_int_equal(sqe->user_data, dispatch_to_register(&bench.ios[tag], on));
}

/* The next SQE registers the tag's pages, and nothing else happens until it did. */
static const struct io_uring_sqe *registers(unsigned tag)
{
	const struct io_uring_sqe *sqe = next_sqe();

	is_slot_command(sqe, UBLK_IO_REGISTER_IO_BUF, tag, IOSQE_FIXED_FILE);
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.ios[tag].state, IO_PROCESS);
	return sqe;
}

/* The next SQEs end the registration and commit the tag, in this order. */
static void unregisters_and_commits(unsigned tag, int32_t result)
{
	is_slot_command(next_sqe(), UBLK_IO_UNREGISTER_IO_BUF, tag,
			IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS);
	commits(tag, result);
}

/* ---- zero copy ----------------------------------------------------------- */

static void a_fetch_names_the_slot_and_no_memory(void **state)
{
	const struct way *way = *state;

	for (unsigned tag = 0; tag < BENCH_DEPTH; tag++) {
		const struct io_uring_sqe *sqe = sqe_queued(tag);

		is_command(sqe, UBLK_IO_FETCH_REQ, tag, 0, NULL);
		assert_int_equal(sqe->addr, way->mode == DATA_ZERO_COPY ? (40 + tag) | 1 << 16 : 0);
	}
	assert_int_equal(bench.reactor.ring.uring.sq.sqe_tail, BENCH_DEPTH);
}

static void io_goes_between_the_file_and_the_requests_pages(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		uint8_t opcode = i ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;

		arrive(3, i ? UBLK_IO_OP_WRITE | UBLK_IO_F_FUA : UBLK_IO_OP_READ, 8, 16);
		assert_null(bench.request->data);
		sqe = next_sqe();
		is_fixed(sqe, opcode, 3, 8192, 0, 8192);
		assert_int_equal(sqe->flags, IOSQE_FIXED_FILE);
		assert_int_equal(sqe->rw_flags, i ? RWF_DSYNC : 0);
		/* Offsets are in the request, which begins at 0. */
		complete(sqe, 1000);
		sqe = next_sqe();
		is_fixed(sqe, opcode, 3, 8192 + 1000, 1000, 7192);
		assert_int_equal(sqe->rw_flags, i ? RWF_DSYNC : 0);
		complete(sqe, 7192);
		commits(3, 8192);
	}
}

/* The ring knows the buffers of copy mode by slot, but counts in addresses. */
static void io_goes_between_the_file_and_the_buffer_of_the_tag(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.queue.fixed_buffers = 4;
	for (unsigned i = 0; i < 2; i++) {
		uint8_t opcode = i ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;
		uintptr_t buffer = (uintptr_t)bench.ios[3].buffer;

		arrive(3, i ? UBLK_IO_OP_WRITE : UBLK_IO_OP_READ, 8, 16);
		assert_ptr_equal(bench.request->data, bench.ios[3].buffer);
		sqe = next_sqe();
		is_fixed(sqe, opcode, 3, 8192, buffer, 8192);
		complete(sqe, 1000);
		sqe = next_sqe();
		is_fixed(sqe, opcode, 3, 8192 + 1000, buffer + 1000, 7192);
		complete(sqe, 7192);
		commits(3, 8192);
	}
}

static void a_buffer_that_the_ring_does_not_know_yet_is_used_all_the_same(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.queue.fixed_buffers = 3;
	arrive(3, UBLK_IO_OP_READ, 8, 16);
	sqe = next_sqe();
	assert_int_equal(sqe->opcode, IORING_OP_READ);
	assert_ptr_equal((void *)(uintptr_t)sqe->addr, bench.ios[3].buffer);
	arrive(2, UBLK_IO_OP_READ, 8, 16);
	is_fixed(next_sqe(), IORING_OP_READ_FIXED, 2, 8192, (uintptr_t)bench.ios[2].buffer, 8192);
}

static void zero_copy_is_linked(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		arrive(1, UBLK_IO_OP_WRITE, 8, 8);
		sqe = next_sqe();
		is_fixed(sqe, IORING_OP_WRITE_FIXED, 1, 8192, 0, 4096);
		assert_int_equal(sqe->flags, IOSQE_FIXED_FILE | IN_CHAIN);
		is_command(next_sqe(), UBLK_IO_COMMIT_AND_FETCH_REQ, 1, 4096, NULL);
		assert_int_equal(sqes_left(), 0);
		assert_int_equal(bench.ios[1].state, IO_LINKED);
	}
	complete(sqe, 512);
	sqe = next_sqe();
	is_fixed(sqe, IORING_OP_WRITE_FIXED, 1, 8192 + 512, 512, 3584);
	assert_int_equal(sqe->flags, IOSQE_FIXED_FILE);
	complete(sqe, 3584);
	commits(1, 4096);
}

static void behind_the_end_of_the_file_the_pages_are_filled(void **state)
{
	const struct way *way = *state;
	const struct io_uring_sqe *sqe;

	arrive(2, UBLK_IO_OP_READ, 8, 16);
	sqe = next_sqe();
	if (way->link == LINK_YES)
		is_command(next_sqe(), UBLK_IO_COMMIT_AND_FETCH_REQ, 2, 8192, NULL);
	complete(sqe, 5000);
	sqe = next_sqe();
	is_fixed(sqe, IORING_OP_READ_FIXED, 2, 8192 + 5000, 5000, 3192);
	complete(sqe, 0);
	sqe = next_sqe();
	is_fill(sqe, 2, 5000, 3192);
	assert_int_equal(sqes_left(), 0);
	complete(sqe, 3000);
	sqe = next_sqe();
	is_fill(sqe, 2, 8000, 192);
	complete(sqe, 192);
	commits(2, 8192);
	assert_int_equal(bench.queue.stats.errors, 0);
}

/* Also where the file ends within a block, which direct I/O cannot go on from. */
static void a_fill_begins_at_the_very_end_of_the_file(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	bench.target.dio_align = 512;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(next_sqe(), 100);
	sqe = next_sqe();
	is_fill(sqe, 0, 100, 3996);
	complete(sqe, -EINTR);
	sqe = next_sqe();
	is_fill(sqe, 0, 100, 3996);
	complete(sqe, 3996);
	commits(0, 4096);
}

static void a_fill_that_fails_fails_the_read(void **state)
{
	(void)state;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(next_sqe(), 0);
	complete(next_sqe(), -EFAULT);
	commits(0, -EFAULT);
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	complete(next_sqe(), 0);
	complete(next_sqe(), 0);
	commits(0, -EIO);
}

static void a_draining_reactor_fills_nothing(void **state)
{
	(void)state;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	bench.queue.draining = true;
	complete(next_sqe(), 0);
	commits(0, -EIO);
}

static void zeros_are_written_from_our_own_memory(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	arrive(0, UBLK_IO_OP_WRITE_ZEROES, 8, 8);
	sqe = next_sqe();
	assert_int_equal(sqe->opcode, IORING_OP_WRITE);
	assert_ptr_equal((const void *)(uintptr_t)sqe->addr, bench.reactor.zeros);
	complete(sqe, 4096);
	commits(0, 0);
}

static int done(struct ublkd_io *io)
{
	(void)io;
	return UBLKD_DONE;
}

static void claim(void *arg)
{
	bench.serve = done;
	arrive(0, *(const uint32_t *)arg, 0, 8);
}

static void nobody_can_have_read_into_the_kernel(void **state)
{
	static uint32_t read = UBLK_IO_OP_READ, write = UBLK_IO_OP_WRITE;

	(void)state;
	assert_true(aborts(claim, &read));
	assert_false(aborts(claim, &write));
}

static void what_the_driver_could_not_register_we_do(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	arrive(2, UBLK_IO_OP_READ | NEED_REG, 8, 8);
	sqe = registers(2);
	assert_int_equal(bench.served, 0);
	registered(sqe, 0);
	assert_int_equal(bench.served, 1);
	assert_null(bench.request->data);
	sqe = next_sqe();
	is_fixed(sqe, IORING_OP_READ_FIXED, 2, 8192, 0, 4096);
	assert_int_equal(sqes_left(), 0);
	complete(sqe, 4096);
	unregisters_and_commits(2, 4096);
	/* The next one is the driver's again. */
	arrive(2, UBLK_IO_OP_WRITE, 8, 8);
	sqe = next_sqe();
	is_fixed(sqe, IORING_OP_WRITE_FIXED, 2, 8192, 0, 4096);
	complete(sqe, 4096);
	commits(2, 4096);
}

static void what_has_no_data_is_not_registered(void **state)
{
	static const uint32_t ops[] = { UBLK_IO_OP_FLUSH, UBLK_IO_OP_DISCARD,
					UBLK_IO_OP_WRITE_ZEROES };

	(void)state;
	bench.serve = done;
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		arrive(0, ops[i] | NEED_REG, 8, 8);
		commits(0, 0);
	}
	/* Nor what is refused. */
	arrive(0, UBLK_IO_OP_READ | NEED_REG, 0, 0);
	commits(0, -EINVAL);
}

/* ---- registered by us ---------------------------------------------------- */

static void pages_are_registered_for_the_io_alone(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		uint8_t opcode = i ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED;

		arrive(1, i ? UBLK_IO_OP_WRITE : UBLK_IO_OP_READ, 8, 8);
		sqe = registers(1);
		assert_int_equal(bench.served, i);
		registered(sqe, 0);
		assert_int_equal(bench.served, i + 1);
		sqe = next_sqe();
		is_fixed(sqe, opcode, 1, 8192, 0, 4096);
		assert_int_equal(sqe->flags, IOSQE_FIXED_FILE);
		assert_int_equal(sqes_left(), 0);
		complete(sqe, 4096);
		unregisters_and_commits(1, 4096);
	}
}

/* I/O, end of the registration and commit are one chain. Returns the I/O. */
static const struct io_uring_sqe *linked(unsigned tag, int32_t result)
{
	const struct io_uring_sqe *head;

	registered(registers(tag), 0);
	head = next_sqe();
	assert_int_equal(head->flags, IOSQE_FIXED_FILE | IN_CHAIN);
	assert_int_equal(head->user_data, dispatch_to_part(&bench.ios[tag].parts[0]));
	is_slot_command(next_sqe(), UBLK_IO_UNREGISTER_IO_BUF, tag, IOSQE_FIXED_FILE | IN_CHAIN);
	is_command(next_sqe(), UBLK_IO_COMMIT_AND_FETCH_REQ, tag, result, NULL);
	assert_int_equal(sqes_left(), 0);
	assert_int_equal(bench.ios[tag].state, IO_LINKED);
	return head;
}

static void the_end_of_the_registration_is_linked_too(void **state)
{
	(void)state;
	arrive(1, UBLK_IO_OP_READ, 8, 8);
	is_fixed(linked(1, 4096), IORING_OP_READ_FIXED, 1, 8192, 0, 4096);
	arrive(1, UBLK_IO_OP_WRITE, 8, 16);
	is_fixed(linked(1, 8192), IORING_OP_WRITE_FIXED, 1, 8192, 0, 8192);
	/* It ended with the link: what fails now has nothing to end. */
	arrive(1, UBLK_IO_OP_READ, 0, 0);
	commits(1, -EINVAL);
	assert_int_equal(bench.queue.stats.linked, 2);
	assert_int_equal(bench.queue.stats.broken, 0);
}

static void a_broken_link_keeps_the_registration(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	arrive(1, UBLK_IO_OP_READ, 8, 8);
	complete(linked(1, 4096), 1024);
	sqe = next_sqe();
	is_fixed(sqe, IORING_OP_READ_FIXED, 1, 8192 + 1024, 1024, 3072);
	assert_int_equal(sqe->flags, IOSQE_FIXED_FILE);
	assert_int_equal(sqes_left(), 0);
	complete(sqe, 0);
	sqe = next_sqe();
	is_fill(sqe, 1, 1024, 3072);
	complete(sqe, 3072);
	unregisters_and_commits(1, 4096);
	arrive(1, UBLK_IO_OP_WRITE, 8, 8);
	complete(linked(1, 4096), -EIO);
	unregisters_and_commits(1, -EIO);
	assert_int_equal(bench.queue.stats.broken, 2);
}

static void a_registration_that_fails_fails_the_request(void **state)
{
	static const struct {
		int error, result;
	} cases[] = {
		{ -ENOMEM, -ENOMEM }, { -EBUSY, -EIO }, { -EAGAIN, -EIO }, { -EINVAL, -EIO },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		arrive(0, UBLK_IO_OP_WRITE | NEED_REG, 0, 8);
		registered(registers(0), cases[i].error);
		/* Without an end of what never began. */
		commits(0, cases[i].result);
		assert_int_equal(bench.request_error, cases[i].result);
	}
	assert_int_equal(bench.served, 0);
	assert_int_equal(bench.queue.stats.errors, ARRAY_SIZE(cases));
}

static int fail_at_once(struct ublkd_io *io)
{
	(void)io;
	return -ENOSPC;
}

static void a_request_that_the_backend_refuses_ends_its_registration(void **state)
{
	(void)state;
	bench.serve = fail_at_once;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	registered(registers(0), 0);
	unregisters_and_commits(0, -ENOSPC);
}

static void a_drained_request_ends_its_registration(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	sqe = registers(0);
	bench.queue.draining = true;
	registered(sqe, 0);
	assert_int_equal(bench.served, 0);
	unregisters_and_commits(0, -EIO);
}

static void an_end_that_the_driver_refuses_fails_the_queue(void **state)
{
	(void)state;
	io_unregister_failed(&bench.ios[1], -EINVAL);
	assert_int_equal(bench.failure, -EINVAL);
	assert_string_equal(bench.failure_text,
			    "queue 3 tag 1: the driver refused the UNREGISTER_IO_BUF command");
}

static void without_room_a_registration_waits(void **state)
{
	(void)state;
	bench.reactor.ring.room = bench.room_by_submit = 0;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	is_waiting(0);
	reactor_turn();
	is_waiting(0);
	bench.room_by_submit = 1;
	reactor_turn();
	registers(0);
}

static void without_room_what_is_registered_waits_for_the_backend(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	sqe = registers(0);
	bench.reactor.ring.room = bench.room_by_submit = IO_SQES - 1;
	registered(sqe, 0);
	is_waiting(0);
	assert_int_equal(bench.served, 0);
	bench.room_by_submit = IO_SQES;
	reactor_turn();
	/* It is not registered again. */
	sqe = next_sqe();
	is_fixed(sqe, IORING_OP_READ_FIXED, 0, 4096, 0, 4096);
	complete(sqe, 4096);
	unregisters_and_commits(0, 4096);
}

static void the_end_and_the_commit_wait_for_room_together(void **state)
{
	const struct io_uring_sqe *sqe;

	(void)state;
	arrive(0, UBLK_IO_OP_READ, 0, 8);
	registered(registers(0), 0);
	sqe = next_sqe();
	bench.reactor.ring.room = bench.room_by_submit = 1;
	complete(sqe, 4096);
	is_waiting(0);
	reactor_turn();
	is_waiting(0);
	bench.room_by_submit = 2;
	reactor_turn();
	unregisters_and_commits(0, 4096);
}

static int use_all_there_is(struct ublkd_io *io)
{
	int queued = 0;

	ublkd_ring_inject(io, 1000, 512);
	for (unsigned i = 0; i < UBLKD_SQES_PER_IO; i++)
		queued += ublkd_ring_rw(io, i % BENCH_FILES, io->offset);
	return queued;
}

/* What is reserved is enough for the most that a request may queue. */
static void the_room_that_is_reserved_is_enough(void **state)
{
	(void)state;
	bench.serve = use_all_there_is;
	arrive(0, UBLK_IO_OP_WRITE, 0, 8);
	bench.reactor.ring.room = IO_SQES;
	bench.room_by_submit = 0;
	registered(registers(0), 0);
	assert_int_equal(sqes_left(), UBLKD_SQES_PER_IO + 2);
	assert_true(bench.reactor.ring.room >= 2);
	assert_int_equal(bench.submits, 0);
}

/* ---- user copy ----------------------------------------------------------- */

/* Where the driver has the data of tag 2 of queue 3. */
#define DATA_AT ((off_t)(0x80000000ll + (3ll << 41) + (2ll << 25)))

/* As long as the driver's, all zeros but for what is written. */
static void make_char_device(off_t size)
{
	bench.shape.char_fd = memfd_create("ublkc", MFD_CLOEXEC);
	assert_true(bench.shape.char_fd >= 0);
	assert_int_equal(ftruncate(bench.shape.char_fd, size), 0);
}

static void some_bytes(uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)(1 + i % 251);
}

static void a_writes_data_is_fetched_before_it_is_served(void **state)
{
	uint8_t bytes[8192];

	(void)state;
	make_char_device(DATA_AT + BENCH_MAX_IO);
	some_bytes(bytes, sizeof(bytes));
	assert_int_equal(pwrite(bench.shape.char_fd, bytes, sizeof(bytes), DATA_AT), sizeof(bytes));
	bench.serve = keep;
	arrive(2, UBLK_IO_OP_WRITE, 8, 16);
	assert_int_equal(bench.served, 1);
	assert_non_null(bench.request->data);
	assert_memory_equal(bench.request->data, bytes, sizeof(bytes));
	ublkd_complete(bench.request, 0);
	is_command(next_sqe(), UBLK_IO_COMMIT_AND_FETCH_REQ, 2, 8192, NULL);
	assert_int_equal(bench.queue.buffers.nr_returned, 1);
}

static void a_reads_data_is_handed_over_before_the_commit(void **state)
{
	uint8_t bytes[8192], got[8192];
	const struct io_uring_sqe *sqe;

	(void)state;
	make_char_device(DATA_AT + BENCH_MAX_IO + 512);
	some_bytes(bytes, sizeof(bytes));
	arrive(2, UBLK_IO_OP_READ, 8, 16);
	sqe = next_sqe();
	assert_int_equal(sqe->opcode, IORING_OP_READ);
	assert_int_equal(sqe->flags, IOSQE_FIXED_FILE);
	assert_ptr_equal((void *)(uintptr_t)sqe->addr, bench.request->data);
	/* The file ends: zeros are handed over too. */
	memset(bench.request->data, 'x', 8192);
	memcpy(bench.request->data, bytes, 5000);
	memset(bytes + 5000, 0, 3192);
	assert_int_equal(pwrite(bench.shape.char_fd, "yyyy", 4, DATA_AT + 6000), 4);
	complete(sqe, 5000);
	complete(next_sqe(), 0);
	is_command(next_sqe(), UBLK_IO_COMMIT_AND_FETCH_REQ, 2, 8192, NULL);
	assert_int_equal(pread(bench.shape.char_fd, got, sizeof(got), DATA_AT), sizeof(got));
	assert_memory_equal(got, bytes, sizeof(bytes));
}

static void a_read_that_failed_hands_nothing_over(void **state)
{
	uint8_t byte = 'x';

	(void)state;
	make_char_device(DATA_AT + BENCH_MAX_IO);
	arrive(2, UBLK_IO_OP_READ, 8, 16);
	memset(bench.request->data, 'x', 8192);
	complete(next_sqe(), -EIO);
	commits(2, -EIO);
	assert_int_equal(pread(bench.shape.char_fd, &byte, 1, DATA_AT), 1);
	assert_int_equal(byte, 0);
}

static void a_write_whose_data_cannot_be_fetched_is_not_served(void **state)
{
	(void)state;
	/* Not all of it. */
	make_char_device(DATA_AT + 4096);
	arrive(2, UBLK_IO_OP_WRITE, 0, 9);
	commits(2, -EIO);
	/* Nothing of it. */
	close(bench.shape.char_fd);
	bench.shape.char_fd = -1;
	reactor_turn();
	arrive(2, UBLK_IO_OP_WRITE, 0, 8);
	commits(2, -EBADF);
	assert_int_equal(bench.served, 0);
	assert_int_equal(bench.failed_requests, 2);
	reactor_turn();
	assert_int_equal(bench.queue.buffers.nr_free, BENCH_POOL);
}

static void a_read_whose_data_cannot_be_handed_over_fails(void **state)
{
	(void)state;
	bench.serve = done;
	bench.shape.char_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(bench.shape.char_fd >= 0);
	arrive(2, UBLK_IO_OP_READ, 0, 8);
	commits(2, -EBADF);
	assert_int_equal(bench.served, 1);
	assert_int_equal(bench.failed_requests, 1);
	assert_int_equal(bench.queue.stats.errors, 1);
}

static void who_finds_no_buffer_waits_with_its_data(void **state)
{
	uint8_t bytes[512];

	(void)state;
	make_char_device(DATA_AT + BENCH_MAX_IO);
	bench.serve = keep;
	arrive(0, UBLK_IO_OP_READ, 0, 1);
	arrive(1, UBLK_IO_OP_READ, 0, 1);
	arrive(2, UBLK_IO_OP_WRITE, 0, 1);
	assert_int_equal(bench.served, 2);
	some_bytes(bytes, sizeof(bytes));
	assert_int_equal(pwrite(bench.shape.char_fd, bytes, sizeof(bytes), DATA_AT), sizeof(bytes));
	ublkd_complete(&bench.ios[0].pub, 0);
	reactor_turn();
	assert_int_equal(bench.served, 3);
	assert_ptr_equal(bench.request, &bench.ios[2].pub);
	assert_memory_equal(bench.request->data, bytes, sizeof(bytes));
}

static void what_has_no_data_borrows_no_buffer(void **state)
{
	(void)state;
	bench.serve = keep;
	arrive(0, UBLK_IO_OP_FLUSH, 0, 0);
	arrive(1, UBLK_IO_OP_DISCARD, 0, 8);
	assert_int_equal(bench.queue.buffers.nr_free, BENCH_POOL);
	assert_int_equal(bench.served, 2);
}

int main(void)
{
#define TEST(name, way) \
	cmocka_unit_test_prestate_setup_teardown(name, open_way, close_bench, &(way))
	const struct CMUnitTest tests[] = {
		TEST(a_fetch_names_the_slot_and_no_memory, zero_copy_no),
		TEST(a_fetch_names_the_slot_and_no_memory, register_no),
		TEST(a_fetch_names_the_slot_and_no_memory, user_copy_no),
		TEST(io_goes_between_the_file_and_the_requests_pages, zero_copy_no),
		TEST(io_goes_between_the_file_and_the_buffer_of_the_tag, copy_no),
		TEST(a_buffer_that_the_ring_does_not_know_yet_is_used_all_the_same, copy_no),
		TEST(zero_copy_is_linked, zero_copy_yes),
		TEST(behind_the_end_of_the_file_the_pages_are_filled, zero_copy_no),
		TEST(behind_the_end_of_the_file_the_pages_are_filled, zero_copy_yes),
		TEST(a_fill_begins_at_the_very_end_of_the_file, zero_copy_no),
		TEST(a_fill_that_fails_fails_the_read, zero_copy_no),
		TEST(a_draining_reactor_fills_nothing, zero_copy_no),
		TEST(zeros_are_written_from_our_own_memory, zero_copy_no),
		TEST(nobody_can_have_read_into_the_kernel, zero_copy_no),
		TEST(what_the_driver_could_not_register_we_do, zero_copy_no),
		TEST(what_has_no_data_is_not_registered, zero_copy_no),
		TEST(what_has_no_data_is_not_registered, register_no),
		TEST(pages_are_registered_for_the_io_alone, register_no),
		TEST(the_end_of_the_registration_is_linked_too, register_yes),
		TEST(a_broken_link_keeps_the_registration, register_yes),
		TEST(a_registration_that_fails_fails_the_request, register_no),
		TEST(a_registration_that_fails_fails_the_request, register_yes),
		TEST(a_registration_that_fails_fails_the_request, zero_copy_no),
		TEST(a_request_that_the_backend_refuses_ends_its_registration, register_yes),
		TEST(a_drained_request_ends_its_registration, register_yes),
		TEST(an_end_that_the_driver_refuses_fails_the_queue, register_no),
		TEST(without_room_a_registration_waits, register_no),
		TEST(without_room_what_is_registered_waits_for_the_backend, register_no),
		TEST(the_end_and_the_commit_wait_for_room_together, register_no),
		TEST(the_room_that_is_reserved_is_enough, register_yes),
		TEST(a_writes_data_is_fetched_before_it_is_served, user_copy_no),
		TEST(a_reads_data_is_handed_over_before_the_commit, user_copy_no),
		TEST(a_read_that_failed_hands_nothing_over, user_copy_no),
		TEST(a_write_whose_data_cannot_be_fetched_is_not_served, user_copy_no),
		TEST(a_read_whose_data_cannot_be_handed_over_fails, user_copy_no),
		TEST(who_finds_no_buffer_waits_with_its_data, user_copy_no),
		TEST(what_has_no_data_borrows_no_buffer, user_copy_no),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
