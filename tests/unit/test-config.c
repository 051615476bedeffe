/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <string.h>
#include <sys/resource.h>

#include "config.h"
#include "exit.h"
#include "util/macros.h"

static struct device_config config;
static struct ublkd_target target;
static struct device_plan plan;
static struct options options;

#define MIB (1ull << 20)
#define GET_DATA UBLK_F_NEED_GET_DATA
#define REGISTER UBLK_F_SUPPORT_ZERO_COPY
#define AUTO_REGISTER UBLK_F_AUTO_BUF_REG

/* The presets of the program and a plain target of 1 MiB. */
static int start(void **state)
{
	(void)state;
	config = (struct device_config){ 0 };
	target = (struct ublkd_target){ .size = MIB };
	return options_init(&options, device_options, &config);
}

static int end(void **state)
{
	(void)state;
	options_free(&options);
	return 0;
}

/* Plans; what was said is captured. */
static const char *said;

static int make_plan(uint64_t features, unsigned queues)
{
	int status;

	capture_begin();
	status = plan_device(&plan, &config, &target, features, queues);
	said = capture_end();
	return status;
}

static struct ublk_params make_params(void)
{
	struct ublk_params params;

	memset(&params, 0xff, sizeof(params));
	assert_int_equal(make_plan(GET_DATA, 1), EXIT_DONE);
	plan_params(&params, &plan, &config, &target);
	return params;
}

/* ---- blocks -------------------------------------------------------------- */

static void the_size_is_rounded_down_to_blocks_and_that_is_said(void **state)
{
	(void)state;
	target.size = MIB + 1000;
	assert_int_equal(make_plan(0, 1), EXIT_DONE);
	assert_int_equal(plan.sectors, MIB / 512 + 1);
	assert_contains(said, "the last 488 bytes are left out");
	config.block_size = 4096;
	assert_int_equal(make_plan(0, 1), EXIT_DONE);
	assert_int_equal(plan.sectors, MIB / 512);
	assert_contains(said, "the last 1000 bytes are left out");
	target.size = MIB;
	assert_int_equal(make_plan(0, 1), EXIT_DONE);
	assert_null(strstr(said, "left out"));
}

static void less_than_a_block_is_too_small(void **state)
{
	(void)state;
	target.size = 511;
	assert_int_equal(make_plan(0, 1), EXIT_BACKING);
	assert_contains(said, "too small: expected at least one block of 512 bytes, got 511 bytes");
	target.size = 4095;
	target.logical_block_size = 4096;
	assert_int_equal(make_plan(0, 1), EXIT_BACKING);
	target.size = 4096;
	assert_int_equal(make_plan(0, 1), EXIT_DONE);
	assert_int_equal(plan.sectors, 8);
}

static void the_block_size_is_the_backings_unless_asked(void **state)
{
	(void)state;
	assert_int_equal(make_plan(0, 1), EXIT_DONE);
	assert_int_equal(plan.logical_block, 512);
	assert_int_equal(plan.physical_block, 512);
	target.logical_block_size = 2048;
	assert_int_equal(make_plan(0, 1), EXIT_DONE);
	assert_int_equal(plan.logical_block, 2048);
	assert_int_equal(plan.physical_block, 2048);
	config.block_size = 4096;
	assert_int_equal(make_plan(0, 1), EXIT_DONE);
	assert_int_equal(plan.logical_block, 4096);
	assert_int_equal(plan.physical_block, 4096);
}

static void a_block_size_the_backing_cannot_serve_is_refused(void **state)
{
	(void)state;
	target.logical_block_size = 4096;
	config.block_size = 512;
	assert_int_equal(make_plan(0, 1), EXIT_BACKING);
	assert_contains(said, "block-size: expected at least 4096");
	assert_contains(said, "got '512'");
}

static void block_sizes_are_powers_of_two(void **state)
{
	(void)state;
	config.block_size = 1536;
	assert_int_equal(make_plan(0, 1), EXIT_USAGE);
	assert_contains(said, "block-size: expected 512, 1K, 2K or 4K, got '1536'");
	config.block_size = 1024;
	config.physical_block_size = 3072;
	assert_int_equal(make_plan(0, 1), EXIT_USAGE);
	assert_contains(said, "physical-block-size: expected a power of two of at least");
	config.physical_block_size = 512;
	assert_int_equal(make_plan(0, 1), EXIT_USAGE);
	config.physical_block_size = 1024;
	assert_int_equal(make_plan(0, 1), EXIT_DONE);
	assert_int_equal(plan.physical_block, 1024);
}

