/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "io.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <ublkd/ublk_abi.h>

#include "dispatch.h"
#include "queue.h"
#include "reactor.h"
#include "util/macros.h"

#ifndef RWF_DSYNC
#define RWF_DSYNC 0x2
#endif
/* BLOCK_URING_CMD_DISCARD of 6.12 (include/uapi/linux/blkdev.h): a URING_CMD on a block device. */
#define DISCARD_COMMAND 0x1200u

/*
 * With so many completions at once the commits are linked. By measurement at
 * depths of 1 to 128: up to 7, linking them is best, from 32 on worst, and in
 * between all the same.
 */
#define LINKED_BURST 8

/* Errors such as -EAGAIN may pass: this often is tried again without progress. */
#define PART_TRIES 16

/*
 * Functions on the way of every request that have more than one caller are inline: else
 * the compiler calls them, which makes a tenth of the instructions of a request here.
 */

static const uint8_t allowed_from[] = {
	[IO_IDLE] = 0,
	[IO_FETCH] = 1u << IO_IDLE,
	[IO_PROCESS] = 1u << IO_FETCH | 1u << IO_GET_DATA | 1u << IO_COMMIT | 1u << IO_LINKED,
	[IO_GET_DATA] = 1u << IO_PROCESS,
	[IO_COMMIT] = 1u << IO_PROCESS,
	[IO_LINKED] = 1u << IO_PROCESS,
	[IO_ENDED] = 1u << IO_FETCH | 1u << IO_GET_DATA | 1u << IO_COMMIT | 1u << IO_LINKED,
};

static void set_state(struct io *io, enum io_state state)
{
	assert(allowed_from[state] & (1u << io->state));
	io->state = (uint8_t)state;
}

const char *io_op_name(unsigned op)
{
	static const char *const names[UBLKD_OP_COUNT] = {
		"read", "write", "flush", "discard", "write-zeroes",
	};

	return op < UBLKD_OP_COUNT ? names[op] : "unknown operation";
}

static const struct ublkd_target *target_of(const struct io *io)
{
	return io->queue->shape->target;
}

void io_init(struct io *io, struct queue *queue, uint16_t index)
{
	*io = (struct io){
		.queue = queue,
		.index = index,
		.pub.tag = (uint16_t)(queue->first_tag + index * queue->tag_step),
		.parts = queue->parts + index * queue->parts_each,
		.state = IO_IDLE,
	};
	if (queue->shape->data == DATA_COPY)
		io->buffer = buffers_of_tag(&queue->buffers, index);
}

static enum data_mode data_mode(const struct io *io)
{
	return io->queue->shape->data;
}

/* Of the tag in the ring's buffer table. */
static uint16_t tag_slot(const struct io *io)
{
	return (uint16_t)(io->queue->slot_base + io->index);
}

/* Of the tag in ring_sqe_own(). */
static unsigned own_slot(const struct io *io)
{
	return io->queue->own_base + io->index;
}

/* ---- what goes to the ring --------------------------------------------- */

static struct ring *ring_of(const struct io *io)
{
	return &io->queue->reactor->ring;
}

/* True when n SQEs may be queued; submits what is there if that helps. */
static bool have_room(struct io *io, unsigned n)
{
	struct ring *ring = ring_of(io);

	if (ring->room >= n)
		return true;
	/* Why it failed, if it did, is dealt with at the reactor's own submit. */
	ring_submit(ring);
	return ring->room >= n;
}

static void fill_command(struct io_uring_sqe *sqe, struct io *io, uint32_t command, int32_t result,
			 uint64_t address)
{
	struct queue *queue = io->queue;
	struct ublk_io_cmd *cmd = (void *)sqe->cmd;

	queue_fill_command(queue, sqe, command, dispatch_to_io(io));
	cmd->q_id = queue->id;
	cmd->tag = io->pub.tag;
	cmd->result = result;
	cmd->addr = address;
}

/* FETCH_REQ and COMMIT_AND_FETCH_REQ say where the next request's data goes. */
static void fill_fetching(struct io_uring_sqe *sqe, struct io *io, uint32_t command, int32_t result,
			  const void *buffer)
{
	fill_command(sqe, io, command, result, (uintptr_t)buffer);
	if (data_mode(io) == DATA_ZERO_COPY)
		sqe->addr = ublk_auto_buf_reg(tag_slot(io), UBLK_AUTO_BUF_REG_FALLBACK);
}

