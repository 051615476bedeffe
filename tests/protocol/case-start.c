/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What START_DEV waits for and refuses, and when partitions are looked for. */
#define _GNU_SOURCE
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int start_as(struct device *d, int64_t pid)
{
	return control(d, UBLK_CMD_START_DEV, NULL, 0, (uint64_t)pid);
}

static void last_fetch(void)
{
	struct device d;

	device_new(&d, 0, 2, 2);
	command(&d, UBLK_IO_FETCH_REQ, 0, 0, 0);
	command(&d, UBLK_IO_FETCH_REQ, 0, 1, 0);
	command(&d, UBLK_IO_FETCH_REQ, 1, 1, 0);
	submit(&d);
	control_begin(&d, UBLK_CMD_START_DEV, NULL, 0, (uint64_t)getpid());
	say("3 of 4: %s", result_name(control_end(&d, 500)));
	say(", state %u", state_of(&d));
	command(&d, UBLK_IO_FETCH_REQ, 1, 0, 0);
	submit(&d);
	say("; 4 of 4: %s", result_name(control_end(&d, 8000)));
	say(", state %u", state_of(&d));
	device_delete(&d);
}

static void needs_params(void)
{
	struct device d;

	device_init(&d);
	expect_zero(device_add(&d, 0, 1, 1), "ADD_DEV");
	device_open(&d);
	fetch_all(&d);
	say_result(start(&d));
	device_delete(&d);
}

static void positive_pid(void)
{
	struct device d;

	device_new(&d, 0, 1, 1);
	fetch_all(&d);
	say_result(start_as(&d, 0));
	say_result(start_as(&d, -1));
	device_delete(&d);
}

static void openers_pid(void)
{
	struct device d;

	device_new(&d, 0, 1, 1);
	fetch_all(&d);
	say_result(start_as(&d, 1));
	device_delete(&d);
}

static void twice(void)
{
	struct device d;

	device_live(&d, 0, 1, 1);
	say_result(start(&d));
	device_delete(&d);
}

static void reported_pid(void)
{
	struct ublk_dev_info info;
	struct device d;

	device_live(&d, 0, 1, 1);
	expect_zero(control(&d, UBLK_CMD_GET_DEV_INFO, &info, sizeof(info), 0), "info");
	say("%s, state %u", info.ublksrv_pid == getpid() ? "ours" : "another", info.state);
	device_delete(&d);
}

/* A device whose partitions the kernel looks for, up to START_DEV. */
static void added(struct device *d, uint64_t flags, unsigned depth)
{
	device_init(d);
	d->info = (struct ublk_dev_info){ .nr_hw_queues = 1, .queue_depth = (uint16_t)depth,
		.max_io_buf_bytes = IO_BYTES, .dev_id = UBLK_DEV_ID_ANY, .flags = flags };
	expect_zero(control(d, UBLK_CMD_ADD_DEV, &d->info, sizeof(d->info), 0), "ADD_DEV");
	expect_zero(device_params(d), "SET_PARAMS");
	d->scanned = true;
	device_open(d);
	fetch_all(d);
}

/* Nobody serves: does START_DEV wait for the read of the partition table? */
static void scan(void)
{
	struct event event;
	struct device d;
	int res;

	added(&d, 0, 4);
	d.silent = true;
	control_begin(&d, UBLK_CMD_START_DEV, NULL, 0, (uint64_t)getpid());
	if (!next(&d, &event, 8000))
		give_up("no read at all");
	res = control_end(&d, 1000);
	say("sector %llu is read, START_DEV: %s",
	    (unsigned long long)desc_of(&d, &event)->start_sector, result_name(res));
	d.silent = false;
	serve(&d, &event);
	if (res == IN_FLIGHT)
		say("; served: %s", result_name(control_end(&d, 8000)));
	serve_for(&d, 100);
	device_delete(&d);
}

static void no_scan(void)
{
	struct event event = { 0 };
	struct device d;

	need(UBLK_F_NO_AUTO_PART_SCAN);
	added(&d, UBLK_F_NO_AUTO_PART_SCAN, 4);
	expect_zero(start(&d), "START_DEV");
	say("%s", next(&d, &event, 500) ? "a read" : "no read");
	if (event.kind)
		serve(&d, &event);
	device_delete(&d);
}