static void the_physical_block_is_never_below_the_logical(void **state)
{
	(void)state;
	target.physical_block_size = 512;
	config.block_size = 4096;
	assert_int_equal(make_plan(0, 1), EXIT_DONE);
	assert_int_equal(plan.physical_block, 4096);
	target.physical_block_size = 16384;
	assert_int_equal(make_plan(0, 1), EXIT_DONE);
	assert_int_equal(plan.physical_block, 16384);
}

/* ---- buffers ------------------------------------------------------------- */

static void what_fits_the_budget_is_copied(void **state)
{
	(void)state;
	config.depth = 64;
	config.max_io = MIB;
	config.memory = 128 * MIB;
	assert_int_equal(make_plan(GET_DATA, 2), EXIT_DONE);
	assert_int_equal(plan.data, DATA_COPY);
	assert_int_equal(plan.buffer_bytes, 128 * MIB);
	assert_contains(said, "128M of locked I/O buffers: 2 queue(s) × depth 64 × 1M "
			      "(copy: the backend must see the data)");
}

static void what_exceeds_the_budget_shares_a_pool(void **state)
{
	(void)state;
	config.depth = 64;
	config.max_io = MIB;
	config.memory = 128 * MIB - 4096;
	assert_int_equal(make_plan(GET_DATA, 2), EXIT_DONE);
	assert_int_equal(plan.data, DATA_GET_DATA);
	assert_int_equal(plan.pool, 63);
	assert_int_equal(plan.buffer_bytes, 126 * MIB);
	assert_contains(said, "126M of locked I/O buffers: 2 queue(s) × a pool of 63 × 1M "
			      "(get-data: the backend must see the data, and a buffer for each tag "
			      "would take 128M, more than memory=131068K)");
}

static void without_get_data_the_budget_is_a_limit(void **state)
{
	(void)state;
	config.depth = 64;
	config.max_io = MIB;
	config.memory = 32 * MIB;
	assert_int_equal(make_plan(~GET_DATA, 1), EXIT_USAGE);
	assert_contains(said, "memory: expected at least 64M for 1 queue(s) × depth 64 × "
			      "max-io 1M, got '32M'");
}

static void a_mode_that_is_asked_for_is_not_changed(void **state)
{
	(void)state;
	config.depth = 64;
	config.max_io = MIB;
	config.memory = 32 * MIB;
	config.data = DATA_COPY;
	assert_int_equal(make_plan(GET_DATA, 1), EXIT_USAGE);
	config.memory = 1024 * MIB;
	config.data = DATA_GET_DATA;
	assert_int_equal(make_plan(GET_DATA, 1), EXIT_DONE);
	assert_int_equal(plan.data, DATA_GET_DATA);
	assert_int_equal(plan.pool, 64);
	assert_int_equal(make_plan(0, 1), EXIT_KERNEL);
	assert_contains(said, "got 'get-data'");
}

static void each_queue_needs_a_buffer_at_least(void **state)
{
	(void)state;
	config.max_io = MIB;
	config.memory = 4 * MIB;
	assert_int_equal(make_plan(GET_DATA, 4), EXIT_DONE);
	assert_int_equal(plan.pool, 1);
	assert_int_equal(make_plan(GET_DATA, 5), EXIT_USAGE);
	assert_contains(said, "memory: expected at least 5 × 1M");
}

static void huge_pages_are_whole_within_the_budget(void **state)
{
	uint64_t huge = buffers_huge_page();

	(void)state;
	config.depth = 3;
	config.max_io = 4096;
	config.data = DATA_COPY;
	config.memory = 2 * huge;
	config.huge_pages = HUGE_PAGES_AUTO;
	assert_int_equal(make_plan(GET_DATA, 2), EXIT_DONE);
	assert_int_equal(plan.buffer_bytes, 2 * 3 * 4096);
	config.huge_pages = HUGE_PAGES_YES;
	assert_int_equal(make_plan(GET_DATA, 2), EXIT_DONE);
	assert_int_equal(plan.buffer_bytes, 2 * huge);
	assert_int_equal(make_plan(GET_DATA, 3), EXIT_USAGE);
	config.data = DATA_GET_DATA;
	assert_int_equal(make_plan(GET_DATA, 2), EXIT_DONE);
	assert_int_equal(plan.pool, 3);
	assert_int_equal(plan.buffer_bytes, 2 * huge);
	assert_int_equal(make_plan(GET_DATA, 3), EXIT_USAGE);
	/* What does not fill a page is not used for more buffers. */
	config.depth = 4096;
	config.memory = 2 * huge - 4096;
	assert_int_equal(make_plan(GET_DATA, 1), EXIT_DONE);
	assert_int_equal(plan.pool, huge / 4096);
	assert_int_equal(plan.buffer_bytes, huge);
}

