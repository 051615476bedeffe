/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands for a tag that has brought a request, or has not. */
#define _GNU_SOURCE
#include "harness.h"

#include <string.h>
#include <unistd.h>

/* A live device and one request of it that is the server's. */
static struct event request(struct device *d, uint64_t flags, enum job_op op, int *job)
{
	client_new();
	device_live(d, flags, 1, 2);
	*job = client_begin(d, op, 4096, 4096, -1);
	return wait_io(d, op == JOB_READ ? UBLK_IO_OP_READ : UBLK_IO_OP_WRITE, 8);
}

static void end(struct device *d, const struct event *event, int job)
{
	serve(d, event);
	say(", then %s", result_name(client_end(d, job, 8000)));
	device_delete(d);
}

static void commit_unfetched(void)
{
	struct device d;

	device_new(&d, 0, 1, 2);
	say_result(ask_command(&d, UBLK_IO_COMMIT_AND_FETCH_REQ, 0, 0, 0));
	device_delete(&d);
}

static void commit_idle(void)
{
	struct device d;

	device_live(&d, 0, 1, 2);
	say_result(ask_command(&d, UBLK_IO_COMMIT_AND_FETCH_REQ, 0, 0, 0));
	device_delete(&d);
}

static void commit_twice(void)
{
	struct event event;
	struct device d;
	int job;

	event = request(&d, 0, JOB_READ, &job);
	serve(&d, &event);
	say_result(ask_command(&d, UBLK_IO_COMMIT_AND_FETCH_REQ, 0, event.tag, 4096));
	say(", read %s", result_name(client_end(&d, job, 4000)));
	device_delete(&d);
}

static void commit_range(void)
{
	struct event event;
	struct device d;
	int job;

	event = request(&d, 0, JOB_READ, &job);
	say_result(ask_command(&d, UBLK_IO_COMMIT_AND_FETCH_REQ, 1, event.tag, 4096));
	say_result(ask_command(&d, UBLK_IO_COMMIT_AND_FETCH_REQ, 0, 2, 4096));
	end(&d, &event, job);
}

/* What was refused changed nothing: the tag is still the server's. */
static void commit_address(uint64_t flags, uint64_t address)
{
	struct io_uring_sqe *sqe;
	struct event event;
	struct device d;
	int job;

	event = request(&d, flags, JOB_READ, &job);
	sqe = command(&d, UBLK_IO_COMMIT_AND_FETCH_REQ, 0, event.tag, 4096);
	command_of(sqe)->addr = address;
	say_result(ask(&d, sqe));
	end(&d, &event, job);
}

static void commit_no_buffer(void) { commit_address(0, 0); }
static void commit_user_copy_buffer(void) { commit_address(UBLK_F_USER_COPY, 4096); }

static void commit_auto_reserved(void)
{
	struct io_uring_sqe *sqe;
	struct event event;
	struct device d;
	int job;

	need(UBLK_F_AUTO_BUF_REG);
	event = request(&d, UBLK_F_AUTO_BUF_REG, JOB_READ, &job);
	sqe = command(&d, UBLK_IO_COMMIT_AND_FETCH_REQ, 0, event.tag, 4096);
	sqe->addr |= 1ull << 40;
	say_result(ask(&d, sqe));
	end(&d, &event, job);
}

static void get_data_unasked(void)
{
	struct event event;
	struct device d;
	int job;

	event = request(&d, UBLK_F_NEED_GET_DATA, JOB_READ, &job);
	say_result(ask_command(&d, UBLK_IO_NEED_GET_DATA, 0, event.tag, 0));
	end(&d, &event, job);
}

static void get_data_order(void)
{
	struct event event;
	struct device d;
	int job;

	event = request(&d, UBLK_F_NEED_GET_DATA, JOB_WRITE, &job);
	say("CQE %d", event.res);
	say_result(ask_command(&d, UBLK_IO_COMMIT_AND_FETCH_REQ, 0, event.tag, 4096));
	say_result(ask_command(&d, UBLK_IO_NEED_GET_DATA, 0, event.tag, 0));
	event.res = 0;
	end(&d, &event, job);
}

static void get_data_read(void)
{
	struct event event;
	struct device d;
	int job;

	event = request(&d, UBLK_F_NEED_GET_DATA, JOB_READ, &job);
	say("CQE %d", event.res);
	end(&d, &event, job);
}

static void batch_of_requests(void)
{
	struct event event, first;
	struct device d;
	int job;

	event = request(&d, 0, JOB_READ, &job);
	first = event;
	serve(&d, &event);
	client_end(&d, job, 4000);
	/* The same tag, or the other: whichever it is, its CQE comes by the commit. */
	job = client_begin(&d, JOB_READ, 8192, 4096, -1);
	event = wait_io(&d, UBLK_IO_OP_READ, 16);
	say("CQE %d%s", event.res, event.tag < 2 && first.tag < 2 ? "" : ", a tag out of range");
	end(&d, &event, job);
}

