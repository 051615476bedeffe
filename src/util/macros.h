/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Small things C lacks. */
#ifndef UTIL_MACROS_H
#define UTIL_MACROS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* align must be a power of two; 0 counts as 1. */
static inline uint64_t round_down(uint64_t n, uint64_t align)
{
	return align ? n & ~(align - 1) : n;
}

static inline uint64_t round_up(uint64_t n, uint64_t align)
{
	return align ? (n + align - 1) & ~(align - 1) : n;
}

static inline bool is_power_of_two(uint64_t n)
{
	return n && !(n & (n - 1));
}

/* Of a power of two. */
static inline unsigned log2_of(uint64_t n)
{
	return n ? 63u - (unsigned)__builtin_clzll(n) : 0;
}

static inline size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* Bytes, of nearly all machines. */
#define CACHE_LINE 64

/* As calloc(), for structures that begin with a cache line. */
static inline void *alloc_lines(size_t count, size_t size)
{
	void *memory = aligned_alloc(CACHE_LINE, count * size);

	return memory ? memset(memory, 0, count * size) : NULL;
}

/* Clean-up at the end of a scope: _cleanup_fd_ int fd = -1; */
static inline void cleanup_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_file(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define _cleanup_fd_ __attribute__((cleanup(cleanup_fd)))
#define _cleanup_free_ __attribute__((cleanup(cleanup_free)))
#define _cleanup_file_ __attribute__((cleanup(cleanup_file)))

/* Takes the value out of a variable that would be cleaned up. */
static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#endif