/* What FETCH and COMMIT say in batch mode. */
static struct ublk_batch_elem batch_elem(const struct io *io, int32_t result)
{
	return (struct ublk_batch_elem){
		.tag = io->pub.tag, .buf_index = tag_slot(io), .result = result,
	};
}

/* Ends a registration of ours. Success posts nothing. */
static struct io_uring_sqe *queue_unregister(struct io *io)
{
	struct io_uring_sqe *sqe = ring_sqe(ring_of(io));

	fill_command(sqe, io, UBLK_IO_UNREGISTER_IO_BUF, 0, tag_slot(io));
	sqe->user_data = dispatch_to_register(io, false);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	return sqe;
}

/* Reads and writes of the request's own data, wherever that is. */
static inline void fill_data_sqe(struct io_uring_sqe *sqe, const struct io_part *part, bool read)
{
	if (part->data && part->io->index >= part->io->queue->fixed_buffers) {
		sqe->opcode = read ? IORING_OP_READ : IORING_OP_WRITE;
	} else {
		sqe->opcode = read ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
		sqe->buf_index = tag_slot(part->io);
	}
	/* A request's pages begin at address 0. */
	sqe->addr = (uintptr_t)part->data + part->start;
	sqe->len = part->asked;
	sqe->off = part->file_offset + part->start;
	sqe->rw_flags = (int)part->rw_flags;
}

/* All but PART_READ and PART_WRITE. */
static void fill_rare_sqe(struct io_uring_sqe *sqe, struct io_part *part)
{
	struct queue *queue = part->io->queue;

	switch ((enum io_part_kind)part->kind) {
	case PART_READ:
	case PART_WRITE:
		break;
	case PART_FILL:
		fill_data_sqe(sqe, part, true);
		sqe->fd = queue->zero_file;
		sqe->off = 0;
		break;
	case PART_ZEROS:
		part->asked = MIN(part->asked, REACTOR_ZEROS);
		sqe->opcode = IORING_OP_WRITE;
		sqe->addr = (uintptr_t)queue->reactor->zeros;
		sqe->len = part->asked;
		sqe->off = part->file_offset + part->start;
		sqe->rw_flags = (int)part->rw_flags;
		break;
	case PART_SYNC:
		sqe->opcode = IORING_OP_FSYNC;
		sqe->fsync_flags = IORING_FSYNC_DATASYNC;
		break;
	case PART_FALLOCATE:
		sqe->opcode = IORING_OP_FALLOCATE;
		sqe->off = part->file_offset;
		sqe->addr = part->io->pub.length;
		sqe->len = part->rw_flags;
		break;
	case PART_DISCARD:
		sqe->opcode = IORING_OP_URING_CMD;
		sqe->cmd_op = DISCARD_COMMAND;
		sqe->addr = part->file_offset;
		sqe->addr3 = part->io->pub.length;
		break;
	}
}

static inline void fill_sqe(struct io_uring_sqe *sqe, struct io_part *part)
{
	struct queue *queue = part->io->queue;

	sqe->flags = queue->sqe_flags;
	sqe->fd = queue->files[part->file];
	sqe->user_data = dispatch_to_part(part);
	part->asked = part->length - part->start;
	if (part->kind == PART_READ || part->kind == PART_WRITE)
		fill_data_sqe(sqe, part, part->kind == PART_READ);
	else
		fill_rare_sqe(sqe, part);
}

/* Whatever comes next waits for this one; only its failure is posted. */
static void link_next(struct io_uring_sqe *sqe)
{
	sqe->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
}

/* An SQE that fails, in a chain of this part. */
static struct io_uring_sqe *queue_failure(struct io_part *part)
{
	struct io_uring_sqe *sqe = ring_sqe(ring_of(part->io));

	sqe->opcode = IORING_OP_READ;
	sqe->fd = -1; /* -EBADF, which io_part_done() turns into what was injected */
	sqe->user_data = dispatch_to_part(part);
	return sqe;
}

