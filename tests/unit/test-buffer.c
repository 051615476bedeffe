/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/prctl.h>

#include "buffer.h"
#include "io.h"
#include "util/macros.h"

static const char *what;

static int open_small(struct buffers *buffers, unsigned count, size_t each, bool pooled)
{
	return buffers_open(buffers, count, each, pooled, HUGE_PAGES_NO, &what);
}

static void each_tag_has_a_page_aligned_buffer_of_its_own(void **state)
{
	size_t page = page_size();
	struct buffers buffers;
	uint8_t *tags[3];

	(void)state;
	assert_int_equal(open_small(&buffers, 3, page + 512, false), 0);
	for (unsigned tag = 0; tag < 3; tag++) {
		tags[tag] = buffers_of_tag(&buffers, tag);
		assert_int_equal((uintptr_t)tags[tag] % page, 0);
		memset(tags[tag], 'a' + (int)tag, page + 512);
	}
	for (unsigned tag = 0; tag < 3; tag++) {
		assert_int_equal(tags[tag][0], 'a' + (int)tag);
		assert_int_equal(tags[tag][page + 511], 'a' + (int)tag);
	}
	buffers_close(&buffers);
}

static void the_bytes_are_whole_pages(void **state)
{
	size_t page = page_size();

	(void)state;
	assert_int_equal(buffers_bytes(3, 1, HUGE_PAGES_AUTO), 3 * page);
	assert_int_equal(buffers_bytes(3, page, HUGE_PAGES_AUTO), 3 * page);
	assert_int_equal(buffers_bytes(3, page + 1, HUGE_PAGES_AUTO), 6 * page);
	assert_int_equal(buffers_bytes(4096, 32u << 20, HUGE_PAGES_AUTO), UINT64_C(4096) * (32u << 20));
}

static void a_pool_lends_each_buffer_once(void **state)
{
	struct buffers buffers;
	struct io ios[3] = { 0 };

	(void)state;
	assert_int_equal(open_small(&buffers, 2, page_size(), true), 0);
	assert_true(buffers_borrow(&buffers, &ios[0]));
	assert_true(buffers_borrow(&buffers, &ios[1]));
	assert_non_null(ios[0].buffer);
	assert_non_null(ios[1].buffer);
	assert_ptr_not_equal(ios[0].buffer, ios[1].buffer);
	assert_false(buffers_borrow(&buffers, &ios[2]));
	assert_null(ios[2].buffer);
	buffers_close(&buffers);
}

static void a_lightly_used_pool_stays_at_its_beginning(void **state)
{
	struct buffers buffers;
	struct io io = { 0 };
	void *first;

	(void)state;
	assert_int_equal(open_small(&buffers, 3, page_size(), true), 0);
	for (unsigned i = 0; i < 5; i++) {
		assert_true(buffers_borrow(&buffers, &io));
		first = io.buffer;
		assert_ptr_equal(first, buffers.memory);
		buffers_return(&buffers, &io);
		assert_null(io.buffer);
		assert_null(buffers_release(&buffers));
	}
	buffers_close(&buffers);
}

static void who_waits_is_served_in_order(void **state)
{
	struct buffers buffers;
	struct io ios[4] = { 0 };
	void *only;

	(void)state;
	assert_int_equal(open_small(&buffers, 1, page_size(), true), 0);
	assert_true(buffers_borrow(&buffers, &ios[0]));
	only = ios[0].buffer;
	for (unsigned i = 1; i < 4; i++)
		assert_false(buffers_borrow(&buffers, &ios[i]));
	for (unsigned i = 0; i < 3; i++) {
		buffers_return(&buffers, &ios[i]);
		assert_null(ios[i].buffer);
		assert_null(ios[i + 1].buffer);
		assert_ptr_equal(buffers_release(&buffers), &ios[i + 1]);
		assert_ptr_equal(ios[i + 1].buffer, only);
		assert_null(ios[i + 1].next);
	}
	/* The line is empty and can be joined again. */
	assert_false(buffers_borrow(&buffers, &ios[0]));
	buffers_return(&buffers, &ios[3]);
	assert_ptr_equal(buffers_release(&buffers), &ios[0]);
	buffers_return(&buffers, &ios[0]);
	assert_null(buffers_release(&buffers));
	assert_true(buffers_borrow(&buffers, &ios[1]));
	buffers_close(&buffers);
}

