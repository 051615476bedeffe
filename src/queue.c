/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <ublkd/ublk_abi.h>

#include "util/macros.h"

static size_t descriptor_bytes(unsigned depth)
{
	return round_up(depth * sizeof(struct ublk_io_desc), page_size());
}

static int map_descriptors(struct queue *queue)
{
	const struct queue_shape *shape = queue->shape;
	size_t stride = descriptor_bytes(UBLK_MAX_QUEUE_DEPTH);
	void *map;

	queue->descriptor_bytes = descriptor_bytes(shape->depth);
	map = mmap(NULL, queue->descriptor_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE,
		   shape->char_fd, (off_t)(UBLK_DESC_OFFSET + queue->id * stride));
	if (map == MAP_FAILED)
		return -errno;
	queue->descriptors = map;
	return 0;
}

int queue_open(struct queue *queue, const char **what)
{
	const struct queue_shape *shape = queue->shape;
	int ret;

	*what = "map the descriptors";
	ret = map_descriptors(queue);
	if (ret)
		return ret;
	if (!data_mode_zero_copy(shape->data)) {
		bool pooled = data_mode_pooled(shape->data);

		ret = buffers_open(&queue->buffers, pooled ? shape->pool : queue->nr_tags,
				   shape->max_io, pooled, shape->huge, what);
		while (!ret && shape->busy && !buffers_are_taken(&queue->buffers))
			ret = buffers_take_more(&queue->buffers);
	}
	if (ret) {
		queue_close(queue);
		return ret;
	}
	if (shape->batch) {
		*what = "lend the ring buffers for tags";
		ret = batch_open(&queue->batch, queue);
		if (ret) {
			queue_close(queue);
			return ret;
		}
	}
	*what = "allocate the tags";
	queue->parts_each = shape->target->sqes_per_io ? shape->target->sqes_per_io :
							 UBLKD_SQES_PER_IO;
	queue->ios = alloc_lines(queue->nr_tags, sizeof(*queue->ios));
	queue->parts = alloc_lines(queue->nr_tags * queue->parts_each, sizeof(*queue->parts));
	if (!queue->ios || !queue->parts) {
		queue_close(queue);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < queue->nr_tags; i++)
		io_init(&queue->ios[i], queue, (uint16_t)i);
	return 0;
}

void queue_close(struct queue *queue)
{
	free(queue->ios);
	free(queue->parts);
	queue->ios = NULL;
	queue->parts = NULL;
	batch_close(queue->batch);
	queue->batch = NULL;
	buffers_close(&queue->buffers);
	if (queue->descriptors)
		munmap((void *)(uintptr_t)queue->descriptors, queue->descriptor_bytes);
	queue->descriptors = NULL;
}
