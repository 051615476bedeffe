/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the command lies in the SQE, and which other bytes count. */
#define _GNU_SOURCE
#include "harness.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* GET_FEATURES with the command moved to another byte of a 128-byte SQE. */
static int features_at(unsigned byte)
{
	struct ublk_ctrl_cmd *cmd, copy;
	struct device d;
	uint64_t mask;

	device_init(&d);
	cmd = control_sqe(&d, UBLK_CMD_GET_FEATURES, &mask, sizeof(mask), 0);
	copy = *cmd;
	memset(cmd, 0, sizeof(*cmd));
	memcpy((char *)cmd + byte - 48, &copy, sizeof(copy));
	io_uring_submit(&d.ctrl);
	return control_end(&d, 1000);
}

static void control_at_48(void)
{
	say_result(features_at(48));
	say_result(features_at(64));
}

static void control_needs_sqe128(void)
{
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	struct device d;

	device_init(&d);
	expect_zero(io_uring_queue_init(4, &ring, 0), "ring");
	sqe = raw_sqe(&ring, PROBE, 0, 0);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = d.ctrl_fd;
	sqe->cmd_op = UBLK_CMD_GET_FEATURES;
	say_result(ask_on(&ring, sqe, 1000));
}

static void io_fits_64(void)
{
	struct io_uring ring;
	struct device d;

	device_new(&d, 0, 1, 2);
	say_result(ask_command(&d, UBLK_IO_FETCH_REQ, 0, 0, 0));
	/* and in 128 bytes */
	expect_zero(io_uring_queue_init(4, &ring, IORING_SETUP_SQE128), "ring");
	struct io_uring_sqe *sqe = raw_sqe(&ring, PROBE, 0, 1), *model;

	memset(sqe, 0, 128);
	model = command(&d, UBLK_IO_FETCH_REQ, 0, 1, 0);
	memcpy(sqe, model, 64);
	/* The model itself does nothing. */
	memset(model, 0, 64);
	model->opcode = IORING_OP_NOP;
	model->user_data = (uint64_t)OTHER << 32;
	say_result(ask_on(&ring, sqe, 40));
	device_delete(&d);
	io_uring_queue_exit(&ring);
}

/* The report's first guess: the command behind the 64 bytes. */
static int fetch_at_64(struct device *d, struct io_uring *ring)
{
	struct io_uring_sqe *sqe = raw_sqe(ring, PROBE, 0, 0);

	memset(sqe, 0, 128);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = d->char_fd;
	sqe->cmd_op = UBLK_IO_FETCH_REQ;
	*(struct ublk_io_cmd *)(void *)((char *)sqe + 64) = (struct ublk_io_cmd){
		.tag = 1,
		.addr = copies(d) ? buffer_of(d, 0, 1) : 0,
	};
	return ask_on(ring, sqe, 40);
}

static void io_at_64_copy(void)
{
	struct io_uring ring;
	struct device d;

	device_new(&d, 0, 1, 2);
	expect_zero(io_uring_queue_init(4, &ring, IORING_SETUP_SQE128), "ring");
	say_result(fetch_at_64(&d, &ring));
	device_delete(&d);
}

static void io_at_64_auto(void)
{
	struct io_uring ring;
	struct device d;

	need(UBLK_F_AUTO_BUF_REG);
	device_new(&d, UBLK_F_AUTO_BUF_REG, 1, 2);
	expect_zero(io_uring_queue_init(4, &ring, IORING_SETUP_SQE128), "ring");
	say("%s", fetch_at_64(&d, &ring) == IN_FLIGHT ? "taken" : "refused");
	say("; tag 0 %s", ask_command(&d, UBLK_IO_FETCH_REQ, 0, 0, 0) == IN_FLIGHT ? "free" : "taken");
	say(", 1 %s", ask_command(&d, UBLK_IO_FETCH_REQ, 0, 1, 0) == IN_FLIGHT ? "free" : "taken");
	control(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0);
	io_uring_queue_exit(&ring);
	device_delete(&d);
}