/* ---- user copy --------------------------------------------------------------------- */

static int copy_out(struct device *d, unsigned tag, uint32_t byte, size_t len)
{
	static char memory[IO_BYTES];
	ssize_t n = pread(d->char_fd, memory, len, (off_t)ublk_data_offset(0, (uint16_t)tag, byte));

	return n < 0 ? -errno : (int)n;
}

static int copy_in(struct device *d, unsigned tag, uint32_t byte, size_t len)
{
	static char memory[IO_BYTES];
	ssize_t n = pwrite(d->char_fd, memory, len,
			   (off_t)ublk_data_offset(0, (uint16_t)tag, byte));

	return n < 0 ? -errno : (int)n;
}

static void user_copy_write(void)
{
	struct event event;
	struct device d;
	int job;

	event = request(&d, UBLK_F_USER_COPY, JOB_WRITE, &job);
	say("pread %s", result_name(copy_out(&d, event.tag, 0, 4096)));
	say(", from 1024 %s", result_name(copy_out(&d, event.tag, 1024, 8192)));
	say(", from the end %s", result_name(copy_out(&d, event.tag, 4096, 512)));
	say(", beyond %s", result_name(copy_out(&d, event.tag, 8192, 512)));
	say(", pwrite %s", result_name(copy_in(&d, event.tag, 0, 4096)));
	end(&d, &event, job);
}

static void user_copy_tags(void)
{
	struct event event;
	struct device d;
	int job;

	event = request(&d, UBLK_F_USER_COPY, JOB_READ, &job);
	say("another tag %s", result_name(copy_in(&d, !event.tag, 0, 512)));
	say(", no such tag %s", result_name(copy_in(&d, 2, 0, 512)));
	end(&d, &event, job);
}

static void user_copy_unasked(void)
{
	struct event event;
	struct device d;
	int job;

	event = request(&d, 0, JOB_WRITE, &job);
	say("%s", result_name(copy_out(&d, event.tag, 0, 4096)));
	end(&d, &event, job);
}

/* ---- registered buffers --------------------------------------------------------------- */

static int with_index(struct device *d, uint32_t op, unsigned tag, uint64_t index)
{
	struct io_uring_sqe *sqe = command(d, op, 0, tag, 0);

	command_of(sqe)->addr = index;
	return ask(d, sqe);
}

static void register_rules(void)
{
	struct event event;
	struct device d;
	int job;

	need(UBLK_F_SUPPORT_ZERO_COPY);
	event = request(&d, UBLK_F_SUPPORT_ZERO_COPY, JOB_READ, &job);
	say("idle tag %s", result_name(with_index(&d, UBLK_IO_REGISTER_IO_BUF, !event.tag, 0)));
	say(", index 9 of 2 %s",
	    result_name(with_index(&d, UBLK_IO_REGISTER_IO_BUF, event.tag, 9)));
	say(", once %s", result_name(with_index(&d, UBLK_IO_REGISTER_IO_BUF, event.tag, 1)));
	say(", twice %s", result_name(with_index(&d, UBLK_IO_REGISTER_IO_BUF, event.tag, 1)));
	say(", away %s", result_name(with_index(&d, UBLK_IO_UNREGISTER_IO_BUF, event.tag, 1)));
	say(", again %s", result_name(with_index(&d, UBLK_IO_UNREGISTER_IO_BUF, event.tag, 1)));
	end(&d, &event, job);
}

static void register_unasked(void)
{
	struct event event;
	struct device d;
	int job;

	need(UBLK_F_SUPPORT_ZERO_COPY);
	event = request(&d, 0, JOB_READ, &job);
	say("%s", result_name(with_index(&d, UBLK_IO_REGISTER_IO_BUF, event.tag, 0)));
	end(&d, &event, job);
}

/* The request ends with its last reference: the commit, or the buffer given back. */
static void commit_before_unregister(void)
{
	struct event event;
	struct device d;
	int job;

	need(UBLK_F_SUPPORT_ZERO_COPY);
	event = request(&d, UBLK_F_SUPPORT_ZERO_COPY, JOB_READ, &job);
	expect_zero(with_index(&d, UBLK_IO_REGISTER_IO_BUF, event.tag, 0), "REGISTER_IO_BUF");
	commit(&d, &event, 4096);
	say("committed: %s", result_name(client_end(&d, job, 500)));
	say("; unregister %s", result_name(with_index(&d, UBLK_IO_UNREGISTER_IO_BUF, event.tag, 0)));
	say(": %s", result_name(client_end(&d, job, 4000)));
	device_delete(&d);
}

