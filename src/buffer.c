/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "buffer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "io.h"
#include "util/macros.h"

size_t buffers_bytes(unsigned count, size_t each)
{
	return count * round_up(each, page_size());
}

int buffers_open(struct buffers *buffers, unsigned count, size_t each, bool pooled)
{
	int ret;

	*buffers = (struct buffers){
		.count = count,
		.each = round_up(each, page_size()),
		.bytes = buffers_bytes(count, each),
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
	buffers->memory = mmap(NULL, buffers->bytes, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (buffers->memory == MAP_FAILED) {
		ret = -errno;
		buffers->memory = NULL;
		buffers_close(buffers);
		return ret;
	}
	if (mlock(buffers->memory, buffers->bytes)) {
		ret = -errno;
		buffers_close(buffers);
		return ret;
	}
	/* Last first, so that a lightly used pool stays at its beginning. */
	for (unsigned i = count; pooled && i > 0; i--)
		buffers->free[buffers->nr_free++] = buffers->memory + (i - 1) * buffers->each;
	return 0;
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
