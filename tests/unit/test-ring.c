/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which SQE the ring hands out, on a submission queue that is plain memory. */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <string.h>

#include "ring.h"
#include "util/macros.h"

#define ENTRIES 16 /* of the queue, as the kernel rounds up */
#define IN_TURN 10
#define OWN 3

struct memory {
	struct ring ring;
	unsigned head, tail, array[ENTRIES];
	struct io_uring_sqe sqes[2 * ENTRIES];
};

static int open_memory(void **state)
{
	static struct memory memory;

	memory = (struct memory){
		.ring = { .sqes = IN_TURN, .room = IN_TURN, .own = OWN },
	};
	memory.ring.uring.sq = (struct io_uring_sq){
		.khead = &memory.head, .ktail = &memory.tail, .ring_mask = ENTRIES - 1,
		.array = memory.array, .sqes = memory.sqes,
	};
	*state = &memory;
	return 0;
}

/* What the kernel would read as its next entry in a submit. */
static const struct io_uring_sqe *consume(struct memory *memory)
{
	memory->ring.room++;
	return &memory->sqes[memory->array[memory->head++ % ENTRIES]];
}

static void room_is_what_is_used_in_turn(void **state)
{
	struct memory *memory = *state;

	for (unsigned i = 0; i < IN_TURN; i++) {
		assert_int_equal(memory->ring.room, IN_TURN - i);
		ring_sqe(&memory->ring);
	}
	assert_int_equal(memory->ring.room, 0);
}

static void the_kernel_gets_them_in_the_order_they_were_queued(void **state)
{
	struct memory *memory = *state;
	const struct io_uring_sqe *queued[4];

	memory->head = memory->ring.uring.sq.sqe_tail = UINT32_MAX - 1; /* it wraps */
	for (unsigned round = 0; round < 100; round++) {
		queued[0] = ring_sqe(&memory->ring);
		queued[1] = ring_sqe_own(&memory->ring, round % OWN);
		queued[2] = ring_sqe(&memory->ring);
		queued[3] = ring_sqe(&memory->ring);
		for (unsigned i = 0; i < ARRAY_SIZE(queued); i++)
			assert_ptr_equal(consume(memory), queued[i]);
	}
}

static void an_owned_one_is_nobody_elses(void **state)
{
	struct memory *memory = *state;
	struct io_uring_sqe *own[OWN];

	for (unsigned i = 0; i < OWN; i++) {
		own[i] = ring_sqe_own(&memory->ring, i);
		own[i]->user_data = 100 + i;
		consume(memory);
	}
	for (unsigned round = 0; round < 10 * ENTRIES; round++) {
		ring_sqe(&memory->ring)->user_data = round;
		consume(memory);
	}
	for (unsigned i = 0; i < OWN; i++) {
		assert_int_equal(own[i]->user_data, 100 + i);
		assert_ptr_equal(ring_sqe_own(&memory->ring, i), own[i]);
		assert_int_equal(own[i]->user_data, 0);
	}
}

/* A queue that is full of both kinds holds each of them once. */
static void all_that_fit_are_different(void **state)
{
	struct memory *memory = *state;

	for (unsigned i = 0; i < OWN; i++)
		ring_sqe_own(&memory->ring, i);
	while (memory->ring.room)
		ring_sqe(&memory->ring);
	for (unsigned i = 0; i < IN_TURN; i++) {
		for (unsigned j = 0; j < i; j++)
			assert_int_not_equal(memory->array[i], memory->array[j]);
	}
}

static void large_ones_lie_two_apart(void **state)
{
	struct memory *memory = *state;
	struct io_uring_sqe *first;

	memory->ring.large = 1;
	first = ring_sqe(&memory->ring);
	assert_ptr_equal(first, &memory->sqes[0]);
	assert_ptr_equal(ring_sqe(&memory->ring), &memory->sqes[2]);
}

/* liburing's own way to open one would leave out the index array. */
static void a_real_ring_takes_both_kinds(void **state)
{
	static const enum ring_mode modes[] = { RING_AUTO, RING_COOP, RING_PLAIN };
	struct io_uring_cqe *cqe;
	struct ring ring;

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(modes); i++) {
		int ret = ring_open(&ring, 4, 2, modes[i / 2], i % 2 ? IORING_SETUP_SQE128 : 0);

		/* Where there is no io_uring, or not for us. */
		if (ret == -ENOSYS || ret == -EPERM || ret == -EACCES)
			skip();
		assert_int_equal(ret, 0);
		for (unsigned round = 0; round < 100; round++) {
			struct io_uring_sqe *sqe = round % 3 ? ring_sqe(&ring) :
							       ring_sqe_own(&ring, round % 2);

			sqe->opcode = IORING_OP_NOP;
			sqe->user_data = round;
			assert_int_equal(ring.room, 3);
			assert_int_equal(ring_submit_and_wait(&ring, 1), 0);
			assert_int_equal(ring.room, 4);
			assert_int_equal(io_uring_peek_cqe(&ring.uring, &cqe), 0);
			assert_int_equal(cqe->user_data, round);
			io_uring_cqe_seen(&ring.uring, cqe);
		}
		ring_close(&ring);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(room_is_what_is_used_in_turn, open_memory),
		cmocka_unit_test_setup(the_kernel_gets_them_in_the_order_they_were_queued,
				       open_memory),
		cmocka_unit_test_setup(an_owned_one_is_nobody_elses, open_memory),
		cmocka_unit_test_setup(all_that_fit_are_different, open_memory),
		cmocka_unit_test_setup(large_ones_lie_two_apart, open_memory),
		cmocka_unit_test(a_real_ring_takes_both_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
