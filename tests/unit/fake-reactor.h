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
#define BENCH_FILE_BASE 5
#define BENCH_FILES 2

struct bench {
	struct ublkd_backend backend;
	struct ublkd_target target;
	struct queue_shape shape;
	struct reactor reactor;
	struct queue queue;
	struct ublk_io_desc descriptors[BENCH_DEPTH];
	struct io ios[BENCH_DEPTH];

	/* The ring. */
	unsigned room;             /* SQEs that still can be queued */
	unsigned room_by_submit;   /* what a submit that succeeds makes of it */
	int submit_result;
	unsigned submits;
	struct io_uring_sqe sqes[512]; /* all that were ever queued */
	unsigned nr_sqes, seen;

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

/* pool: buffers in get-data mode, 0: copy mode. */
void bench_open(unsigned pool);
void bench_close(void);

/* The next SQE that was queued since the last call; fails where there is none. */
const struct io_uring_sqe *next_sqe(void);
/* How many more there are. */
unsigned sqes_left(void);

/* The kernel hands a request to a tag: its command completes with result 0. */
void arrive(unsigned tag, uint32_t op_flags, uint64_t start_sector, uint32_t sectors);
/* A part's SQE completes. */
void complete(const struct io_uring_sqe *sqe, int result);
/* The reactor submits: everything fits again, buffers return, who waits goes on. */
void reactor_turn(void);

#endif