/* An SQE of the part as it is meant. */
static inline struct io_uring_sqe *queue_sound(struct io_part *part)
{
	struct io_uring_sqe *sqe = ring_sqe(ring_of(part->io));

	fill_sqe(sqe, part);
	return sqe;
}

/*
 * Behind a delay and before a failure if those were injected. Returns the last
 * one. One chain posts one completion for the part: that of the last, or the
 * first failure's.
 */
static struct io_uring_sqe *queue_faulty(struct io_part *part)
{
	bool delayed = part->delay.tv_sec || part->delay.tv_nsec;
	struct ring *ring = ring_of(part->io);
	struct io_uring_sqe *sqe;

	if (delayed) {
		sqe = ring_sqe(ring);
		sqe->opcode = IORING_OP_TIMEOUT;
		sqe->fd = -1;
		sqe->addr = (uintptr_t)&part->delay;
		sqe->len = 1;
		sqe->timeout_flags = IORING_TIMEOUT_ETIME_SUCCESS;
		sqe->user_data = dispatch_to_part(part);
		link_next(sqe);
	}
	if (part->inject < 0) {
		part->asked = part->length - part->start;
		return queue_failure(part);
	}
	/* A URING_CMD behind a link; see ring_sqe_own(). */
	sqe = delayed && part->kind == PART_DISCARD && part->io->queue->linkable ?
		      ring_sqe_own(ring, own_slot(part->io)) :
		      ring_sqe(ring);
	fill_sqe(sqe, part);
	if (part->inject > 0 && (uint32_t)part->inject < part->asked) {
		sqe->len = (uint32_t)part->inject;
		link_next(sqe);
		sqe = queue_failure(part);
	} else {
		part->inject = 0;
	}
	return sqe;
}

static inline struct io_uring_sqe *queue_part(struct io_part *part)
{
	part->active = true;
	return part->faulty ? queue_faulty(part) : queue_sound(part);
}

/* ---- the end of a request ---------------------------------------------- */

/*
 * Where a commit says the next request's data goes. In get-data mode that is
 * asked for with each request, but the driver takes the address of a READ
 * with its commit, and refuses one without even if the request failed before
 * it had a buffer.
 */
static const void *commit_buffer(const struct io *io)
{
	switch (data_mode(io)) {
	case DATA_COPY:
		return io->buffer;
	case DATA_GET_DATA:
		if (io->pub.op != UBLKD_OP_READ)
			return NULL;
		return io->buffer ? io->buffer : io->queue->buffers.memory;
	default:
		return NULL;
	}
}

static inline void return_buffer(struct io *io)
{
	if (io->queue->buffers.pooled && io->buffer) {
		buffers_return(&io->queue->buffers, io);
		reactor_buffers_returned(io->queue->reactor, io->queue);
	}
}

static unsigned commit_sqes(const struct io *io)
{
	return io->registered ? 2 : 1;
}

static void commit(struct io *io)
{
	set_state(io, IO_COMMIT);
	if (io->registered)
		queue_unregister(io);
	io->registered = false;
	if (io->queue->batch)
		batch_add(io->queue->batch, batch_elem(io, io->result), commit_buffer(io));
	else
		fill_fetching(ring_sqe(ring_of(io)), io, UBLK_IO_COMMIT_AND_FETCH_REQ, io->result,
			      commit_buffer(io));
	return_buffer(io);
}

static bool moves_data(const struct io *io)
{
	return io->pub.op == UBLKD_OP_READ || io->pub.op == UBLKD_OP_WRITE;
}

/* What the kernel is told of a request that is done in full. */
static int32_t full_result(const struct io *io)
{
	return moves_data(io) ? (int32_t)io->pub.length : 0;
}

/* User copy: moves the data between the buffer and the request's pages. */
static int user_copy(struct io *io)
{
	const struct queue *queue = io->queue;
	off_t at = (off_t)ublk_data_offset(queue->id, io->pub.tag, 0);
	ssize_t moved = io->pub.op == UBLKD_OP_WRITE ?
				pread(queue->shape->char_fd, io->buffer, io->pub.length, at) :
				pwrite(queue->shape->char_fd, io->buffer, io->pub.length, at);

	if (moved < 0)
		return -errno;
	return (size_t)moved == io->pub.length ? 0 : -EIO;
}

