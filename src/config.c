/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/resource.h>

#include "exit.h"
#include "log.h"
#include "util/macros.h"
#include "util/parse.h"

#define FIELD(name) offsetof(struct device_config, name)

/* In the order of enum data_mode and its like. */
static const char *const data_names[] = { "auto", "zero-copy", "register", "copy", "get-data",
					  "user-copy", NULL };
static const char *const link_names[] = { "auto", "no", "yes", NULL };
static const char *const ring_names[] = { "auto", "defer", "coop", "plain", NULL };
static const char *const schedule_names[] = { "auto", "usual", NULL };
static const char *const on_crash_names[] = { "auto", "reissue", "fail", "error", "none", NULL };
static const char *const give_up_names[] = { "wait", "fail", NULL };
static const char *const tristate_names[] = { "auto", "no", "yes", NULL };

const struct ublkd_option device_options[] = {
	{ .name = "id", .type = UBLKD_OPT_UINT, .offset = FIELD(id), .max = UBLK_MAX_DEVICES - 1,
	  .arg = "N", .help = "number of the device; the kernel chooses if not given" },
	{ .name = "uuid", .type = UBLKD_OPT_UUID, .offset = FIELD(uuid), .arg = "UUID",
	  .help = "what the device is called for good; one that stays is made if not given" },
	{ .name = "queues", .type = UBLKD_OPT_UINT, .offset = FIELD(queues), .min = 1, .max = 128,
	  .preset = "1", .arg = "N", .help = "hardware queues" },
	{ .name = "depth", .type = UBLKD_OPT_UINT, .offset = FIELD(depth), .min = 1,
	  .max = UBLK_MAX_QUEUE_DEPTH, .preset = "128", .arg = "N",
	  .help = "requests that a queue can hold" },
	{ .name = "reactors", .type = UBLKD_OPT_UINT, .offset = FIELD(reactors), .min = 1,
	  .max = 128, .arg = "N", .help = "threads that serve the queues; one per queue if not given" },
	{ .name = "cpus", .type = UBLKD_OPT_CPUS, .offset = FIELD(cpus), .live = true, .arg = "LIST",
	  .help = "CPUs for the reactors; each queue's own if not given" },
	{ .name = "max-io", .type = UBLKD_OPT_SIZE, .offset = FIELD(max_io), .min = 4096,
	  .max = UBLK_MAX_IO_BYTES, .step = 4096, .preset = "512K", .arg = "SIZE",
	  .help = "largest request" },
	{ .name = "block-size", .type = UBLKD_OPT_SIZE, .offset = FIELD(block_size), .min = 512,
	  .max = 4096, .arg = "SIZE", .help = "logical block size; 512 if not given" },
	{ .name = "physical-block-size", .type = UBLKD_OPT_SIZE,
	  .offset = FIELD(physical_block_size), .min = 512, .max = 256u << 20, .arg = "SIZE",
	  .help = "physical block size; the backing's if not given" },
	{ .name = "read-only", .type = UBLKD_OPT_BOOL, .offset = FIELD(read_only), .preset = "no",
	  .arg = "BOOL", .help = "make the device read-only" },
	{ .name = "rotational", .type = UBLKD_OPT_ENUM, .offset = FIELD(rotational),
	  .values = tristate_names, .preset = "auto", .arg = "WHAT",
	  .help = "call the device a rotating disk" },
	{ .name = "data", .type = UBLKD_OPT_ENUM, .offset = FIELD(data), .values = data_names,
	  .preset = "auto", .arg = "MODE", .help = "how data moves between kernel and server" },
	{ .name = "memory", .type = UBLKD_OPT_SIZE, .offset = FIELD(memory), .min = 4096,
	  .arg = "SIZE",
	  .help = "most memory to lock for I/O buffers; a quarter of the machine's, up to 1G, "
		  "if not given" },
	{ .name = "huge-pages", .type = UBLKD_OPT_ENUM, .offset = FIELD(huge_pages),
	  .values = tristate_names, .preset = "auto", .arg = "WHAT",
	  .help = "take I/O buffers from huge pages" },
	{ .name = "link", .type = UBLKD_OPT_ENUM, .offset = FIELD(link), .values = link_names,
	  .preset = "auto", .arg = "WHEN",
	  .help = "link the commit of a request behind its I/O" },
	{ .name = "batch", .type = UBLKD_OPT_ENUM, .offset = FIELD(batch), .values = tristate_names,
	  .preset = "auto", .arg = "WHAT", .help = "fetch and commit requests many at a time" },
	{ .name = "ring", .type = UBLKD_OPT_ENUM, .offset = FIELD(ring), .values = ring_names,
	  .preset = "auto", .arg = "MODE", .help = "how completions reach the reactor" },
	{ .name = "schedule", .type = UBLKD_OPT_ENUM, .offset = FIELD(schedule),
	  .values = schedule_names, .preset = "auto", .arg = "HOW",
	  .help = "how the reactors ask the scheduler for the CPU" },
	{ .name = "poll", .type = UBLKD_OPT_UINT, .offset = FIELD(poll), .live = true, .max = 1000000,
	  .preset = "0", .arg = "USEC",
	  .help = "microseconds after the last I/O for which the reactors look for the next "
		  "without sleeping" },
	{ .name = "on-crash", .type = UBLKD_OPT_ENUM, .offset = FIELD(on_crash),
	  .values = on_crash_names, .preset = "auto", .arg = "WHAT",
	  .help = "what becomes of the I/O when the server dies; only with 'serve --state'" },
	{ .name = "give-up", .type = UBLKD_OPT_ENUM, .offset = FIELD(give_up), .live = true,
	  .values = give_up_names, .arg = "WHAT",
	  .help = "what becomes of the I/O when its worker has died too often; wait if not given; "
		  "only with 'serve --workers'" },
	{ .name = "max-deaths", .type = UBLKD_OPT_UINT, .offset = FIELD(max_deaths), .live = true,
	  .min = 1, .max = 1000, .arg = "N",
	  .help = "deaths of its worker in a row that are too often; 11 if not given; only with "
		  "'serve --workers'" },
	{ .name = "worker", .type = UBLKD_OPT_STRING, .offset = FIELD(worker), .arg = "NAME",
	  .help = "the process that serves it, with all devices that name the same; one of its "
		  "own if not given; only with 'serve --workers'" },
	{ .name = "partscan", .type = UBLKD_OPT_BOOL, .offset = FIELD(partscan), .preset = "yes",
	  .arg = "BOOL", .help = "look for partitions" },
	{ .name = "autoclear", .type = UBLKD_OPT_BOOL, .offset = FIELD(autoclear), .live = true,
	  .preset = "no", .arg = "BOOL", .help = "remove the device after its last user is gone" },
	{ .name = "owner", .type = UBLKD_OPT_STRING, .offset = FIELD(owner), .live = true,
	  .arg = "USER[:GROUP]", .help = "owner of the device node" },
	{ .name = "mode", .type = UBLKD_OPT_MODE, .offset = FIELD(mode), .live = true, .arg = "MODE",
	  .help = "permissions of the device node" },
	{ .name = "unprivileged", .type = UBLKD_OPT_ENUM, .offset = FIELD(unprivileged),
	  .values = tristate_names, .preset = "auto", .arg = "WHAT",
	  .help = "make a device of an ordinary user's, without root" },
	{ 0 },
};