/* One device for each: sets a field of a right FETCH and sees whether it is refused. */
static int fetch_with(void (*change)(struct io_uring_sqe *))
{
	struct io_uring_sqe *sqe;
	struct device d;
	int res;

	device_new(&d, 0, 1, 1);
	sqe = command(&d, UBLK_IO_FETCH_REQ, 0, 0, 0);
	change(sqe);
	res = ask(&d, sqe);
	device_delete(&d);
	return res;
}

static void set_len(struct io_uring_sqe *sqe) { sqe->len = 12345; }
static void set_len_0(struct io_uring_sqe *sqe) { sqe->len = 0; }
static void set_len_16(struct io_uring_sqe *sqe) { sqe->len = 16; }
static void set_pad(struct io_uring_sqe *sqe) { sqe->__pad1 = 1; }
static void set_flags(struct io_uring_sqe *sqe) { sqe->rw_flags = 1 << 20; }
static void set_addr(struct io_uring_sqe *sqe) { sqe->addr = 0x123456789abcdefull; }
static void set_ioprio(struct io_uring_sqe *sqe) { sqe->ioprio = 1; }
static void set_personality(struct io_uring_sqe *sqe) { sqe->personality = 1; }
static void set_buf_index(struct io_uring_sqe *sqe) { sqe->buf_index = 7; }
static void set_file_index(struct io_uring_sqe *sqe) { sqe->file_index = 7; }
static void set_async(struct io_uring_sqe *sqe) { sqe->flags = IOSQE_ASYNC; }
static void set_result(struct io_uring_sqe *sqe) { command_of(sqe)->result = 77; }

static void len_is_ignored(void)
{
	say_result(fetch_with(set_len_0));
	say_result(fetch_with(set_len_16));
	say_result(fetch_with(set_len));
}

static void pad_must_be_zero(void) { say_result(fetch_with(set_pad)); }
static void flags_must_be_zero(void) { say_result(fetch_with(set_flags)); }
static void addr_is_ignored(void) { say_result(fetch_with(set_addr)); }
static void ioprio_must_be_zero(void) { say_result(fetch_with(set_ioprio)); }
static void personality_must_exist(void) { say_result(fetch_with(set_personality)); }
static void async_is_taken(void) { say_result(fetch_with(set_async)); }
static void fetch_result_is_ignored(void) { say_result(fetch_with(set_result)); }

static void indexes_are_ignored(void)
{
	say_result(fetch_with(set_buf_index));
	say_result(fetch_with(set_file_index));
}

static void fixed_file(void)
{
	struct io_uring_sqe *sqe;
	struct device d;

	device_new(&d, 0, 1, 1);
	expect_zero(io_uring_register_files(&d.ring, &d.char_fd, 1), "file table");
	sqe = command(&d, UBLK_IO_FETCH_REQ, 0, 0, 0);
	sqe->fd = 0;
	sqe->flags = IOSQE_FIXED_FILE;
	say_result(ask(&d, sqe));
	device_delete(&d);
}

static void raw_opcode(void)
{
	struct ublk_dev_info info;
	struct device d;
	int io, ctrl;

	device_new(&d, 0, 1, 1);
	io = ask_command(&d, 0x20, 0, 0, 0);
	ctrl = control(&d, 0x02, &info, sizeof(info), 0);
	say("%s", io == IN_FLIGHT ? "taken" : result_name(io));
	if ((io == IN_FLIGHT) != (ctrl == 0))
		say("; control %s", result_name(ctrl));
	device_delete(&d);
}

static void other_letter(void)
{
	struct device d;

	device_new(&d, 0, 1, 1);
	say_result(ask_command(&d, UBLK_IO_FETCH_REQ ^ 0x300, 0, 0, 0)); /* 'u' to 'v' */
	say_result(control(&d, UBLK_CMD_STOP_DEV ^ 0x300, NULL, 0, 0));
	device_delete(&d);
}

static void unknown_number(void)
{
	struct device d;

	device_new(&d, 0, 1, 1);
	say_result(ask_command(&d, UBLK_IO_RW(0x2f), 0, 0, 0));
	say_result(control(&d, UBLK_CTRL_RW(0x3f), NULL, 0, 0));
	device_delete(&d);
}

/* Only letter and number are looked at, except in GET_FEATURES. */
static void direction_and_size(void)
{
	struct device d;
	uint64_t mask;

	device_new(&d, 0, 1, 1);
	say_result(ask_command(&d, UBLK_IOC(0, 0x20, 0), 0, 0, 0));
	say_result(control(&d, UBLK_CTRL_RW(0x13), &mask, sizeof(mask), 0));
	device_delete(&d);
}