/* Every request ends here: error is 0 for "all of it", or -errno. */
static inline void finish(struct io *io, int error)
{
	struct queue_stats *stats = &io->queue->stats;

	assert(io->state == IO_PROCESS && !io->parts_left && error <= 0);
	if (!error && io->pub.op == UBLKD_OP_READ && data_mode(io) == DATA_USER_COPY)
		error = user_copy(io);
	/* Not for the block layer, to which -EAGAIN means that it must not wait. */
	if (error == -EAGAIN || error == -EINTR || error == -ECANCELED)
		error = -EIO;
	stats->in_flight--;
	if (error) {
		stats->errors++;
		reactor_report_failure(io->queue, &io->pub, error);
	}
	io->kept = false;
	io->result = error ? error : full_result(io);
	if (!have_room(io, commit_sqes(io))) {
		io->todo = IO_TODO_COMMIT;
		reactor_park(io->queue->reactor, io);
		return;
	}
	commit(io);
}

void ublkd_complete(struct ublkd_io *pub, int result)
{
	struct io *io = container_of(pub, struct io, pub);

	assert(io->kept);
	finish(io, result < 0 ? result : 0);
}

/* ---- parts ------------------------------------------------------------- */

static enum io_step try_again(struct io_part *part, int result, int *error)
{
	if (++part->tries < PART_TRIES)
		return IO_STEP_AGAIN;
	*error = result;
	return IO_STEP_FAIL;
}

enum io_step io_part_step(struct io_part *part, int result, uint32_t align, int *error)
{
	uint32_t reached, start;

	if (result == -EAGAIN || result == -EINTR || result == -ENOMEM || result == -ECANCELED)
		return try_again(part, result, error);
	if (result < 0 || (part->length && (uint32_t)result > part->asked)) {
		*error = result < 0 ? result : -EIO;
		return IO_STEP_FAIL;
	}
	if (!part->length)
		return IO_STEP_DONE;
	reached = part->start + (uint32_t)result;
	if (reached > part->done) {
		part->done = reached;
		part->tries = 0;
	}
	if (part->done == part->length)
		return IO_STEP_DONE;
	/*
	 * Direct I/O goes on at an aligned place, so some bytes move twice. No
	 * way forward from there is the end of the file or a full device.
	 */
	start = (uint32_t)round_down(part->done, align);
	if (start == part->start) {
		*error = -EIO;
		return part->kind == PART_READ ? IO_STEP_EOF : IO_STEP_FAIL;
	}
	part->start = start;
	return IO_STEP_AGAIN;
}

static void part_ended(struct io_part *part, int error)
{
	struct io *io = part->io;

	if (error && !io->result)
		io->result = error;
	assert(io->parts_left);
	if (!--io->parts_left)
		finish(io, io->result);
}

/* Writes that must be durable when they complete carry RWF_DSYNC. */
static uint32_t write_flags(const struct ublkd_io *pub)
{
	const struct io *io = container_of(pub, struct io, pub);

	return pub->flags & UBLKD_IO_FUA || target_of(io)->write_through ? RWF_DSYNC : 0;
}

/* Queues what is left of the part. */
static void go_on(struct io_part *part)
{
	struct io *io = part->io;

	if (io->queue->draining) {
		part_ended(part, -EIO);
	} else if (have_room(io, 1)) {
		queue_part(part);
	} else {
		part->due = true;
		if (io->todo != IO_TODO_PARTS) {
			io->todo = IO_TODO_PARTS;
			reactor_park(io->queue->reactor, io);
		}
	}
}