/* A quarter of the memory, up to 1 GiB; for a user what may be locked. */
static uint64_t default_budget(bool of_user)
{
	uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES);
	uint64_t budget = MIN(pages * page_size() / 4, 1ull << 30);
	struct rlimit limit;

	return of_user && !getrlimit(RLIMIT_MEMLOCK, &limit) ? MIN(budget, limit.rlim_cur) : budget;
}

static int plan_blocks(struct device_plan *plan, const struct device_config *config,
		       const struct ublkd_target *target)
{
	uint32_t least = target->logical_block_size ? target->logical_block_size : 512;
	uint64_t bytes;

	if (config->block_size && !is_power_of_two(config->block_size)) {
		ublkd_error("block-size: expected 512, 1K, 2K or 4K, got '%" PRIu64 "'",
			    config->block_size);
		return EXIT_USAGE;
	}
	plan->logical_block = config->block_size ? (uint32_t)config->block_size : least;
	if (plan->logical_block < least) {
		ublkd_error("block-size: expected at least %u, the block size of the backing, "
			    "got '%u'", least, plan->logical_block);
		return EXIT_BACKING;
	}
	plan->physical_block = target->physical_block_size;
	if (config->physical_block_size) {
		plan->physical_block = (uint32_t)config->physical_block_size;
		if (!is_power_of_two(plan->physical_block) ||
		    plan->physical_block < plan->logical_block) {
			ublkd_error("physical-block-size: expected a power of two of at least "
				    "the logical block size %u, got '%u'", plan->logical_block,
				    plan->physical_block);
			return EXIT_USAGE;
		}
	}
	plan->physical_block = MAX(plan->physical_block, plan->logical_block);
	bytes = round_down(target->size, plan->logical_block);
	if (!bytes) {
		ublkd_error("the backing is too small: expected at least one block of %u bytes, "
			    "got %" PRIu64 " bytes", plan->logical_block, target->size);
		return EXIT_BACKING;
	}
	if (bytes != target->size)
		ublkd_note("the size of %" PRIu64 " bytes is no multiple of the block size %u: "
			   "the last %" PRIu64 " bytes are left out", target->size,
			   plan->logical_block, target->size - bytes);
	plan->sectors = bytes >> UBLK_SECTOR_SHIFT;
	return EXIT_DONE;
}