static void register_elsewhere_call(struct device *d, struct io_uring *ring, unsigned tag)
{
	struct io_uring_sqe *sqe = raw_sqe(ring, PROBE, 0, tag), *model;

	model = command(d, UBLK_IO_REGISTER_IO_BUF, 0, tag, 0);
	command_of(model)->addr = 0;
	memcpy(sqe, model, 64);
	io_uring_prep_nop(model);
	model->user_data = (uint64_t)OTHER << 32;
	say("%s", result_name(ask_on(ring, sqe, 100)));
}

struct other_ring {
	struct device *d;
	unsigned tag;
};

static int register_there(void *arg)
{
	struct other_ring *o = arg;
	static struct io_uring ring;

	expect_zero(io_uring_queue_init(8, &ring, 0), "ring");
	expect_zero(io_uring_register_buffers_sparse(&ring, 2), "buffer table");
	register_elsewhere_call(o->d, &ring, o->tag);
	io_uring_queue_exit(&ring); /* which gives the buffer back */
	return 0;
}

static void register_from_another_thread(void)
{
	struct other_ring o;
	struct event event;
	struct device d;
	int job;

	need(UBLK_F_SUPPORT_ZERO_COPY);
	event = request(&d, UBLK_F_SUPPORT_ZERO_COPY, JOB_READ, &job);
	o = (struct other_ring){ &d, event.tag };
	worker_call(worker_new(), register_there, &o);
	end(&d, &event, job);
}

const struct claim commit_claims[] = {
	{ "commit-of-an-unfetched-tag", "ublk_ch_uring_cmd_local", commit_unfetched,
	  ALWAYS("-EINVAL") },
	{ "commit-of-an-idle-tag", "ublk_ch_uring_cmd_local", commit_idle, ALWAYS("-EBUSY") },
	{ "commit-twice", "ublk_ch_uring_cmd_local", commit_twice, ALWAYS("-EBUSY, read 4096") },
	{ "commit-out-of-range", "ublk_ch_uring_cmd_local", commit_range,
	  ALWAYS("-EINVAL, -EINVAL, then 4096") },
	{ "commit-copy-needs-a-buffer", "ublk_check_commit_and_fetch", commit_no_buffer,
	  ALWAYS("-EINVAL, then 4096") },
	{ "commit-user-copy-forbids-one", "ublk_check_commit_and_fetch", commit_user_copy_buffer,
	  ALWAYS("-EINVAL, then 4096") },
	{ "commit-auto-reserved-bits", "ublk_validate_io_buf", commit_auto_reserved,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 16), "-EINVAL, then 4096" } },
	  KERNEL(6, 16), KERNEL(7, 3) },
	{ "commit-is-the-next-fetch", "ublk_fill_io_cmd", batch_of_requests,
	  ALWAYS("CQE 0, then 4096") },
	{ "get-data-for-a-read", "ublk_dispatch_req", get_data_read, ALWAYS("CQE 0, then 4096") },
	{ "get-data-unasked", "ublk_ch_uring_cmd_local", get_data_unasked,
	  ALWAYS("-EINVAL, then 4096") },
	{ "get-data-before-the-commit", "ublk_ch_uring_cmd_local", get_data_order,
	  ALWAYS("CQE 1, -EINVAL, 0, then 4096") },
	{ "user-copy-of-a-write", "ublk_user_copy", user_copy_write,
	  { { 0, "pread 4096, from 1024 8192, from the end 0, beyond -EINVAL, pwrite -EACCES, "
		 "then 4096" },
	    { KERNEL(7, 3), "pread 4096, from 1024 3072, from the end 0, beyond -EINVAL, "
			    "pwrite -EACCES, then 4096" } } },
	{ "user-copy-of-other-tags", "ublk_user_copy", user_copy_tags,
	  ALWAYS("another tag -EINVAL, no such tag -EINVAL, then 4096") },
	{ "user-copy-must-be-asked-for", "ublk_user_copy", user_copy_unasked,
	  { { 0, "-EINVAL, then 4096" }, { KERNEL(6, 18), "-EACCES, then 4096" } } },
	{ "register-buffer", "ublk_daemon_register_io_buf", register_rules,
	  { { 0, NOT_OFFERED },
	    { KERNEL(6, 15), "idle tag -EBUSY, index 9 of 2 -EINVAL, once 0, twice -EBUSY, away 0, "
			     "again -EINVAL, then 4096" } } },
	{ "register-must-be-asked-for", "ublk_daemon_register_io_buf", register_unasked,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 15), "-EINVAL, then 4096" } } },
	{ "register-from-another-thread", "ublk_register_io_buf", register_from_another_thread,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 18), "0, then 4096" } } },
	{ "commit-before-unregister", "ublk_sub_req_ref", commit_before_unregister,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 15), "committed: in flight; unregister 0: 4096" } } },
	{ 0 },
};
