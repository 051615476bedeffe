/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "batch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "dispatch.h"
#include "queue.h"
#include "reactor.h"
#include "util/macros.h"

#ifndef IORING_URING_CMD_MULTISHOT
#define IORING_URING_CMD_MULTISHOT (1u << 1)
#endif

/* The driver gives at most so many with a completion (MAX_NR_TAG of ublk_drv.c). */
#define TAGS_EACH 128u
/* Completions of a fetch that are not seen yet. With more it ends, and is queued again. */
#define BUFFERS_MOST 64u
/* Errors that may pass: this often a command is tried again without progress. */
#define BATCH_TRIES 16

/* ---- the memory ------------------------------------------------------------ */

static unsigned power_of_two_from(unsigned n)
{
	unsigned power = 1;

	while (power < n)
		power *= 2;
	return power;
}

/*
 * An entry of the lent ring for each buffer. As they go to the kernel in the order in which
 * they come back, each has its entry for good, and to lend it again is to say so.
 */
static void fill_lent(struct batch *batch)
{
	io_uring_buf_ring_init(batch->lent);
	for (unsigned buffer = 0; buffer < batch->nr_buffers; buffer++)
		io_uring_buf_ring_add(batch->lent, batch->tags + buffer * batch->tags_each,
				      (unsigned)(batch->tags_each * sizeof(*batch->tags)),
				      (unsigned short)buffer,
				      io_uring_buf_ring_mask(batch->nr_buffers), (int)buffer);
	io_uring_buf_ring_advance(batch->lent, (int)batch->nr_buffers);
}

/*
 * To the ring: the buffers from the next in turn up to this one. One that the kernel took
 * and then had no room to tell of is among them.
 */
static void lend_again(struct batch *batch, unsigned last)
{
	unsigned mask = batch->nr_buffers - 1;

	io_uring_buf_ring_advance(batch->lent, (int)(((last - batch->next_buffer) & mask) + 1));
	batch->next_buffer = (last + 1) & mask;
}

static void lay_out(struct batch *batch, unsigned depth)
{
	size_t ring = batch->nr_buffers * sizeof(struct io_uring_buf);
	size_t elements = round_up((size_t)depth * batch->elem_bytes, 64);
	uint8_t *at = batch->memory;

	batch->lent = batch->memory;
	batch->collected = at + ring;
	batch->given = batch->collected + elements;
	batch->linked = batch->given + elements;
	batch->tags = (uint16_t *)(void *)(batch->linked + elements);
}

/*
 * The driver writes to it with the ring locked: it must not have to wait for
 * memory, which may be what the device is written to for.
 */