static void the_largest_settings_do_not_overflow(void **state)
{
	(void)state;
	config.depth = UBLK_MAX_QUEUE_DEPTH;
	config.max_io = UBLK_MAX_IO_BYTES;
	config.memory = UINT64_C(1) << 50;
	assert_int_equal(make_plan(0, 128), EXIT_DONE);
	assert_int_equal(plan.buffer_bytes, UINT64_C(128) * 4096 * 32 * MIB);
}

static void the_budget_is_a_gigabyte_at_most_unless_given(void **state)
{
	(void)state;
	config.depth = 2048;
	config.max_io = MIB;
	assert_int_equal(make_plan(GET_DATA, 1), EXIT_DONE);
	assert_int_equal(plan.data, DATA_GET_DATA);
	assert_in_range(plan.buffer_bytes, MIB, 1024 * MIB);
}

/* ---- data modes ---------------------------------------------------------- */

static void data_stays_in_the_kernel_where_driver_and_backend_can(void **state)
{
	static const struct {
		uint64_t features;
		bool ring_only;
		enum data_mode data;
		uint64_t needs;
	} cases[] = {
		{ 0, true, DATA_COPY, 0 },
		{ GET_DATA | UBLK_F_USER_COPY, true, DATA_COPY, 0 },
		{ REGISTER, true, DATA_REGISTER, REGISTER },
		{ REGISTER | GET_DATA, true, DATA_REGISTER, REGISTER },
		{ REGISTER | AUTO_REGISTER, true, DATA_ZERO_COPY, REGISTER | AUTO_REGISTER },
		{ ~UINT64_C(0), true, DATA_ZERO_COPY, REGISTER | AUTO_REGISTER },
		/* Not without what it falls back to. */
		{ AUTO_REGISTER, true, DATA_COPY, 0 },
		{ ~UINT64_C(0), false, DATA_COPY, 0 },
	};

	(void)state;
	config.batch = TRI_NO;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		target.ring_only = cases[i].ring_only;
		assert_int_equal(make_plan(cases[i].features, 1), EXIT_DONE);
		assert_int_equal(plan.data, cases[i].data);
		assert_int_equal(plan.features, cases[i].needs);
	}
	/* What cannot stay there and does not fit shares a pool. */
	config.max_io = MIB;
	config.memory = 4 * MIB;
	assert_int_equal(make_plan(~UINT64_C(0), 1), EXIT_DONE);
	assert_int_equal(plan.data, DATA_GET_DATA);
	assert_int_equal(plan.features, GET_DATA);
}

static void data_that_stays_in_the_kernel_needs_no_memory(void **state)
{
	(void)state;
	target.ring_only = true;
	config.depth = UBLK_MAX_QUEUE_DEPTH;
	config.max_io = UBLK_MAX_IO_BYTES;
	config.memory = 4096;
	assert_int_equal(make_plan(REGISTER | AUTO_REGISTER, 128), EXIT_DONE);
	assert_int_equal(plan.buffer_bytes, 0);
	assert_int_equal(plan.pool, 0);
	assert_contains(said, "no I/O buffers (zero-copy: the driver registers the buffers)");
	assert_int_equal(make_plan(REGISTER, 128), EXIT_DONE);
	assert_int_equal(plan.buffer_bytes, 0);
	assert_contains(said, "no I/O buffers (register: the driver does not register buffers by "
			      "itself for the device)");
}

static void a_mode_that_is_asked_for_needs_its_features(void **state)
{
	static const struct {
		enum data_mode data;
		const char *name;
		uint64_t needs;
	} modes[] = {
		{ DATA_ZERO_COPY, "zero-copy", REGISTER | AUTO_REGISTER },
		{ DATA_REGISTER, "register", REGISTER },
		{ DATA_COPY, "copy", 0 },
		{ DATA_GET_DATA, "get-data", GET_DATA },
		{ DATA_USER_COPY, "user-copy", UBLK_F_USER_COPY },
	};

	(void)state;
	target.ring_only = true;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		char got[64];

		config.data = (int)modes[i].data;
		assert_int_equal(make_plan(modes[i].needs, 1), EXIT_DONE);
		assert_int_equal(plan.data, modes[i].data);
		assert_int_equal(plan.features, modes[i].needs);
		snprintf(got, sizeof(got), "kernel's driver has, got '%s'", modes[i].name);
		/* Without each of them. */
		for (uint64_t bit = 1; bit; bit <<= 1) {
			if (!(modes[i].needs & bit))
				continue;
			assert_int_equal(make_plan(~bit, 1), EXIT_KERNEL);
			assert_contains(said, "data: expected a mode that this ");
			assert_contains(said, got);
		}
	}
}

