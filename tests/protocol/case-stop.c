/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of a device. */
#define _GNU_SOURCE
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void aborts(void)
{
	struct event event;
	struct device d;
	unsigned n = 0;

	device_live(&d, 0, 2, 4);
	d.silent = true;
	say("STOP_DEV %s", result_name(control(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0)));
	while (next(&d, &event, 200))
		n += event.res == -ENODEV;
	say(", %u of 8 FETCHes -ENODEV, state %u", n, state_of(&d));
	device_delete(&d);
}

static void aborts_before_start(void)
{
	struct device d;

	device_new(&d, 0, 1, 4);
	command(&d, UBLK_IO_FETCH_REQ, 0, 1, 0);
	submit(&d);
	say("STOP_DEV %s", result_name(control(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0)));
	serve_for(&d, 100);
	say(", %u of 1 FETCH -ENODEV", d.aborted);
	device_delete(&d);
}

static void waits_for_requests(void)
{
	struct event event;
	struct device d;
	int job;

	client_new();
	device_live(&d, 0, 1, 2);
	job = client_begin(&d, JOB_READ, 4096, 4096, -1);
	event = wait_io(&d, UBLK_IO_OP_READ, 8);
	d.silent = true;
	control_begin(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0);
	say("open request: %s", result_name(control_end(&d, 500)));
	d.silent = false;
	serve(&d, &event);
	say("; served: %s", result_name(control_end(&d, 8000)));
	say(", read %s", result_name(client_end(&d, job, 4000)));
	device_delete(&d);
}

/* The kernel still looks for partitions, and nobody serves its read. */
static void waits_for_the_scan(void)
{
	struct event event;
	struct device d;

	device_new(&d, 0, 1, 2);
	d.scanned = d.silent = true;
	fetch_all(&d);
	control_begin(&d, UBLK_CMD_START_DEV, NULL, 0, (uint64_t)getpid());
	if (!next(&d, &event, 8000))
		give_up("no read at all");
	if (control_end(&d, 2000)) {
		say(NOT_OFFERED);
		d.silent = false;
		serve(&d, &event);
		expect_zero(control_end(&d, 8000), "START_DEV");
	} else {
		control_begin(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0);
		say("its read is open: %s", result_name(control_end(&d, 500)));
		d.silent = false;
		serve(&d, &event);
		say("; served: %s", result_name(control_end(&d, 8000)));
	}
	device_delete(&d);
}

/* STOP_DEV while the page cache holds a page of the device that was not written yet. */
static void stop_with_a_dirty_page(uint64_t flags)
{
	char data[16] = "";
	struct device d;
	int job;

	client_new();
	device_live(&d, flags, 1, 4);
	/* It keeps the device open, so that no close writes the page back first. */
	client_end(&d, client_begin(&d, JOB_HOLD, 0, 0, -1), 4000);
	memset(client_buffer(1), 'x', 4096);
	job = client_begin(&d, JOB_BUFFERED_WRITE, 8192, 4096, -1);
	client_end(&d, job, 4000);
	say("STOP_DEV %s", result_name(control(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0)));
	if (pread(d.disk, data, 1, 8192) != 1)
		give_up("memory");
	say(", the page %s", data[0] == 'x' ? "was written" : "is lost");
	client_end(&d, client_begin(&d, JOB_RELEASE, 0, 0, -1), 4000);
	device_delete(&d);
}

/* Dirty pages of a file system's or of dd's are written before the fetches end. */
static void writes_back(void)
{
	stop_with_a_dirty_page(0);
}

/* With recovery the driver gives up before it writes. */
static void throws_away(void)
{
	stop_with_a_dirty_page(UBLK_F_USER_RECOVERY);
}

static void stop_twice(void)
{
	struct device d;

	device_live(&d, 0, 1, 1);
	say_result(control(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0));
	say_result(control(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0));
	device_delete(&d);
}