static void affinity(void)
{
	struct device d;
	uint64_t mask[2][2] = { { 0 } };

	device_new(&d, 0, 2, 1);
	say_result(control(&d, UBLK_CMD_GET_QUEUE_AFFINITY, mask[0], 16, 0));
	say_result(control(&d, UBLK_CMD_GET_QUEUE_AFFINITY, mask[1], 16, 1));
	say(", queues %sshare CPUs", mask[0][0] & mask[1][0] ? "" : "do not ");
	say_result(control(&d, UBLK_CMD_GET_QUEUE_AFFINITY, mask[0], 12, 0));
	say_result(control(&d, UBLK_CMD_GET_QUEUE_AFFINITY, mask[0], 16, 2));
	device_delete(&d);
}

static void node(void)
{
	char path[32];
	struct device d;
	int before, after;

	device_new(&d, 0, 1, 1);
	snprintf(path, sizeof(path), "/dev/ublkb%u", d.info.dev_id);
	before = access(path, F_OK);
	fetch_all(&d);
	expect_zero(start(&d), "START_DEV");
	after = access(path, F_OK);
	say("before %s, after %s", before ? "no" : "yes", after ? "no" : "yes");
	device_delete(&d);
}

static void size_of_it(void)
{
	char path[64], text[32] = "";
	struct device d;
	int fd, res;

	device_live(&d, 0, 1, 1);
	if (!offered(UBLK_F_UPDATE_SIZE)) {
		res = control(&d, UBLK_CMD_UPDATE_SIZE, NULL, 0, 4096);
		if (res != -EOPNOTSUPP)
			say_result(res);
		else
			say(NOT_OFFERED);
		device_delete(&d);
		return;
	}
	say("%s", result_name(control(&d, UBLK_CMD_UPDATE_SIZE, NULL, 0, 4097)));
	snprintf(path, sizeof(path), "/sys/block/ublkb%u/size", d.info.dev_id);
	fd = open(path, O_RDONLY);
	if (read(fd, text, sizeof(text) - 1) > 0)
		text[strcspn(text, "\n")] = '\0';
	say(", %s sectors", text);
	close(fd);
	device_delete(&d);
}

const struct claim start_claims[] = {
	{ "start-waits-for-the-last-fetch", "ublk_mark_io_ready", last_fetch,
	  ALWAYS("3 of 4: in flight, state 0; 4 of 4: 0, state 1") },
	{ "start-needs-params", "ublk_ctrl_start_dev", needs_params, ALWAYS("-EINVAL") },
	{ "start-needs-a-pid", "ublk_ctrl_start_dev", positive_pid, ALWAYS("-EINVAL, -EINVAL") },
	{ "start-pid-is-the-openers", "ublk_validate_user_pid", openers_pid,
	  { { 0, "0" }, { KERNEL(6, 18), "-EINVAL" } } },
	{ "start-twice", "ublk_ctrl_start_dev", twice, ALWAYS("-EEXIST") },
	{ "info-names-the-server", "ublk_ctrl_get_dev_info", reported_pid,
	  ALWAYS("ours, state 1") },
	{ "node-appears-at-start", "ublk_ctrl_start_dev", node, ALWAYS("before no, after yes") },
	{ "scan-needs-a-serving-queue", "ublk_partition_scan_work", scan,
	  { { 0, "sector 0 is read, START_DEV: in flight; served: 0" },
	    { KERNEL(6, 18), "sector 0 is read, START_DEV: 0" } } },
	{ "scan-can-be-left-out", "ublk_ctrl_start_dev", no_scan,
	  { { 0, NOT_OFFERED }, { KERNEL(7, 0), "no read" } } },
	{ "affinity", "ublk_ctrl_get_queue_affinity", affinity,
	  ALWAYS("0, 0, queues do not share CPUs, -EINVAL, -EINVAL") },
	{ "update-size-takes-anything", "ublk_ctrl_set_size", size_of_it,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 16), "0, 4097 sectors" } } },
	{ 0 },
};