static void a_backend_that_must_see_the_data_refuses_zero_copy(void **state)
{
	static const struct ublkd_backend ops = { .name = "seer" };

	(void)state;
	target.ops = &ops;
	config.data = DATA_ZERO_COPY;
	assert_int_equal(make_plan(~UINT64_C(0), 1), EXIT_USAGE);
	assert_contains(said, "data: expected copy, get-data or user-copy, as the backend 'seer' "
			      "must see the data, got 'zero-copy'");
	config.data = DATA_REGISTER;
	assert_int_equal(make_plan(~UINT64_C(0), 1), EXIT_USAGE);
	assert_contains(said, "got 'register'");
	config.data = DATA_USER_COPY;
	assert_int_equal(make_plan(~UINT64_C(0), 1), EXIT_DONE);
	assert_int_equal(plan.data, DATA_USER_COPY);
}

static void user_copy_shares_a_pool(void **state)
{
	(void)state;
	config.data = DATA_USER_COPY;
	config.depth = 64;
	config.max_io = MIB;
	config.memory = 32 * MIB;
	assert_int_equal(make_plan(UBLK_F_USER_COPY, 2), EXIT_DONE);
	assert_int_equal(plan.pool, 16);
	assert_int_equal(plan.buffer_bytes, 32 * MIB);
	assert_contains(said, "2 queue(s) × a pool of 16 × 1M (user-copy: as asked for)");
}

static void batch_mode_is_the_drivers(void **state)
{
	const uint64_t all = ~UINT64_C(0), batch = UBLK_F_BATCH_IO;

	(void)state;
	config.batch = TRI_NO;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan.features, 0);
	config.batch = TRI_YES;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan.data, DATA_COPY);
	assert_int_equal(plan.features, batch);
	assert_int_equal(make_plan(all & ~batch, 1), EXIT_KERNEL);
	assert_contains(said, "batch: expected no, as this kernel's driver lacks batch mode "
			      "(Linux 7.0), got 'yes'");
	target.ring_only = true;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan.data, DATA_ZERO_COPY);
	assert_int_equal(plan.features, REGISTER | AUTO_REGISTER | batch);
}

static void the_data_mode_has_a_reason(void **state)
{
	(void)state;
	config.memory = 128 * MIB;
	target.ring_only = true;
	assert_int_equal(make_plan(GET_DATA, 1), EXIT_DONE);
	assert_string_equal(plan.data_why, "the driver has no zero copy for the device");
	config.of_user = true;
	assert_int_equal(make_plan(GET_DATA | UBLK_F_UNPRIVILEGED_DEV, 1), EXIT_DONE);
	assert_string_equal(plan.data_why,
			    "the driver has nothing else for an ordinary user's device");
	config.of_user = false;
	for (config.data = DATA_ZERO_COPY; config.data <= DATA_USER_COPY; config.data++) {
		assert_int_equal(make_plan(~UINT64_C(0), 1), EXIT_DONE);
		assert_string_equal(plan.data_why, "as asked for");
		assert_contains(said, ": as asked for)");
	}
}

static void batch_mode_has_a_reason(void **state)
{
	const uint64_t all = ~UINT64_C(0);

	(void)state;
	assert_int_equal(make_plan(all & ~UBLK_F_BATCH_IO, 1), EXIT_DONE);
	assert_string_equal(plan.batch_why, "the driver has no batch mode for the device");
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_contains(plan.batch_why, "before 7.3.4");
	config.batch_is_trusted = true;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_contains(plan.batch_why, "saves CPU");
	target.no_effort = true;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_contains(plan.batch_why, "one by one");
	target.no_effort = false;
	config.reactors = 2;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_string_equal(plan.batch_why, "several reactors share a queue");
	config.depth = 7;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_contains(plan.batch_why, "depth is less than 8");
	config.reactors = 0;
	config.depth = 8;
	config.data = DATA_GET_DATA;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_string_equal(plan.batch_why, "the driver has no get-data in batch mode");
	config.batch = TRI_NO;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_string_equal(plan.batch_why, "as asked for");
}