static void again(void)
{
	struct device d;
	int res;

	device_live(&d, 0, 1, 1);
	expect_zero(control(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0), "STOP_DEV");
	device_close(&d);
	doze(200);
	device_open(&d);
	res = ask_command(&d, UBLK_IO_FETCH_REQ, 0, 0, 0);
	say("FETCH %s", result_name(res));
	if (res == IN_FLIGHT)
		say(", START_DEV %s", result_name(start(&d)));
	device_delete(&d);
}

static void del_while(struct device *d, const char *what, void (*let_go)(struct device *))
{
	control_begin(d, UBLK_CMD_DEL_DEV, NULL, 0, 0);
	say("%s: %s", what, result_name(control_end(d, 500)));
	let_go(d);
	say("; then %s", result_name(control_end(d, 8000)));
}

static void close_fd(struct device *d)
{
	close(d->char_fd);
	d->char_fd = -1;
}

static void del_open(void)
{
	struct device d;

	device_init(&d);
	expect_zero(device_add(&d, 0, 1, 1), "ADD_DEV");
	expect_zero(device_params(&d), "SET_PARAMS");
	device_open(&d);
	d.silent = true;
	munmap((void *)d.descs[0], d.descs_bytes);
	io_uring_queue_exit(&d.ring);
	del_while(&d, "open", close_fd);
}

static void unmap(struct device *d)
{
	munmap((void *)d->descs[0], d->descs_bytes);
}

static void del_mapped(void)
{
	struct device d;

	device_init(&d);
	expect_zero(device_add(&d, 0, 1, 1), "ADD_DEV");
	expect_zero(device_params(&d), "SET_PARAMS");
	device_open(&d);
	io_uring_queue_exit(&d.ring);
	close_fd(&d);
	del_while(&d, "mapped", unmap);
}

static void release(struct device *d)
{
	client_end(d, client_begin(d, JOB_RELEASE, 0, 0, -1), 4000);
}

static void del_held(void)
{
	struct device d;

	client_new();
	device_live(&d, 0, 1, 2);
	client_end(&d, client_begin(&d, JOB_HOLD, 0, 0, -1), 4000);
	expect_zero(control(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0), "STOP_DEV");
	device_close(&d);
	del_while(&d, "block device open", release);
}

/* DEL_DEV stops what is live. */
static void del_live(void)
{
	struct device d;

	device_live(&d, 0, 1, 2);
	control_begin(&d, UBLK_CMD_DEL_DEV, NULL, 0, 0);
	say("char device open: %s", result_name(control_end(&d, 500)));
	say(", %u FETCHes -ENODEV", d.aborted);
	device_close(&d);
	say("; closed: %s", result_name(control_end(&d, 8000)));
}

static void del_async(void)
{
	struct device d;
	int res;

	device_new(&d, 0, 1, 1);
	d.silent = true;
	control_begin(&d, UBLK_CMD_DEL_DEV_ASYNC, NULL, 0, 0);
	res = control_end(&d, 2000);
	say("char device open: %s", result_name(res));
	say(", again: %s", result_name(control(&d, UBLK_CMD_DEL_DEV_ASYNC, NULL, 0, 0)));
	device_close(&d);
}

static void del_twice(void)
{
	struct device d;

	device_init(&d);
	expect_zero(device_add(&d, 0, 1, 1), "ADD_DEV");
	say_result(control(&d, UBLK_CMD_DEL_DEV, NULL, 0, 0));
	say_result(control(&d, UBLK_CMD_DEL_DEV, NULL, 0, 0));
}

static void try_stop(void)
{
	struct device d;

	need(UBLK_F_SAFE_STOP_DEV);
	client_new();
	device_live(&d, 0, 1, 2);
	client_end(&d, client_begin(&d, JOB_HOLD, 0, 0, -1), 4000);
	say("open %s", result_name(control(&d, UBLK_CMD_TRY_STOP_DEV, NULL, 0, 0)));
	release(&d);
	say(", closed %s", result_name(control(&d, UBLK_CMD_TRY_STOP_DEV, NULL, 0, 0)));
	say(", again %s", result_name(control(&d, UBLK_CMD_TRY_STOP_DEV, NULL, 0, 0)));
	device_delete(&d);
}

