/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hardware queue of the device: its descriptors, its tags, their buffers
 * and counters. Made by the main thread, then its reactor's until that ended.
 */
#ifndef QUEUE_H
#define QUEUE_H

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

/* Written by the reactor, read by others only in a copy or after its end. */
struct queue_stats {
	uint64_t ops[UBLKD_OP_COUNT];
	uint64_t read_bytes, write_bytes;
	uint64_t errors;       /* requests that were failed */
	uint64_t fua;          /* requests that asked for it */
	uint64_t short_parts;  /* SQEs that did less than asked and were continued */
	uint64_t linked;       /* requests whose commit was linked */
	uint64_t broken;       /* of those, the ones whose link broke */
	uint64_t batches;      /* commands that committed, in batch mode */
	uint32_t in_flight, max_in_flight;
	uint32_t tags_served;  /* tags that have carried a request */
};

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

/* What all queues of a device share; constant while reactors run. */
struct queue_shape {
	struct ublkd_target *target;
	int char_fd;
	uint16_t depth;
	uint32_t max_io;         /* bytes */
	uint64_t size;           /* of the device, bytes */
	enum data_mode data;     /* never DATA_AUTO */
	unsigned pool;           /* pooled: buffers of each queue */
	enum link_mode link;
	bool batch;
	enum huge_pages huge;
};

struct queue {
	const struct queue_shape *shape;
	struct reactor *reactor;
	struct batch *batch;     /* NULL: each tag has commands of its own */
	uint16_t id;
	unsigned file_base;      /* slot of the char device; the target's files follow */
	unsigned zero_file;      /* slot of /dev/zero */
	unsigned slot_base;      /* of tag 0 among the ring's tags, see io.c */
	const struct ublk_io_desc *descriptors;
	size_t descriptor_bytes;
	struct buffers buffers;
	struct io *ios;          /* shape->depth of them */
	unsigned ended;          /* tags that the kernel aborted */
	struct queue_stats stats;
	struct queue_stats stats_copy; /* for the main thread, see reactor_ask_stats() */
	struct queue_failure failure;
	unsigned unreported;     /* failures not sent, as one is under way */
};

/* Reactor. -errno, with *what saying what failed; nothing is left behind. */
int queue_open(struct queue *queue, const char **what);
void queue_close(struct queue *queue);

/* The kernel's descriptor of a tag, valid while the tag is in PROCESS. */
static inline const struct ublk_io_desc *queue_descriptor(const struct queue *queue, uint16_t tag)
{
	return &queue->descriptors[tag];
}

#endif
