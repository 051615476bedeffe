/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Regular files and block devices, through the queue's ring. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <ublkd/backend.h>

enum cache_mode { CACHE_NONE, CACHE_WRITEBACK, CACHE_WRITETHROUGH, CACHE_UNSAFE };

struct file_config {
	char *path;
	uint64_t create;
	int cache; /* enum cache_mode */
	uint64_t offset;
	uint64_t size;
	bool lock;
	uint64_t lock_timeout; /* seconds */
};

struct file {
	struct ublkd_target target;
	int fd;
	uint64_t offset;  /* of the device's first byte */
	char *path;
	bool block;       /* a block device, not a regular file */
	bool punch;       /* fallocate can punch holes */
	bool created;     /* open made the file */
	bool window;      /* the device has an end of its own, and the file may go on */
	bool lock;        /* the bytes of the device are locked */
	bool passed;      /* a client has opened it */
};

static const char *const cache_names[] = { "none", "writeback", "writethrough", "unsafe", NULL };

#define FIELD(name) offsetof(struct file_config, name)

static const struct ublkd_option file_options[] = {
	{ .name = "path", .type = UBLKD_OPT_PATH, .offset = FIELD(path), .required = true,
	  .arg = "FILE", .help = "the regular file or block device to serve" },
	{ .name = "create", .type = UBLKD_OPT_SIZE, .offset = FIELD(create), .min = 512, .once = true,
	  .makes = true, .max = INT64_MAX, .arg = "SIZE",
	  .help = "make FILE, sparse and this long; it must not exist" },
	{ .name = "cache", .type = UBLKD_OPT_ENUM, .offset = FIELD(cache), .values = cache_names,
	  .preset = "none", .arg = "MODE", .help = "use of the page cache" },
	{ .name = "offset", .type = UBLKD_OPT_SIZE, .offset = FIELD(offset), .max = INT64_MAX,
	  .step = 512, .preset = "0", .arg = "SIZE", .help = "where in FILE the device begins" },
	{ .name = "size", .type = UBLKD_OPT_SIZE, .offset = FIELD(size), .min = 512, .max = INT64_MAX,
	  .arg = "SIZE", .help = "size of the device; up to the end of FILE if not given" },
	{ .name = "lock", .type = UBLKD_OPT_BOOL, .offset = FIELD(lock), .preset = "yes",
	  .arg = "BOOL", .help = "keep others who lock from using FILE too" },
	{ .name = "lock-timeout", .type = UBLKD_OPT_UINT, .offset = FIELD(lock_timeout), .max = 3600,
	  .preset = "3", .arg = "SECONDS", .help = "how long to wait for another's lock" },
	{ 0 },
};

/* ---- opening ----------------------------------------------------------------- */

static void pause_briefly(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 50 * 1000 * 1000 }, NULL);
}

/* EBUSY: a block device that is mounted or held by somebody with O_EXCL. */
static int open_retrying(const char *path, int flags, double seconds)
{
	for (;; seconds -= 0.05) {
		int fd = open(path, flags, 0666);

		if (fd >= 0)
			return fd;
		if (errno != EBUSY || seconds <= 0)
			return -errno;
		pause_briefly();
	}
}

static double patience_of(const struct file_config *c)
{
	return c->lock ? (double)c->lock_timeout : 0;
}

static int report_open(const struct file_config *c, int fd)
{
	if (fd == -EBUSY)
		ublkd_error("cannot open '%s': it is in use (mounted, or held by another program)",
			    c->path);
	else if (fd < 0)
		ublkd_error("cannot %s '%s': %s", c->create ? "create" : "open", c->path,
			    strerror(-fd));
	return fd;
}

static int open_path(struct file *f, const struct file_config *c, const struct ublkd_wish *wish)
{
	int access = wish->read_only && !c->create ? O_RDONLY : O_RDWR;
	int flags = O_CLOEXEC | (c->create ? O_CREAT | O_EXCL : 0);
	double patience = patience_of(c);
	struct stat st;
	int fd;

	/* O_EXCL without O_CREAT means something on block devices only. */
	if (!c->create && c->lock && !wish->look && !stat(c->path, &st) && S_ISBLK(st.st_mode))
		flags |= O_EXCL;
	fd = open_retrying(c->path, flags | access, patience);
	if ((fd == -EACCES || fd == -EROFS || fd == -EPERM) && access == O_RDWR && !c->create) {
		int ro_fd = open_retrying(c->path, flags | O_RDONLY, patience);

		if (ro_fd >= 0) {
			ublkd_note("'%s' cannot be written (%s): the device is read-only", c->path,
				   strerror(-fd));
			f->target.read_only = true;
			fd = ro_fd;
		}
	}
	return report_open(c, fd);
}

