/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The backend "file" on regular files of a temporary folder, and what it asks
 * of the ring. Its private state is set by hand where a block device would be
 * needed, which is why the source itself is included.
 */
#define _GNU_SOURCE
#include "support.h"

#include "../../backends/file.c"

#include "backend.h"
#include "option.h"
#include "util/macros.h"

#define MIB (1u << 20)

/* ---- the ring: notes what it is asked for -------------------------------- */

enum asked { NOTHING, RW, SYNC, FALLOCATE, DISCARD, ZEROS };

static struct {
	enum asked what;
	unsigned times;
	unsigned file;
	int mode;
	uint64_t at;
} asked;

static int note(enum asked what, unsigned file, int mode, uint64_t at)
{
	asked.times++;
	asked.what = what;
	asked.file = file;
	asked.mode = mode;
	asked.at = at;
	return 1;
}

int ublkd_ring_rw(struct ublkd_io *io, unsigned file, uint64_t at)
{
	(void)io;
	return note(RW, file, 0, at);
}

int ublkd_ring_sync(struct ublkd_io *io, unsigned file)
{
	(void)io;
	return note(SYNC, file, 0, 0);
}

int ublkd_ring_fallocate(struct ublkd_io *io, unsigned file, int mode, uint64_t at)
{
	(void)io;
	return note(FALLOCATE, file, mode, at);
}

int ublkd_ring_discard(struct ublkd_io *io, unsigned file, uint64_t at)
{
	(void)io;
	return note(DISCARD, file, 0, at);
}

int ublkd_ring_write_zeros(struct ublkd_io *io, unsigned file, uint64_t at)
{
	(void)io;
	return note(ZEROS, file, 0, at);
}

void ublkd_ring_inject(struct ublkd_io *io, uint64_t delay_ns, int32_t result)
{
	(void)io;
	fail_msg("a fault of %llu ns and %d", (unsigned long long)delay_ns, (int)result);
}

/* ---- a target to try ----------------------------------------------------- */

static struct ublkd_target *target;
static const char *said;

/* args: the path, "key=value" settings, NULL. What is said is captured. */
static int open_file(struct ublkd_wish wish, const char *const *args)
{
	struct file_config config = { 0 };
	struct options options;
	int ret;

	capture_begin();
	options_init(&options, file_options, &config);
	options_set(&options, option_find(file_options, "path", strlen("path")), *args++);
	for (; *args; args++) {
		size_t length = strcspn(*args, "=");

		options_set(&options, option_find(file_options, *args, length), *args + length + 1);
	}
	target = NULL;
	ret = backend_open(&target, &file_backend, &config, &wish, NULL);
	options_free(&options);
	said = capture_end();
	return ret;
}

#define OPEN_AS(wish, ...) \
	open_file((struct ublkd_wish)wish, (const char *const[]){ __VA_ARGS__, NULL })
#define OPEN(...) OPEN_AS({ 0 }, __VA_ARGS__)
#define OPEN_READ_ONLY(...) OPEN_AS({ .read_only = true }, __VA_ARGS__)

static int close_target(void **state)
{
	(void)state;
	backend_close(target, true);
	target = NULL;
	return 0;
}

static struct file *file_of(struct ublkd_target *t)
{
	return (struct file *)t;
}

static const char *make_file(const char *name, uint64_t size)
{
	close(scratch_file(name, size));
	return scratch_path(name);
}

static bool exists(const char *path)
{
	return !access(path, F_OK);
}

/* ---- what cannot be opened ----------------------------------------------- */

static void a_missing_file_is_named_in_the_error(void **state)
{
	const char *path = scratch_path("missing");

	(void)state;
	assert_int_equal(OPEN(path), -ENOENT);
	assert_null(target);
	assert_contains(said, "cannot open '");
	assert_contains(said, path);
	assert_contains(said, "No such file or directory");
	assert_false(exists(path));
}