/* What a data mode needs of the driver. */
static uint64_t features_of(enum data_mode mode)
{
	switch (mode) {
	case DATA_ZERO_COPY:
		/* The second is for requests that the driver could not register itself. */
		return UBLK_F_AUTO_BUF_REG | UBLK_F_SUPPORT_ZERO_COPY;
	case DATA_REGISTER:
		return UBLK_F_SUPPORT_ZERO_COPY;
	case DATA_GET_DATA:
		return UBLK_F_NEED_GET_DATA;
	case DATA_USER_COPY:
		return UBLK_F_USER_COPY;
	case DATA_AUTO:
	case DATA_COPY:
		break;
	}
	return 0;
}

const char *on_crash_name(int what)
{
	return on_crash_names[what];
}

const char *data_mode_name(enum data_mode mode)
{
	return data_names[mode];
}

/*
 * An ordinary user's server is not trusted: its I/O never waits for another server, and it sees
 * no pages of those who use the device.
 */
uint64_t features_of_users(uint64_t features)
{
	return features & ~(UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE |
			    UBLK_F_USER_RECOVERY_FAIL_IO | UBLK_F_USER_COPY |
			    UBLK_F_SUPPORT_ZERO_COPY | UBLK_F_AUTO_BUF_REG);
}

bool data_mode_offered(enum data_mode mode, uint64_t features)
{
	return !(features_of(mode) & ~features);
}

/* Batch mode has no get-data. */
static enum data_mode data_of_a_pool(const struct device_config *config)
{
	return config->batch == TRI_YES ? DATA_USER_COPY : DATA_GET_DATA;
}

static enum data_mode choose_data(const struct ublkd_target *target, uint64_t features,
				  bool fits, enum data_mode pooled)
{
	if (target->ring_only && data_mode_offered(DATA_ZERO_COPY, features))
		return DATA_ZERO_COPY;
	if (target->ring_only && data_mode_offered(DATA_REGISTER, features))
		return DATA_REGISTER;
	return fits || !data_mode_offered(pooled, features) ? DATA_COPY : pooled;
}

#define AS_ASKED "as asked for"

/* "The driver" is as far as it may be asked: a device that waits has what its first server chose. */
static const char *why_data(enum data_mode mode, const struct device_config *config,
			    const struct ublkd_target *target)
{
	if (config->data != DATA_AUTO)
		return AS_ASKED;
	if (mode == DATA_ZERO_COPY)
		return "the driver registers the buffers";
	if (mode == DATA_REGISTER)
		return "the driver does not register buffers by itself for the device";
	if (!target->ring_only)
		return "the backend must see the data";
	return config->of_user ? "the driver has nothing else for an ordinary user's device" :
				 "the driver has no zero copy for the device";
}

