/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A filter that plays a faulty disk: requests that match its rule end with an
 * error, move less than they were asked, come late or not at all. What it did
 * is counted and said at the end.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>

#include <ublkd/backend.h>

struct fault_config {
	int op;         /* index into op_names: 0 any, else 1 + enum ublkd_op */
	uint64_t from, to;
	uint64_t skip, every, times, chance, seed;
	int error;      /* index into error_names */
	bool brief;
	uint64_t delay; /* microseconds */
	bool stuck;
};

struct fault {
	struct ublkd_target target;
	struct fault_config rule;
	_Atomic uint64_t requests, matched, faults, errors, shorts, delays, stucks;
};

static const char *const op_names[] = { "any", "read", "write", "flush", "discard",
					"write-zeroes", NULL };
static const char *const error_names[] = { "none", "EIO", "ENOSPC", "EINVAL", "EFBIG", "ENOMEM",
					   "EAGAIN", "EINTR", "ECANCELED", "ETIMEDOUT",
					   "EOPNOTSUPP", NULL };
static const int errors[] = { 0, -EIO, -ENOSPC, -EINVAL, -EFBIG, -ENOMEM, -EAGAIN, -EINTR,
			      -ECANCELED, -ETIMEDOUT, -EOPNOTSUPP };

#define FIELD(name) offsetof(struct fault_config, name)

static const struct ublkd_option fault_options[] = {
	{ .name = "fault-op", .type = UBLKD_OPT_ENUM, .offset = FIELD(op), .values = op_names,
	  .preset = "any", .arg = "OP", .help = "operations that it is about" },
	{ .name = "fault-from", .type = UBLKD_OPT_SIZE, .offset = FIELD(from), .preset = "0",
	  .arg = "SIZE", .help = "first byte of the device that it is about" },
	{ .name = "fault-to", .type = UBLKD_OPT_SIZE, .offset = FIELD(to), .arg = "SIZE",
	  .help = "the byte behind the last one; the end if not given" },
	{ .name = "fault-skip", .type = UBLKD_OPT_UINT, .offset = FIELD(skip), .preset = "0",
	  .arg = "N", .help = "leave the first N of these requests alone" },
	{ .name = "fault-every", .type = UBLKD_OPT_UINT, .offset = FIELD(every), .min = 1,
	  .preset = "1", .arg = "N", .help = "then take each Nth" },
	{ .name = "fault-times", .type = UBLKD_OPT_UINT, .offset = FIELD(times), .preset = "0",
	  .arg = "N", .help = "stop after N faults; 0 never" },
	{ .name = "fault-chance", .type = UBLKD_OPT_UINT, .offset = FIELD(chance), .min = 1,
	  .max = 1000, .preset = "1000", .arg = "PERMILLE",
	  .help = "and of those so many in a thousand" },
	{ .name = "fault-seed", .type = UBLKD_OPT_UINT, .offset = FIELD(seed), .preset = "1",
	  .arg = "N", .help = "which ones the chance picks" },
	{ .name = "fault-error", .type = UBLKD_OPT_ENUM, .offset = FIELD(error),
	  .values = error_names, .preset = "none", .arg = "ERRNO", .help = "the SQE fails with it" },
	{ .name = "fault-short", .type = UBLKD_OPT_BOOL, .offset = FIELD(brief), .preset = "no",
	  .arg = "BOOL", .help = "a read or write moves only its first half" },
	{ .name = "fault-delay", .type = UBLKD_OPT_UINT, .offset = FIELD(delay), .preset = "0",
	  .max = 3600000000, .arg = "MICROSECONDS", .help = "the SQE begins so much later" },
	{ .name = "fault-stuck", .type = UBLKD_OPT_BOOL, .offset = FIELD(stuck), .preset = "no",
	  .arg = "BOOL", .help = "the SQE never ends, unless it is cancelled" },
	{ 0 },
};

