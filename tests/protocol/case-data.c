/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A request of 4096 bytes is committed with another number: what its user sees. */
#define _GNU_SOURCE
#include "harness.h"

#include <string.h>
#include <unistd.h>

static const struct mode {
	const char *name;
	uint64_t flags;
} modes[] = {
	{ "copy", 0 },
	{ "get-data", UBLK_F_NEED_GET_DATA },
	{ "user-copy", UBLK_F_USER_COPY },
	{ "register", UBLK_F_SUPPORT_ZERO_COPY },
	{ "auto", UBLK_F_AUTO_BUF_REG },
};
#define MODES (sizeof(modes) / sizeof(modes[0]))

/* The first answer is `result`, and only `bytes` of the data were moved. */
static const char *user_sees(const struct mode *mode, enum job_op op, int32_t result,
			     uint32_t bytes)
{
	const unsigned kernel_op = op == JOB_READ ? UBLK_IO_OP_READ : UBLK_IO_OP_WRITE;
	struct event event;
	struct device d;
	bool rest = false, again = false;
	int job, seen;

	device_live(&d, mode->flags, 1, 2);
	job = client_begin(&d, op, 4096, 4096, -1);
	event = wait_io(&d, kernel_op, 8);
	if (event.res == UBLK_IO_RES_NEED_GET_DATA) {
		serve(&d, &event);
		event = wait_io(&d, kernel_op, 8);
	}
	if (bytes)
		serve_data(&d, &event, bytes);
	commit(&d, &event, result);
	/* Asked for the rest, as a request that begins later, or for all of it. */
	for (int64_t end = patient_ms() + 4000; !client_ended(job, &seen) && patient_ms() < end;) {
		if (!next(&d, &event, 20))
			continue;
		rest |= event.res >= 0 && desc_of(&d, &event)->start_sector == 9;
		again |= event.res >= 0 && desc_of(&d, &event)->start_sector == 8;
		serve(&d, &event);
	}
	seen = client_end(&d, job, 100);
	device_delete(&d);
	if (seen == 4096)
		return rest ? "the rest is asked for" : again ? "it is asked again" : "whole";
	return result_name(seen);
}

/* One answer for all modes of this kernel, or one for each. */
static void in_modes(enum job_op op, int32_t result, uint32_t bytes, unsigned from, unsigned to)
{
	char seen[MODES][32];
	unsigned i, n = 0;
	bool same = true;

	client_new();
	for (i = from; i <= to; i++) {
		if (!offered(modes[i].flags))
			continue;
		strncpy(seen[i], user_sees(&modes[i], op, result, bytes), sizeof(seen[i]) - 1);
		seen[i][sizeof(seen[i]) - 1] = '\0';
		same &= !strcmp(seen[i], seen[from]);
		n++;
	}
	if (same) {
		say("%s", seen[from]);
		return;
	}
	for (i = from; i <= to && n; i++)
		if (offered(modes[i].flags))
			say("%s%s: %s", i > from ? "; " : "", modes[i].name, seen[i]);
}

static void full_read(void) { in_modes(JOB_READ, 4096, 4096, 0, 4); }
static void full_write(void) { in_modes(JOB_WRITE, 4096, 4096, 0, 4); }
static void short_read_copied(void) { in_modes(JOB_READ, 512, 512, 0, 1); }
static void short_read_else(void) { in_modes(JOB_READ, 512, 512, 2, 4); }
static void short_write(void) { in_modes(JOB_WRITE, 512, 512, 0, 4); }
static void zero_read(void) { in_modes(JOB_READ, 0, 0, 0, 4); }
static void zero_write(void) { in_modes(JOB_WRITE, 0, 0, 0, 4); }
static void large_read(void) { in_modes(JOB_READ, 8192, 4096, 0, 4); }
static void large_write(void) { in_modes(JOB_WRITE, 8192, 4096, 0, 4); }
static void error_read(void) { in_modes(JOB_READ, -ENOSPC, 0, 0, 4); }
static void error_write(void) { in_modes(JOB_WRITE, -ENOSPC, 0, 0, 4); }

static void errors(void)
{
	static const int list[] = { EIO, ENOSPC, EOPNOTSUPP, EINVAL, ENODATA, ETIMEDOUT, EILSEQ,
				    EREMOTEIO, EACCES, ENOENT, 4095 };
	unsigned i;

	client_new();
	for (i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		const char *seen = user_sees(&modes[0], JOB_WRITE, -list[i], 0);

		if (!strcmp(seen, result_name(-list[i])))
			say("%s%s same", i ? ", " : "", result_name(-list[i]));
		else
			say("%s%s as %s", i ? ", " : "", result_name(-list[i]), seen);
	}
}

