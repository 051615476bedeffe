/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend.h"
#include "option.h"
#include "util/macros.h"

#define PAGE 4096u
#define SIZE (64 * PAGE + 512) /* the last page is not a whole one */

/* ---- a target to try ----------------------------------------------------- */

static struct ublkd_wish wish;

/* An option is left out by a NULL value. 0 and *target, or -errno. */
static int open_mem(struct ublkd_target **target, const char *size, const char *path,
		    const char *huge)
{
	const struct ublkd_backend *mem = backend_find("mem");
	const char *const settings[][2] = { { "size", size }, { "path", path }, { "huge", huge } };
	struct options options;
	void *config = calloc(1, mem->config_size);
	int ret;

	options_init(&options, mem->options, config);
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		const char *name = settings[i][0];

		if (settings[i][1])
			options_set(&options, option_find(mem->options, name, strlen(name)),
				    settings[i][1]);
	}
	ret = backend_open(target, mem, config, &wish, NULL);
	options_free(&options);
	free(config);
	return ret;
}

static struct ublkd_target *target;

/* A file on tmpfs, whatever is mounted where: a memfd by its name in /proc. */
static int named_fd = -1;

static const char *named_path(void)
{
	static char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", named_fd);
	return path;
}

static int open_anonymous(void **state)
{
	(void)state;
	target = NULL;
	return open_mem(&target, "262656", NULL, NULL);
}

static int make_named(void **state)
{
	(void)state;
	target = NULL;
	named_fd = memfd_create("named", MFD_CLOEXEC);
	return named_fd < 0;
}

static int open_named(void **state)
{
	return make_named(state) || open_mem(&target, "262656", named_path(), NULL);
}

static int close_target(void **state)
{
	(void)state;
	backend_close(target, true);
	if (named_fd >= 0)
		close(named_fd);
	named_fd = -1;
	return 0;
}

static int submit(enum ublkd_op op, uint8_t flags, uint64_t offset, uint32_t length, void *data)
{
	struct ublkd_io io = {
		.op = (uint8_t)op, .flags = flags, .offset = offset, .length = length, .data = data,
	};

	return target->ops->submit(target, &io);
}

static void write_bytes(uint64_t offset, uint32_t length, int byte)
{
	uint8_t *data = malloc(length);

	memset(data, byte, length);
	assert_int_equal(submit(UBLKD_OP_WRITE, 0, offset, length, data), UBLKD_DONE);
	free(data);
}

/* Fails unless all of the range reads as the byte. */
static void reads_as(uint64_t offset, uint32_t length, int byte)
{
	uint8_t *data = malloc(length), *expected = malloc(length);

	memset(data, 0x5a, length);
	memset(expected, byte, length);
	assert_int_equal(submit(UBLKD_OP_READ, 0, offset, length, data), UBLKD_DONE);
	assert_memory_equal(data, expected, length);
	free(data);
	free(expected);
}

/* The memory file of an anonymous target, found among our open files. */
static int memory_fd(void)
{
	for (int fd = 0; fd < 64; fd++) {
		char path[32], name[64] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, name, sizeof(name) - 1) > 0 &&
		    !strncmp(name, "/memfd:ublkd", strlen("/memfd:ublkd")))
			return fd;
	}
	fail_msg("no memory file among the open files");
	return -1;
}

