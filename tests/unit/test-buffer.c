/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "buffer.h"
#include "io.h"
#include "util/macros.h"

static void each_tag_has_a_page_aligned_buffer_of_its_own(void **state)
{
	size_t page = page_size();
	struct buffers buffers;
	uint8_t *tags[3];

	(void)state;
	assert_int_equal(buffers_open(&buffers, 3, page + 512, false), 0);
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
	assert_int_equal(buffers_bytes(3, 1), 3 * page);
	assert_int_equal(buffers_bytes(3, page), 3 * page);
	assert_int_equal(buffers_bytes(3, page + 1), 6 * page);
	assert_int_equal(buffers_bytes(4096, 32u << 20), UINT64_C(4096) * (32u << 20));
}

static void a_pool_lends_each_buffer_once(void **state)
{
	struct buffers buffers;
	struct io ios[3] = { 0 };

	(void)state;
	assert_int_equal(buffers_open(&buffers, 2, page_size(), true), 0);
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
	assert_int_equal(buffers_open(&buffers, 3, page_size(), true), 0);
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
	assert_int_equal(buffers_open(&buffers, 1, page_size(), true), 0);
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

/* Where the sanitizers are, mlock() does nothing. */
static bool locking_works(void)
{
	static char byte;
	unsigned long before = locked_memory(), after;

	if (mlock(&byte, 1))
		return false;
	after = locked_memory();
	munlock(&byte, 1);
	return after > before;
}

static void buffers_are_locked_while_they_are_open(void **state)
{
	unsigned long before = locked_memory();
	unsigned long expected = locking_works() ? 4 * page_size() / 1024 : 0;
	struct buffers buffers;

	(void)state;
	assert_int_equal(buffers_open(&buffers, 4, page_size(), false), 0);
	assert_int_equal(locked_memory() - before, expected);
	buffers_close(&buffers);
	assert_int_equal(locked_memory(), before);
}

static void memory_that_cannot_be_had_is_an_error(void **state)
{
	struct buffers buffers;

	(void)state;
	/* Which error is the kernel's affair: ENOMEM, or EINVAL of what stands in for it (valgrind). */
	assert_true(buffers_open(&buffers, 1, (size_t)1 << 62, true) < 0);
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
	assert_int_equal(buffers_open(&buffers, 2, page_size(), true), 0);
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
		cmocka_unit_test(memory_that_cannot_be_had_is_an_error),
		cmocka_unit_test(misuse_is_asserted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
