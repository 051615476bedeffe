/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "buffer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "io.h"
#include "util/macros.h"
#include "util/parse.h"

/* Linux 5.14 and 6.1. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

/* Bytes whose pages are taken at a time: a huge page of most machines. */
#define PIECE ((size_t)2 << 20)

size_t buffers_huge_page(void)
{
	uint64_t bytes;

	if (read_uint_file("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", &bytes) ||
	    !is_power_of_two(bytes))
		bytes = 2u << 20;
	return bytes;
}

size_t buffers_bytes(unsigned count, size_t each, enum huge_pages huge)
{
	size_t bytes = count * round_up(each, page_size());

	return huge == HUGE_PAGES_YES ? round_up(bytes, buffers_huge_page()) : bytes;
}

static void *map(size_t bytes, int flags)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags,
			    -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

/* Begins where a huge page can. */
static uint8_t *map_aligned(size_t bytes, size_t align)
{
	uint8_t *all, *memory;

	if (bytes > SIZE_MAX - align) {
		errno = ENOMEM;
		return NULL;
	}
	all = map(bytes + align, 0);
	if (!all)
		return NULL;
	memory = (uint8_t *)round_up((uintptr_t)all, align);
	if (memory > all)
		munmap(all, (size_t)(memory - all));
	munmap(memory + bytes, align - (size_t)(memory - all));
	return memory;
}

/* Takes the pages up to there. A kernel that knows no such call leaves that to who needs them. */
static int populate(struct buffers *buffers, size_t end)
{
	if (madvise(buffers->memory + buffers->taken, end - buffers->taken, MADV_POPULATE_WRITE) &&
	    errno != EINVAL)
		return -errno;
	buffers->taken = end;
	return 0;
}

/* Reserved huge pages are never swapped, but may be on a node that the thread may not use. */
static int map_reserved(struct buffers *buffers, size_t huge_page)
{
	int ret;

	buffers->memory = map(buffers->bytes,
			      MAP_HUGETLB | (int)(log2_of(huge_page) << MAP_HUGE_SHIFT));
	if (!buffers->memory)
		return -errno;
	ret = populate(buffers, buffers->bytes);
	if (ret) {
		munmap(buffers->memory, buffers->bytes);
		buffers->memory = NULL;
	}
	return ret;
}

static int map_memory(struct buffers *buffers, enum huge_pages huge, const char **what)
{
	size_t huge_page = buffers_huge_page();
	int ret;

	if (huge == HUGE_PAGES_YES && !map_reserved(buffers, huge_page))
		return 0;
	if (huge == HUGE_PAGES_AUTO && buffers->bytes < huge_page)
		huge = HUGE_PAGES_NO;
	buffers->memory = huge == HUGE_PAGES_NO ? map(buffers->bytes, 0) :
						  map_aligned(buffers->bytes, huge_page);
	if (!buffers->memory)
		return -errno;
	/* Before the pages are taken. Where the kernel has none, it refuses, or does nothing. */
	madvise(buffers->memory, buffers->bytes,
		huge == HUGE_PAGES_NO ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	if (huge != HUGE_PAGES_YES && buffers->bytes > PIECE)
		return 0;
	ret = populate(buffers, buffers->bytes);
	/* All of it, or an error. */
	if (!ret && huge == HUGE_PAGES_YES &&
	    madvise(buffers->memory, buffers->bytes, MADV_COLLAPSE)) {
		*what = "get huge pages for the I/O buffers, reserved or transparent ones";
		/* It says that of a place where it cannot. */
		ret = errno == EINVAL ? -EOPNOTSUPP : -errno;
	}
	return ret;
}

int buffers_open(struct buffers *buffers, unsigned count, size_t each, bool pooled,
		 enum huge_pages huge, const char **what)
{
	int ret;

	*what = "map and lock the I/O buffers";
	*buffers = (struct buffers){
		.count = count,
		.each = round_up(each, page_size()),
		.bytes = buffers_bytes(count, each, huge),
		.pooled = pooled,
	};
	buffers->waiting_last = &buffers->waiting_first;
	if (pooled) {
		buffers->free = calloc(count, sizeof(*buffers->free));
		buffers->returned = calloc(count, sizeof(*buffers->returned));
		if (!buffers->free || !buffers->returned) {
			buffers_close(buffers);
			return -ENOMEM;
		}
	}
	ret = map_memory(buffers, huge, what);
	if (!ret && mlock2(buffers->memory, buffers->bytes, MLOCK_ONFAULT))
		ret = -errno;
	if (ret) {
		buffers_close(buffers);
		return ret;
	}
	/* Last first, so that a lightly used pool stays at its beginning. */
	for (unsigned i = count; pooled && i > 0; i--)
		buffers->free[buffers->nr_free++] = buffers->memory + (i - 1) * buffers->each;
	return 0;
}

int buffers_take_more(struct buffers *buffers)
{
	return populate(buffers, MIN(buffers->taken + PIECE, buffers->bytes));
}

void buffers_close(struct buffers *buffers)
{
	if (buffers->memory)
		munmap(buffers->memory, buffers->bytes);
	free(buffers->free);
	free(buffers->returned);
	*buffers = (struct buffers){ 0 };
}

void *buffers_of_tag(struct buffers *buffers, unsigned tag)
{
	assert(!buffers->pooled && tag < buffers->count);
	return buffers->memory + tag * buffers->each;
}

bool buffers_borrow(struct buffers *buffers, struct io *io)
{
	assert(buffers->pooled && !io->buffer);
	if (buffers->nr_free) {
		io->buffer = buffers->free[--buffers->nr_free];
		return true;
	}
	io->next = NULL;
	*buffers->waiting_last = io;
	buffers->waiting_last = &io->next;
	return false;
}

void buffers_return(struct buffers *buffers, struct io *io)
{
	assert(buffers->pooled && io->buffer && buffers->nr_returned < buffers->count);
	buffers->returned[buffers->nr_returned++] = io->buffer;
	io->buffer = NULL;
}

struct io *buffers_release(struct buffers *buffers)
{
	struct io *served = NULL, **last = &served;

	while (buffers->nr_returned) {
		void *buffer = buffers->returned[--buffers->nr_returned];
		struct io *first = buffers->waiting_first;

		if (!first) {
			buffers->free[buffers->nr_free++] = buffer;
			continue;
		}
		buffers->waiting_first = first->next;
		if (!first->next)
			buffers->waiting_last = &buffers->waiting_first;
		first->next = NULL;
		first->buffer = buffer;
		*last = first;
		last = &first->next;
	}
	return served;
}