/* What nothing was said of: it goes without a word where it cannot be. */
static void batch_mode_is_for_queues_that_can_be_deep(void **state)
{
	const uint64_t all = ~UINT64_C(0);

	(void)state;
	assert_int_equal(config.batch, TRI_AUTO);
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan.features, 0);
	config.batch_is_trusted = true;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan.features, UBLK_F_BATCH_IO);
	assert_int_equal(make_plan(all & ~UBLK_F_BATCH_IO, 1), EXIT_DONE);
	assert_int_equal(plan.features, 0);
	config.depth = 8;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan.features, UBLK_F_BATCH_IO);
	target.no_effort = true;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan.features, 0);
	target.no_effort = false;
	config.reactors = 2;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan.features, UBLK_F_PER_IO_DAEMON);
	config.reactors = 0;
	config.depth = 7;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan.features, 0);
	/* The mode of a pool stays the better one. */
	config.depth = 64;
	config.max_io = MIB;
	config.memory = 32 * MIB;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan.data, DATA_GET_DATA);
	assert_int_equal(plan.features, GET_DATA);
}

/* By what was asked, also where the kernel gives fewer queues. */
static void more_reactors_than_queues_share_each(void **state)
{
	const uint64_t all = ~UINT64_C(0);

	(void)state;
	config.queues = 2;
	for (config.reactors = 0; config.reactors <= 2; config.reactors++) {
		assert_int_equal(plan_shares(&config), 1);
		assert_int_equal(make_plan(all, 1), EXIT_DONE);
		assert_false(plan.features & UBLK_F_PER_IO_DAEMON);
	}
	config.reactors = 6;
	assert_int_equal(plan_shares(&config), 3);
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_true(plan.features & UBLK_F_PER_IO_DAEMON);
	assert_int_equal(make_plan(all & ~UBLK_F_PER_IO_DAEMON, 2), EXIT_KERNEL);
	assert_contains(said, "reactors: expected at most queues=2, as this kernel's driver wants one "
			      "thread");
	/* Each share has a pool of its own. */
	config.data = DATA_USER_COPY;
	config.depth = 64;
	config.max_io = MIB;
	config.memory = 48 * MIB;
	assert_int_equal(make_plan(all, 2), EXIT_DONE);
	assert_int_equal(plan.pool, 8);
}

/* It has no get-data. */
static void in_batch_mode_a_pool_is_shared_by_user_copy(void **state)
{
	(void)state;
	config.batch = TRI_YES;
	config.depth = 64;
	config.max_io = MIB;
	config.memory = 32 * MIB;
	assert_int_equal(make_plan(~UINT64_C(0), 1), EXIT_DONE);
	assert_int_equal(plan.data, DATA_USER_COPY);
	assert_int_equal(plan.pool, 32);
	assert_int_equal(plan.features, UBLK_F_USER_COPY | UBLK_F_BATCH_IO);
	assert_int_equal(make_plan(~UBLK_F_USER_COPY, 1), EXIT_USAGE);
	assert_contains(said, "or use data=user-copy");
}

/* ---- parameters ---------------------------------------------------------- */

static void the_basic_parameters_follow_the_plan(void **state)
{
	struct ublk_params p;

	(void)state;
	target.physical_block_size = 4096;
	target.io_opt = 65536;
	config.block_size = 1024;
	config.max_io = 128 << 10;
	p = make_params();
	assert_int_equal(p.len, sizeof(p));
	assert_int_equal(p.types, UBLK_PARAM_TYPE_BASIC);
	assert_int_equal(p.basic.attrs, 0);
	assert_int_equal(p.basic.logical_bs_shift, 10);
	assert_int_equal(p.basic.physical_bs_shift, 12);
	assert_int_equal(p.basic.io_min_shift, 12);
	assert_int_equal(p.basic.io_opt_shift, 16);
	assert_int_equal(p.basic.max_sectors, 256);
	assert_int_equal(p.basic.dev_sectors, 2048);
	assert_int_equal(p.basic.chunk_sectors, 0);
	assert_int_equal(p.basic.virt_boundary_mask, 0);
}

static void hints_that_are_no_powers_of_two_are_left_out(void **state)
{
	struct ublk_params p;

	(void)state;
	target.io_opt = 3 * 65536;
	target.io_min = 3 * 4096;
	p = make_params();
	assert_int_equal(p.basic.io_opt_shift, 0);
	assert_int_equal(p.basic.io_min_shift, 0);
	target.io_min = 8192;
	assert_int_equal(make_params().basic.io_min_shift, 13);
}