void io_part_done(struct io_part *part, int result)
{
	struct io *io = part->io;
	uint32_t align;
	int error = 0;

	/* As nearly all of them end. */
	if (io->state == IO_PROCESS && !part->faulty && !part->start &&
	    result == (int)part->length) {
		assert(part->active);
		part->active = false;
		part_ended(part, 0);
		return;
	}
	if (io->state == IO_LINKED) {
		/* The commit that was linked behind it is gone without a word. */
		set_state(io, IO_PROCESS);
		io->queue->stats.broken++;
		io->queue->stats.in_flight++;
	}
	assert(io->state == IO_PROCESS && part->active);
	part->active = false;
	if (part->faulty && part->inject && result == -EBADF)
		result = part->inject;
	part->faulty = false;
	if (result == -EOPNOTSUPP && part->kind == PART_FALLOCATE &&
	    io->pub.op == UBLKD_OP_WRITE_ZEROES) {
		part->kind = PART_ZEROS;
		part->length = io->pub.length;
		part->rw_flags = write_flags(&io->pub);
		go_on(part);
		return;
	}
	/* Zeros come from elsewhere, at any place. */
	align = part->kind == PART_FILL ? 0 : target_of(io)->dio_align;
	switch (io_part_step(part, result, align, &error)) {
	case IO_STEP_DONE:
		part_ended(part, 0);
		break;
	case IO_STEP_EOF:
		io->queue->stats.short_parts++;
		if (part->data) {
			memset(part->data + part->done, 0, part->length - part->done);
			part_ended(part, 0);
			break;
		}
		part->kind = PART_FILL;
		part->start = part->done;
		go_on(part);
		break;
	case IO_STEP_AGAIN:
		if (part->kind != PART_ZEROS)
			io->queue->stats.short_parts++;
		go_on(part);
		break;
	case IO_STEP_FAIL:
		part_ended(part, error);
		break;
	}
}

static void take_fault(struct io_part *part)
{
	struct io *io = part->io;

	part->faulty = true;
	part->inject = io->inject;
	part->delay.tv_sec = (long long)(io->inject_ns / 1000000000);
	part->delay.tv_nsec = (long long)(io->inject_ns % 1000000000);
	io->faulty = false;
}

static inline struct io_part *add_part(struct ublkd_io *pub, enum io_part_kind kind,
				       unsigned file, uint64_t file_offset)
{
	struct io *io = container_of(pub, struct io, pub);
	struct io_part *part = &io->parts[io->parts_used++];

	assert(io->parts_used <= io->queue->parts_each && file < target_of(io)->nr_files);
	io->parts_left++;
	/* All but what is set by whoever queues its SQE, and its fault. */
	part->io = io;
	part->file_offset = file_offset;
	part->data = NULL;
	part->length = part->done = part->start = 0;
	part->rw_flags = 0;
	part->kind = (uint8_t)kind;
	part->file = (uint8_t)file;
	part->tries = 0;
	part->active = part->due = part->faulty = false;
	if (io->faulty)
		take_fault(part);
	return part;
}

void ublkd_ring_inject(struct ublkd_io *pub, uint64_t delay_ns, int32_t result)
{
	struct io *io = container_of(pub, struct io, pub);

	io->faulty = true;
	io->inject = result;
	io->inject_ns = delay_ns;
}

/* Queues the SQE of a new part; serve() may link the commit behind the last. */
static inline int start_part(struct io_part *part)
{
	part->io->queue->last_sqe = queue_part(part);
	return 1;
}

int ublkd_ring_rw(struct ublkd_io *pub, unsigned file, uint64_t file_offset)
{
	bool write = pub->op == UBLKD_OP_WRITE;
	struct io_part *part = add_part(pub, write ? PART_WRITE : PART_READ, file, file_offset);

	part->data = pub->data;
	part->length = pub->length;
	part->rw_flags = write ? write_flags(pub) : 0;
	return start_part(part);
}

int ublkd_ring_write_zeros(struct ublkd_io *pub, unsigned file, uint64_t file_offset)
{
	struct io_part *part = add_part(pub, PART_ZEROS, file, file_offset);

	part->length = pub->length;
	part->rw_flags = write_flags(pub);
	return start_part(part);
}

int ublkd_ring_sync(struct ublkd_io *pub, unsigned file)
{
	return start_part(add_part(pub, PART_SYNC, file, 0));
}

int ublkd_ring_fallocate(struct ublkd_io *pub, unsigned file, int mode, uint64_t file_offset)
{
	struct io_part *part = add_part(pub, PART_FALLOCATE, file, file_offset);

	part->rw_flags = (uint32_t)mode;
	return start_part(part);
}

