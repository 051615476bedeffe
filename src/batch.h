/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Batch mode (Linux 7.0): the driver gives and takes a queue's requests many
 * at a time, by commands of the queue in place of those of each tag:
 *
 *   PREP    the tags and where their data goes, once, before the device starts
 *   FETCH   stays in the ring. Each of its completions says that requests have
 *           arrived; their tags are in one of the buffers that the ring was lent
 *   COMMIT  results, and where the data of these tags' next requests goes
 *
 * What a tag goes through is io.c's all the same: it adds its first fetch and
 * its commits here, and is told by io_command_done() of what comes.
 *
 * Elements are in two lists. Those collected go with the next submit, all at
 * once; those given are the driver's until its answer, which may be that it
 * has taken only the first of them: then the rest is given again. A commit that
 * is linked behind its I/O is a command for one tag, with an element of its own,
 * which the driver reads when its turn comes.
 *
 * Threads: the reactor of the queue.
 */
#ifndef BATCH_H
#define BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <ublkd/ublk_abi.h>

#include "buffer.h"

struct io_uring_buf_ring;
struct io_uring_sqe;
struct queue;

/* Whose completion it is; what user_data points to. */
struct batch_command {
	struct batch *batch;
	bool fetches;
};

struct batch {
	struct queue *queue;
	struct batch **due, *next_due; /* the list of those with something for the driver */
	bool listed;
	unsigned in_ring;           /* commands that have not ended */
	uint8_t *collected, *given; /* of the queue's depth each: no tag is in one twice */
	unsigned nr_collected, nr_given;
	uint8_t *linked;            /* one for each tag */
	unsigned accepted;          /* of those given, the first */
	uint8_t elem_bytes;
	uint16_t flags;             /* UBLK_BATCH_F_* */
	bool prepared;              /* what is given is a COMMIT, no longer the PREP */
	bool give_due, fetch_due;   /* the command is to be queued */
	uint16_t group;             /* of the lent buffers, in the ring */
	bool has_group;
	bool fetch_refused;
	bool ended;                 /* the device goes, no request will follow */
	uint8_t give_tries, fetch_tries; /* without progress */
	/* Lent one after another, and they come back in this order. */
	struct io_uring_buf_ring *lent;
	uint16_t *tags;
	unsigned nr_buffers, tags_each, next_buffer;
	void *memory;               /* of all this */
	size_t bytes;
	struct batch_command exchange, fetch;
};

/* The queue's reactor has its ring. 0 or -errno; without memory or ring nothing is left behind. */
int batch_open(struct batch **batch, struct queue *queue);
/* After the last of its commands, or that of the ring. */
void batch_close(struct batch *batch);

/* It is to be given with the next submit. */
static inline void batch_list(struct batch *batch)
{
	if (batch->listed)
		return;
	batch->listed = true;
	batch->next_due = *batch->due;
	*batch->due = batch;
}

static inline void batch_fill(const struct batch *batch, uint8_t *at, struct ublk_batch_elem elem,
			      const void *buffer)
{
	uint64_t address = (uintptr_t)buffer;

	memcpy(at, &elem, sizeof(elem));
	if (batch->flags & UBLK_BATCH_F_HAS_BUF_ADDR)
		memcpy(at + sizeof(elem), &address, sizeof(address));
}

/* The first fetch of a tag, or its commit. */
static inline void batch_add(struct batch *batch, struct ublk_batch_elem elem, const void *buffer)
{
	batch_list(batch);
	batch_fill(batch, batch->collected + batch->nr_collected++ * batch->elem_bytes, elem,
		   buffer);
}

/*
 * A cleared SQE becomes the commit of this tag alone, to be linked. A success
 * posts nothing: one element is taken or fails.
 */
void batch_fill_linked(struct batch *batch, struct io_uring_sqe *sqe, struct ublk_batch_elem elem,
		       const void *buffer, uint64_t user_data);

/*
 * Right before a submit: queues what the batches of the list have for the
 * driver, as far as the ring has room; what has none stays listed. Returns how
 * many completions the submit brings by itself, as the driver answers at once.
 */
unsigned batches_give(struct batch **due);

/* The CQE of one of the commands. */
void batch_command_done(struct batch_command *command, int result, uint32_t flags);

#endif