static void a_cache_brings_flush_and_fua_if_the_backend_has_it(void **state)
{
	(void)state;
	target.volatile_cache = true;
	assert_int_equal(make_params().basic.attrs, UBLK_ATTR_VOLATILE_CACHE);
	target.fua = true;
	assert_int_equal(make_params().basic.attrs, UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA);
	target.volatile_cache = false;
	assert_int_equal(make_params().basic.attrs, 0);
}

static void a_read_only_device_changes_nothing(void **state)
{
	struct ublk_params p;

	(void)state;
	target.volatile_cache = target.fua = target.write_zeroes = true;
	target.discard_granularity = 4096;
	config.read_only = true;
	p = make_params();
	assert_int_equal(p.basic.attrs, UBLK_ATTR_READ_ONLY);
	assert_int_equal(p.types, UBLK_PARAM_TYPE_BASIC);
	config.read_only = false;
	target.read_only = true;
	p = make_params();
	assert_int_equal(p.basic.attrs, UBLK_ATTR_READ_ONLY);
	assert_int_equal(p.types, UBLK_PARAM_TYPE_BASIC);
}

static void rotation_is_the_backings_unless_asked(void **state)
{
	(void)state;
	target.rotational = true;
	assert_int_equal(make_params().basic.attrs, UBLK_ATTR_ROTATIONAL);
	config.rotational = TRI_NO;
	assert_int_equal(make_params().basic.attrs, 0);
	target.rotational = false;
	config.rotational = TRI_YES;
	assert_int_equal(make_params().basic.attrs, UBLK_ATTR_ROTATIONAL);
	config.rotational = TRI_AUTO;
	assert_int_equal(make_params().basic.attrs, 0);
}

/* A result of 2 GiB or more would be negative. */
static void discards_stay_below_two_gigabytes(void **state)
{
	struct ublk_params p;

	(void)state;
	target.discard_granularity = 4096;
	p = make_params();
	assert_int_equal(p.types, UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD);
	assert_int_equal(p.discard.discard_granularity, 4096);
	assert_int_equal(p.discard.max_discard_segments, 1);
	assert_int_equal(p.discard.max_discard_sectors, (1u << 30) / 512);
	assert_int_equal(p.discard.max_write_zeroes_sectors, 0);
	assert_int_equal(p.discard.discard_alignment, 0);
	target.max_discard = UINT32_MAX;
	assert_int_equal(make_params().discard.max_discard_sectors, (1u << 30) / 512);
	target.max_discard = (1u << 20) + 512;
	assert_int_equal(make_params().discard.max_discard_sectors, (1u << 20) / 512 + 1);
	config.block_size = 4096;
	assert_int_equal(make_params().discard.max_discard_sectors, (1u << 20) / 512);
}

static void the_discard_granularity_is_a_block_at_least(void **state)
{
	(void)state;
	target.discard_granularity = 512;
	config.block_size = 4096;
	assert_int_equal(make_params().discard.discard_granularity, 4096);
}

/* The driver wants a granularity with either of them. */
static void zeroing_goes_without_discard(void **state)
{
	struct ublk_params p;

	(void)state;
	target.write_zeroes = true;
	p = make_params();
	assert_int_equal(p.types, UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD);
	assert_int_equal(p.discard.max_write_zeroes_sectors, (1u << 30) / 512);
	target.max_write_zeroes = (1u << 20) + 512;
	assert_int_equal(make_params().discard.max_write_zeroes_sectors, (1u << 20) / 512 + 1);
	target.max_write_zeroes = UINT32_MAX;
	assert_int_equal(make_params().discard.max_write_zeroes_sectors, (1u << 30) / 512);
	assert_int_equal(p.discard.max_discard_sectors, 0);
	assert_int_equal(p.discard.max_discard_segments, 0);
	assert_int_equal(p.discard.discard_granularity, 512);
}

/* The driver's own default would let buffers through that the backing refuses. */
static void the_backings_dma_alignment_is_the_devices_in_zero_copy(void **state)
{
	static const struct {
		uint32_t align, mask;
	} cases[] = { { 1, 0 }, { 4, 3 }, { 512, 511 }, { 4096, 4095 }, { 65536, 4095 } };
	static const uint64_t features[] = { REGISTER, REGISTER | AUTO_REGISTER };
	struct ublk_params p;

	(void)state;
	target.ring_only = true;
	for (size_t f = 0; f < ARRAY_SIZE(features); f++) {
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			target.dma_align = cases[i].align;
			assert_int_equal(make_plan(features[f], 1), EXIT_DONE);
			plan_params(&p, &plan, &config, &target);
			assert_int_equal(p.types,
					 UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DMA_ALIGN);
			assert_int_equal(p.dma.alignment, cases[i].mask);
		}
	}
	/* The backing that cares for none, and buffers of our own, which are aligned. */
	target.dma_align = 0;
	plan_params(&p, &plan, &config, &target);
	assert_int_equal(p.types, UBLK_PARAM_TYPE_BASIC);
	target.dma_align = 512;
	p = make_params();
	assert_int_equal(plan.data, DATA_COPY);
	assert_int_equal(p.types, UBLK_PARAM_TYPE_BASIC);
}