/*
 * A block device is claimed by whoever opens it, so it is opened once more, by what was
 * passed and not by its path, with the same access.
 */
static int claim_passed(const struct file_config *c, int fd, int access)
{
	char path[32];
	int own;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open_retrying(path, O_CLOEXEC | O_EXCL | access, patience_of(c));
	close(fd);
	return report_open(c, own);
}

static int use_passed(struct file *f, const struct file_config *c, const struct ublkd_wish *wish,
		      int fd)
{
	int access = fcntl(fd, F_GETFL) & O_ACCMODE;
	struct stat st = { 0 };

	f->passed = true;
	if (access == O_RDONLY && !wish->read_only)
		ublkd_note("'%s' was opened to be read only: the device is read-only", c->path);
	f->target.read_only = access == O_RDONLY;
	fstat(fd, &st);
	if (c->create && (access == O_RDONLY || !S_ISREG(st.st_mode) || st.st_size)) {
		ublkd_error("create: expected an empty file that is open to be written, got '%s' as it "
			    "was passed", c->path);
		close(fd);
		return -EEXIST;
	}
	return c->lock && !wish->look && S_ISBLK(st.st_mode) ? claim_passed(c, fd, access) : fd;
}

static int open_backing(struct file *f, const struct file_config *c, const struct ublkd_wish *wish)
{
	int fd = ublkd_passed_open(wish, "path");

	return fd == -ENOENT ? open_path(f, c, wish) : fd < 0 ? fd : use_passed(f, c, wish, fd);
}

static int check_type(struct file *f, const struct file_config *c)
{
	struct stat st;
	const char *what;

	if (fstat(f->fd, &st)) {
		ublkd_error("cannot look at '%s': %s", c->path, strerror(errno));
		return -errno;
	}
	if (S_ISREG(st.st_mode))
		return 0;
	f->block = S_ISBLK(st.st_mode);
	if (f->block)
		return 0;
	what = S_ISDIR(st.st_mode) ? "a directory" : S_ISCHR(st.st_mode) ? "a character device" :
						     "something else";
	ublkd_error("path: expected a regular file or a block device, got '%s', which is %s",
		    c->path, what);
	return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTBLK;
}

/*
 * An open-file-description lock on the bytes that the device uses: it belongs
 * to this open file, so the workers of the ring and all threads share it, and
 * it conflicts with the locks that other servers of disk images take.
 */
static int lock_file(const struct file *f, uint64_t length, double patience)
{
	bool write = (fcntl(f->fd, F_GETFL) & O_ACCMODE) == O_RDWR;
	struct flock lock = {
		.l_type = write ? F_WRLCK : F_RDLCK,
		.l_whence = SEEK_SET,
		.l_start = (off_t)f->offset,
		.l_len = f->window ? (off_t)length : 0, /* 0: up to the end, wherever it is */
	};

	if (!f->lock)
		return 0;
	for (; fcntl(f->fd, F_OFD_SETLK, &lock); patience -= 0.05) {
		if (errno != EAGAIN && errno != EACCES) {
			ublkd_note("'%s' cannot be locked (%s): nothing keeps others from writing it",
				   f->path, strerror(errno));
			return 0;
		}
		if (patience <= 0) {
			ublkd_error("'%s' is in use: another program holds a lock on it", f->path);
			return -EBUSY;
		}
		pause_briefly();
	}
	return 0;
}

/* Where others have the same open file, the lock would stay. */
static void unlock_file(const struct file *f)
{
	fcntl(f->fd, F_OFD_SETLK, &(struct flock){ .l_type = F_UNLCK, .l_whence = SEEK_SET });
}

/* The size of the file or block device. -errno after an error text. */
static int find_end(const struct file *f, uint64_t *end)
{
	struct stat st;

	if (f->block ? ioctl(f->fd, BLKGETSIZE64, end) : fstat(f->fd, &st)) {
		ublkd_error("cannot get the size of '%s': %s", f->path, strerror(errno));
		return -errno;
	}
	if (!f->block)
		*end = (uint64_t)st.st_size;
	return 0;
}