static void a_directory_is_refused(void **state)
{
	(void)state;
	assert_int_equal(OPEN(scratch_path("")), -EISDIR);
	/* Read-only, it can be opened, and is still no backing. */
	assert_int_equal(OPEN_READ_ONLY(scratch_path("")), -EISDIR);
	assert_contains(said, "expected a regular file or a block device");
	assert_contains(said, "is a directory");
}

static void a_character_device_is_refused(void **state)
{
	(void)state;
	assert_int_equal(OPEN("/dev/null"), -ENOTBLK);
	assert_contains(said, "got '/dev/null', which is a character device");
}

static void a_window_beyond_the_end_is_too_small(void **state)
{
	const char *path = make_file("window", 8192);

	(void)state;
	assert_int_equal(OPEN(path, "offset=4096", "size=4608"), -ENODATA);
	assert_contains(said, "is too small: expected at least 4608 bytes behind offset 4096, "
			      "got a size of 8192");
	assert_int_equal(OPEN(path, "offset=12K"), -ENODATA);
	assert_int_equal(OPEN(path, "size=8704"), -ENODATA);
}

static void a_file_that_somebody_locked_is_busy(void **state)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	int fd = scratch_file("locked", 8192);
	const char *path = scratch_path("locked");

	(void)state;
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(OPEN(path, "lock-timeout=0"), -EBUSY);
	assert_contains(said, "is in use: another program holds a lock on it");
	assert_int_equal(OPEN(path, "lock=no"), 0);
	backend_close(target, true);
	close(fd);
	assert_int_equal(OPEN(path, "lock-timeout=0"), 0);
}

static void a_lock_that_goes_in_time_is_waited_for(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = scratch_file("patience", 8192);
	pid_t pid;

	(void)state;
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		usleep(200 * 1000);
		_exit(0); /* with the last reference to the lock */
	}
	close(fd);
	assert_int_equal(OPEN(scratch_path("patience"), "lock-timeout=60"), 0);
}

static void two_servers_share_a_file_only_in_windows_apart(void **state)
{
	const char *path = make_file("shared", 16384);
	struct ublkd_target *first;

	(void)state;
	assert_int_equal(OPEN(path, "size=8K"), 0);
	first = target;
	assert_int_equal(OPEN(path, "offset=4K", "size=8K", "lock-timeout=0"), -EBUSY);
	assert_int_equal(OPEN(path, "offset=8K", "size=8K", "lock-timeout=0"), 0);
	backend_close(first, true);
}

static void readers_share_a_lock(void **state)
{
	const char *path = make_file("readers", 8192);
	struct ublkd_target *first;

	(void)state;
	assert_int_equal(OPEN_READ_ONLY(path, "lock-timeout=0"), 0);
	first = target;
	assert_int_equal(OPEN(path, "lock-timeout=0"), -EBUSY);
	assert_int_equal(OPEN_READ_ONLY(path, "lock-timeout=0"), 0);
	assert_true(target->read_only);
	backend_close(first, true);
}

static void the_identity_is_the_files_and_the_windows(void **state)
{
	const char *path = make_file("identity", 16384), *other = scratch_path("other-name");
	char identity[UBLKD_IDENTITY_SIZE];

	(void)state;
	assert_int_equal(OPEN(path, "size=8K"), 0);
	snprintf(identity, sizeof(identity), "%s", target->identity);
	assert_false(target->volatile_data);
	close_target(NULL);
	assert_int_equal(link(path, other), 0);
	assert_int_equal(OPEN(other, "size=4K"), 0);
	assert_string_equal(target->identity, identity);
	close_target(NULL);
	assert_int_equal(OPEN(path, "offset=4K"), 0);
	assert_string_not_equal(target->identity, identity);
	close_target(NULL);
	assert_int_equal(unlink(path) | unlink(other), 0);
	make_file("identity", 16384);
	assert_int_equal(OPEN(path), 0);
	assert_string_not_equal(target->identity, identity);
}

/* ---- create -------------------------------------------------------------- */

static void create_makes_a_sparse_file_of_the_size(void **state)
{
	const char *path = scratch_path("created");
	struct stat st;

	(void)state;
	assert_int_equal(OPEN(path, "create=64M", "cache=writeback"), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 64 * MIB);
	assert_true(st.st_blocks * 512 < MIB);
	assert_int_equal(target->size, 64 * MIB);
}