int ublkd_ring_discard(struct ublkd_io *pub, unsigned file, uint64_t file_offset)
{
	return start_part(add_part(pub, PART_DISCARD, file, file_offset));
}

/* ---- the beginning of a request ----------------------------------------- */

static int op_of(uint32_t op_flags)
{
	switch (op_flags & UBLK_IO_OP_MASK) {
	case UBLK_IO_OP_READ:
		return UBLKD_OP_READ;
	case UBLK_IO_OP_WRITE:
		return UBLKD_OP_WRITE;
	case UBLK_IO_OP_FLUSH:
		return UBLKD_OP_FLUSH;
	case UBLK_IO_OP_DISCARD:
		return UBLKD_OP_DISCARD;
	case UBLK_IO_OP_WRITE_ZEROES:
		return UBLKD_OP_WRITE_ZEROES;
	default:
		return -EOPNOTSUPP;
	}
}

/* Reads the kernel's descriptor into io->pub; -errno for one we cannot serve. */
static int decode(struct io *io)
{
	const struct queue *queue = io->queue;
	const struct ublk_io_desc *desc = queue_descriptor(queue, io->pub.tag);
	uint32_t sectors = desc->nr_sectors;
	int op = op_of(desc->op_flags);

	io->pub.op = op < 0 ? UBLKD_OP_COUNT : (uint8_t)op;
	io->pub.flags = (desc->op_flags & UBLK_IO_F_FUA ? UBLKD_IO_FUA : 0) |
			(desc->op_flags & UBLK_IO_F_NOUNMAP ? UBLKD_IO_NOUNMAP : 0);
	io->pub.offset = desc->start_sector << UBLK_SECTOR_SHIFT;
	io->pub.length = 0;
	io->pub.data = NULL;
	if (op < 0)
		return op;
	if (op == UBLKD_OP_FLUSH)
		return 0;
	if (sectors > UINT32_MAX >> UBLK_SECTOR_SHIFT)
		return -EINVAL;
	io->pub.length = sectors << UBLK_SECTOR_SHIFT;
	if (!sectors || io->pub.offset > queue->size ||
	    io->pub.length > queue->size - io->pub.offset)
		return -EINVAL;
	if (op <= UBLKD_OP_WRITE && io->pub.length > queue->shape->max_io)
		return -EINVAL;
	return 0;
}

static void count(struct io *io)
{
	struct queue_stats *stats = &io->queue->stats;

	io->queue->reactor->arrived++;
	stats->tags_served += !io->served;
	io->served = true;
	if (++stats->in_flight > stats->max_in_flight)
		stats->max_in_flight = stats->in_flight;
	if (io->pub.op < UBLKD_OP_COUNT)
		stats->ops[io->pub.op]++;
	if (io->pub.op == UBLKD_OP_READ)
		stats->read_bytes += io->pub.length;
	else if (io->pub.op == UBLKD_OP_WRITE)
		stats->write_bytes += io->pub.length;
	if (io->pub.flags & UBLKD_IO_FUA)
		stats->fua++;
}

/*
 * A link saves the way back through this thread, but costs task work of its own; with a
 * burst of completions the way back is shared. A batch saves more than a link as soon as
 * there is another request, also one that came earlier and is being served.
 */
static bool wants_link(const struct queue *queue)
{
	unsigned burst = queue->reactor->burst;

	if (queue->shape->link != LINK_AUTO)
		return queue->shape->link == LINK_YES;
	return queue->batch ? burst <= 1 && queue->stats.in_flight == 1 : burst <= LINKED_BURST;
}

/*
 * The commit may be queued right behind the backend's work if that is one read
 * or write whose full result is the request's, and if nothing is left to do
 * afterwards that is not an SQE as well. Nothing else: an FSYNC or FALLOCATE
 * that fails does not break the link (io_fsync() and io_fallocate() of
 * io_uring/sync.c do not mark the request as failed), so its error would be
 * lost and the request committed as done.
 */
static bool may_link(const struct io *io)
{
	const struct queue *queue = io->queue;
	const struct io_part *part = &io->parts[0];

	/* First what decides most often. */
	if (!wants_link(queue) || io->parts_used != 1 || queue->buffers.pooled ||
	    queue->draining || !queue->linkable)
		return false;
	return moves_data(io) && part->asked == part->length;
}

