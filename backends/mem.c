/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A RAM disk: anonymous shared memory, or a named file on tmpfs. Sparse:
 * what was never written takes no memory, what is discarded gives it back.
 *
 * Anonymous memory is mapped and copied to and from. A store to a page that
 * the kernel cannot provide would kill the process, so a page is allocated,
 * by fallocate(), before the first store to it; a bit for each page says
 * which ones are. A larger size is mapped anew, and the old mapping goes when no
 * request uses it any more; the bits have room from the beginning, as two lists of
 * them would differ. A named file may be truncated by others, so it is used
 * through pread() and pwrite(), which fail instead. None of this waits for
 * anything but memory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <ublkd/backend.h>

#define TMPFS_MAGIC 0x01021994
#define HUGETLBFS_MAGIC 0x958458f6

enum huge { HUGE_NO, HUGE_2M, HUGE_1G };

struct mem_config {
	uint64_t size;
	char *path;
	int huge; /* enum huge */
};

struct mem {
	struct ublkd_target target;
	int fd;
	_Atomic(uint8_t *) map;     /* NULL: named file; any thread */
	uint32_t page;              /* bytes that a bit stands for */
	_Atomic(uint64_t) *present; /* a bit per page: allocated */
	uint64_t most;              /* bytes that it has room for */
	/* main */
	uint64_t mapped;            /* bytes at map */
	uint64_t used;              /* where data may be: up to here */
	uint8_t *old_map;           /* the one before, while a resize goes on */
	uint64_t old_mapped;
	char *path;                 /* of a named file */
	bool created;               /* open made the file */
	bool passed;                /* a client has opened it */
};

static const char *const huge_names[] = { "no", "2M", "1G", NULL };

#define FIELD(name) offsetof(struct mem_config, name)

static const struct ublkd_option mem_options[] = {
	{ .name = "size", .type = UBLKD_OPT_SIZE, .offset = FIELD(size), .min = 512,
	  .max = INT64_MAX, .arg = "SIZE", .help = "size; needed unless an existing file has one" },
	{ .name = "path", .type = UBLKD_OPT_PATH, .offset = FIELD(path), .makes = true,
	  .arg = "FILE",
	  .help = "keep the data in this file on tmpfs, made if it does not exist" },
	{ .name = "huge", .type = UBLKD_OPT_ENUM, .offset = FIELD(huge), .values = huge_names,
	  .preset = "no", .arg = "SIZE", .help = "use reserved huge pages; not with path=" },
	{ 0 },
};

/*
 * How far it can grow, unless it was larger from the beginning: 16 TiB. The bits
 * take 512 MiB of addresses, of which a process has a quarter of a million.
 */
#define MOST (UINT64_C(1) << 44)

/* Bytes that are given back or cleared by one request, during which no other is begun. */
#define MOST_AT_ONCE (16u << 20)

/* ---- opening ----------------------------------------------------------------------- */

static uint64_t whole_pages(const struct mem *m, uint64_t size)
{
	return (size + m->page - 1) / m->page * m->page;
}

static size_t bits_for(const struct mem *m, uint64_t bytes)
{
	return (bytes / m->page + 63) / 64 * 8;
}