static void create_does_not_touch_a_file_that_exists(void **state)
{
	const char *path = make_file("precious", 1000);
	struct stat st;

	(void)state;
	assert_int_equal(OPEN(path, "create=1M"), -EEXIST);
	assert_contains(said, "cannot create '");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 1000);
}

static void a_failed_create_leaves_no_file(void **state)
{
	const char *path = scratch_path("too-short");

	(void)state;
	assert_int_equal(OPEN(path, "create=1M", "offset=2M"), -ENODATA);
	assert_contains(said, "is too small");
	assert_false(exists(path));
}

static void a_created_file_goes_with_a_device_that_never_came(void **state)
{
	const char *path = scratch_path("for-nothing");

	(void)state;
	assert_int_equal(OPEN(path, "create=1M"), 0);
	assert_true(exists(path));
	backend_close(target, false);
	target = NULL;
	assert_false(exists(path));
}

static void a_created_file_stays_when_it_was_used(void **state)
{
	const char *path = scratch_path("used");

	(void)state;
	assert_int_equal(OPEN(path, "create=1M"), 0);
	backend_close(target, true);
	assert_int_equal(OPEN(path), 0);
	/* This one did not make it. */
	backend_close(target, false);
	target = NULL;
	assert_true(exists(path));
}

static void a_created_file_may_be_used_from_an_offset_on(void **state)
{
	(void)state;
	assert_int_equal(OPEN(scratch_path("offset"), "create=1M", "offset=4K"), 0);
	assert_int_equal(target->size, MIB - 4096);
	assert_int_equal(file_of(target)->offset, 4096);
}

/* ---- what is found ------------------------------------------------------- */

static void the_size_is_the_files_or_the_windows(void **state)
{
	const char *path = make_file("sizes", 10000);

	(void)state;
	assert_int_equal(OPEN(path), 0);
	assert_int_equal(target->size, 10000);
	assert_int_equal(target->nr_files, 1);
	assert_int_equal(target->files[0], file_of(target)->fd);
	backend_close(target, true);
	assert_int_equal(OPEN(path, "offset=1K"), 0);
	assert_int_equal(target->size, 10000 - 1024);
	backend_close(target, true);
	assert_int_equal(OPEN(path, "offset=1K", "size=2K"), 0);
	assert_int_equal(target->size, 2048);
}

/* What this file system cannot do is said, and then not pretended. */
static void direct_io_is_used_or_its_absence_said(void **state)
{
	const char *path = make_file("direct", MIB);
	bool direct;

	(void)state;
	assert_int_equal(OPEN(path), 0);
	direct = fcntl(file_of(target)->fd, F_GETFL) & O_DIRECT;
	assert_int_equal(target->dio_align != 0, direct);
	assert_int_equal(strstr(said, "is served through the page cache: ") == NULL, direct);
}

static void an_offset_that_direct_io_cannot_have_goes_through_the_cache(void **state)
{
	const char *path = make_file("unaligned", MIB);
	struct file f = { .fd = open(path, O_RDWR | O_CLOEXEC) };
	const struct file_config config = { .path = (char *)(uintptr_t)path, .offset = 256 };

	(void)state;
	assert_true(f.fd >= 0);
	capture_begin();
	try_direct(&f, &config, &(struct ublkd_wish){ .block_size = 4096 });
	assert_contains(capture_end(), "is served through the page cache: ");
	assert_int_equal(f.target.dio_align, 0);
	assert_false(fcntl(f.fd, F_GETFL) & O_DIRECT);
	close(f.fd);
}

static void each_cache_mode_makes_its_promises(void **state)
{
	static const struct {
		const char *setting;
		bool cache, fua, through;
	} modes[] = {
		{ "cache=none", true, true, false },
		{ "cache=writeback", true, true, false },
		{ "cache=writethrough", false, false, true },
		{ "cache=unsafe", false, false, false },
	};
	const char *path = make_file("modes", MIB);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		assert_int_equal(OPEN(path, modes[i].setting), 0);
		assert_int_equal(target->volatile_cache, modes[i].cache);
		assert_int_equal(target->fua, modes[i].fua);
		assert_int_equal(target->write_through, modes[i].through);
		if (i)
			assert_int_equal(target->dio_align, 0);
		backend_close(target, true);
	}
	target = NULL;
}