/* full: what a buffer for each tag would take. */
static void explain_data(struct device_plan *plan, const struct device_config *config,
			 const struct ublkd_target *target, uint64_t full, uint64_t budget)
{
	const char *why = why_data(plan->data, config, target);
	char total[SIZE_TEXT_MAX], allowed[SIZE_TEXT_MAX];

	if (config->data == DATA_AUTO && data_mode_pooled(plan->data))
		snprintf(plan->data_why, sizeof(plan->data_why),
			 "%s, and a buffer for each tag would take %s, more than memory=%s", why,
			 format_size(total, full), format_size(allowed, budget));
	else
		snprintf(plan->data_why, sizeof(plan->data_why), "%s", why);
}

unsigned plan_shares(const struct device_config *config)
{
	return (unsigned)MAX(config->reactors / config->queues, 1u);
}

/*
 * By measurement batch mode costs 9 % of the CPU where requests come one by one, and saves
 * 3 % with three at a time, 7 % from seven on. A queue that can hold fewer is left alone;
 * so is one whose backend has next to nothing to do, where it costs 13 % one by one.
 */
#define BATCH_DEPTH 8

/* NULL: the driver can, it is worth it, and nothing else is given up for it. */
static const char *against_batch(const struct device_config *config,
				 const struct ublkd_target *target, enum data_mode data,
				 uint64_t features)
{
	if (!(features & UBLK_F_BATCH_IO))
		return "the driver has no batch mode for the device";
	if (!config->batch_is_trusted)
		return "it was not tested on Linux before 7.3.4";
	if (target->no_effort)
		return "one by one its requests take an eighth more in batches";
	if (config->depth < BATCH_DEPTH)
		return "it costs more than it saves where depth is less than 8";
	if (plan_shares(config) > 1)
		return "several reactors share a queue";
	return data == DATA_GET_DATA ? "the driver has no get-data in batch mode" : NULL;
}

static void choose_batch(struct device_plan *plan, const struct device_config *config,
			 const struct ublkd_target *target, uint64_t features)
{
	const char *against = against_batch(config, target, plan->data, features);
	bool left_to_us = config->batch == TRI_AUTO;

	if (left_to_us ? !against : config->batch == TRI_YES)
		plan->features |= UBLK_F_BATCH_IO;
	plan->batch_why = !left_to_us ? AS_ASKED :
			  against     ? against :
					"it saves CPU where many requests come at a time";
}

static int plan_pool(struct device_plan *plan, const struct device_config *config,
		     uint64_t budget, unsigned queues)
{
	char max_io[SIZE_TEXT_MAX], total[SIZE_TEXT_MAX], allowed[SIZE_TEXT_MAX];
	uint64_t each = round_up(config->max_io, page_size()), share = budget / queues;
	enum huge_pages huge = (enum huge_pages)config->huge_pages;

	format_size(max_io, config->max_io);
	if (huge == HUGE_PAGES_YES)
		share = round_down(share, buffers_huge_page());
	plan->pool = (unsigned)MIN(share / each, config->depth);
	plan->buffer_bytes = queues * buffers_bytes(plan->pool, config->max_io, huge);
	if (!plan->pool) {
		format_size(max_io, buffers_bytes(1, config->max_io, huge));
		ublkd_error("memory: expected at least %u × %s for a buffer of max-io in each "
			    "queue, got '%s'", queues, max_io, format_size(allowed, budget));
		return EXIT_USAGE;
	}
	ublkd_note("%s of locked I/O buffers: %u queue(s) × a pool of %u × %s (%s: %s)",
		   format_size(total, plan->buffer_bytes), queues, plan->pool, max_io,
		   data_names[plan->data], plan->data_why);
	return EXIT_DONE;
}