/* ---- on-crash ------------------------------------------------------------ */

#define RECOVERY UBLK_F_USER_RECOVERY
#define REISSUE (RECOVERY | UBLK_F_USER_RECOVERY_REISSUE)
#define FAIL_IO (RECOVERY | UBLK_F_USER_RECOVERY_FAIL_IO)

/* What is asked of a driver with these features; an exit status below 0. */
static int64_t crash_features(enum on_crash what, uint64_t features, bool kept)
{
	int status;

	plan = (struct device_plan){ 0 };
	config.on_crash = (int)what;
	capture_begin();
	status = plan_crash(&plan, &config, &target, features, kept);
	said = capture_end();
	return status ? -status : (int64_t)plan.features;
}

static void a_device_in_a_table_waits_unless_its_data_does_not(void **state)
{
	static const struct ublkd_backend mem = { .name = "mem" };

	(void)state;
	target.ops = &mem;
	assert_int_equal(config.on_crash, ON_CRASH_AUTO);
	assert_int_equal(crash_features(ON_CRASH_AUTO, REISSUE, false), 0);
	assert_int_equal(crash_features(ON_CRASH_AUTO, REISSUE, true), REISSUE);
	assert_int_equal(crash_features(ON_CRASH_AUTO, 0, true), 0);
	target.volatile_data = true;
	assert_int_equal(crash_features(ON_CRASH_AUTO, REISSUE, true), 0);
	assert_int_equal(crash_features(ON_CRASH_NONE, REISSUE, true), 0);
	assert_int_equal(crash_features(ON_CRASH_FAIL, REISSUE, true), -EXIT_USAGE);
	assert_contains(said, "on-crash: expected none, as the data of the backend 'mem' ends with "
			"the server, got 'fail'");
}

static void what_is_asked_on_crash_is_asked_of_the_driver(void **state)
{
	(void)state;
	assert_int_equal(crash_features(ON_CRASH_REISSUE, REISSUE, true), REISSUE);
	assert_int_equal(crash_features(ON_CRASH_FAIL, REISSUE, true), RECOVERY);
	assert_int_equal(crash_features(ON_CRASH_NONE, REISSUE, true), 0);
	assert_int_equal(crash_features(ON_CRASH_ERROR, REISSUE | FAIL_IO, true), FAIL_IO);
	assert_int_equal(crash_features(ON_CRASH_ERROR, REISSUE, true), -EXIT_KERNEL);
	assert_contains(said, "error needs Linux 6.13");
	assert_true(features_keep_io(REISSUE));
	assert_true(features_keep_io(RECOVERY));
	assert_false(features_keep_io(FAIL_IO));
	assert_false(features_keep_io(0));
}

/* It has what can be made quiescent, unless batch mode was asked for. */
static void a_device_that_waits_has_no_batches_unasked(void **state)
{
	const uint64_t all = ~UINT64_C(0), quiesce = REISSUE | UBLK_F_QUIESCE;

	(void)state;
	config.batch_is_trusted = true;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan_crash(&plan, &config, &target, all, false), EXIT_DONE);
	assert_int_equal(plan.features, UBLK_F_BATCH_IO);
	assert_int_equal(plan_crash(&plan, &config, &target, all, true), EXIT_DONE);
	assert_int_equal(plan.features, quiesce);
	assert_contains(plan.batch_why, "waits for another server");
	config.batch = TRI_YES;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan_crash(&plan, &config, &target, all, true), EXIT_DONE);
	assert_int_equal(plan.features, REISSUE | UBLK_F_BATCH_IO);
	assert_string_equal(plan.batch_why, "as asked for");
	config.batch = TRI_NO;
	assert_int_equal(make_plan(all, 1), EXIT_DONE);
	assert_int_equal(plan_crash(&plan, &config, &target, all, true), EXIT_DONE);
	assert_int_equal(plan.features, quiesce);
}

/* ---- ordinary users ------------------------------------------------------ */

#define ALL_FEATURES UINT64_MAX