/* Kilobytes of this process that are locked. */
static unsigned long locked_memory(void)
{
	_cleanup_file_ FILE *status = fopen("/proc/self/status", "re");
	char line[128];
	unsigned long kilobytes = 0;

	assert_non_null(status);
	while (fgets(line, sizeof(line), status))
		sscanf(line, "VmLck: %lu kB", &kilobytes);
	return kilobytes;
}

/* Where the sanitizers or valgrind are, it may do nothing. */
static bool locking_works(void)
{
	static char byte;
	unsigned long before = locked_memory(), after;

	if (mlock2(&byte, 1, MLOCK_ONFAULT))
		return false;
	after = locked_memory();
	syscall(SYS_munlock, &byte, 1); /* the sanitizers' own does nothing, but mlock2() is the C library's */
	return after > before;
}

static void buffers_are_locked_while_they_are_open(void **state)
{
	unsigned long before = locked_memory();
	unsigned long expected = locking_works() ? 4 * page_size() / 1024 : 0;
	struct buffers buffers;

	(void)state;
	assert_int_equal(open_small(&buffers, 4, page_size(), false), 0);
	assert_int_equal(locked_memory() - before, expected);
	buffers_close(&buffers);
	assert_int_equal(locked_memory(), before);
}

/* How many bytes at the buffers' beginning have pages, as far as any have. */
static size_t resident(const struct buffers *buffers)
{
	size_t pages = buffers->bytes / page_size(), n = 0;
	uint8_t *in = calloc(pages, 1);

	assert_non_null(in);
	assert_int_equal(mincore(buffers->memory, buffers->bytes, in), 0);
	while (n < pages && in[n])
		n++;
	free(in);
	return n * page_size();
}

static void few_pages_are_taken_at_once(void **state)
{
	struct buffers buffers;

	(void)state;
	assert_int_equal(open_small(&buffers, 4, page_size(), false), 0);
	assert_true(buffers_are_taken(&buffers));
	assert_int_equal(resident(&buffers), buffers.bytes);
	buffers_close(&buffers);
}

static void many_pages_are_taken_piece_by_piece(void **state)
{
	size_t megabyte = 1 << 20, last = 0;
	struct buffers buffers;
	unsigned pieces = 0;

	(void)state;
	assert_int_equal(open_small(&buffers, 5, megabyte, false), 0);
	assert_int_equal(buffers.taken, 0);
	/* An early request's, which stays as it is. */
	memset(buffers_of_tag(&buffers, 4), 'a', megabyte);
	while (!buffers_are_taken(&buffers)) {
		assert_int_equal(buffers_take_more(&buffers), 0);
		assert_in_range(buffers.taken, last + 1, last + 2 * megabyte);
		last = buffers.taken;
		assert_true(resident(&buffers) >= last);
		pieces++;
	}
	assert_int_equal(pieces, 3);
	assert_int_equal(buffers.memory[5 * megabyte - 1], 'a');
	buffers_close(&buffers);
}

static void pages_that_cannot_be_had_are_said(void **state)
{
	size_t megabyte = 1 << 20;
	struct buffers buffers;

	(void)state;
	assert_int_equal(open_small(&buffers, 4, megabyte, false), 0);
	munmap(buffers.memory + 3 * megabyte, page_size());
	assert_int_equal(buffers_take_more(&buffers), 0);
	assert_int_equal(buffers_take_more(&buffers), -ENOMEM);
	assert_int_equal(buffers.taken, 2 * megabyte);
	buffers_close(&buffers);
}

/* Bytes of huge pages, of both kinds, in the mapping that begins at the address. */
static size_t huge_bytes_at(const void *address)
{
	_cleanup_file_ FILE *smaps = fopen("/proc/self/smaps", "re");
	unsigned long start, end, kilobytes, sum = 0;
	bool within = false;
	char line[512];

	assert_non_null(smaps);
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			within = start <= (uintptr_t)address && (uintptr_t)address < end;
		else if (within && (sscanf(line, "AnonHugePages: %lu kB", &kilobytes) == 1 ||
				    sscanf(line, "Private_Hugetlb: %lu kB", &kilobytes) == 1))
			sum += kilobytes;
	}
	return sum * 1024;
}

