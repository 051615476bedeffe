/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands around io.c, without a kernel: a ring that only notes SQEs, the
 * reactor's services, a queue whose descriptors are plain memory, and a
 * target that does as it is told. One of each; bench_open() starts anew.
 */
#ifndef FAKE_REACTOR_H
#define FAKE_REACTOR_H

#include <ublkd/ublk_abi.h>

#include "queue.h"
#include "reactor.h"

#define BENCH_DEPTH 4
#define BENCH_MAX_IO 8192
#define BENCH_SIZE (UINT64_C(1) << 50)
#define BENCH_QUEUE_ID 3
#define BENCH_GROUP 77
#define BENCH_FILE_BASE 5
#define BENCH_FILES 2
#define BENCH_ZERO_FILE 8
#define BENCH_SLOT_BASE 40
#define BENCH_OWN_BASE 20
#define BENCH_POOL 2
#define BENCH_SQES 512
#define BENCH_SLOTS (BENCH_OWN_BASE + BENCH_DEPTH)

struct bench {
	struct ublkd_backend backend;
	struct ublkd_target target;
	struct queue_shape shape;
	struct reactor reactor;
	struct queue queue;
	struct ublk_io_desc descriptors[BENCH_DEPTH];
	struct io ios[BENCH_DEPTH];
	struct io_part parts[BENCH_DEPTH * UBLKD_SQES_PER_IO];

	/* The ring. */
	struct io_uring_sqe sqes[BENCH_SQES + BENCH_SLOTS];
	unsigned order[BENCH_SQES]; /* the index of each that was ever queued */
	unsigned seen;
	unsigned room_by_submit;   /* what a submit that succeeds makes of ring.room */
	int submit_result;
	unsigned submits;
	const struct io_uring_buf_ring *lent;
	unsigned lent_entries;
	int lend_result;

	/* The backend's submit(), and what it was given last. */
	int (*serve)(struct ublkd_io *io);
	unsigned served;
	struct ublkd_io *request;

	/* What the reactor was told. */
	struct io *parked[8];
	unsigned nr_parked;
	unsigned tags_ended;
	int failure;
	char failure_text[160];
	unsigned failed_requests;
	uint8_t failed_op;
	int request_error;
};

extern struct bench bench;

/* In the pooled modes there are BENCH_POOL buffers. */
void bench_open(enum data_mode mode, enum link_mode link);
/* The same in batch mode: the first fetches are collected. */
void bench_open_batch(enum data_mode mode);
void bench_close(void);

/* The n-th SQE that was queued, from 0 on. */
const struct io_uring_sqe *sqe_queued(unsigned n);
/* The next SQE that was queued since the last call; fails where there is none. */
const struct io_uring_sqe *next_sqe(void);
/* The slot of the SQE that next_sqe() gave, -1: none. */
int own_slot(const struct io_uring_sqe *sqe);
/* How many more there are. */
unsigned sqes_left(void);

/* Fails unless the SQE is this command, linked to nothing, with cmd.addr as given. */
void is_command(const struct io_uring_sqe *sqe, uint32_t command, unsigned tag, int32_t result,
		const void *addr);
const struct ublk_io_cmd *command_of(const struct io_uring_sqe *sqe);
/*
 * The next SQE commits the tag with this result, and there is no other. In
 * get-data mode the address is looked at by its own tests.
 */
void commits(unsigned tag, int32_t result);
/* The tag waits for room, alone, and queued nothing. */
void is_waiting(unsigned tag);

/* What bench.serve may be: reads and writes use file 1, 4096 bytes further on. */
int use_ring(struct ublkd_io *io);
/* A mirror: the same on both files. */
int use_both_files(struct ublkd_io *io);
/* Zeroes a range of file 1, 1024 bytes further on. */
int allocate(struct ublkd_io *io);
int keep(struct ublkd_io *io);

/* The kernel hands a request to a tag: its command completes with result 0. */
void arrive(unsigned tag, uint32_t op_flags, uint64_t start_sector, uint32_t sectors);
/* The command that registers a request's pages completes. */
void registered(const struct io_uring_sqe *sqe, int result);
/* A part's SQE completes. */
void complete(const struct io_uring_sqe *sqe, int result);
/* The reactor submits: everything fits again, buffers return, who waits goes on. */
void reactor_turn(void);

#endif
