/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads zeros, or nothing at all, and forgets writes: for measuring everything but a backend. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <ublkd/backend.h>

struct null_config {
	uint64_t size;
	bool zeros;
};

static const struct ublkd_option null_options[] = {
	{ .name = "size", .type = UBLKD_OPT_SIZE, .offset = offsetof(struct null_config, size),
	  .min = 512, .max = UINT64_C(1) << 62, .required = true, .arg = "SIZE",
	  .help = "size of the device" },
	{ .name = "zeros", .type = UBLKD_OPT_BOOL, .offset = offsetof(struct null_config, zeros),
	  .preset = "yes", .arg = "BOOL",
	  .help = "read zeros; no: leave in a read's memory whatever is there" },
	{ 0 },
};

static int null_open(struct ublkd_target *target, const void *config, const struct ublkd_wish *wish)
{
	const struct null_config *c = config;

	/* Where zeros come from when the data stays in the kernel. */
	target->files[0] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	if (target->files[0] < 0) {
		ublkd_error("cannot open '/dev/zero': %s", strerror(errno));
		return -errno;
	}
	target->nr_files = 1;
	target->ring_only = true;
	target->sqes_per_io = 1;
	target->no_effort = true;
	target->leaves_reads = !c->zeros;
	uint64_t kept = ublkd_kept_size(wish, c->size);

	target->size = kept ? kept : c->size;
	target->discard_granularity = 512;
	target->write_zeroes = true;
	return 0;
}

static void null_close(struct ublkd_target *target)
{
	close(target->files[0]);
}

static int null_submit(struct ublkd_target *target, struct ublkd_io *io)
{
	if (io->op != UBLKD_OP_READ || target->leaves_reads)
		return UBLKD_DONE;
	if (!io->data)
		return ublkd_ring_rw(io, 0, 0);
	/* The buffer still holds what the last write brought. */
	memset(io->data, 0, io->length);
	return UBLKD_DONE;
}

static int null_resize(struct ublkd_target *target, uint64_t size)
{
	(void)target;
	(void)size;
	return 0;
}

const struct ublkd_backend null_backend = {
	.name = "null",
	.summary = "reads zeros, forgets writes",
	.options = null_options,
	.config_size = sizeof(struct null_config),
	.state_size = sizeof(struct ublkd_target),
	.open = null_open,
	.close = null_close,
	.submit = null_submit,
	.resize = null_resize,
};
