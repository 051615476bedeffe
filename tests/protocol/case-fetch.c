/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each way in which FETCH_REQ is refused, and what an accepted one does. */
#define _GNU_SOURCE
#include "harness.h"

#include <string.h>
#include <unistd.h>

static int fetch(struct device *d, unsigned queue, unsigned tag)
{
	return ask_command(d, UBLK_IO_FETCH_REQ, queue, tag, 0);
}

static void queue_range(void)
{
	struct device d;

	device_new(&d, 0, 1, 2);
	say_result(fetch(&d, 1, 0));
	say_result(fetch(&d, 0xffff, 0));
	device_delete(&d);
}

static void tag_range(void)
{
	struct device d;

	device_new(&d, 0, 1, 2);
	say_result(fetch(&d, 0, 2));
	say_result(fetch(&d, 0, 1));
	device_delete(&d);
}

static int fetch_with_address(uint64_t flags, uint64_t address)
{
	struct io_uring_sqe *sqe;
	struct device d;
	int res;

	device_new(&d, flags, 1, 1);
	sqe = command(&d, UBLK_IO_FETCH_REQ, 0, 0, 0);
	command_of(sqe)->addr = address;
	res = ask(&d, sqe);
	device_delete(&d);
	return res;
}

static void without_buffer(void) { say_result(fetch_with_address(0, 0)); }
static void any_address(void) { say_result(fetch_with_address(0, 1)); }
static void get_data_no_buffer(void) { say_result(fetch_with_address(UBLK_F_NEED_GET_DATA, 0)); }
static void user_copy_buffer(void) { say_result(fetch_with_address(UBLK_F_USER_COPY, 4096)); }

static void zero_copy_buffer(void)
{
	need(UBLK_F_SUPPORT_ZERO_COPY);
	say_result(fetch_with_address(UBLK_F_SUPPORT_ZERO_COPY, 4096));
}

static void auto_buffer(void)
{
	need(UBLK_F_AUTO_BUF_REG);
	say_result(fetch_with_address(UBLK_F_AUTO_BUF_REG, 4096));
}

static int fetch_auto(uint64_t sqe_addr)
{
	struct io_uring_sqe *sqe;
	struct device d;
	int res;

	device_new(&d, UBLK_F_AUTO_BUF_REG, 1, 1);
	sqe = command(&d, UBLK_IO_FETCH_REQ, 0, 0, 0);
	sqe->addr = sqe_addr;
	res = ask(&d, sqe);
	device_delete(&d);
	return res;
}

static void auto_flags(void)
{
	need(UBLK_F_AUTO_BUF_REG);
	say_result(fetch_auto(ublk_auto_buf_reg(0, 1)));
	say_result(fetch_auto(0xffff)); /* an index that the table does not have */
}

/* One kernel refuses these and keeps the command nevertheless. */
static void auto_reserved(void)
{
	struct io_uring_sqe *sqe;
	struct device d;

	need(UBLK_F_AUTO_BUF_REG);
	device_new(&d, UBLK_F_AUTO_BUF_REG, 1, 3);
	sqe = command(&d, UBLK_IO_FETCH_REQ, 0, 0, 0);
	sqe->addr = ublk_auto_buf_reg(0, 2);
	say_result(ask(&d, sqe));
	sqe = command(&d, UBLK_IO_FETCH_REQ, 0, 1, 0);
	sqe->addr = 1ull << 24;
	say_result(ask(&d, sqe));
	sqe = command(&d, UBLK_IO_FETCH_REQ, 0, 2, 0);
	sqe->addr = 1ull << 32;
	say_result(ask(&d, sqe));
	say("; the same right: %s", result_name(ask_command(&d, UBLK_IO_FETCH_REQ, 0, 0, 0)));
	device_delete(&d);
}

/* A ring without a table of buffers: nothing is wrong until the first I/O. */
static void auto_no_table(uint8_t flags)
{
	struct io_uring_sqe *sqe;
	struct event event;
	struct device d;
	int job, result;

	need(UBLK_F_AUTO_BUF_REG);
	client_new();
	device_new(&d, UBLK_F_AUTO_BUF_REG, 1, 1);
	io_uring_unregister_buffers(&d.ring);
	sqe = command(&d, UBLK_IO_FETCH_REQ, 0, 0, 0);
	sqe->addr = ublk_auto_buf_reg(0, flags);
	result = ask(&d, sqe);
	say("fetch %s", result == IN_FLIGHT ? "taken" : result_name(result));
	d.silent = true;
	expect_zero(start(&d), "START_DEV");
	job = client_begin(&d, JOB_READ, 4096, 4096, -1);
	if (next(&d, &event, 400)) {
		say("; CQE %s%s", result_name(event.res),
		    desc_of(&d, &event)->op_flags & UBLK_IO_F_NEED_REG_BUF ? ", NEED_REG_BUF" : "");
		sqe = command(&d, UBLK_IO_COMMIT_AND_FETCH_REQ, 0, 0, 4096);
		sqe->addr = ublk_auto_buf_reg(0, flags);
		submit(&d);
	} else {
		say("; no CQE");
	}
	say("; read %s", result_name(client_end(&d, job, 4000)));
	device_delete(&d);
}