/*
 * The success of the chain posts one completion, the commit's, when the next
 * request arrives; its failure also one, that of the SQE that failed, and the
 * commit is dropped. A hard link would commit stale data after a failed read.
 */
static void link_commit(struct io *io)
{
	struct queue_stats *stats = &io->queue->stats;
	struct batch *batch = io->queue->batch;
	struct io_uring_sqe *sqe;

	link_next(io->queue->last_sqe);
	/* Not in an SQE of its own: that mode is newer than the need for one. */
	if (io->registered)
		link_next(queue_unregister(io));
	set_state(io, IO_LINKED);
	sqe = ring_sqe_own(ring_of(io), own_slot(io));
	if (batch)
		batch_fill_linked(batch, sqe, batch_elem(io, full_result(io)), commit_buffer(io),
				  dispatch_to_io(io));
	else
		fill_fetching(sqe, io, UBLK_IO_COMMIT_AND_FETCH_REQ, full_result(io),
			      commit_buffer(io));
	stats->linked++;
	stats->in_flight--;
}

/* Hands the request to the backend; there is room for all its SQEs. */
static void serve(struct io *io)
{
	struct ublkd_target *target = io->queue->shape->target;
	int ret;

	io->pub.data = moves_data(io) ? io->buffer : NULL;
	io->result = 0;
	io->parts_used = 0;
	ret = target->ops->submit(target, &io->pub);
	/* A fault that no SQE has taken up. */
	if (io->faulty && ret == UBLKD_DONE && io->inject < 0)
		ret = io->inject;
	io->faulty = false;
	if (ret == UBLKD_KEPT) {
		assert(!io->parts_used);
		io->kept = true;
	} else if (ret > 0) {
		assert(ret == io->parts_used);
		if (may_link(io))
			link_commit(io);
	} else {
		/* Nobody can have set the bytes of a read that stays in the kernel. */
		assert(!io->parts_used && (ret || io->pub.op != UBLKD_OP_READ || io->pub.data ||
					   target->leaves_reads));
		finish(io, ret);
	}
}

static void serve_or_park(struct io *io)
{
	if (io->queue->draining) {
		finish(io, -EIO);
	} else if (have_room(io, IO_SQES)) {
		serve(io);
	} else {
		io->todo = IO_TODO_SERVE;
		reactor_park(io->queue->reactor, io);
	}
}

static void register_pages(struct io *io)
{
	struct io_uring_sqe *sqe;

	if (!have_room(io, 1)) {
		io->todo = IO_TODO_WANT_DATA;
		reactor_park(io->queue->reactor, io);
		return;
	}
	sqe = ring_sqe(ring_of(io));
	fill_command(sqe, io, UBLK_IO_REGISTER_IO_BUF, 0, tag_slot(io));
	sqe->user_data = dispatch_to_register(io, true);
}

void io_registered(struct io *io, int result)
{
	if (result) {
		finish(io, result == -ENOMEM ? -ENOMEM : -EIO);
		return;
	}
	io->registered = true;
	serve_or_park(io);
}

void io_unregister_failed(struct io *io, int result)
{
	reactor_fail_queue(io->queue, result,
			   "queue %u tag %u: the driver refused the UNREGISTER_IO_BUF command",
			   io->queue->id, io->pub.tag);
}

/* Gets at the data of a READ or WRITE, as far as that is still to be done. */
static inline void want_data(struct io *io)
{
	int error = 0;

	switch (data_mode(io)) {
	case DATA_ZERO_COPY:
		if (!(queue_descriptor(io->queue, io->pub.tag)->op_flags & UBLK_IO_F_NEED_REG_BUF))
			break;
		register_pages(io);
		return;
	case DATA_REGISTER:
		register_pages(io);
		return;
	case DATA_GET_DATA:
	case DATA_USER_COPY:
		io->todo = IO_TODO_WANT_DATA;
		if (!io->buffer && !buffers_borrow(&io->queue->buffers, io))
			return;
		if (data_mode(io) == DATA_USER_COPY && io->pub.op == UBLKD_OP_WRITE)
			error = user_copy(io);
		break;
	case DATA_AUTO:
	case DATA_COPY:
		break;
	}
	if (error)
		finish(io, error);
	else
		serve_or_park(io);
}