static int reserve_bits(struct mem *m, uint64_t bytes)
{
	void *bits;

	m->most = bytes > MOST ? bytes : MOST;
	bits = mmap(NULL, bits_for(m, m->most), PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (bits == MAP_FAILED)
		return -errno;
	m->present = bits;
	return 0;
}

/* Maps the memory file anew, so long. What is mapped already stays. */
static int map_memory(struct mem *m, uint64_t bytes)
{
	uint8_t *map;

	if (ftruncate(m->fd, (off_t)bytes) ||
	    mprotect((void *)m->present, bits_for(m, bytes), PROT_READ | PROT_WRITE))
		return -errno;
	/* NORESERVE: huge pages are taken as they are needed, by fallocate(). */
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	/* The server's memory is locked, but a disk in memory may be swapped, like tmpfs. */
	munlock(map, bytes);
	m->old_map = m->map;
	m->old_mapped = m->mapped;
	m->mapped = bytes;
	m->map = map;
	return 0;
}

static int open_anonymous(struct mem *m, const struct mem_config *c)
{
	static const unsigned huge_flags[] = { 0, MFD_HUGETLB | MFD_HUGE_2MB,
					       MFD_HUGETLB | MFD_HUGE_1GB };
	static const uint32_t pages[] = { 4096, 2u << 20, 1u << 30 };
	uint64_t bytes;
	int ret;

	if (!c->size) {
		ublkd_error("mem: expected size=SIZE, which is required without path=, got none");
		return -EINVAL;
	}
	m->page = pages[c->huge];
	m->fd = memfd_create("ublkd", MFD_CLOEXEC | MFD_ALLOW_SEALING | huge_flags[c->huge]);
	if (m->fd < 0) {
		ublkd_error("mem: no memory file%s: %s", c->huge ? " of huge pages" : "",
			    strerror(errno));
		return -errno;
	}
	bytes = whole_pages(m, c->size);
	ret = reserve_bits(m, bytes);
	if (!ret && fcntl(m->fd, F_ADD_SEALS, F_SEAL_SHRINK))
		ret = -errno;
	if (!ret)
		ret = map_memory(m, bytes);
	if (ret) {
		ublkd_error("mem: cannot make memory of %" PRIu64 " bytes: %s", c->size,
			    strerror(-ret));
		return ret;
	}
	m->target.size = c->size;
	m->target.volatile_data = true;
	return 0;
}

static bool is_written(const struct mem *m)
{
	return (fcntl(m->fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

static int lock_named(struct mem *m, const struct mem_config *c)
{
	struct flock lock = { .l_type = is_written(m) ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET };

	for (int tries = 60; fcntl(m->fd, F_OFD_SETLK, &lock); tries--) {
		if (!tries || (errno != EAGAIN && errno != EACCES)) {
			ublkd_error("'%s' is in use: another program holds a lock on it", c->path);
			return -EBUSY;
		}
		usleep(50000);
	}
	return 0;
}

static int open_path(struct mem *m, const struct mem_config *c, const struct ublkd_wish *wish)
{
	m->fd = open(c->path, O_RDWR | O_CLOEXEC);
	if (m->fd < 0 && errno == ENOENT && c->size && !wish->again) {
		m->fd = open(c->path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0600);
		m->created = m->fd >= 0;
	}
	if (m->fd >= 0)
		return 0;
	ublkd_error("cannot open '%s': %s%s", c->path, strerror(errno),
		    errno == ENOENT && !c->size ? "; size= would make it" : "");
	return -errno;
}

static int open_backing(struct mem *m, const struct mem_config *c, const struct ublkd_wish *wish)
{
	m->fd = ublkd_passed_open(wish, "path");
	if (m->fd == -ENOENT)
		return open_path(m, c, wish);
	m->passed = m->fd >= 0;
	if (!m->passed || wish->read_only || is_written(m))
		return m->passed ? 0 : m->fd;
	ublkd_error("path: expected a file that is open to be written without read-only=yes, got "
		    "'%s', which was opened to be read only", c->path);
	return -EACCES;
}

static int open_named(struct mem *m, const struct mem_config *c, const struct ublkd_wish *wish)
{
	uint64_t kept = ublkd_kept_size(wish, c->size), size = kept ? kept : c->size;
	struct statfs fs;
	struct stat st;
	int ret;

	if (c->huge) {
		ublkd_error("huge: expected no, as path= is given, got '%s'", huge_names[c->huge]);
		return -EINVAL;
	}
	m->path = strdup(c->path);
	if (!m->path) {
		ublkd_error("no memory");
		return -ENOMEM;
	}
	ret = open_backing(m, c, wish);
	if (ret)
		return ret;
	if (fstat(m->fd, &st) || fstatfs(m->fd, &fs)) {
		ublkd_error("cannot look at '%s': %s", c->path, strerror(errno));
		return -errno;
	}
	if (!S_ISREG(st.st_mode) || (fs.f_type != TMPFS_MAGIC)) {
		ublkd_error("path: expected a regular file on tmpfs, got '%s'; the backend 'file' "
			    "serves others", c->path);
		return -EMEDIUMTYPE;
	}
	ret = wish->look ? 0 : lock_named(m, c);
	if (ret)
		return ret;
	if ((uint64_t)st.st_size < kept) {
		ublkd_error("'%s' is too small: expected at least %" PRIu64 " bytes, got a size of %"
			    PRIu64, c->path, kept, (uint64_t)st.st_size);
		return -ENODATA;
	}
	if (st.st_size && c->size && !kept && (uint64_t)st.st_size != c->size) {
		ublkd_error("size: expected %" PRIu64 ", the size of '%s', got '%" PRIu64 "'",
			    (uint64_t)st.st_size, c->path, c->size);
		return -EINVAL;
	}
	if (!st.st_size && wish->again) {
		ublkd_error("'%s' is empty: expected the data of the device", c->path);
		return -ENODATA;
	}
	if (!st.st_size && (!c->size || ftruncate(m->fd, (off_t)c->size))) {
		ublkd_error("'%s' is empty: expected size=SIZE, got %s", c->path,
			    c->size ? strerror(errno) : "none");
		return -EINVAL;
	}
	m->page = 4096;
	m->target.size = size ? size : (uint64_t)st.st_size;
	snprintf(m->target.identity, sizeof(m->target.identity), "file %u:%u/%" PRIu64,
		 major(st.st_dev), minor(st.st_dev), (uint64_t)st.st_ino);
	return 0;
}

static void unmap_old(struct mem *m)
{
	if (m->old_map)
		munmap(m->old_map, m->old_mapped);
	m->old_map = NULL;
}

static void mem_close(struct ublkd_target *target)
{
	struct mem *m = (struct mem *)target;

	unmap_old(m);
	if (m->map)
		munmap(m->map, m->mapped);
	if (m->present)
		munmap((void *)m->present, bits_for(m, m->most));
	if (m->created && target->unused)
		unlink(m->path);
	/* Where others have the same open file, the lock would stay. */
	if (m->passed)
		fcntl(m->fd, F_OFD_SETLK, &(struct flock){ .l_type = F_UNLCK, .l_whence = SEEK_SET });
	free(m->path);
	if (m->fd >= 0)
		close(m->fd);
}

static int mem_open(struct ublkd_target *target, const void *config, const struct ublkd_wish *wish)
{
	struct mem *m = (struct mem *)target;
	const struct mem_config *c = config;
	int ret;

	m->fd = -1;
	ret = c->path ? open_named(m, c, wish) : open_anonymous(m, c);
	if (ret) {
		target->unused = true;
		mem_close(target);
		return ret;
	}
	target->physical_block_size = 4096;
	target->discard_granularity = m->page;
	/* A smaller one would never give back a page. */
	target->max_discard = m->page > MOST_AT_ONCE ? m->page : MOST_AT_ONCE;
	target->write_zeroes = true;
	target->max_write_zeroes = MOST_AT_ONCE;
	target->sqes_per_io = 1; /* none, in truth */
	m->used = target->size;
	return 0;
}

/* ---- anonymous memory ----------------------------------------------------------------- */

static bool is_present(struct mem *m, uint64_t page)
{
	return atomic_load_explicit(&m->present[page / 64], memory_order_acquire) >> page % 64 & 1;
}

static void set_present(struct mem *m, uint64_t first, uint64_t last, bool present)
{
	for (; first <= last; first++) {
		uint64_t bit = UINT64_C(1) << first % 64;

		if (present)
			atomic_fetch_or_explicit(&m->present[first / 64], bit, memory_order_release);
		else
			atomic_fetch_and_explicit(&m->present[first / 64], ~bit,
						  memory_order_release);
	}
}

/* How far the pages from `at` on are alike, up to `end`; at < end. */
static uint64_t alike_until(struct mem *m, uint64_t at, uint64_t end, bool *present)
{
	uint64_t page = at / m->page;

	*present = is_present(m, page);
	do
		at = ++page * m->page;
	while (at < end && is_present(m, page) == *present);
	return at < end ? at : end;
}

static int map_read(struct mem *m, uint8_t *data, uint64_t at, uint64_t end)
{
	while (at < end) {
		bool present;
		uint64_t until = alike_until(m, at, end, &present);

		if (present)
			memcpy(data, m->map + at, until - at);
		else
			memset(data, 0, until - at);
		data += until - at;
		at = until;
	}
	return 0;
}

/* Allocates what is missing of the pages of at…end. */
static int map_allocate(struct mem *m, uint64_t at, uint64_t end)
{
	while (at < end) {
		bool present;
		uint64_t until = alike_until(m, at, end, &present);
		uint64_t first = at / m->page, last = (until - 1) / m->page;

		if (!present) {
			if (fallocate(m->fd, 0, (off_t)(first * m->page),
				      (off_t)((last - first + 1) * m->page)))
				return -errno;
			set_present(m, first, last, true);
		}
		at = until;
	}
	return 0;
}

static int map_write(struct mem *m, const uint8_t *data, uint64_t at, uint64_t end)
{
	int ret = map_allocate(m, at, end);

	if (!ret)
		memcpy(m->map + at, data, end - at);
	return ret;
}

/* Gives pages back. Those that the kernel does not take are zeroed in place. */
static void map_free(struct mem *m, uint64_t first, uint64_t last)
{
	for (uint64_t at = first * m->page, end = last * m->page; at < end;) {
		bool present;
		uint64_t until = alike_until(m, at, end, &present);

		if (present) {
			/* The bits first: who sees one finds memory behind it. */
			set_present(m, at / m->page, until / m->page - 1, false);
			if (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
				      (off_t)(until - at))) {
				memset(m->map + at, 0, until - at);
				set_present(m, at / m->page, until / m->page - 1, true);
			}
		}
		at = until;
	}
}

/* Whole pages are given back, parts of pages at both ends are cleared. */
static int map_zero(struct mem *m, uint64_t at, uint64_t end, bool keep)
{
	uint64_t first = (at + m->page - 1) / m->page, last = end / m->page;
	bool present;

	if (keep) {
		int ret = map_allocate(m, at, end);

		if (!ret)
			memset(m->map + at, 0, end - at);
		return ret;
	}
	if (first < last)
		map_free(m, first, last);
	while (at < end) {
		uint64_t until = alike_until(m, at, end, &present);

		if (present)
			memset(m->map + at, 0, until - at);
		at = until;
	}
	return 0;
}

static int map_submit(struct mem *m, struct ublkd_io *io)
{
	uint64_t at = io->offset, end = io->offset + io->length;

	switch ((enum ublkd_op)io->op) {
	case UBLKD_OP_READ:
		return map_read(m, io->data, at, end);
	case UBLKD_OP_WRITE:
		return map_write(m, io->data, at, end);
	case UBLKD_OP_DISCARD:
		return map_zero(m, at, end, false);
	case UBLKD_OP_WRITE_ZEROES:
		return map_zero(m, at, end, io->flags & UBLKD_IO_NOUNMAP);
	case UBLKD_OP_FLUSH:
		return UBLKD_DONE;
	case UBLKD_OP_COUNT:
		break;
	}
	return -EOPNOTSUPP;
}

/* ---- a named file ------------------------------------------------------------------------ */

static int file_read(struct mem *m, uint8_t *data, uint64_t at, size_t length)
{
	while (length) {
		ssize_t got = pread(m->fd, data, length, (off_t)at);

		if (got < 0 && errno != EINTR)
			return -errno;
		if (!got) {
			memset(data, 0, length);
			break;
		}
		if (got > 0) {
			data += got;
			at += (uint64_t)got;
			length -= (size_t)got;
		}
	}
	return 0;
}

static int file_write(struct mem *m, const uint8_t *data, uint64_t at, size_t length)
{
	while (length) {
		ssize_t put = pwrite(m->fd, data, length, (off_t)at);

		if (put < 0 && errno != EINTR)
			return -errno;
		if (!put)
			return -EIO;
		if (put > 0) {
			data += put;
			at += (uint64_t)put;
			length -= (size_t)put;
		}
	}
	return 0;
}

static int file_submit(struct mem *m, struct ublkd_io *io)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	switch ((enum ublkd_op)io->op) {
	case UBLKD_OP_READ:
		return file_read(m, io->data, io->offset, io->length);
	case UBLKD_OP_WRITE:
		return file_write(m, io->data, io->offset, io->length);
	case UBLKD_OP_DISCARD:
	case UBLKD_OP_WRITE_ZEROES:
		if (fallocate(m->fd, mode, (off_t)io->offset, io->length))
			return -errno;
		/* tmpfs cannot zero and keep; taking the space again comes close. */
		if (io->op == UBLKD_OP_WRITE_ZEROES && io->flags & UBLKD_IO_NOUNMAP &&
		    fallocate(m->fd, 0, (off_t)io->offset, io->length))
			return -errno;
		return UBLKD_DONE;
	case UBLKD_OP_FLUSH:
		return UBLKD_DONE;
	case UBLKD_OP_COUNT:
		break;
	}
	return -EOPNOTSUPP;
}

static int mem_submit(struct ublkd_target *target, struct ublkd_io *io)
{
	struct mem *m = (struct mem *)target;

	return m->map ? map_submit(m, io) : file_submit(m, io);
}

/* ---- another size ------------------------------------------------------------------------ */

static int mem_measure(struct ublkd_target *target, uint64_t *size)
{
	struct mem *m = (struct mem *)target;
	struct stat st;

	if (m->map) {
		ublkd_error("size: expected SIZE, as the memory has no size of its own, got none");
		return -EINVAL;
	}
	if (fstat(m->fd, &st)) {
		ublkd_error("cannot get the size of '%s': %s", m->path, strerror(errno));
		return -errno;
	}
	*size = (uint64_t)st.st_size;
	return 0;
}

static int resize_named(struct mem *m, uint64_t size)
{
	struct stat st;

	if (!fstat(m->fd, &st) && ((uint64_t)st.st_size >= size || !ftruncate(m->fd, (off_t)size)))
		return 0;
	ublkd_error("cannot set the size of '%s' to %" PRIu64 ": %s", m->path, size,
		    strerror(errno));
	return -errno;
}

static int mem_resize(struct ublkd_target *target, uint64_t size)
{
	struct mem *m = (struct mem *)target;
	int ret = 0;

	if (!m->map)
		return size <= target->size ? 0 : resize_named(m, size);
	if (size > m->most) {
		ublkd_error("size: expected at most %" PRIu64 " of memory, got '%" PRIu64 "'", m->most,
			    size);
		return -EFBIG;
	}
	if (size > m->mapped)
		ret = map_memory(m, whole_pages(m, size));
	if (ret)
		ublkd_error("mem: cannot make memory of %" PRIu64 " bytes: %s", size,
			    strerror(-ret));
	return ret;
}

/* What is behind the end goes: if the device grows again, it reads as zeros. */
static void mem_resized(struct ublkd_target *target)
{
	struct mem *m = (struct mem *)target;

	unmap_old(m);
	if (m->map && target->size < m->used)
		map_zero(m, target->size, whole_pages(m, m->used), false);
	m->used = target->size;
}

const struct ublkd_backend mem_backend = {
	.name = "mem",
	.summary = "a RAM disk",
	.options = mem_options,
	.config_size = sizeof(struct mem_config),
	.state_size = sizeof(struct mem),
	.open = mem_open,
	.close = mem_close,
	.submit = mem_submit,
	.measure = mem_measure,
	.resize = mem_resize,
	.resized = mem_resized,
};