static int set_end(const struct file *f, uint64_t end)
{
	if (!ftruncate(f->fd, (off_t)end))
		return 0;
	ublkd_error("cannot set the size of '%s' to %" PRIu64 ": %s", f->path, end,
		    strerror(errno));
	return -errno;
}

static int find_size(struct file *f, uint64_t size, const struct ublkd_wish *wish)
{
	uint64_t least = wish->block_size ? wish->block_size : 512, end;
	int ret = find_end(f, &end);

	if (ret)
		return ret;
	if (size > least)
		least = size;
	if (end < f->offset || end - f->offset < least) {
		ublkd_error("'%s' is too small: expected at least %" PRIu64 " bytes behind offset %"
			    PRIu64 ", got a size of %" PRIu64, f->path, least, f->offset, end);
		return -ENODATA;
	}
	f->target.size = size ? size : end - f->offset;
	return 0;
}

/* ---- what lies beneath ---------------------------------------------------------- */

/* An attribute of the disk that a device number belongs to, or of its disk. */
static bool queue_attribute(dev_t device, const char *name, uint64_t *value)
{
	static const char *const places[] = { "", "../" };
	char path[128];

	for (unsigned i = 0; i < 2; i++) {
		FILE *file;
		int got;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s", major(device),
			 minor(device), places[i], name);
		file = fopen(path, "re");
		if (!file)
			continue;
		got = fscanf(file, "%" SCNu64, value);
		fclose(file);
		return got == 1;
	}
	return false;
}

/* ---- direct I/O --------------------------------------------------------------- */

/*
 * What direct I/O must be aligned to in the file, where 0 says that there is
 * none, and in memory.
 */
static uint32_t direct_alignment(const struct file *f, uint32_t *memory)
{
	uint32_t align = 512;
	int sectors;
	struct stat st;
	uint64_t mask;

	*memory = 512;
	if (f->block) {
		if (!fstat(f->fd, &st) && queue_attribute(st.st_rdev, "dma_alignment", &mask) &&
		    mask < 4096)
			*memory = (uint32_t)mask + 1;
		return ioctl(f->fd, BLKSSZGET, &sectors) ? 0 : (uint32_t)sectors;
	}
#ifdef HAVE_STATX_DIOALIGN
	{
		struct statx stx;

		if (!statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
		    stx.stx_mask & STATX_DIOALIGN) {
			align = stx.stx_dio_offset_align;
			*memory = stx.stx_dio_mem_align;
		}
	}
#endif
	return align;
}

/* Some file systems take O_DIRECT and refuse the I/O, so it is tried. */
static bool direct_read_works(int fd, uint64_t offset, uint32_t align)
{
	void *buffer;
	ssize_t got;

	if (posix_memalign(&buffer, 4096, align > 4096 ? align : 4096))
		return false;
	got = pread(fd, buffer, align, (off_t)offset);
	free(buffer);
	return got >= 0;
}

static int set_direct(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	return fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) ? -errno : 0;
}

/* Direct I/O if it can be had; otherwise says why the page cache is used. */
static void try_direct(struct file *f, const struct file_config *c, const struct ublkd_wish *wish)
{
	uint32_t block = wish->block_size ? wish->block_size : 512;
	uint32_t memory, align = direct_alignment(f, &memory);
	char reason[96];

	if (!align)
		snprintf(reason, sizeof(reason), "its file system has no direct I/O");
	else if (align > block)
		snprintf(reason, sizeof(reason),
			 "direct I/O needs blocks of %u bytes; block-size=%u allows it", align, align);
	else if (c->offset % align)
		snprintf(reason, sizeof(reason), "direct I/O needs an offset that is a multiple of %u",
			 align);
	else if (set_direct(f->fd, true))
		snprintf(reason, sizeof(reason), "its file system refuses direct I/O");
	else if (!direct_read_works(f->fd, c->offset, align))
		snprintf(reason, sizeof(reason), "a direct read fails");
	else
		reason[0] = 0;
	if (!reason[0]) {
		f->target.dio_align = align;
		f->target.dma_align = memory;
		return;
	}
	set_direct(f->fd, false);
	ublkd_note("'%s' is served through the page cache: %s", c->path, reason);
}