static int fault_open(struct ublkd_target *target, const void *config,
		      const struct ublkd_wish *wish)
{
	struct fault *f = (struct fault *)target;
	bool in_ring;

	(void)wish;
	f->rule = *(const struct fault_config *)config;
	if (f->rule.to && f->rule.to <= f->rule.from) {
		ublkd_error("fault-to: expected more than fault-from, %" PRIu64 ", got '%" PRIu64
			    "'", f->rule.from, f->rule.to);
		return -EINVAL;
	}
	in_ring = f->rule.brief || f->rule.delay || f->rule.stuck;
	if (in_ring && !target->lower->ring_only) {
		ublkd_error("fault: expected a backend whose I/O goes through the ring for "
			    "fault-short, fault-delay and fault-stuck, got '%s'",
			    target->lower->ops->name);
		return -EINVAL;
	}
	ublkd_target_like_lower(target);
	return 0;
}

static void fault_close(struct ublkd_target *target)
{
	struct fault *f = (struct fault *)target;

	ublkd_note("fault: requests=%" PRIu64 " matched=%" PRIu64 " faults=%" PRIu64
		   " errors=%" PRIu64 " short=%" PRIu64 " delayed=%" PRIu64 " stuck=%" PRIu64,
		   f->requests, f->matched, f->faults, f->errors, f->shorts, f->delays, f->stucks);
}

/* A number for each request that looks random and is always the same (splitmix64). */
static uint64_t scramble(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static bool overlaps(const struct fault_config *rule, const struct ublkd_io *io)
{
	if (io->op == UBLKD_OP_FLUSH)
		return true;
	return io->offset + io->length > rule->from && (!rule->to || io->offset < rule->to);
}

/* By whole sectors: a device never stops within one. */
static bool may_fall_short(const struct ublkd_io *io)
{
	return (io->op == UBLKD_OP_READ || io->op == UBLKD_OP_WRITE) && io->length >= 1024;
}

static bool is_next(struct fault *f, const struct ublkd_io *io)
{
	const struct fault_config *rule = &f->rule;
	uint64_t n;

	f->requests++;
	/* Nothing to play: counted only where it has an effect. */
	if (!rule->error && !rule->delay && !rule->stuck && !may_fall_short(io))
		return false;
	if ((rule->op && rule->op - 1 != io->op) || !overlaps(rule, io))
		return false;
	n = f->matched++;
	if (n < rule->skip || (n - rule->skip + 1) % rule->every)
		return false;
	if (scramble(rule->seed + n) % 1000 >= rule->chance)
		return false;
	if (f->faults++ < rule->times || !rule->times)
		return true;
	f->faults--;
	return false;
}

static int fault_submit(struct ublkd_target *target, struct ublkd_io *io)
{
	struct fault *f = (struct fault *)target;
	const struct fault_config *rule = &f->rule;
	uint64_t delay_ns = rule->stuck ? UINT64_MAX / 2 : rule->delay * 1000;
	int32_t result = errors[rule->error];

	if (!is_next(f, io))
		return ublkd_lower_submit(target, io);
	if (rule->stuck)
		f->stucks++;
	else if (rule->delay)
		f->delays++;
	if (result) {
		f->errors++;
		/* What does not go through the ring can only be refused. */
		if (!target->lower->ring_only)
			return result;
	} else if (rule->brief && may_fall_short(io)) {
		result = (int32_t)(io->length / 1024 * 512);
		f->shorts++;
	}
	ublkd_ring_inject(io, delay_ns, result);
	return ublkd_lower_submit(target, io);
}

const struct ublkd_backend fault_backend = {
	.name = "fault",
	.summary = "a filter that makes requests fail, fall short or come late",
	.filter = true,
	.options = fault_options,
	.config_size = sizeof(struct fault_config),
	.state_size = sizeof(struct fault),
	.open = fault_open,
	.close = fault_close,
	.submit = fault_submit,
	.measure = ublkd_lower_measure,
	.resize = ublkd_lower_resize,
	.resized = ublkd_lower_resized,
};
