/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hardware queue of the device, or a share of its tags, where several
 * reactors serve it (UBLK_F_PER_IO_DAEMON): its descriptors, its tags, their
 * buffers and counters. Made by the main thread, then its reactor's from
 * reactor_attach() until on_ended.
 */
#ifndef QUEUE_H
#define QUEUE_H

#include <liburing.h>
#include <stdatomic.h>
#include <stdint.h>

#include <ublkd/ublk_abi.h>

#include "batch.h"
#include "buffer.h"
#include "io.h"
#include "util/mailbox.h"

/* When the commit is linked behind the backend's I/O. */
enum link_mode {
	LINK_AUTO, /* when few requests arrive at once */
	LINK_NO,
	LINK_YES,
};

/*
 * Written by the reactor, read by others only in a copy or after its end. What
 * each request is counted in is in one cache line.
 */
struct queue_stats {
	_Alignas(CACHE_LINE) uint64_t ops[UBLKD_OP_COUNT];
	uint64_t read_bytes, write_bytes;
	uint32_t in_flight, max_in_flight;
	uint64_t errors;       /* requests that were failed */
	uint64_t fua;          /* requests that asked for it */
	uint64_t short_parts;  /* SQEs that did less than asked and were continued */
	uint64_t linked;       /* requests whose commit was linked */
	uint64_t broken;       /* of those, the ones whose link broke */
	uint64_t batches;      /* commands that committed, in batch mode */
	uint32_t tags_served;  /* tags that have carried a request */
	uint64_t enters, cqes, polled; /* of the whole reactor, when the copy was made */
};

struct queue;

/* A failed request on its way to the main thread's log. */
struct queue_failure {
	struct message message;
	struct queue *queue;
	atomic_bool busy;      /* set by the reactor, cleared when it is logged */
	uint8_t op;
	uint32_t length;
	uint64_t offset;
	int error;             /* -errno */
	unsigned unreported;   /* others since the last one that was logged */
};

/*
 * What all queues of a device share, constant while one is attached, and who
 * is told about them, on the main thread.
 */
struct queue_shape {
	struct mailbox *main_box;
	/* All tags are fetched, or queue->error says why not; then only its end follows. */
	void (*on_attached)(struct queue *queue);
	/* It was attached and cannot be served any more, see queue->error; stop the device. */
	void (*on_broken)(struct queue *queue);
	/* The kernel has given back all tags, and the reactor knows nothing of it any more. */
	void (*on_ended)(struct queue *queue);
	/* stats_copy is fresh. */
	void (*on_stats)(struct queue *queue);
	void (*on_drained)(struct queue *queue);
	/* It goes by the size that it was told. */
	void (*on_resized)(struct queue *queue);
	void (*on_failure)(struct queue_failure *failure);
	void *owner;

	struct ublkd_target *target;
	int char_fd;
	uint16_t depth;
	uint32_t max_io;         /* bytes */
	uint64_t size;           /* of the device, bytes, when a queue is attached */
	enum data_mode data;     /* never DATA_AUTO */
	unsigned pool;           /* pooled: buffers of each queue or share */
	enum link_mode link;
	bool batch;
	enum huge_pages huge;
	bool busy;               /* requests wait already: no page of a buffer is left for later */
};

struct queue {
	const struct queue_shape *shape;
	struct reactor *reactor;
	struct batch *batch;     /* NULL: each tag has commands of its own */
	uint16_t id;
	uint16_t share;          /* 0, or the number of the share */
	/* Its tags are first_tag, first_tag + tag_step… */
	uint16_t first_tag, tag_step, nr_tags;
	uint64_t size;           /* of the device, bytes: no request goes beyond */
	/* Of SQEs: with IOSQE_FIXED_FILE the files are slots of the ring's table. */
	uint8_t sqe_flags;
	bool linkable;           /* each tag has a ring_sqe_own(), from own_base on */
	bool draining;           /* answer everything with -EIO */
	int char_file;
	int files[UBLKD_TARGET_FILES];
	int zero_file;           /* /dev/zero */
	bool fixable;            /* copy: the tags' buffers are to be in the ring's table, */
	unsigned fixed_buffers;  /* and those of so many are, the first */
	unsigned slot_base;      /* of its first tag in that table, also in zero copy */
	unsigned own_base;
	const struct ublk_io_desc *descriptors;
	size_t descriptor_bytes;
	struct buffers buffers;
	struct io *ios;          /* nr_tags of them, */
	struct io_part *parts;   /* and so many for each of these */
	unsigned parts_each;
	unsigned fetched;        /* tags that the kernel got */
	unsigned ended;          /* tags that it aborted */
	struct io_uring_sqe *last_sqe; /* during submit(): of the last part */
	struct queue_stats stats;
	struct queue_stats stats_copy; /* for the main thread, see reactor_ask_stats() */
	struct queue_failure failure;
	unsigned unreported;     /* failures not sent, as one is under way */

	/* reactor.c's. */
	struct queue *next, **link; /* among those of the reactor */
	struct queue *next_over;
	struct queue *next_due;
	bool due;                /* listed, as buffers were returned */
	ev_timer take;           /* until the pages of its buffers are taken */
	bool attached;           /* on_attached is on its way, or was called, */
	int attach_error;        /* with this: error as it was then */
	struct message attach, drain, ask, broken, end, resize;
	uint64_t new_size;       /* main's, until resize is posted */
	const char *about;       /* main: see log_about() */
	bool serving;            /* main: attached, and on_ended was not called yet */
	unsigned owed;           /* main: reports that are to come; 0: free to go */
	bool asked;              /* main: a copy of the counters is on its way */
	/* Written before a report is posted, read when it is delivered. */
	int error;               /* -errno, 0: none */
	char error_text[160];
};

/* Reactor. -errno, with *what saying what failed; nothing is left behind. */
int queue_open(struct queue *queue, const char **what);
void queue_close(struct queue *queue);

/* A cleared SQE becomes a command to the driver, with user_data for its completion. */
static inline void queue_fill_command(const struct queue *queue, struct io_uring_sqe *sqe,
				      uint32_t command, uint64_t user_data)
{
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->flags = queue->sqe_flags;
	sqe->fd = queue->char_file;
	sqe->cmd_op = command;
	sqe->user_data = user_data;
}

/* The kernel's descriptor of a tag, valid while the tag is in PROCESS. */
static inline const struct ublk_io_desc *queue_descriptor(const struct queue *queue, uint16_t tag)
{
	return &queue->descriptors[tag];
}

#endif