/* A flush has no data; whatever is not negative ends it. */
static void flush(void)
{
	struct ublk_params params = {
		.len = sizeof(params),
		.types = UBLK_PARAM_TYPE_BASIC,
		.basic = { .attrs = UBLK_ATTR_VOLATILE_CACHE, .logical_bs_shift = 9,
			   .physical_bs_shift = 9, .max_sectors = 128, .dev_sectors = 2048 },
	};
	struct event event;
	struct device d;
	int job;

	client_new();
	device_new(&d, 0, 1, 2);
	expect_zero(control(&d, UBLK_CMD_SET_PARAMS, &params, sizeof(params), 0), "SET_PARAMS");
	fetch_all(&d);
	expect_zero(start(&d), "START_DEV");
	job = client_begin(&d, JOB_FSYNC, 0, 0, -1);
	event = wait_io(&d, UBLK_IO_OP_FLUSH, UINT64_MAX);
	say("%u sectors at %lld", desc_of(&d, &event)->nr_sectors,
	    (long long)desc_of(&d, &event)->start_sector);
	commit(&d, &event, 0);
	say_result(client_end(&d, job, 4000));
	job = client_begin(&d, JOB_FSYNC, 0, 0, -1);
	event = wait_io(&d, UBLK_IO_OP_FLUSH, UINT64_MAX);
	commit(&d, &event, 4711);
	say_result(client_end(&d, job, 4000));
	device_delete(&d);
}

/* Without VOLATILE_CACHE the kernel never asks. */
static void no_flush(void)
{
	struct event event = { 0 };
	struct device d;
	int job;

	client_new();
	device_live(&d, 0, 1, 2);
	d.silent = true;
	job = client_begin(&d, JOB_FSYNC, 0, 0, -1);
	say("fsync %s, %s", result_name(client_end(&d, job, 4000)),
	    next(&d, &event, 200) ? "a request" : "no request");
	device_delete(&d);
}

/* Null reads that are committed as done show what the tag's buffer held. */
static void stale_buffer(void)
{
	struct event event;
	struct device d;
	int job;

	client_new();
	device_live(&d, 0, 1, 1);
	memset(client_buffer(0), 0x5a, 4096); /* the first job's */
	job = client_begin(&d, JOB_WRITE, 4096, 4096, -1);
	event = wait_io(&d, UBLK_IO_OP_WRITE, 8);
	commit(&d, &event, 4096);
	client_end(&d, job, 4000);
	job = client_begin(&d, JOB_READ, 65536, 4096, -1);
	event = wait_io(&d, UBLK_IO_OP_READ, 128);
	commit(&d, &event, 4096);
	client_end(&d, job, 4000);
	say("%s", client_buffer(job)[17] == 0x5a ? "the last write's data" : "something else");
	device_delete(&d);
}

const struct claim data_claims[] = {
	{ "full-read", "__ublk_complete_rq", full_read, ALWAYS("whole") },
	{ "full-write", "__ublk_complete_rq", full_write, ALWAYS("whole") },
	{ "short-read-copy-or-get-data", "__ublk_complete_rq", short_read_copied,
	  ALWAYS("the rest is asked for") },
	{ "short-read-in-other-modes", "__ublk_complete_rq", short_read_else,
	  { { 0, "the rest is asked for" }, { KERNEL(7, 3), "whole" } } },
	{ "short-write", "__ublk_complete_rq", short_write,
	  { { 0, "the rest is asked for" }, { KERNEL(7, 3), "whole" } } },
	{ "zero-read", "__ublk_complete_rq", zero_read, ALWAYS("-EIO") },
	{ "zero-write", "__ublk_complete_rq", zero_write,
	  { { 0, "it is asked again" }, { KERNEL(7, 3), "whole" } } },
	{ "oversized-read", "__ublk_complete_rq", large_read, ALWAYS("whole") },
	{ "oversized-write", "__ublk_complete_rq", large_write, ALWAYS("whole") },
	{ "negative-read", "__ublk_complete_rq", error_read, ALWAYS("-ENOSPC") },
	{ "negative-write", "__ublk_complete_rq", error_write, ALWAYS("-ENOSPC") },
	{ "errors-that-arrive", "errno_to_blk_status", errors,
	  ALWAYS("-EIO same, -ENOSPC same, -EOPNOTSUPP same, -EINVAL same, -ENODATA same, "
		 "-ETIMEDOUT same, -EILSEQ same, -EREMOTEIO same, -EACCES as -EIO, -ENOENT as -EIO, "
		 "-4095 as -EIO") },
	{ "flush-has-no-sectors", "ublk_setup_iod", flush, ALWAYS("0 sectors at -1, 0, 0") },
	{ "no-flush-without-a-cache", "ublk_ctrl_start_dev", no_flush,
	  ALWAYS("fsync 0, no request") },
	{ "buffer-keeps-the-last-write", "ublk_unmap_io", stale_buffer,
	  ALWAYS("the last write's data") },
	{ 0 },
};