static void an_ordinary_users_device_is_one_for_the_driver(void **state)
{
	(void)state;
	config.of_user = true;
	config.memory = 128 * MIB;
	assert_int_equal(make_plan(UBLK_F_UNPRIVILEGED_DEV, 1), EXIT_DONE);
	assert_int_equal(plan.features, UBLK_F_UNPRIVILEGED_DEV);
	assert_int_equal(make_plan(0, 1), EXIT_KERNEL);
	assert_contains(said, "expected CAP_SYS_ADMIN");
}

static void an_ordinary_users_data_is_copied(void **state)
{
	uint64_t features = features_of_users(ALL_FEATURES);

	(void)state;
	target.ring_only = true;
	config.of_user = true;
	config.memory = 128 * MIB;
	assert_int_equal(make_plan(features, 1), EXIT_DONE);
	assert_int_equal(plan.data, DATA_COPY);
	config.memory = 16 * MIB;
	assert_int_equal(make_plan(features, 1), EXIT_DONE);
	assert_int_equal(plan.data, DATA_GET_DATA);
	config.batch = TRI_YES;
	assert_int_equal(make_plan(features, 1), EXIT_USAGE);
	assert_contains(said, "or use batch=no");
	assert_int_equal(crash_features(ON_CRASH_AUTO, features, true), 0);
}

static void an_ordinary_users_buffers_are_what_may_be_locked(void **state)
{
	struct rlimit limit = { .rlim_cur = 4 * MIB }, before;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &before), 0);
	limit.rlim_max = before.rlim_max;
	if (before.rlim_cur < limit.rlim_cur)
		skip();
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	config.of_user = true;
	assert_int_equal(make_plan(UBLK_F_UNPRIVILEGED_DEV | GET_DATA, 1), EXIT_DONE);
	assert_int_equal(plan.pool, 8);
	assert_int_equal(plan.buffer_bytes, 4 * MIB);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &before), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, end)
	const struct CMUnitTest tests[] = {
		TEST(the_size_is_rounded_down_to_blocks_and_that_is_said),
		TEST(less_than_a_block_is_too_small),
		TEST(the_block_size_is_the_backings_unless_asked),
		TEST(a_block_size_the_backing_cannot_serve_is_refused),
		TEST(block_sizes_are_powers_of_two),
		TEST(the_physical_block_is_never_below_the_logical),
		TEST(what_fits_the_budget_is_copied),
		TEST(what_exceeds_the_budget_shares_a_pool),
		TEST(without_get_data_the_budget_is_a_limit),
		TEST(a_mode_that_is_asked_for_is_not_changed),
		TEST(each_queue_needs_a_buffer_at_least),
		TEST(huge_pages_are_whole_within_the_budget),
		TEST(the_largest_settings_do_not_overflow),
		TEST(the_budget_is_a_gigabyte_at_most_unless_given),
		TEST(data_stays_in_the_kernel_where_driver_and_backend_can),
		TEST(data_that_stays_in_the_kernel_needs_no_memory),
		TEST(a_mode_that_is_asked_for_needs_its_features),
		TEST(a_backend_that_must_see_the_data_refuses_zero_copy),
		TEST(user_copy_shares_a_pool),
		TEST(batch_mode_is_the_drivers),
		TEST(the_data_mode_has_a_reason),
		TEST(batch_mode_has_a_reason),
		TEST(batch_mode_is_for_queues_that_can_be_deep),
		TEST(more_reactors_than_queues_share_each),
		TEST(in_batch_mode_a_pool_is_shared_by_user_copy),
		TEST(the_basic_parameters_follow_the_plan),
		TEST(hints_that_are_no_powers_of_two_are_left_out),
		TEST(a_cache_brings_flush_and_fua_if_the_backend_has_it),
		TEST(a_read_only_device_changes_nothing),
		TEST(rotation_is_the_backings_unless_asked),
		TEST(discards_stay_below_two_gigabytes),
		TEST(the_discard_granularity_is_a_block_at_least),
		TEST(zeroing_goes_without_discard),
		TEST(the_backings_dma_alignment_is_the_devices_in_zero_copy),
		TEST(a_device_in_a_table_waits_unless_its_data_does_not),
		TEST(a_device_that_waits_has_no_batches_unasked),
		TEST(what_is_asked_on_crash_is_asked_of_the_driver),
		TEST(an_ordinary_users_device_is_one_for_the_driver),
		TEST(an_ordinary_users_data_is_copied),
		TEST(an_ordinary_users_buffers_are_what_may_be_locked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