static void a_read_only_wish_opens_for_reading_only(void **state)
{
	const char *path = make_file("wish", MIB);

	(void)state;
	assert_int_equal(OPEN_READ_ONLY(path), 0);
	assert_true(target->read_only);
	assert_int_equal(fcntl(file_of(target)->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(target->discard_granularity, 0);
	assert_false(target->write_zeroes);
}

static void opening_changes_nothing_in_the_file(void **state)
{
	const char *path = make_file("unchanged", 12345);
	struct stat before, after;
	uint8_t bytes[12345];
	int fd;

	(void)state;
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(OPEN(path), 0);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(after.st_size, before.st_size);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, bytes, sizeof(bytes)), sizeof(bytes));
	close(fd);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		assert_int_equal(bytes[i], i % 251);
}

static void reads_leave_the_access_time_alone(void **state)
{
	const struct timespec old[] = { { 1000, 0 }, { 2000, 0 } }; /* relatime would renew it */
	uint8_t byte;
	struct stat st;

	(void)state;
	assert_int_equal(OPEN(make_file("times", MIB), "cache=writeback"), 0);
	assert_int_equal(futimens(target->files[0], old), 0);
	assert_int_equal(fstat(target->files[0], &st), 0);
	assert_int_equal(pread(target->files[0], &byte, 1, 0), 1);
	assert_int_equal(fstat(target->files[0], &st), 0);
	assert_int_equal(st.st_atim.tv_sec, 1000);
}

/* ---- another size --------------------------------------------------------- */

static uint64_t file_size(void)
{
	struct stat st;

	assert_int_equal(fstat(file_of(target)->fd, &st), 0);
	return (uint64_t)st.st_size;
}

static int resize(uint64_t size)
{
	int ret;

	capture_begin();
	ret = backend_resize(target, size);
	said = capture_end();
	if (!ret)
		backend_resized(target, size);
	return ret;
}

static void it_follows_the_end_of_the_file(void **state)
{
	const char *path = make_file("follows", MIB);
	uint64_t size;

	(void)state;
	assert_int_equal(OPEN(path, "offset=4K"), 0);
	assert_int_equal(truncate(path, 3 * MIB + 100), 0);
	assert_int_equal(backend_measure(target, &size), 0);
	assert_int_equal(size, 3 * MIB + 100 - 4096);
	assert_int_equal(target->size, MIB - 4096);
	assert_int_equal(truncate(path, 100), 0);
	assert_int_equal(backend_measure(target, &size), 0);
	assert_int_equal(size, 0);
}

static void the_file_grows_with_it_and_is_never_cut_off(void **state)
{
	(void)state;
	assert_int_equal(OPEN(make_file("grows", MIB), "offset=4K"), 0);
	assert_int_equal(resize(2 * MIB), 0);
	assert_int_equal(file_size(), 2 * MIB + 4096);
	assert_int_equal(resize(4096), 0);
	assert_int_equal(target->size, 4096);
	assert_int_equal(file_size(), 2 * MIB + 4096);
	assert_int_equal(resize(MIB), 0);
	assert_int_equal(file_size(), 2 * MIB + 4096);
	assert_int_equal(resize(INT64_MAX / 512 * 512), -EFBIG);
}