static int map(struct batch *batch, unsigned depth)
{
	batch->bytes = round_up(batch->nr_buffers * (sizeof(struct io_uring_buf) +
						     batch->tags_each * sizeof(*batch->tags)) +
				3 * round_up((size_t)depth * batch->elem_bytes, 64), page_size());
	batch->memory = mmap(NULL, batch->bytes, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (batch->memory == MAP_FAILED) {
		batch->memory = NULL;
		return -errno;
	}
	return mlock(batch->memory, batch->bytes) ? -errno : 0;
}

int batch_open(struct batch **opened, struct queue *queue)
{
	const struct queue_shape *shape = queue->shape;
	struct batch *batch = calloc(1, sizeof(*batch));
	int ret;

	if (!batch)
		return -ENOMEM;
	batch->queue = queue;
	batch->exchange = (struct batch_command){ .batch = batch };
	batch->fetch = (struct batch_command){ .batch = batch, .fetches = true };
	batch->elem_bytes = sizeof(struct ublk_batch_elem);
	if (shape->data == DATA_COPY) {
		batch->flags = UBLK_BATCH_F_HAS_BUF_ADDR;
		batch->elem_bytes += sizeof(uint64_t);
	} else if (shape->data == DATA_ZERO_COPY) {
		batch->flags = UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK;
	}
	batch->tags_each = MIN(shape->depth, TAGS_EACH);
	batch->nr_buffers = MIN(power_of_two_from(shape->depth), BUFFERS_MOST);
	batch->due = &queue->reactor->batches;
	ret = map(batch, shape->depth);
	if (!ret) {
		lay_out(batch, shape->depth);
		fill_lent(batch);
		ret = reactor_lend(queue->reactor, batch->lent, batch->nr_buffers);
	}
	if (ret >= 0) {
		batch->group = (uint16_t)ret;
		batch->has_group = true;
		ret = 0;
	}
	if (ret) {
		batch_close(batch);
		return ret;
	}
	*opened = batch;
	return 0;
}

void batch_close(struct batch *batch)
{
	struct batch **link;

	if (!batch)
		return;
	for (link = batch->due; batch->listed && *link != batch;)
		link = &(*link)->next_due;
	if (batch->listed)
		*link = batch->next_due;
	if (batch->has_group)
		reactor_take_back(batch->queue->reactor, batch->group);
	if (batch->memory)
		munmap(batch->memory, batch->bytes);
	free(batch);
}

/* ---- what goes to the driver -------------------------------------------------- */

static struct io_uring_sqe *queue_command(struct batch *batch, uint32_t op,
					  struct batch_command *whose)
{
	struct queue *queue = batch->queue;
	struct io_uring_sqe *sqe = ring_sqe(&queue->reactor->ring);
	struct ublk_batch_cmd *cmd = (void *)sqe->cmd;

	batch->in_ring++;
	queue_fill_command(queue, sqe, op, dispatch_to_batch(whose));
	cmd->q_id = queue->id;
	return sqe;
}

static void queue_fetch(struct batch *batch)
{
	struct io_uring_sqe *sqe = queue_command(batch, UBLK_IO_FETCH_IO_CMDS, &batch->fetch);
	struct ublk_batch_cmd *cmd = (void *)sqe->cmd;

	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = batch->group;
	sqe->uring_cmd_flags = IORING_URING_CMD_MULTISHOT;
	cmd->elem_bytes = sizeof(*batch->tags);
	batch->fetch_due = false;
}

static void fill_elements(const struct batch *batch, struct io_uring_sqe *sqe,
			  const uint8_t *elements, unsigned n)
{
	struct ublk_batch_cmd *cmd = (void *)sqe->cmd;

	sqe->addr = (uintptr_t)elements;
	cmd->flags = batch->flags;
	cmd->nr_elem = (uint16_t)n;
	cmd->elem_bytes = batch->elem_bytes;
}

/*
 * A success posts a completion as well: it tells how many were taken, which
 * may be less than all, and nothing else would tell.
 */
static void queue_given(struct batch *batch)
{
	struct io_uring_sqe *sqe = queue_command(batch, batch->prepared ? UBLK_IO_COMMIT_IO_CMDS :
									  UBLK_IO_PREP_IO_CMDS,
						 &batch->exchange);

	fill_elements(batch, sqe, batch->given + batch->accepted * batch->elem_bytes,
		      batch->nr_given - batch->accepted);
	batch->give_due = false;
	batch->queue->stats.batches += batch->prepared;
}

void batch_fill_linked(struct batch *batch, struct io_uring_sqe *sqe, struct ublk_batch_elem elem,
		       const void *buffer, uint64_t user_data)
{
	uint8_t *at = batch->linked + elem.tag * batch->elem_bytes;
	struct ublk_batch_cmd *cmd = (void *)sqe->cmd;

	batch_fill(batch, at, elem, buffer);
	queue_fill_command(batch->queue, sqe, UBLK_IO_COMMIT_IO_CMDS, user_data);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	cmd->q_id = batch->queue->id;
	fill_elements(batch, sqe, at, 1);
}

static bool have_room(struct batch *batch)
{
	struct ring *ring = &batch->queue->reactor->ring;

	if (!ring->room)
		ring_submit(ring);
	return ring->room;
}

static unsigned give(struct batch *batch)
{
	if (batch->fetch_due && have_room(batch))
		queue_fetch(batch);
	if (!batch->nr_given && batch->nr_collected) {
		uint8_t *collected = batch->collected;

		batch->collected = batch->given;
		batch->given = collected;
		batch->nr_given = batch->nr_collected;
		batch->nr_collected = 0;
		batch->accepted = 0;
		batch->give_due = true;
	}
	if (!batch->give_due || !have_room(batch))
		return 0;
	queue_given(batch);
	return 1;
}

unsigned batches_give(struct batch **due)
{
	struct batch *batch = *due;
	unsigned answers = 0;

	*due = NULL;
	while (batch) {
		struct batch *next = batch->next_due;

		batch->listed = false;
		answers += give(batch);
		if (batch->nr_collected || batch->give_due || batch->fetch_due)
			batch_list(batch);
		batch = next;
	}
	return answers;
}

/* ---- what comes from the driver ------------------------------------------------ */

static bool may_pass(int error)
{
	return error == -EAGAIN || error == -EINTR || error == -ENOMEM;
}

static bool is_the_drivers(const struct io *io)
{
	return io->state == IO_FETCH || io->state == IO_COMMIT || io->state == IO_LINKED;
}

/*
 * The driver stops a device when its requests are done, so the end of the fetch is that
 * of all links too. A fetch that was refused says nothing of them, and one that breaks
 * would write to a queue that is gone: such a tag has no end but the ring's.
 */
static bool is_unknown(const struct batch *batch, const struct io *io)
{
	return batch->fetch_refused && io->state == IO_LINKED;
}

/* Not before their last results have been taken, and while a command may still write to us. */
static void end_tags(struct batch *batch)
{
	struct queue *queue = batch->queue;

	if (batch->in_ring || batch->nr_collected || batch->nr_given)
		return;
	for (unsigned tag = 0; tag < queue->shape->depth; tag++) {
		if (is_the_drivers(&queue->ios[tag]) && !is_unknown(batch, &queue->ios[tag]))
			io_command_done(&queue->ios[tag], UBLK_IO_RES_ABORT);
	}
}

/* Nothing more will come of it, but for the end of the fetch when the device stops. */
static void refused(struct batch *batch, const char *command, int error)
{
	reactor_fail_queue(batch->queue, error, "queue %u: the driver refused the %s command",
			   batch->queue->id, command);
	batch->nr_collected = batch->nr_given = batch->accepted = 0;
	batch->give_due = batch->fetch_due = false;
	batch->ended = true;
	end_tags(batch);
}

static void all_taken(struct batch *batch)
{
	batch->nr_given = 0;
	batch->give_tries = 0;
	if (batch->ended)
		end_tags(batch);
}

/* All or nothing. */
static void prep_done(struct batch *batch, int result)
{
	if (result == UBLK_IO_RES_ABORT) {
		batch->ended = true;
		all_taken(batch);
	} else if (result < 0) {
		refused(batch, "PREP_IO_CMDS", result);
	} else {
		batch->prepared = true;
		batch->fetch_due = true;
		batch_list(batch);
		all_taken(batch);
	}
}

/* result: bytes of elements that were taken. Why the next one was not says the next try. */
static void commit_done(struct batch *batch, int result)
{
	unsigned taken = result > 0 ? (unsigned)result / batch->elem_bytes : 0;

	if (taken >= batch->nr_given - batch->accepted) {
		all_taken(batch);
		return;
	}
	if (taken)
		batch->give_tries = 0;
	else if ((result && !may_pass(result)) || ++batch->give_tries == BATCH_TRIES) {
		refused(batch, "COMMIT_IO_CMDS", result < 0 ? result : -EIO);
		return;
	}
	batch->accepted += taken;
	batch->give_due = true;
	batch_list(batch);
}

static void take_tags(struct batch *batch, const uint16_t *tags, unsigned n)
{
	struct queue *queue = batch->queue;

	queue->reactor->burst += n - 1;
	for (unsigned i = 0; i < n; i++) {
		if (tags[i] >= queue->shape->depth || !is_the_drivers(&queue->ios[tags[i]])) {
			reactor_fail_queue(queue, -EPROTO, "queue %u: expected a request with a tag "
					   "that the driver has, got tag %u", queue->id, tags[i]);
			return;
		}
		io_command_done(&queue->ios[tags[i]], UBLK_IO_RES_OK);
	}
}

static void fetch_done(struct batch *batch, int result, uint32_t flags)
{
	unsigned buffer = flags >> IORING_CQE_BUFFER_SHIFT;

	if (result > 0 && flags & IORING_CQE_F_BUFFER && buffer < batch->nr_buffers) {
		take_tags(batch, batch->tags + buffer * batch->tags_each,
			  MIN((unsigned)result / (unsigned)sizeof(*batch->tags), batch->tags_each));
		lend_again(batch, buffer);
		batch->fetch_tries = 0;
	}
	if (flags & IORING_CQE_F_MORE)
		return;
	/* No more will come of it. Requests that nobody fetches wait in the driver. */
	if (result == UBLK_IO_RES_ABORT) {
		batch->ended = true;
		end_tags(batch);
	} else if ((result >= 0 || result == -ENOBUFS || may_pass(result)) &&
		   ++batch->fetch_tries < BATCH_TRIES) {
		batch->fetch_due = true;
		batch_list(batch);
	} else {
		batch->fetch_refused = true;
		refused(batch, "FETCH_IO_CMDS", result < 0 ? result : -EIO);
	}
}

void batch_command_done(struct batch_command *command, int result, uint32_t flags)
{
	struct batch *batch = command->batch;

	batch->in_ring -= !(flags & IORING_CQE_F_MORE);
	if (command->fetches)
		fetch_done(batch, result, flags);
	else if (batch->prepared)
		commit_done(batch, result);
	else
		prep_done(batch, result);
}