static void features_len(void)
{
	struct device d;
	uint64_t mask[2];

	device_init(&d);
	say_result(control(&d, UBLK_CMD_GET_FEATURES, mask, 8, 0));
	say_result(control(&d, UBLK_CMD_GET_FEATURES, mask, 16, 0));
	say_result(control(&d, UBLK_CMD_GET_FEATURES, mask, 4, 0));
}

/* 32 bytes of the SQE behind the 32 of the command are nobody's. */
static void control_tail(void)
{
	struct ublk_ctrl_cmd *cmd;
	struct device d;
	uint64_t mask;

	device_init(&d);
	cmd = control_sqe(&d, UBLK_CMD_GET_FEATURES, &mask, sizeof(mask), 0);
	cmd->pad = 0xffff;
	cmd->reserved = 0xffffffff;
	memset(cmd + 1, 0xff, 128 - 48 - sizeof(*cmd));
	io_uring_submit(&d.ctrl);
	say_result(control_end(&d, 1000));
}

const struct claim sqe_claims[] = {
	{ "control-command-lies-at-byte-48", "ublk_ctrl_uring_cmd", control_at_48,
	  ALWAYS("0, -EINVAL") },
	{ "control-needs-128-byte-sqe", "ublk_ctrl_uring_cmd", control_needs_sqe128,
	  ALWAYS("-EINVAL") },
	{ "control-pads-are-ignored", "ublk_ctrl_uring_cmd", control_tail, ALWAYS("0") },
	{ "io-command-fits-64-or-128-bytes", "ublk_ch_uring_cmd_local", io_fits_64,
	  ALWAYS("in flight, in flight") },
	{ "command-at-byte-64-copy", "ublk_check_fetch_buf", io_at_64_copy, ALWAYS("-EINVAL") },
	{ "command-at-byte-64-auto", "ublk_ch_uring_cmd_local", io_at_64_auto,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 16), "taken; tag 0 taken, 1 free" } } },
	{ "len-is-ignored", "io_uring_cmd_prep", len_is_ignored,
	  ALWAYS("in flight, in flight, in flight") },
	{ "pad-must-be-zero", "io_uring_cmd_prep", pad_must_be_zero, ALWAYS("-EINVAL") },
	{ "uring-cmd-flags-must-be-zero", "io_uring_cmd_prep", flags_must_be_zero,
	  ALWAYS("-EINVAL") },
	{ "ioprio-must-be-zero", "io_init_req", ioprio_must_be_zero, ALWAYS("-EINVAL") },
	{ "personality-must-exist", "io_init_req", personality_must_exist, ALWAYS("-EINVAL") },
	{ "addr-is-ignored-in-copy-mode", "ublk_validate_io_buf", addr_is_ignored,
	  ALWAYS("in flight") },
	{ "indexes-are-ignored", "io_uring_cmd_prep", indexes_are_ignored,
	  ALWAYS("in flight, in flight") },
	{ "result-of-fetch-is-ignored", "ublk_fetch", fetch_result_is_ignored,
	  ALWAYS("in flight") },
	{ "async-flag-is-taken", "ublk_ch_uring_cmd", async_is_taken, ALWAYS("in flight") },
	{ "fixed-file-is-taken", "io_assign_file", fixed_file, ALWAYS("in flight") },
	{ "raw-opcode", "ublk_check_cmd_op", raw_opcode, ALWAYS("taken") },
	{ "other-letter", "ublk_check_cmd_op", other_letter, ALWAYS("-EOPNOTSUPP, -EOPNOTSUPP") },
	{ "unknown-number", "ublk_ch_uring_cmd_local", unknown_number,
	  ALWAYS("-EINVAL, -EOPNOTSUPP") },
	{ "direction-and-size-are-ignored", "ublk_ch_uring_cmd_local", direction_and_size,
	  ALWAYS("in flight, -EOPNOTSUPP") },
	{ "features-are-8-bytes", "ublk_ctrl_get_features", features_len,
	  ALWAYS("0, -EINVAL, -EINVAL") },
	{ 0 },
};