static void a_window_grows_within_its_file(void **state)
{
	const char *path = make_file("windowed", MIB);
	struct ublkd_target *neighbour, *window;
	uint64_t size;
	int ret;

	(void)state;
	assert_int_equal(OPEN(path, "offset=512K", "size=64K"), 0);
	neighbour = target;
	assert_int_equal(OPEN(path, "offset=4K", "size=64K"), 0);
	window = target;
	assert_int_equal(resize(512 * 1024 - 4096), 0);
	assert_int_equal(resize(512 * 1024), -EBUSY);
	assert_contains(said, "is in use: another program holds a lock on it");
	assert_int_equal(resize(MIB), -EFBIG);
	assert_contains(said, "size: expected at most 1044480, what '");
	assert_int_equal(file_size(), MIB);
	/* And it holds what it has grown by. */
	target = neighbour;
	assert_int_equal(OPEN(path, "offset=256K", "size=64K", "lock-timeout=0"), -EBUSY);
	capture_begin();
	ret = backend_measure(window, &size);
	assert_contains(capture_end(), "size: expected SIZE, as the device has a part of '");
	assert_int_equal(ret, -EINVAL);
	backend_close(window, true);
	backend_close(neighbour, true);
}

static void a_file_that_is_only_read_does_not_grow(void **state)
{
	(void)state;
	assert_int_equal(OPEN_READ_ONLY(make_file("reads", MIB)), 0);
	assert_int_equal(resize(4096), 0);
	assert_int_equal(resize(MIB), 0);
	assert_int_equal(resize(2 * MIB), -EFBIG);
	assert_contains(said, "reads' has, which is not written to, got '2097152'");
	assert_int_equal(file_size(), MIB);
}

static void what_is_taken_over_is_as_large_as_it_was(void **state)
{
	const struct ublkd_wish resized = { .size = 2 * MIB, .resized = true };
	const char *path = make_file("grown", 4 * MIB);

	(void)state;
	assert_int_equal(OPEN_AS({ .size = 2 * MIB }, path), 0);
	assert_int_equal(target->size, 2 * MIB);
	backend_close(target, true);
	assert_int_equal(OPEN_AS({ .size = 2 * MIB }, path, "size=1M"), 0);
	assert_int_equal(target->size, MIB);
	backend_close(target, true);
	assert_int_equal(open_file(resized, (const char *const[]){ path, "size=1M", NULL }), 0);
	assert_int_equal(target->size, 2 * MIB);
	backend_close(target, true);
	assert_int_equal(OPEN_AS({ .size = 8 * MIB }, path), -ENODATA);
	assert_contains(said, "is too small");
}

/* ---- what a request becomes ---------------------------------------------- */

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

static int submit(const struct file *like, enum ublkd_op op, uint8_t flags)
{
	struct file f = *like;
	struct ublkd_io io = {
		.op = (uint8_t)op, .flags = flags, .offset = 4096, .length = 512,
	};

	memset(&asked, 0, sizeof(asked));
	return file_backend.submit(&f.target, &io);
}

/* Fails unless the request becomes one such SQE, at the place in the file. */
static void becomes(const struct file *like, enum ublkd_op op, uint8_t flags, enum asked what,
		    int mode)
{
	assert_int_equal(submit(like, op, flags), 1);
	assert_int_equal(asked.times, 1);
	assert_int_equal(asked.what, what);
	assert_int_equal(asked.mode, mode);
	assert_int_equal(asked.file, 0);
	if (what != SYNC)
		assert_int_equal(asked.at, like->offset + 4096);
}

static void data_moves_at_the_windows_place(void **state)
{
	const struct file f = { .offset = UINT64_C(1) << 40 };

	(void)state;
	becomes(&f, UBLKD_OP_READ, 0, RW, 0);
	becomes(&f, UBLKD_OP_WRITE, 0, RW, 0);
	becomes(&f, UBLKD_OP_WRITE, UBLKD_IO_FUA, RW, 0);
	becomes(&f, UBLKD_OP_FLUSH, 0, SYNC, 0);
}

static void discard_punches_a_file_and_discards_a_device(void **state)
{
	(void)state;
	becomes(&(struct file){ .offset = 512, .punch = true }, UBLKD_OP_DISCARD, 0, FALLOCATE,
		PUNCH);
	becomes(&(struct file){ .offset = 512, .block = true, .punch = true }, UBLKD_OP_DISCARD, 0,
		DISCARD, 0);
}