static void large_buffers_begin_where_a_huge_page_can(void **state)
{
	size_t huge = buffers_huge_page();
	struct buffers buffers;

	(void)state;
	assert_int_equal(buffers_open(&buffers, 3, huge / 2 + page_size(), false, HUGE_PAGES_AUTO,
				      &what), 0);
	assert_int_equal((uintptr_t)buffers.memory % huge, 0);
	assert_int_equal(buffers.bytes, 3 * (huge / 2 + page_size()));
	memset(buffers_of_tag(&buffers, 2), 1, buffers.each);
	buffers_close(&buffers);
}

static void no_huge_page_where_they_are_not_wanted(void **state)
{
	struct buffers buffers;

	(void)state;
	assert_int_equal(open_small(&buffers, 4, buffers_huge_page(), false), 0);
	assert_int_equal(huge_bytes_at(buffers.memory), 0);
	buffers_close(&buffers);
}

/* An error where there are none, and never only some. */
static void nothing_but_huge_pages_on_demand(void **state)
{
	size_t huge = buffers_huge_page();
	struct buffers buffers;
	int ret;

	(void)state;
	assert_int_equal(buffers_bytes(3, page_size(), HUGE_PAGES_YES), huge);
	assert_int_equal(buffers_bytes(2, huge / 2 + 1, HUGE_PAGES_YES), 2 * huge);
	ret = buffers_open(&buffers, 3, huge / 2, true, HUGE_PAGES_YES, &what);
	if (ret) {
		assert_contains(what, "get huge pages");
		assert_null(buffers.memory);
		assert_null(buffers.free);
		skip();
	}
	assert_int_equal(buffers.bytes, 2 * huge);
	assert_true(buffers_are_taken(&buffers));
	assert_int_equal(huge_bytes_at(buffers.memory), 2 * huge);
	memset(buffers.memory, 1, buffers.bytes);
	buffers_close(&buffers);
}

static void huge_pages_that_cannot_be_had_are_an_error(void **state)
{
	struct buffers buffers;
	int ret;

	(void)state;
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		skip();
	ret = buffers_open(&buffers, 1, page_size(), true, HUGE_PAGES_YES, &what);
	prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
	/* There are reserved ones. */
	if (!ret) {
		buffers_close(&buffers);
		skip();
	}
	assert_int_equal(ret, -EOPNOTSUPP);
	assert_contains(what, "get huge pages");
	assert_null(buffers.memory);
	assert_null(buffers.free);
}

static void memory_that_cannot_be_had_is_an_error(void **state)
{
	struct buffers buffers;

	(void)state;
	/* Which error is the kernel's affair: ENOMEM, or EINVAL of what stands in for it (valgrind). */
	assert_true(open_small(&buffers, 1, (size_t)1 << 62, true) < 0);
	assert_null(buffers.memory);
	assert_null(buffers.free);
}

static void borrow_twice(void *arg)
{
	struct io io = { 0 };

	buffers_borrow(arg, &io);
	buffers_borrow(arg, &io);
}

static void return_nothing(void *arg)
{
	struct io io = { 0 };

	buffers_return(arg, &io);
}

static void ask_for_a_tags_own(void *arg)
{
	buffers_of_tag(arg, 0);
}

static void misuse_is_asserted(void **state)
{
	struct buffers buffers;

	(void)state;
	assert_int_equal(open_small(&buffers, 2, page_size(), true), 0);
	assert_true(aborts(borrow_twice, &buffers));
	assert_true(aborts(return_nothing, &buffers));
	assert_true(aborts(ask_for_a_tags_own, &buffers));
	buffers_close(&buffers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_tag_has_a_page_aligned_buffer_of_its_own),
		cmocka_unit_test(the_bytes_are_whole_pages),
		cmocka_unit_test(a_pool_lends_each_buffer_once),
		cmocka_unit_test(a_lightly_used_pool_stays_at_its_beginning),
		cmocka_unit_test(who_waits_is_served_in_order),
		cmocka_unit_test(buffers_are_locked_while_they_are_open),
		cmocka_unit_test(few_pages_are_taken_at_once),
		cmocka_unit_test(many_pages_are_taken_piece_by_piece),
		cmocka_unit_test(pages_that_cannot_be_had_are_said),
		cmocka_unit_test(large_buffers_begin_where_a_huge_page_can),
		cmocka_unit_test(no_huge_page_where_they_are_not_wanted),
		cmocka_unit_test(nothing_but_huge_pages_on_demand),
		cmocka_unit_test(huge_pages_that_cannot_be_had_are_an_error),
		cmocka_unit_test(memory_that_cannot_be_had_is_an_error),
		cmocka_unit_test(misuse_is_asserted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