static void auto_no_table_fails(void) { auto_no_table(0); }

static void auto_no_table_fallback(void)
{
	auto_no_table(UBLK_AUTO_BUF_REG_FALLBACK);
}

static void twice_before_ready(void)
{
	struct device d;

	device_new(&d, 0, 1, 2);
	say_result(fetch(&d, 0, 0));
	say_result(fetch(&d, 0, 0));
	device_delete(&d);
}

static void twice_when_ready(void)
{
	struct device d;

	device_new(&d, 0, 1, 2);
	fetch_all(&d);
	say_result(fetch(&d, 0, 0));
	device_delete(&d);
}

/* Two queues: on older kernels it is the queue that is ready, later the device. */
static void twice_when_the_queue_is_ready(void)
{
	struct device d;

	device_new(&d, 0, 2, 1);
	say_result(fetch(&d, 0, 0));
	say_result(fetch(&d, 0, 0));
	device_delete(&d);
}

static void when_live(void)
{
	struct device d;

	device_live(&d, 0, 1, 2);
	say_result(fetch(&d, 0, 0));
	device_delete(&d);
}

/* The request of the tag is with the server: COMMIT_AND_FETCH is what it waits for. */
static void when_owned(void)
{
	struct event event;
	struct device d;
	int job;

	client_new();
	device_live(&d, 0, 1, 2);
	job = client_begin(&d, JOB_READ, 4096, 4096, -1);
	event = wait_io(&d, UBLK_IO_OP_READ, 8);
	say_result(fetch(&d, 0, event.tag));
	serve(&d, &event);
	client_end(&d, job, 4000);
	device_delete(&d);
}

static void after_abort(void)
{
	struct device d;

	device_live(&d, 0, 1, 2);
	expect_zero(control(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0), "STOP_DEV");
	serve_for(&d, 50);
	say_result(fetch(&d, 0, 0));
	device_delete(&d);
}

/* ---- threads --------------------------------------------------------------------- */

struct elsewhere {
	struct device *d;
	struct io_uring ring;
	uint32_t op;
	unsigned tag;
	bool opened;
};

/* The same command from a thread that has a ring of its own. */
static int ask_elsewhere(void *arg)
{
	struct elsewhere *e = arg;
	struct io_uring_sqe *sqe, *model;

	if (!e->opened)
		expect_zero(io_uring_queue_init(8, &e->ring, 0), "ring");
	e->opened = true;
	sqe = raw_sqe(&e->ring, PROBE, 0, e->tag);
	model = command(e->d, e->op, 0, e->tag, 4096);
	memcpy(sqe, model, 64);
	io_uring_prep_nop(model);
	model->user_data = (uint64_t)OTHER << 32;
	return ask_on(&e->ring, sqe, 40);
}

static void from_two_threads(void)
{
	struct worker *other;
	struct device d;
	struct elsewhere e = { .d = &d, .op = UBLK_IO_FETCH_REQ, .tag = 1 };

	device_new(&d, 0, 1, 2);
	other = worker_new();
	say_result(fetch(&d, 0, 0));
	say_result(worker_call(other, ask_elsewhere, &e));
	device_delete(&d);
}

static void ready_and_another_thread(void)
{
	struct worker *other;
	struct device d;
	struct elsewhere e = { .d = &d, .op = UBLK_IO_FETCH_REQ, .tag = 1 };

	device_new(&d, 0, 1, 2);
	other = worker_new();
	fetch_all(&d);
	say_result(worker_call(other, ask_elsewhere, &e));
	device_delete(&d);
}