/* A request has arrived, and in the copying modes a write's data with it. */
static void process(struct io *io)
{
	int error = decode(io);

	count(io);
	if (error)
		finish(io, error);
	else if (moves_data(io))
		want_data(io);
	else
		serve_or_park(io);
}

/* A write has arrived; its data comes when we say where to. */
static void get_data(struct io *io)
{
	io->todo = IO_TODO_GET_DATA;
	if (!io->buffer && !buffers_borrow(&io->queue->buffers, io))
		return;
	if (!have_room(io, 1)) {
		reactor_park(io->queue->reactor, io);
		return;
	}
	set_state(io, IO_GET_DATA);
	fill_command(ring_sqe(ring_of(io)), io, UBLK_IO_NEED_GET_DATA, 0, (uintptr_t)io->buffer);
}

void io_fetch(struct io *io)
{
	set_state(io, IO_FETCH);
	if (io->queue->batch)
		batch_add(io->queue->batch, batch_elem(io, 0), io->buffer);
	else
		fill_fetching(ring_sqe(ring_of(io)), io, UBLK_IO_FETCH_REQ, 0, io->buffer);
}

void io_command_done(struct io *io, int result)
{
	struct queue *queue = io->queue;

	if (io->state == IO_LINKED) {
		io->parts[0].active = false;
		io->parts_left = 0;
		io->registered = false;
	}
	switch (result) {
	case UBLK_IO_RES_OK:
		set_state(io, IO_PROCESS);
		process(io);
		break;
	case UBLK_IO_RES_NEED_GET_DATA:
		set_state(io, IO_PROCESS);
		get_data(io);
		break;
	case UBLK_IO_RES_ABORT:
		return_buffer(io);
		set_state(io, IO_ENDED);
		reactor_tag_ended(queue->reactor, queue);
		break;
	default:
		reactor_fail_queue(queue, result,
				   "queue %u tag %u: the driver refused the %s command", queue->id,
				   io->pub.tag,
				   io->state == IO_FETCH    ? "FETCH_REQ" :
				   io->state == IO_GET_DATA ? "NEED_GET_DATA" :
				   queue->batch		    ? "COMMIT_IO_CMDS" :
							      "COMMIT_AND_FETCH_REQ");
		return_buffer(io);
		set_state(io, IO_ENDED);
		reactor_tag_ended(queue->reactor, queue);
	}
}

void io_resume(struct io *io)
{
	enum io_todo todo = io->todo;

	assert(io->state == IO_PROCESS);
	io->todo = IO_TODO_NOTHING;
	switch (todo) {
	case IO_TODO_NOTHING:
		break;
	case IO_TODO_GET_DATA:
		get_data(io);
		break;
	case IO_TODO_WANT_DATA:
		want_data(io);
		break;
	case IO_TODO_SERVE:
		serve_or_park(io);
		break;
	case IO_TODO_PARTS:
		for (unsigned i = 0; i < io->parts_used; i++) {
			if (!io->parts[i].due)
				continue;
			io->parts[i].due = false;
			go_on(&io->parts[i]);
		}
		break;
	case IO_TODO_COMMIT:
		if (have_room(io, commit_sqes(io))) {
			commit(io);
		} else {
			io->todo = todo;
			reactor_park(io->queue->reactor, io);
		}
		break;
	}
}

void io_cancel(struct io *io)
{
	bool serving = io->state == IO_PROCESS || io->state == IO_LINKED;

	for (unsigned i = 0; serving && i < io->parts_used; i++) {
		struct io_part *part = &io->parts[i];
		struct io_uring_sqe *sqe;

		if (!part->active || !have_room(io, 1))
			continue;
		sqe = ring_sqe(ring_of(io));
		sqe->opcode = IORING_OP_ASYNC_CANCEL;
		sqe->fd = -1;
		sqe->addr = dispatch_to_part(part);
		sqe->user_data = DISPATCH_NOBODY;
	}
}