static uint64_t memory_used(void)
{
	struct stat st;

	assert_int_equal(fstat(named_fd >= 0 ? named_fd : memory_fd(), &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* ---- both kinds ---------------------------------------------------------- */

static void what_was_never_written_reads_as_zeros_and_takes_no_memory(void **state)
{
	(void)state;
	assert_int_equal(target->size, SIZE);
	reads_as(0, SIZE, 0);
	assert_int_equal(memory_used(), 0);
}

static void what_was_written_is_read(void **state)
{
	(void)state;
	write_bytes(512, 1024, 'a');
	write_bytes(10 * PAGE - 512, 2 * PAGE, 'b');
	write_bytes(SIZE - 512, 512, 'c');
	reads_as(0, 512, 0);
	reads_as(512, 1024, 'a');
	reads_as(1536, PAGE - 1536, 0);
	reads_as(10 * PAGE - 1024, 512, 0);
	reads_as(10 * PAGE - 512, 2 * PAGE, 'b');
	reads_as(12 * PAGE - 512, 512, 0);
	reads_as(SIZE - 1024, 512, 0);
	reads_as(SIZE - 512, 512, 'c');
}

static void writes_take_the_pages_they_touch(void **state)
{
	(void)state;
	write_bytes(PAGE + 512, 512, 'x');
	assert_int_equal(memory_used(), PAGE);
	write_bytes(PAGE, PAGE, 'y');
	assert_int_equal(memory_used(), PAGE);
	write_bytes(3 * PAGE - 512, 1024, 'z');
	assert_int_equal(memory_used(), 3 * PAGE);
}

static void discard_gives_memory_back_and_reads_as_zeros(void **state)
{
	(void)state;
	write_bytes(0, SIZE, 'x');
	assert_int_equal(memory_used(), 65 * PAGE);
	assert_int_equal(submit(UBLKD_OP_DISCARD, 0, 2 * PAGE, 10 * PAGE, NULL), UBLKD_DONE);
	assert_int_equal(memory_used(), 55 * PAGE);
	reads_as(0, 2 * PAGE, 'x');
	reads_as(2 * PAGE, 10 * PAGE, 0);
	reads_as(12 * PAGE, SIZE - 12 * PAGE, 'x');
}

/* Parts of pages at both ends: their neighbours in the page stay. */
static void zeroing_does_not_reach_beyond_its_range(void **state)
{
	static const struct {
		uint64_t from, to;
	} ranges[] = {
		{ 512, 1024 },                   /* within a page */
		{ 3 * PAGE - 512, 3 * PAGE + 512 }, /* two parts, no whole page */
		{ 5 * PAGE + 512, 9 * PAGE - 512 },
		{ 11 * PAGE, 12 * PAGE + 1024 },
		{ 14 * PAGE + 1024, 16 * PAGE },
		{ SIZE - 512, SIZE },
	};

	(void)state;
	for (uint8_t flags = 0; flags <= UBLKD_IO_NOUNMAP; flags += UBLKD_IO_NOUNMAP) {
		for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
			uint64_t from = ranges[i].from, to = ranges[i].to;

			write_bytes(0, SIZE, 'x');
			assert_int_equal(submit(UBLKD_OP_WRITE_ZEROES, flags, from,
						(uint32_t)(to - from), NULL), UBLKD_DONE);
			reads_as(0, (uint32_t)from, 'x');
			reads_as(from, (uint32_t)(to - from), 0);
			if (to < SIZE)
				reads_as(to, (uint32_t)(SIZE - to), 'x');
		}
	}
}

static void zeroing_frees_unless_it_is_to_keep(void **state)
{
	(void)state;
	write_bytes(0, 8 * PAGE, 'x');
	assert_int_equal(submit(UBLKD_OP_WRITE_ZEROES, UBLKD_IO_NOUNMAP, 0, 4 * PAGE, NULL), 0);
	assert_int_equal(memory_used(), 8 * PAGE);
	assert_int_equal(submit(UBLKD_OP_WRITE_ZEROES, 0, 4 * PAGE, 4 * PAGE, NULL), 0);
	assert_int_equal(memory_used(), 4 * PAGE);
	reads_as(0, 8 * PAGE, 0);
	/* Where there was nothing, keeping means taking. */
	assert_int_equal(submit(UBLKD_OP_WRITE_ZEROES, UBLKD_IO_NOUNMAP, 20 * PAGE, PAGE, NULL), 0);
	assert_int_equal(memory_used(), 5 * PAGE);
}

static void what_is_written_after_a_discard_stands_among_zeros(void **state)
{
	(void)state;
	write_bytes(4 * PAGE, 2 * PAGE, 'x');
	assert_int_equal(submit(UBLKD_OP_DISCARD, 0, 4 * PAGE, 2 * PAGE, NULL), UBLKD_DONE);
	write_bytes(4 * PAGE + 1024, 512, 'y');
	reads_as(4 * PAGE, 1024, 0);
	reads_as(4 * PAGE + 1024, 512, 'y');
	reads_as(4 * PAGE + 1536, 2 * PAGE - 1536, 0);
}

static void a_flush_has_nothing_to_do(void **state)
{
	(void)state;
	assert_int_equal(submit(UBLKD_OP_FLUSH, 0, 0, 0, NULL), UBLKD_DONE);
	assert_int_equal(submit(UBLKD_OP_COUNT, 0, 0, 512, NULL), -EOPNOTSUPP);
}

/* Any sequence of requests leaves what a plain array would hold. */
static void any_sequence_of_requests_equals_an_array(void **state)
{
	const uint32_t blocks = SIZE / 512;
	uint8_t *model = calloc(1, SIZE), *data = malloc(SIZE);
	uint64_t seed = 20;

	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		uint32_t from = random_below(&seed, blocks);
		uint32_t most = random_below(&seed, 4) ? 20 : blocks;
		uint32_t count = 1 + random_below(&seed, MIN(most, blocks - from));
		enum ublkd_op op = random_below(&seed, UBLKD_OP_COUNT);
		uint8_t flags = (uint8_t)random_below(&seed, 4);
		uint64_t at = from * 512ull;

		memset(data, (int)(i % 255) + 1, SIZE);
		assert_int_equal(submit(op, flags, at, count * 512, data), UBLKD_DONE);
		if (op == UBLKD_OP_READ)
			assert_memory_equal(data, model + at, count * 512);
		else if (op == UBLKD_OP_WRITE)
			memcpy(model + at, data, count * 512);
		else if (op != UBLKD_OP_FLUSH)
			memset(model + at, 0, count * 512);
	}
	assert_int_equal(submit(UBLKD_OP_READ, 0, 0, SIZE, data), UBLKD_DONE);
	assert_memory_equal(data, model, SIZE);
	free(model);
	free(data);
}

/* ---- anonymous memory ---------------------------------------------------- */

static void it_promises_what_it_can_do(void **state)
{
	(void)state;
	assert_int_equal(target->discard_granularity, PAGE);
	assert_int_equal(target->physical_block_size, PAGE);
	assert_true(target->write_zeroes);
	/* What it does by itself, and others wait for. */
	assert_int_equal(target->max_discard, 16 << 20);
	assert_int_equal(target->max_write_zeroes, 16 << 20);
	assert_false(target->volatile_cache);
	assert_false(target->read_only);
	assert_int_equal(target->nr_files, 0);
	assert_int_equal(target->volatile_data, named_fd < 0);
	assert_int_equal(!*target->identity, named_fd < 0);
}

/* Nobody who gets at the memory file can pull the map from under us. */
static void the_memory_cannot_be_truncated(void **state)
{
	(void)state;
	assert_int_equal(ftruncate(memory_fd(), 0), -1);
	assert_int_equal(errno, EPERM);
}

static void a_large_sparse_memory_takes_what_is_written(void **state)
{
	(void)state;
	target = NULL;
	/* No larger than valgrind has room for. */
	assert_int_equal(open_mem(&target, "16G", NULL, NULL), 0);
	write_bytes((UINT64_C(16) << 30) - 512, 512, 'e');
	write_bytes((UINT64_C(5) << 30) + 512, 1024, 'm');
	reads_as((UINT64_C(5) << 30), 512, 0);
	reads_as((UINT64_C(5) << 30) + 512, 1024, 'm');
	reads_as((UINT64_C(16) << 30) - 512, 512, 'e');
	assert_int_equal(memory_used(), 2 * PAGE);
}

static void anonymous_memory_needs_a_size(void **state)
{
	(void)state;
	target = NULL;
	capture_begin();
	assert_int_equal(open_mem(&target, NULL, NULL, NULL), -EINVAL);
	assert_contains(capture_end(), "mem: expected size=SIZE");
	assert_null(target);
}

/* ---- a named file -------------------------------------------------------- */

static void a_named_file_keeps_its_data(void **state)
{
	(void)state;
	write_bytes(PAGE, 1024, 'k');
	backend_close(target, true);
	assert_int_equal(open_mem(&target, NULL, named_path(), NULL), 0);
	assert_int_equal(target->size, SIZE);
	reads_as(0, PAGE, 0);
	reads_as(PAGE, 1024, 'k');
}

static void a_named_file_of_another_size_is_refused(void **state)
{
	const char *said;
	int ret;

	(void)state;
	assert_int_equal(ftruncate(named_fd, 8192), 0);
	capture_begin();
	ret = open_mem(&target, "4096", named_path(), NULL);
	said = capture_end();
	assert_int_equal(ret, -EINVAL);
	assert_contains(said, "size: expected 8192, the size of '/proc/self/fd/");
	assert_contains(said, "got '4096'");
	assert_int_equal(open_mem(&target, "8K", named_path(), NULL), 0);
}

static void an_empty_named_file_needs_a_size(void **state)
{
	const char *said;
	int ret;

	(void)state;
	capture_begin();
	ret = open_mem(&target, NULL, named_path(), NULL);
	said = capture_end();
	assert_int_equal(ret, -EINVAL);
	assert_contains(said, "is empty: expected size=SIZE, got none");
}

static void a_named_file_takes_no_huge_pages(void **state)
{
	const char *said;
	int ret;

	(void)state;
	capture_begin();
	ret = open_mem(&target, "2M", named_path(), "2M");
	said = capture_end();
	assert_int_equal(ret, -EINVAL);
	assert_contains(said, "huge: expected no, as path= is given, got '2M'");
}

static void a_missing_named_file_is_not_made_without_a_size(void **state)
{
	const char *said;
	int ret;

	(void)state;
	capture_begin();
	ret = open_mem(&target, NULL, "/proc/self/no-such-file", NULL);
	said = capture_end();
	assert_int_equal(ret, -ENOENT);
	assert_contains(said, "cannot open '/proc/self/no-such-file': No such file or directory; "
			      "size= would make it");
}

/* A device that is there has data, which would be zeros in a new file. */
static void nothing_is_made_for_a_device_that_is_there(void **state)
{
	const char *path = scratch_path("again");
	int missing, empty;

	(void)state;
	wish.again = true;
	capture_begin();
	missing = open_mem(&target, "1M", path, NULL);
	empty = open_mem(&target, "1M", named_path(), NULL);
	capture_end();
	wish.again = false;
	assert_int_equal(missing, -ENOENT);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(empty, -ENODATA);
	assert_int_equal(lseek(named_fd, 0, SEEK_END), 0);
}

static void a_file_elsewhere_than_on_tmpfs_is_refused(void **state)
{
	const char *said;
	int ret;

	(void)state;
	capture_begin();
	ret = open_mem(&target, NULL, "/proc/self/oom_score_adj", NULL);
	said = capture_end();
	assert_int_equal(ret, -EMEDIUMTYPE);
	assert_contains(said, "path: expected a regular file on tmpfs");
}

/* On tmpfs it is made and not used, elsewhere refused: it goes in either case. */
static void a_file_that_was_made_for_nothing_is_removed(void **state)
{
	const char *path = scratch_path("made");

	(void)state;
	capture_begin();
	open_mem(&target, "1M", path, NULL);
	capture_end();
	backend_close(target, false);
	target = NULL;
	assert_int_equal(access(path, F_OK), -1);
}

static void a_file_that_was_there_is_never_removed(void **state)
{
	const char *path = scratch_path("there");

	(void)state;
	close(scratch_file("there", 4096));
	capture_begin();
	open_mem(&target, "1M", path, NULL);
	open_mem(&target, "4K", path, NULL);
	capture_end();
	backend_close(target, false);
	target = NULL;
	assert_int_equal(access(path, F_OK), 0);
}

/* Others may truncate it: that must not kill the server. */
static void a_truncated_named_file_reads_as_zeros_and_grows_again(void **state)
{
	(void)state;
	write_bytes(0, SIZE, 't');
	assert_int_equal(ftruncate(named_fd, 1000), 0);
	reads_as(0, 512, 't');
	reads_as(2 * PAGE, PAGE, 0);
	write_bytes(4 * PAGE, 512, 'u');
	reads_as(4 * PAGE, 512, 'u');
}

static void a_named_file_that_another_server_has_is_refused(void **state)
{
	struct ublkd_target *other = NULL;
	const char *said;
	int ret;

	(void)state;
	capture_begin();
	ret = open_mem(&other, NULL, named_path(), NULL); /* it tries for three seconds */
	said = capture_end();
	assert_int_equal(ret, -EBUSY);
	assert_contains(said, "is in use: another program holds a lock on it");
}

/* ---- another size --------------------------------------------------------- */

static void resize(uint64_t size)
{
	assert_int_equal(backend_resize(target, size), 0);
	backend_resized(target, size);
	assert_int_equal(target->size, size);
}

static void it_grows_and_keeps_its_data(void **state)
{
	(void)state;
	write_bytes(0, SIZE, 'a');
	resize(UINT64_C(1) << 33);
	reads_as(0, SIZE, 'a');
	reads_as(SIZE, 64 * PAGE, 0);
	write_bytes((UINT64_C(1) << 33) - PAGE, PAGE, 'z');
	reads_as((UINT64_C(1) << 33) - PAGE, PAGE, 'z');
	write_bytes(SIZE - 512, 1024, 'b');
	reads_as(SIZE - 512, 1024, 'b');
}

static void a_resize_that_comes_to_nothing_changes_nothing(void **state)
{
	uint64_t size = target->size;

	(void)state;
	write_bytes(0, SIZE, 'a');
	assert_int_equal(backend_resize(target, 2 * size), 0);
	backend_resized(target, size);
	reads_as(0, SIZE, 'a');
	assert_int_equal(backend_resize(target, PAGE), 0);
	backend_resized(target, size);
	reads_as(0, SIZE, 'a');
}

static void what_is_cut_off_is_given_back_and_comes_again_as_zeros(void **state)
{
	(void)state;
	write_bytes(0, SIZE, 'a');
	resize(3 * PAGE + 512);
	assert_int_equal(memory_used(), 4 * PAGE);
	resize(2 * SIZE);
	reads_as(0, 3 * PAGE + 512, 'a');
	reads_as(3 * PAGE + 512, SIZE, 0);
}

static void it_does_not_grow_beyond_its_addresses(void **state)
{
	const char *said;
	int ret;

	(void)state;
	capture_begin();
	ret = backend_resize(target, (UINT64_C(1) << 44) + 512);
	said = capture_end();
	assert_int_equal(ret, -EFBIG);
	assert_contains(said, "size: expected at most 17592186044416 of memory");
	write_bytes(0, SIZE, 'a');
	reads_as(0, SIZE, 'a');
}

static void anonymous_memory_has_no_size_to_follow(void **state)
{
	uint64_t size;
	int ret;

	(void)state;
	capture_begin();
	ret = backend_measure(target, &size);
	assert_contains(capture_end(), "size: expected SIZE");
	assert_int_equal(ret, -EINVAL);
}

/* What a reactor does meanwhile. */
static struct {
	atomic_bool stop;
	atomic_uint turns;
} busy;

static void *be_busy(void *arg)
{
	uint8_t data[PAGE];

	(void)arg;
	for (unsigned i = 0; !busy.stop; i++) {
		uint64_t offset = (uint64_t)(i % 64) * PAGE;
		struct ublkd_io io = { .op = UBLKD_OP_WRITE, .offset = offset, .length = PAGE,
				       .data = data };

		memset(data, (int)i, PAGE);
		target->ops->submit(target, &io);
		io.op = i % 5 ? UBLKD_OP_READ : UBLKD_OP_DISCARD;
		target->ops->submit(target, &io);
		busy.turns += data[0] == (uint8_t)i && data[PAGE - 1] == (uint8_t)i;
	}
	return NULL;
}

static void requests_go_on_while_it_is_resized(void **state)
{
	pthread_t thread;

	(void)state;
	busy.stop = false;
	assert_int_equal(pthread_create(&thread, NULL, be_busy, NULL), 0);
	for (uint64_t round = 1; round <= 50; round++) {
		uint64_t size = round % 3 ? SIZE + round * round * PAGE : SIZE;
		unsigned turn;

		assert_int_equal(backend_resize(target, size), 0);
		/* The submit() of before has returned; see the contract. */
		for (turn = busy.turns; busy.turns - turn < 2;)
			sched_yield();
		backend_resized(target, size);
	}
	busy.stop = true;
	pthread_join(thread, NULL);
}

static void a_named_file_grows_with_the_device_and_is_not_cut_off(void **state)
{
	uint64_t size;
	struct stat st;

	(void)state;
	write_bytes(0, SIZE, 'a');
	resize(4 * SIZE);
	assert_int_equal(fstat(named_fd, &st), 0);
	assert_int_equal(st.st_size, 4 * SIZE);
	resize(PAGE);
	assert_int_equal(fstat(named_fd, &st), 0);
	assert_int_equal(st.st_size, 4 * SIZE);
	assert_int_equal(backend_measure(target, &size), 0);
	assert_int_equal(size, 4 * SIZE);
	resize(size);
	reads_as(0, SIZE, 'a');
}

static void a_resized_device_is_as_it_was_whatever_its_options_say(void **state)
{
	const char *said;
	int ret;

	(void)state;
	assert_int_equal(ftruncate(named_fd, 4 * SIZE), 0);
	wish = (struct ublkd_wish){ .size = 2 * SIZE, .resized = true };
	assert_int_equal(open_mem(&target, "262656", named_path(), NULL), 0);
	assert_int_equal(target->size, 2 * SIZE);
	backend_close(target, true);
	wish.size = 8 * SIZE;
	capture_begin();
	ret = open_mem(&target, "262656", named_path(), NULL);
	said = capture_end();
	wish = (struct ublkd_wish){ 0 };
	target = NULL;
	assert_int_equal(ret, -ENODATA);
	assert_contains(said, "is too small");
}

static void a_device_without_a_size_of_its_own_is_as_it_was(void **state)
{
	(void)state;
	assert_int_equal(ftruncate(named_fd, 4 * SIZE), 0);
	wish = (struct ublkd_wish){ .size = 2 * SIZE, .again = true };
	assert_int_equal(open_mem(&target, NULL, named_path(), NULL), 0);
	wish = (struct ublkd_wish){ 0 };
	assert_int_equal(target->size, 2 * SIZE);
}

int main(void)
{
#define BOTH(name) \
	{ #name " (anonymous)", name, open_anonymous, close_target, NULL }, \
	{ #name " (named)", name, open_named, close_target, NULL }
#define ANONYMOUS(name) cmocka_unit_test_setup_teardown(name, open_anonymous, close_target)
#define NAMED(name) cmocka_unit_test_setup_teardown(name, open_named, close_target)
#define UNOPENED(name) cmocka_unit_test_setup_teardown(name, make_named, close_target)
	const struct CMUnitTest tests[] = {
		BOTH(what_was_never_written_reads_as_zeros_and_takes_no_memory),
		BOTH(what_was_written_is_read),
		BOTH(writes_take_the_pages_they_touch),
		BOTH(discard_gives_memory_back_and_reads_as_zeros),
		BOTH(zeroing_does_not_reach_beyond_its_range),
		BOTH(zeroing_frees_unless_it_is_to_keep),
		BOTH(what_is_written_after_a_discard_stands_among_zeros),
		BOTH(a_flush_has_nothing_to_do),
		BOTH(any_sequence_of_requests_equals_an_array),
		BOTH(it_promises_what_it_can_do),
		ANONYMOUS(the_memory_cannot_be_truncated),
		cmocka_unit_test_teardown(a_large_sparse_memory_takes_what_is_written,
					  close_target),
		cmocka_unit_test(anonymous_memory_needs_a_size),
		NAMED(a_named_file_keeps_its_data),
		UNOPENED(a_named_file_of_another_size_is_refused),
		UNOPENED(an_empty_named_file_needs_a_size),
		UNOPENED(a_named_file_takes_no_huge_pages),
		UNOPENED(a_missing_named_file_is_not_made_without_a_size),
		UNOPENED(nothing_is_made_for_a_device_that_is_there),
		UNOPENED(a_file_elsewhere_than_on_tmpfs_is_refused),
		BOTH(it_grows_and_keeps_its_data),
		BOTH(a_resize_that_comes_to_nothing_changes_nothing),
		BOTH(requests_go_on_while_it_is_resized),
		ANONYMOUS(what_is_cut_off_is_given_back_and_comes_again_as_zeros),
		ANONYMOUS(it_does_not_grow_beyond_its_addresses),
		ANONYMOUS(anonymous_memory_has_no_size_to_follow),
		NAMED(a_named_file_grows_with_the_device_and_is_not_cut_off),
		UNOPENED(a_resized_device_is_as_it_was_whatever_its_options_say),
		UNOPENED(a_device_without_a_size_of_its_own_is_as_it_was),
		UNOPENED(a_file_that_was_made_for_nothing_is_removed),
		UNOPENED(a_file_that_was_there_is_never_removed),
		NAMED(a_truncated_named_file_reads_as_zeros_and_grows_again),
		NAMED(a_named_file_that_another_server_has_is_refused),
	};

	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