static int serve_elsewhere(void *arg)
{
	struct elsewhere *e = arg;
	struct io_uring_cqe *cqe;
	struct __kernel_timespec time = { .tv_nsec = 20 * 1000000l };
	struct io_uring_sqe *sqe, *model;
	int n;

	for (n = 0; n < 40; n++) {
		if (io_uring_wait_cqe_timeout(&e->ring, &cqe, &time))
			continue;
		n = cqe->res;
		io_uring_cqe_seen(&e->ring, cqe);
		if (n)
			return n;
		sqe = raw_sqe(&e->ring, IO, 0, e->tag);
		model = command(e->d, UBLK_IO_COMMIT_AND_FETCH_REQ, 0, e->tag,
				(int)(e->d->descs[0][e->tag].nr_sectors * 512));
		memcpy(sqe, model, 64);
		io_uring_prep_nop(model);
		model->user_data = (uint64_t)OTHER << 32;
		submit_quietly(&e->ring);
		return 0;
	}
	return IN_FLIGHT;
}

/*
 * Tag 0 was fetched here, tag 1 there. Of two reads at once, one gets the tag
 * of the thread that did not fetch last; where that is refused at once, the
 * other read may get the same tag again.
 */
static void each_tag_its_thread(void)
{
	struct worker *other;
	struct event event;
	struct device d;
	struct elsewhere e = { .d = &d, .op = UBLK_IO_FETCH_REQ, .tag = 1 };
	int jobs[2], i, good = 0, bad = 0, result;

	client_new();
	device_new(&d, 0, 1, 2);
	other = worker_new();
	say("%s", result_name(fetch(&d, 0, 0)));
	say(", %s", result_name(worker_call(other, ask_elsewhere, &e)));
	expect_zero(start(&d), "START_DEV");
	d.silent = true;
	jobs[0] = client_begin(&d, JOB_READ, 4096, 4096, -1);
	jobs[1] = client_begin(&d, JOB_READ, 65536, 4096, -1);
	doze(300);
	for (i = 0; i < 4; i++) {
		if (next(&d, &event, 200))
			serve(&d, &event);
		worker_call(other, serve_elsewhere, &e);
	}
	for (i = 0; i < 2; i++) {
		result = client_end(&d, jobs[i], 4000);
		good += result == 4096;
		bad += result == -EIO;
	}
	say("; reads: %s", good == 2 ? "both good" : good + bad == 2 ? "one or both EIO" : "lost");
	device_delete(&d);
}

static void commit_elsewhere(void)
{
	struct worker *other;
	struct event event;
	struct device d;
	struct elsewhere e = { .d = &d, .op = UBLK_IO_COMMIT_AND_FETCH_REQ };
	int job;

	client_new();
	device_live(&d, 0, 1, 2);
	other = worker_new();
	job = client_begin(&d, JOB_READ, 4096, 4096, -1);
	event = wait_io(&d, UBLK_IO_OP_READ, 8);
	e.tag = event.tag;
	say("there %s", result_name(worker_call(other, ask_elsewhere, &e)));
	serve(&d, &event);
	say(", here %s", result_name(client_end(&d, job, 4000)));
	device_delete(&d);
}

/* ---- an accepted fetch --------------------------------------------------------------- */

static void stays_until_io(void)
{
	struct event event;
	struct device d;
	int job;

	client_new();
	device_live(&d, 0, 1, 2);
	serve_for(&d, 200);
	d.silent = true;
	say("idle: %s", next(&d, &event, 300) ? "a CQE" : "no CQE");
	job = client_begin(&d, JOB_READ, 4096, 4096, -1);
	say("; an I/O: %s", next(&d, &event, 4000) ? result_name(event.res) : "no CQE");
	serve(&d, &event);
	client_end(&d, job, 4000);
	device_delete(&d);
}

static void not_cancelled(void)
{
	struct io_uring_sqe *sqe;
	struct event event;
	struct device d;
	int job;

	client_new();
	device_live(&d, 0, 1, 1);
	sqe = raw_sqe(&d.ring, PROBE, 0, 0);
	io_uring_prep_cancel64(sqe, (uint64_t)IO << 32, 0);
	say("%s", result_name(ask(&d, sqe)));
	d.silent = true;
	job = client_begin(&d, JOB_READ, 4096, 4096, -1);
	say("; then an I/O: %s", next(&d, &event, 2000) ? result_name(event.res) : "no CQE");
	serve(&d, &event);
	client_end(&d, job, 4000);
	device_delete(&d);
}

static void batch_refuses(void)
{
	struct device d;

	need(UBLK_F_BATCH_IO);
	device_init(&d);
	say("depth 1 %s", result_name(device_add(&d, UBLK_F_BATCH_IO, 1, 1)));
	device_new(&d, UBLK_F_BATCH_IO, 1, 2);
	say(", 2 0, FETCH %s", result_name(fetch(&d, 0, 0)));
	device_delete(&d);
}