static void zeroing_punches_where_it_can(void **state)
{
	(void)state;
	becomes(&(struct file){ .punch = true }, UBLKD_OP_WRITE_ZEROES, 0, FALLOCATE, PUNCH);
	becomes(&(struct file){ .offset = 1024 }, UBLKD_OP_WRITE_ZEROES, 0, FALLOCATE, ZERO);
}

static void zeroing_that_keeps_the_space_never_punches(void **state)
{
	(void)state;
	becomes(&(struct file){ .punch = true }, UBLKD_OP_WRITE_ZEROES, UBLKD_IO_NOUNMAP, FALLOCATE,
		ZERO);
}

static void zeroing_that_must_be_durable_is_written(void **state)
{
	const struct file both = { .punch = true };
	struct file through = both;

	(void)state;
	through.target.write_through = true;
	becomes(&both, UBLKD_OP_WRITE_ZEROES, UBLKD_IO_FUA, ZEROS, 0);
	becomes(&through, UBLKD_OP_WRITE_ZEROES, 0, ZEROS, 0);
}

static void an_operation_that_is_none_is_refused(void **state)
{
	(void)state;
	assert_int_equal(submit(&(struct file){ 0 }, UBLKD_OP_COUNT, 0), -EOPNOTSUPP);
	assert_int_equal(asked.times, 0);
}

/* Its device is there, and has what was written to it. */
static void what_is_opened_again_is_not_made(void **state)
{
	const char *path = make_file("file", 8192);

	(void)state;
	assert_int_equal(OPEN(path, "create=4K"), -EEXIST);
	assert_int_equal(OPEN_AS({ .again = true }, path, "create=4K"), 0);
	assert_int_equal(target->size, 8192);
	assert_false(file_of(target)->created);
	/* Nobody could use it: still it is not ours to remove. */
	backend_close(target, false);
	assert_true(exists(path));
	unlink(path);
	assert_int_equal(OPEN_AS({ .again = true }, path, "create=4K"), -ENOENT);
	assert_contains(said, "cannot open");
	assert_false(exists(path));
	target = NULL;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, close_target)
	const struct CMUnitTest tests[] = {
		TEST(a_missing_file_is_named_in_the_error),
		TEST(a_directory_is_refused),
		TEST(a_character_device_is_refused),
		TEST(a_window_beyond_the_end_is_too_small),
		TEST(a_file_that_somebody_locked_is_busy),
		TEST(a_lock_that_goes_in_time_is_waited_for),
		TEST(two_servers_share_a_file_only_in_windows_apart),
		TEST(readers_share_a_lock),
		TEST(the_identity_is_the_files_and_the_windows),
		TEST(create_makes_a_sparse_file_of_the_size),
		TEST(create_does_not_touch_a_file_that_exists),
		TEST(a_failed_create_leaves_no_file),
		TEST(a_created_file_goes_with_a_device_that_never_came),
		TEST(a_created_file_stays_when_it_was_used),
		TEST(what_is_opened_again_is_not_made),
		TEST(it_follows_the_end_of_the_file),
		TEST(the_file_grows_with_it_and_is_never_cut_off),
		TEST(a_window_grows_within_its_file),
		TEST(a_file_that_is_only_read_does_not_grow),
		TEST(what_is_taken_over_is_as_large_as_it_was),
		TEST(a_created_file_may_be_used_from_an_offset_on),
		TEST(the_size_is_the_files_or_the_windows),
		TEST(direct_io_is_used_or_its_absence_said),
		TEST(an_offset_that_direct_io_cannot_have_goes_through_the_cache),
		TEST(each_cache_mode_makes_its_promises),
		TEST(a_read_only_wish_opens_for_reading_only),
		TEST(opening_changes_nothing_in_the_file),
		TEST(reads_leave_the_access_time_alone),
		TEST(data_moves_at_the_windows_place),
		TEST(discard_punches_a_file_and_discards_a_device),
		TEST(zeroing_punches_where_it_can),
		TEST(zeroing_that_keeps_the_space_never_punches),
		TEST(zeroing_that_must_be_durable_is_written),
		TEST(an_operation_that_is_none_is_refused),
	};

	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
