/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How data moves between the kernel's requests and the server, and the memory
 * that it is copied through: page aligned, and locked before the first FETCH.
 * A page that cannot be had when the driver copies a write in would silently
 * shorten the request (ublk_map_io), so that none must ever be lost again.
 *
 * To take the pages, which the kernel clears, is most of what it takes to make
 * a device: so more than a few are taken once it is there, piece by piece. A
 * request that is earlier takes its own as it would any that is missing, on a
 * thread whose reclaim waits for no I/O (IO_FLUSHER). A device whose pages cannot
 * be had fails; one that is taken over, whose requests wait already, has them before
 * it is served.
 *
 * Threads: the reactor of the queue; buffers_bytes() any.
 */
#ifndef BUFFER_H
#define BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;

enum data_mode {
	DATA_AUTO,      /* to be chosen */
	DATA_ZERO_COPY, /* the driver registers each request's pages with the ring (6.16) */
	DATA_REGISTER,  /* we do, by a command before and one after the I/O (6.15) */
	DATA_COPY,      /* the driver copies; a buffer for each tag, for good */
	DATA_GET_DATA,  /* the driver copies when asked; buffers are borrowed from a pool */
	DATA_USER_COPY, /* we copy by pread and pwrite (6.5); buffers are borrowed */
};

/* The data stays in the kernel. */
static inline bool data_mode_zero_copy(enum data_mode mode)
{
	return mode == DATA_ZERO_COPY || mode == DATA_REGISTER;
}

/*
 * A request borrows a buffer from the moment its data moves until its commit
 * is in the kernel.
 */
static inline bool data_mode_pooled(enum data_mode mode)
{
	return mode == DATA_GET_DATA || mode == DATA_USER_COPY;
}

/* Pages of 2 MiB or so, of which a large request takes few; see buffers_huge_page(). */
enum huge_pages {
	HUGE_PAGES_AUTO, /* transparent ones, as far as the kernel gives them */
	HUGE_PAGES_NO,
	HUGE_PAGES_YES,  /* nothing but such: reserved ones, or transparent ones */
};

struct buffers {
	uint8_t *memory;
	size_t bytes;     /* of the mapping, whole pages */
	size_t taken;     /* of them, the first, whose pages are there for good */
	size_t each;
	unsigned count;
	bool pooled;
	void **free;      /* pooled: stack of free buffers */
	void **returned;  /* and of those whose commit may not be in the kernel yet */
	unsigned nr_free, nr_returned;
	struct io *waiting_first, **waiting_last;
};

/* What count buffers of this size take. */
size_t buffers_bytes(unsigned count, size_t each, enum huge_pages huge);
/* The size of a huge page. */
size_t buffers_huge_page(void);

/*
 * Maps and locks, and takes the pages if they are few, or have to be huge.
 * -errno with nothing left behind, and what could not be done in *what. The
 * memory is of the node of the thread that calls this and the next: the pages
 * are taken there, by the caller, under its own policy.
 */
int buffers_open(struct buffers *buffers, unsigned count, size_t each, bool pooled,
		 enum huge_pages huge, const char **what);
/* Takes the next of the pages, which is done in a fraction of a millisecond. 0, or -errno. */
int buffers_take_more(struct buffers *buffers);
static inline bool buffers_are_taken(const struct buffers *buffers)
{
	return buffers->taken == buffers->bytes;
}
void buffers_close(struct buffers *buffers);

/* The buffer of a tag, where they are not pooled. */
void *buffers_of_tag(struct buffers *buffers, unsigned tag);
/* A buffer for the request, or false: it was put in the line. */
bool buffers_borrow(struct buffers *buffers, struct io *io);
/* Takes a request's buffer back when its commit is queued; the request has none then. */
void buffers_return(struct buffers *buffers, struct io *io);
/* Somebody in the line will have a buffer when the commits are in the kernel. */
static inline bool buffers_due(const struct buffers *buffers)
{
	return buffers->waiting_first && buffers->nr_returned;
}

/*
 * All commits are in the kernel: what was returned is free, or goes to those
 * in the line. Returns these, linked by io->next.
 */
struct io *buffers_release(struct buffers *buffers);

#endif