const struct claim fetch_claims[] = {
	{ "fetch-queue-out-of-range", "ublk_ch_uring_cmd_local", queue_range,
	  ALWAYS("-EINVAL, -EINVAL") },
	{ "fetch-tag-out-of-range", "ublk_ch_uring_cmd_local", tag_range,
	  ALWAYS("-EINVAL, in flight") },
	{ "fetch-copy-needs-a-buffer", "ublk_check_fetch_buf", without_buffer, ALWAYS("-EINVAL") },
	{ "fetch-address-is-not-checked", "ublk_check_fetch_buf", any_address,
	  ALWAYS("in flight") },
	{ "fetch-get-data-needs-none", "ublk_check_fetch_buf", get_data_no_buffer,
	  ALWAYS("in flight") },
	{ "fetch-user-copy-forbids-one", "ublk_check_fetch_buf", user_copy_buffer,
	  ALWAYS("-EINVAL") },
	{ "fetch-zero-copy-forbids-one", "ublk_check_fetch_buf", zero_copy_buffer,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 15), "-EINVAL" } } },
	{ "fetch-auto-forbids-one", "ublk_check_fetch_buf", auto_buffer,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 16), "-EINVAL" } } },
	{ "auto-index-and-fallback-flag", "ublk_validate_io_buf", auto_flags,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 16), "in flight, in flight" } } },
	{ "auto-unknown-flags-and-reserved-bits", "ublk_validate_io_buf", auto_reserved,
	  { { 0, NOT_OFFERED },
	    { KERNEL(6, 16), "-EINVAL, -EINVAL, -EINVAL; the same right: -EINVAL" },
	    { KERNEL(7, 3), "-EINVAL, -EINVAL, -EINVAL; the same right: in flight" } },
	  KERNEL(6, 16), KERNEL(7, 3) },
	{ "auto-without-table", "ublk_auto_buf_register", auto_no_table_fails,
	  { { 0, NOT_OFFERED },
	    { KERNEL(6, 16), "fetch taken; no CQE; read -EIO" } } },
	{ "auto-without-table-fallback", "ublk_auto_buf_register", auto_no_table_fallback,
	  { { 0, NOT_OFFERED },
	    { KERNEL(6, 16), "fetch taken; CQE 0, NEED_REG_BUF; read 4096" } } },
	{ "fetch-twice-before-ready", "__ublk_fetch", twice_before_ready,
	  { { 0, "in flight, -EBUSY" }, { KERNEL(6, 16), "in flight, -EINVAL" } } },
	{ "fetch-twice-when-queue-is-ready", "__ublk_fetch", twice_when_the_queue_is_ready,
	  { { 0, "in flight, -EBUSY" }, { KERNEL(6, 16), "in flight, -EINVAL" } } },
	{ "fetch-twice-when-ready", "__ublk_fetch", twice_when_ready, ALWAYS("-EBUSY") },
	{ "fetch-when-live", "__ublk_fetch", when_live, ALWAYS("-EBUSY") },
	{ "fetch-while-its-request-is-open", "__ublk_fetch", when_owned, ALWAYS("-EBUSY") },
	{ "fetch-after-the-abort", "__ublk_fetch", after_abort,
	  { { 0, "-EBUSY" }, { KERNEL(7, 3), "-ENODEV" } } },
	{ "fetch-from-two-threads", "ublk_mark_io_ready", from_two_threads,
	  ALWAYS("in flight, in flight") },
	{ "fetch-from-another-when-ready", "ublk_ch_uring_cmd_local", ready_and_another_thread,
	  { { 0, "-EINVAL" }, { KERNEL(6, 16), "-EBUSY" } } },
	{ "each-tag-its-own-thread", "ublk_dispatch_req", each_tag_its_thread,
	  { { 0, "in flight, in flight; reads: one or both EIO" },
	    { KERNEL(6, 16), "in flight, in flight; reads: both good" } } },
	{ "commit-from-another-thread", "ublk_ch_uring_cmd_local", commit_elsewhere,
	  ALWAYS("there -EINVAL, here 4096") },
	{ "fetch-stays-until-an-io", "ublk_dispatch_req", stays_until_io,
	  ALWAYS("idle: no CQE; an I/O: 0") },
	{ "fetch-cannot-be-cancelled", "io_async_cancel", not_cancelled,
	  ALWAYS("-ENOENT; then an I/O: 0") },
	{ "batch-refuses-fetch", "ublk_handle_non_batch_cmd", batch_refuses,
	  { { 0, NOT_OFFERED }, { KERNEL(7, 0), "depth 1 -EINVAL, 2 0, FETCH -EOPNOTSUPP" } } },
	{ 0 },
};
