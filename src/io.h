/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One tag of one queue and the request that it carries. This file and io.c
 * hold the whole state machine:
 *
 *   IDLE ──▶ FETCH ──▶ PROCESS ──▶ COMMIT ──▶ PROCESS …  the way of a tag
 *                      PROCESS ──▶ GET_DATA ──▶ PROCESS  a write's data is asked for
 *                      PROCESS ──▶ LINKED ──▶ PROCESS …  done, or broken
 *            FETCH, GET_DATA, COMMIT, LINKED ──▶ ENDED   the device goes
 *
 *   FETCH     the kernel has the tag and waits for the first I/O
 *   PROCESS   the server has the request: decoded, served by the backend, or
 *             waiting for a buffer or for room in the ring
 *   GET_DATA  a write's data is being copied into the buffer given with it
 *   COMMIT    the result is handed back and the next I/O fetched by the same
 *             command, so this is also "the kernel waits for the next I/O"
 *   LINKED    PROCESS and COMMIT in one: the commit is queued behind the
 *             backend's SQE, both are the kernel's. Whether the request is
 *             still being served or is long done and the kernel waits for the
 *             next cannot be told, so nothing may depend on it. The end of a
 *             broken link is the backend SQE's only completion, the end of
 *             any other is that of the commit.
 *   ENDED     the kernel aborted the tag (device stopped); nothing follows
 *
 * In batch mode a tag has no commands of its own but a linked commit: what they
 * would say goes to and comes from batch.c, the states are the same. GET_DATA
 * does not occur.
 *
 * Threads: everything here runs on the reactor of the queue.
 */
#ifndef IO_H
#define IO_H

#include <linux/time_types.h>

#include <ublkd/backend.h>

#include "util/macros.h"

struct queue;
struct reactor;

enum io_state {
	IO_IDLE,
	IO_FETCH,
	IO_PROCESS,
	IO_GET_DATA,
	IO_COMMIT,
	IO_LINKED,
	IO_ENDED,
};

/* What a request that waits in PROCESS goes on with. */
enum io_todo {
	IO_TODO_NOTHING,
	IO_TODO_GET_DATA,
	IO_TODO_WANT_DATA,
	IO_TODO_SERVE,
	IO_TODO_PARTS,
	IO_TODO_COMMIT,
};

/* What the backend's SQE does; a part goes on until its length is done. */
enum io_part_kind {
	PART_READ,
	PART_WRITE,
	PART_ZEROS,     /* writes zeros */
	PART_FILL,      /* reads zeros into pages that only the ring reaches */
	PART_SYNC,
	PART_FALLOCATE,
	PART_DISCARD,
};

/*
 * One SQE's worth of a request, and its continuation when the kernel does
 * less than it was asked. Valid while the request is in PROCESS. What all have
 * to do with is in one cache line, as it is of a request.
 */
struct io_part {
	_Alignas(CACHE_LINE) struct io *io;
	uint64_t file_offset; /* of byte 0 of the part */
	uint8_t *data;        /* NULL: in the kernel, see io_init() */
	uint32_t length;      /* 0 for SYNC, FALLOCATE and DISCARD: all or nothing */
	uint32_t done;        /* bytes that are certain */
	uint32_t start;       /* where the SQE in the ring begins: done, aligned down */
	uint32_t asked;       /* bytes of that SQE */
	uint32_t rw_flags;    /* RWF_*; FALLOCATE: the mode */
	uint8_t kind;
	uint8_t file;         /* index into target->files */
	uint8_t tries;        /* without progress, after errors that may pass */
	bool active;          /* its SQE is in the ring */
	bool due;             /* its next SQE waits for room in the ring */
	bool faulty;          /* its next SQE is to be as inject and delay say */
	/* Valid while it is faulty, see ublkd_ring_inject(). */
	int32_t inject;       /* 0: nothing */
	struct __kernel_timespec delay;
};

struct io {
	_Alignas(CACHE_LINE) struct ublkd_io pub; /* what the backend sees */
	struct queue *queue;
	void *buffer;        /* its own in copy mode, borrowed in get-data mode */
	struct io_part *parts; /* the queue's parts_each of them */
	int32_t result;      /* first error of its parts */
	uint16_t index;      /* among the queue's tags */
	uint8_t state;       /* enum io_state */
	uint8_t todo;        /* enum io_todo */
	uint8_t parts_used;
	uint8_t parts_left;
	bool kept;           /* submit() kept it: ublkd_complete() will follow */
	bool registered;     /* its pages are in the ring's table, by our command */
	bool served;         /* this tag has carried a request */
	bool faulty;         /* the next part is to be as inject and inject_ns say */
	/* Seldom used. */
	struct io *next;     /* in a list of the reactor or of the buffers */
	int32_t inject;
	uint64_t inject_ns;
};

/*
 * SQEs reserved together for a request: its parts, two that an injected fault
 * may add, and behind them the end of a registration and the commit.
 */
#define IO_SQES (UBLKD_SQES_PER_IO + 4)

/* index: among the queue's tags, see queue.h. */
void io_init(struct io *io, struct queue *queue, uint16_t index);

/* Queues the first FETCH. */
void io_fetch(struct io *io);
/* The CQE of a FETCH, COMMIT_AND_FETCH or NEED_GET_DATA command, or what batch.c made of its own. */
void io_command_done(struct io *io, int result);
/* The CQE of the command that registers a request's pages. */
void io_registered(struct io *io, int result);
/* The CQE of the command that ends it; only failures have one. */
void io_unregister_failed(struct io *io, int result);
/* The CQE of a part. */
void io_part_done(struct io_part *part, int result);
/* Takes up a request that waited for a buffer or for room in the ring. */
void io_resume(struct io *io);
/* Asks the ring to give up what the backend has in it for this request. */
void io_cancel(struct io *io);

const char *io_op_name(unsigned op);

/* ---- short results: arithmetic only, for io.c and its tests ------------ */

enum io_step {
	IO_STEP_DONE,  /* all of the part is done */
	IO_STEP_AGAIN, /* go on from part->start */
	IO_STEP_EOF,   /* the file ends at part->done: the rest reads as zeros */
	IO_STEP_FAIL,  /* with *error */
};

/*
 * What follows from the result of the part's SQE. align: ring I/O must start
 * at a multiple of it (a power of two, or 0).
 */
enum io_step io_part_step(struct io_part *part, int result, uint32_t align, int *error);

#endif