/* STOP_DEV lets a START_DEV go that waits for a fetch. */
static void stop_ends_start(void)
{
	struct device d, other;
	int start_res, stop_res;

	device_new(&d, 0, 1, 2);
	command(&d, UBLK_IO_FETCH_REQ, 0, 0, 0);
	submit(&d);
	control_begin(&d, UBLK_CMD_START_DEV, NULL, 0, (uint64_t)getpid());
	control_end(&d, 200);
	device_init(&other);
	other.info.dev_id = d.info.dev_id;
	stop_res = control(&other, UBLK_CMD_STOP_DEV, NULL, 0, 0);
	start_res = control_end(&d, 500);
	say("STOP_DEV %s, START_DEV %s", result_name(stop_res), result_name(start_res));
	/* Where it still waits, the end of its process is what ends it. */
	if (start_res != IN_FLIGHT)
		device_delete(&d);
	else
		_exit(0);
}

const struct claim stop_claims[] = {
	{ "stop-aborts-the-fetches", "ublk_cancel_cmd", aborts,
	  ALWAYS("STOP_DEV 0, 8 of 8 FETCHes -ENODEV, state 0") },
	{ "stop-before-start", "ublk_stop_dev", aborts_before_start,
	  ALWAYS("STOP_DEV 0, 1 of 1 FETCH -ENODEV") },
	{ "stop-waits-for-open-requests", "ublk_stop_dev", waits_for_requests,
	  ALWAYS("open request: in flight; served: 0, read 4096") },
	{ "stop-waits-for-the-scan", "ublk_stop_dev", waits_for_the_scan,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 18), "its read is open: in flight; served: 0" } } },
	{ "stop-writes-back", "ublk_stop_dev", writes_back,
	  ALWAYS("STOP_DEV 0, the page was written") },
	{ "stop-with-recovery-throws-away", "ublk_stop_dev", throws_away,
	  ALWAYS("STOP_DEV 0, the page is lost") },
	{ "stop-twice", "ublk_stop_dev", stop_twice, ALWAYS("0, 0") },
	{ "stop-ends-a-waiting-start", "ublk_wait_dev_ready_and_lock", stop_ends_start,
	  { { 0, "STOP_DEV 0, START_DEV in flight" },
	    { KERNEL(7, 3), "STOP_DEV 0, START_DEV -EBUSY" } } },
	{ "start-again-after-stop", "ublk_ch_release", again,
	  { { 0, "FETCH -EBUSY" }, { KERNEL(7, 3), "FETCH in flight, START_DEV 0" } } },
	{ "try-stop", "ublk_ctrl_try_stop_dev", try_stop,
	  { { 0, NOT_OFFERED }, { KERNEL(7, 0), "open -EBUSY, closed 0, again -ENODEV" } } },
	{ "del-waits-for-the-char-device", "ublk_ctrl_del_dev", del_open,
	  ALWAYS("open: in flight; then 0") },
	{ "del-waits-for-the-map", "ublk_ctrl_del_dev", del_mapped,
	  ALWAYS("mapped: in flight; then 0") },
	{ "del-waits-for-the-block-device", "ublk_free_disk", del_held,
	  ALWAYS("block device open: in flight; then 0") },
	{ "del-stops-first", "ublk_remove", del_live,
	  ALWAYS("char device open: in flight, 2 FETCHes -ENODEV; closed: 0") },
	{ "del-async-does-not-wait", "ublk_ctrl_del_dev", del_async,
	  ALWAYS("char device open: 0, again: 0") },
	{ "del-twice", "ublk_ctrl_uring_cmd", del_twice, ALWAYS("0, -ENODEV") },
	{ 0 },
};
