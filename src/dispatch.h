/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an SQE's user_data says about whose completion it is: a pointer with
 * the kind in its lowest bits. Written by whoever queues an SQE, read by the
 * reactor's dispatcher.
 */
#ifndef DISPATCH_H
#define DISPATCH_H

#include <stdbool.h>
#include <stdint.h>

struct batch_command;
struct io;
struct io_part;
struct reactor;

enum dispatch_kind {
	DISPATCH_IO,   /* a ublk command of a tag */
	DISPATCH_PART, /* a backend's SQE */
	DISPATCH_REGISTER,
	DISPATCH_UNREGISTER,
	DISPATCH_LOOP, /* a watcher of the reactor's libev loop has something */
	DISPATCH_TICK, /* the reactor's clock while it waits in the ring */
	DISPATCH_BATCH, /* a ublk command of a queue in batch mode */
};

#define DISPATCH_NOBODY 0ull /* nothing to do */
#define DISPATCH_KIND 7ull   /* the structures are aligned to 8 bytes */

static inline uint64_t dispatch_to_io(struct io *io)
{
	return (uintptr_t)io | DISPATCH_IO;
}

static inline uint64_t dispatch_to_part(struct io_part *part)
{
	return (uintptr_t)part | DISPATCH_PART;
}

static inline uint64_t dispatch_to_register(struct io *io, bool on)
{
	return (uintptr_t)io | (on ? DISPATCH_REGISTER : DISPATCH_UNREGISTER);
}

static inline uint64_t dispatch_to_reactor(struct reactor *reactor, enum dispatch_kind kind)
{
	return (uintptr_t)reactor | kind;
}

static inline uint64_t dispatch_to_batch(struct batch_command *command)
{
	return (uintptr_t)command | DISPATCH_BATCH;
}

static inline enum dispatch_kind dispatch_kind(uint64_t user_data)
{
	return (enum dispatch_kind)(user_data & DISPATCH_KIND);
}

static inline void *dispatch_pointer(uint64_t user_data)
{
	return (void *)(uintptr_t)(user_data & ~DISPATCH_KIND);
}

#endif