static int plan_data(struct device_plan *plan, const struct device_config *config,
		     const struct ublkd_target *target, uint64_t features, unsigned queues)
{
	uint64_t budget = config->memory ? config->memory :
					   default_budget(config->of_user);
	uint64_t full = queues * buffers_bytes((unsigned)config->depth, config->max_io,
					       (enum huge_pages)config->huge_pages);
	char max_io[SIZE_TEXT_MAX], total[SIZE_TEXT_MAX], allowed[SIZE_TEXT_MAX];

	plan->data = (enum data_mode)config->data;
	if (plan->data == DATA_AUTO)
		plan->data = choose_data(target, features, full <= budget, data_of_a_pool(config));
	explain_data(plan, config, target, full, budget);
	plan->features = features_of(plan->data);
	choose_batch(plan, config, target, features);
	if (plan->features & UBLK_F_BATCH_IO & ~features) {
		ublkd_error("batch: expected no, as this kernel's driver lacks batch mode "
			    "(Linux 7.0), got 'yes'");
		return EXIT_KERNEL;
	}
	if (config->of_user)
		plan->features |= UBLK_F_UNPRIVILEGED_DEV;
	if (plan->features & UBLK_F_UNPRIVILEGED_DEV & ~features) {
		ublkd_error("expected CAP_SYS_ADMIN, as this kernel's driver has no devices of "
			    "ordinary users");
		return EXIT_KERNEL;
	}
	if (plan_shares(config) > 1)
		plan->features |= UBLK_F_PER_IO_DAEMON;
	if (plan->features & UBLK_F_PER_IO_DAEMON & ~features) {
		ublkd_error("reactors: expected at most queues=%" PRIu64 ", as this kernel's driver "
			    "wants one thread for all tags of a queue (Linux 6.16 does not), got '%"
			    PRIu64 "'", config->queues, config->reactors);
		return EXIT_KERNEL;
	}
	if (!data_mode_offered(plan->data, features)) {
		ublkd_error("data: expected a mode that this kernel's driver has, got '%s'",
			    data_names[plan->data]);
		return EXIT_KERNEL;
	}
	if (data_mode_zero_copy(plan->data)) {
		if (!target->ring_only) {
			ublkd_error("data: expected copy, get-data or user-copy, as the backend "
				    "'%s' must see the data, got '%s'", target->ops->name,
				    data_names[plan->data]);
			return EXIT_USAGE;
		}
		ublkd_note("no I/O buffers (%s: %s)", data_names[plan->data], plan->data_why);
		return EXIT_DONE;
	}
	if (data_mode_pooled(plan->data))
		return plan_pool(plan, config, budget, queues * plan_shares(config));
	plan->buffer_bytes = full;
	format_size(max_io, config->max_io);
	format_size(total, full);
	if (full > budget) {
		ublkd_error("memory: expected at least %s for %u queue(s) × depth %" PRIu64
			    " × max-io %s, got '%s'; make one of them smaller, memory= larger, "
			    "or use %s", total, queues, config->depth, max_io,
			    format_size(allowed, budget), config->batch != TRI_YES ? "data=get-data" :
			    config->of_user ? "batch=no" : "data=user-copy");
		return EXIT_USAGE;
	}
	ublkd_note("%s of locked I/O buffers: %u queue(s) × depth %" PRIu64 " × %s (copy: %s)",
		   total, queues, config->depth, max_io, plan->data_why);
	return EXIT_DONE;
}

int plan_device(struct device_plan *plan, const struct device_config *config,
		const struct ublkd_target *target, uint64_t features, unsigned queues)
{
	int status;

	*plan = (struct device_plan){ 0 };
	status = plan_blocks(plan, config, target);
	return status ? status : plan_data(plan, config, target, features, queues);
}

static const uint64_t on_crash_features[] = {
	[ON_CRASH_REISSUE] = UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE,
	[ON_CRASH_FAIL] = UBLK_F_USER_RECOVERY,
	[ON_CRASH_ERROR] = UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_FAIL_IO,
	[ON_CRASH_NONE] = 0,
};

