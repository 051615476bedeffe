/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory that requests' data is copied through: page aligned, populated
 * and locked before the first FETCH. A page that is missing when the driver
 * copies a write in would silently shorten the request (ublk_map_io), so
 * locking is not an optimisation.
 *
 * Copy mode:     one buffer for each tag, for good.
 * Get-data mode: a smaller pool; a request borrows a buffer from the moment
 *                its data moves until its commit is in the kernel.
 *
 * Threads: the reactor of the queue; buffers_bytes() any.
 */
#ifndef BUFFER_H
#define BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;

struct buffers {
	uint8_t *memory;
	size_t bytes;     /* of the mapping */
	size_t each;
	unsigned count;
	bool pooled;      /* get-data mode */
	void **free;      /* pooled: stack of free buffers */
	unsigned nr_free;
	struct io *waiting_first, **waiting_last;
};

/* What count buffers of this size take. */
size_t buffers_bytes(unsigned count, size_t each);

/* Maps, populates and locks. -errno with nothing left behind. */
int buffers_open(struct buffers *buffers, unsigned count, size_t each, bool pooled);
void buffers_close(struct buffers *buffers);

/* The buffer of a tag (copy mode). */
void *buffers_of_tag(struct buffers *buffers, unsigned tag);
/* A buffer for the request, or false: it was put in the line. */
bool buffers_borrow(struct buffers *buffers, struct io *io);
/*
 * Takes a request's buffer back. Returns the request that was first in the
 * line, which now has one, or NULL.
 */
struct io *buffers_return(struct buffers *buffers, struct io *io);

#endif