static void choose_cache(struct file *f, const struct file_config *c, const struct ublkd_wish *wish)
{
	if (c->cache == CACHE_NONE)
		try_direct(f, c, wish);
	f->target.volatile_cache = c->cache == CACHE_NONE || c->cache == CACHE_WRITEBACK;
	f->target.fua = f->target.volatile_cache;
	f->target.write_through = c->cache == CACHE_WRITETHROUGH;
}

/* ---- what the device is like -------------------------------------------------- */

static uint32_t hint(uint64_t bytes)
{
	return bytes && bytes <= 256u << 20 && !(bytes & (bytes - 1)) ? (uint32_t)bytes : 0;
}

/* Asked of a range behind the end, so that it changes nothing. */
static bool punching_works(int fd, off_t size)
{
	int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	off_t beyond = (size + 0xfffff) & ~(off_t)0xfffff;

	return !fallocate(fd, mode, beyond, 1 << 16) || errno != EOPNOTSUPP;
}

static void describe_regular(struct file *f)
{
	struct ublkd_target *t = &f->target;
	struct stat st;
	uint64_t value;

	if (fstat(f->fd, &st))
		return;
	t->physical_block_size = st.st_blksize <= 65536 ? hint((uint64_t)st.st_blksize) : 4096;
	if (queue_attribute(st.st_dev, "rotational", &value))
		t->rotational = value;
	if (t->read_only)
		return;
	f->punch = punching_works(f->fd, st.st_size);
	t->discard_granularity = f->punch ? t->physical_block_size : 0;
	t->write_zeroes = true;
}

static void describe_block(struct file *f)
{
	struct ublkd_target *t = &f->target;
	unsigned bytes;
	int read_only;
	struct stat st;
	uint64_t value;

	if (fstat(f->fd, &st))
		return;
	if (!ioctl(f->fd, BLKPBSZGET, &bytes))
		t->physical_block_size = hint(bytes);
	if (!ioctl(f->fd, BLKIOMIN, &bytes))
		t->io_min = hint(bytes);
	if (!ioctl(f->fd, BLKIOOPT, &bytes))
		t->io_opt = hint(bytes);
	if (!t->read_only && !ioctl(f->fd, BLKROGET, &read_only) && read_only) {
		ublkd_note("the backing device is read-only, so the device is");
		t->read_only = true;
	}
	if (queue_attribute(st.st_rdev, "rotational", &value))
		t->rotational = value;
	if (queue_attribute(st.st_rdev, "discard_max_bytes", &value) && value) {
		t->max_discard = value > UINT32_MAX ? 0 : (uint32_t)value;
		t->discard_granularity = 512;
		if (queue_attribute(st.st_rdev, "discard_granularity", &value) && hint(value))
			t->discard_granularity = hint(value);
	}
	f->punch = queue_attribute(st.st_rdev, "write_zeroes_max_bytes", &value) && value;
	t->write_zeroes = true;
}

/*
 * Another window of the same is other data. The number of a file that was
 * removed is used again, so its time of birth counts too, where there is one.
 */
static void identify(struct file *f)
{
	struct ublkd_target *t = &f->target;
	struct statx st = { 0 };

	statx(f->fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO | STATX_BTIME, &st);
	if (f->block)
		snprintf(t->identity, sizeof(t->identity), "device %u:%u offset %" PRIu64,
			 st.stx_rdev_major, st.stx_rdev_minor, f->offset);
	else
		snprintf(t->identity, sizeof(t->identity),
			 "file %u:%u/%" PRIu64 " born %" PRId64 ".%u offset %" PRIu64,
			 st.stx_dev_major, st.stx_dev_minor, (uint64_t)st.stx_ino,
			 (int64_t)st.stx_btime.tv_sec, st.stx_btime.tv_nsec, f->offset);
}

static void file_close(struct ublkd_target *target)
{
	struct file *f = (struct file *)target;

	if (f->created && target->unused)
		unlink(f->path);
	if (f->lock && f->passed)
		unlock_file(f);
	free(f->path);
	close(f->fd);
}