int plan_crash(struct device_plan *plan, const struct device_config *config,
	       const struct ublkd_target *target, uint64_t features, bool kept)
{
	enum on_crash what = (enum on_crash)config->on_crash;

	if (what == ON_CRASH_AUTO) {
		bool can = !(on_crash_features[ON_CRASH_REISSUE] & ~features);

		what = kept && can && !target->volatile_data ? ON_CRASH_REISSUE : ON_CRASH_NONE;
	}
	if (what != ON_CRASH_NONE && target->volatile_data) {
		ublkd_error("on-crash: expected none, as the data of the backend '%s' ends with the "
			    "server, got '%s'", target->ops->name, on_crash_names[what]);
		return EXIT_USAGE;
	}
	if (on_crash_features[what] & ~features) {
		ublkd_error("on-crash: expected what this kernel's driver can do (error needs Linux "
			    "6.13), got '%s'", on_crash_names[what]);
		return EXIT_KERNEL;
	}
	if (what == ON_CRASH_NONE)
		return EXIT_DONE;
	plan->features |= on_crash_features[what];
	/*
	 * So that a server can leave it without a request that is done by half. In batch
	 * mode Linux 7.3 fails requests that come to a device that is made quiescent.
	 */
	if (config->batch == TRI_AUTO && plan->features & UBLK_F_BATCH_IO) {
		plan->features &= ~UBLK_F_BATCH_IO;
		plan->batch_why = "the device waits for another server (on-crash=)";
	}
	if (!(plan->features & UBLK_F_BATCH_IO))
		plan->features |= features & UBLK_F_QUIESCE;
	return EXIT_DONE;
}

bool features_keep_io(uint64_t features)
{
	return features & UBLK_F_USER_RECOVERY && !(features & UBLK_F_USER_RECOVERY_FAIL_IO);
}

static uint8_t hint_shift(uint32_t bytes)
{
	return is_power_of_two(bytes) ? (uint8_t)log2_of(bytes) : 0;
}

/* Results are signed 32 bits, so 1 GiB is the largest power of two that fits. */
#define MOST_DISCARD (1u << 30)

/* most: of the target. */
static uint32_t most_sectors(uint32_t most, const struct device_plan *plan)
{
	most = most ? MIN(most, MOST_DISCARD) : MOST_DISCARD;
	return (uint32_t)round_down(most, plan->logical_block) >> UBLK_SECTOR_SHIFT;
}

static void plan_discard(struct ublk_params *params, const struct device_plan *plan,
			 const struct ublkd_target *target)
{
	struct ublk_param_discard *discard = &params->discard;

	params->types |= UBLK_PARAM_TYPE_DISCARD;
	discard->discard_granularity = MAX(target->discard_granularity, plan->logical_block);
	if (target->discard_granularity) {
		discard->max_discard_sectors = most_sectors(target->max_discard, plan);
		discard->max_discard_segments = 1;
	}
	if (target->write_zeroes)
		discard->max_write_zeroes_sectors = most_sectors(target->max_write_zeroes, plan);
}

void plan_params(struct ublk_params *params, const struct device_plan *plan,
		 const struct device_config *config, const struct ublkd_target *target)
{
	struct ublk_param_basic *basic = &params->basic;
	bool read_only = config->read_only || target->read_only;
	bool rotational = config->rotational == TRI_AUTO ? target->rotational :
							   config->rotational == TRI_YES;

	*params = (struct ublk_params){ .len = sizeof(*params), .types = UBLK_PARAM_TYPE_BASIC };
	basic->logical_bs_shift = (uint8_t)log2_of(plan->logical_block);
	basic->physical_bs_shift = (uint8_t)log2_of(plan->physical_block);
	basic->io_min_shift = hint_shift(MAX(target->io_min, plan->physical_block));
	basic->io_opt_shift = hint_shift(target->io_opt);
	basic->max_sectors = (uint32_t)(config->max_io >> UBLK_SECTOR_SHIFT);
	basic->dev_sectors = plan->sectors;
	basic->attrs = (read_only ? UBLK_ATTR_READ_ONLY : 0) |
		       (rotational ? UBLK_ATTR_ROTATIONAL : 0);
	if (target->volatile_cache && !read_only)
		basic->attrs |= UBLK_ATTR_VOLATILE_CACHE | (target->fua ? UBLK_ATTR_FUA : 0);
	/* The driver's own default would let buffers through that the backing refuses. */
	if (data_mode_zero_copy(plan->data) && target->dma_align) {
		params->types |= UBLK_PARAM_TYPE_DMA_ALIGN;
		params->dma.alignment = MIN(target->dma_align, 4096u) - 1;
	}
	if ((target->discard_granularity || target->write_zeroes) && !read_only)
		plan_discard(params, plan, target);
}