static int open_target(struct file *f, const struct file_config *c, const struct ublkd_wish *wish)
{
	struct ublkd_target *target = &f->target;
	uint64_t kept = ublkd_kept_size(wish, c->size), size = kept ? kept : c->size;
	int ret;

	f->path = strdup(c->path);
	if (!f->path) {
		ublkd_error("no memory");
		return -ENOMEM;
	}
	f->fd = open_backing(f, c, wish);
	if (f->fd < 0) {
		free(f->path);
		return f->fd;
	}
	f->offset = c->offset;
	f->created = c->create && !f->passed;
	f->window = c->size;
	ret = check_type(f, c);
	f->lock = c->lock && !f->block && !wish->look;
	if (!ret)
		ret = lock_file(f, size, (double)c->lock_timeout);
	if (!ret && c->create)
		ret = set_end(f, c->create);
	if (!ret)
		ret = find_size(f, size, wish);
	if (ret) {
		target->unused = true;
		file_close(target);
		return ret;
	}
	f->target.read_only |= wish->read_only;
	identify(f);
	choose_cache(f, c, wish);
	if (f->block)
		describe_block(f);
	else
		describe_regular(f);
	target->ring_only = true;
	target->sqes_per_io = 1;
	target->files[0] = f->fd;
	target->nr_files = 1;
	return 0;
}

static int file_open(struct ublkd_target *target, const void *config, const struct ublkd_wish *wish)
{
	struct file_config c = *(const struct file_config *)config;

	if (wish->again)
		c.create = 0;
	return open_target((struct file *)target, &c, wish);
}

/* ---- another size ---------------------------------------------------------------- */

static int file_measure(struct ublkd_target *target, uint64_t *size)
{
	struct file *f = (struct file *)target;
	uint64_t end;
	int ret;

	if (f->window) {
		ublkd_error("size: expected SIZE, as the device has a part of '%s' and does not go by "
			    "its end, got none", f->path);
		return -EINVAL;
	}
	ret = find_end(f, &end);
	if (!ret)
		*size = end > f->offset ? end - f->offset : 0;
	return ret;
}

/* Where the file has to grow for it. */
static int file_grow(const struct file *f, uint64_t size, uint64_t end)
{
	if (f->block || f->window || f->target.read_only || size > INT64_MAX - f->offset) {
		ublkd_error("size: expected at most %" PRIu64 ", what '%s' has%s, got '%" PRIu64 "'",
			    end > f->offset ? end - f->offset : 0, f->path,
			    f->block ? "" : f->window ? " for a device that does not go by its end" :
					    f->target.read_only ? ", which is not written to" : "",
			    size);
		return -EFBIG;
	}
	return set_end(f, f->offset + size);
}

/* A device that becomes smaller leaves the file as it is, and locked. */
static int file_resize(struct ublkd_target *target, uint64_t size)
{
	struct file *f = (struct file *)target;
	uint64_t end;
	int ret;

	if (size <= target->size)
		return 0;
	ret = find_end(f, &end);
	if (!ret && (end < f->offset || end - f->offset < size))
		ret = file_grow(f, size, end);
	return ret || !f->window ? ret : lock_file(f, size, 0);
}

/* ---- requests -------------------------------------------------------------------- */

static int write_zeroes(struct file *f, struct ublkd_io *io, uint64_t at)
{
	bool keep = io->flags & UBLKD_IO_NOUNMAP;

	/* A range cannot be zeroed and made durable in one step. */
	if (io->flags & UBLKD_IO_FUA || f->target.write_through)
		return ublkd_ring_write_zeros(io, 0, at);
	if (f->punch && !keep)
		return ublkd_ring_fallocate(io, 0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at);
	return ublkd_ring_fallocate(io, 0, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, at);
}

static int file_submit(struct ublkd_target *target, struct ublkd_io *io)
{
	struct file *f = (struct file *)target;
	uint64_t at = f->offset + io->offset;

	switch ((enum ublkd_op)io->op) {
	case UBLKD_OP_READ:
	case UBLKD_OP_WRITE:
		return ublkd_ring_rw(io, 0, at);
	case UBLKD_OP_FLUSH:
		return ublkd_ring_sync(io, 0);
	case UBLKD_OP_DISCARD:
		if (f->block)
			return ublkd_ring_discard(io, 0, at);
		return ublkd_ring_fallocate(io, 0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at);
	case UBLKD_OP_WRITE_ZEROES:
		return write_zeroes(f, io, at);
	case UBLKD_OP_COUNT:
		break;
	}
	return -EOPNOTSUPP;
}

const struct ublkd_backend file_backend = {
	.name = "file",
	.summary = "a regular file or a block device",
	.options = file_options,
	.config_size = sizeof(struct file_config),
	.state_size = sizeof(struct file),
	.open = file_open,
	.close = file_close,
	.submit = file_submit,
	.measure = file_measure,
	.resize = file_resize,
};
