/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ADD_DEV, SET_PARAMS, and who may issue what. */
#define _GNU_SOURCE
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ADD_DEV with one thing changed; what it returns, and a device it made is deleted. */
static int add_with(void (*change)(struct device *, struct ublk_ctrl_cmd *, struct ublk_dev_info *),
		    struct ublk_dev_info *granted)
{
	struct ublk_ctrl_cmd *cmd;
	struct device d;
	int res;

	device_init(&d);
	d.info = (struct ublk_dev_info){
		.nr_hw_queues = 1,
		.queue_depth = 2,
		.max_io_buf_bytes = IO_BYTES,
		.dev_id = UBLK_DEV_ID_ANY,
	};
	cmd = control_sqe(&d, UBLK_CMD_ADD_DEV, &d.info, sizeof(d.info), 0);
	change(&d, cmd, &d.info);
	io_uring_submit(&d.ctrl);
	res = control_end(&d, 8000);
	if (granted)
		*granted = d.info;
	if (!res)
		expect_zero(control(&d, UBLK_CMD_DEL_DEV, NULL, 0, 0), "DEL_DEV");
	io_uring_queue_exit(&d.ctrl);
	return res;
}

#define CHANGE(name, statement) \
	static void name(struct device *d, struct ublk_ctrl_cmd *cmd, struct ublk_dev_info *info) \
	{ \
		(void)d, (void)cmd, (void)info; \
		statement; \
	}

CHANGE(queue_0, cmd->queue_id = 0)
CHANGE(len_short, cmd->len = 63)
CHANGE(no_address, cmd->addr = 0)
CHANGE(bad_address, cmd->addr = 16)
CHANGE(depth_0, info->queue_depth = 0)
CHANGE(depth_4096, info->queue_depth = 4096)
CHANGE(depth_4097, info->queue_depth = 4097)
CHANGE(queues_0, info->nr_hw_queues = 0)
CHANGE(queues_4096, info->nr_hw_queues = 4096)
CHANGE(queues_4097, info->nr_hw_queues = 4097)
CHANGE(id_differs, cmd->dev_id = 3)
CHANGE(id_large, cmd->dev_id = info->dev_id = UBLK_MAX_DEVICES)
CHANGE(unknown_flag, info->flags = 1ull << 60)
CHANGE(odd_buffer, info->max_io_buf_bytes = 8192 + 5000)
CHANGE(get_data_user_copy, info->flags = UBLK_F_NEED_GET_DATA | UBLK_F_USER_COPY)
CHANGE(own_flags, info->ublksrv_flags = 0x1234567890abcdefull)
CHANGE(reissue_alone, info->flags = UBLK_F_USER_RECOVERY_REISSUE)
CHANGE(reissue_and_fail,
       info->flags = UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE |
		     UBLK_F_USER_RECOVERY_FAIL_IO)
CHANGE(quiesce_alone, info->flags = UBLK_F_QUIESCE)
CHANGE(zoned_copy, info->flags = UBLK_F_ZONED)
CHANGE(desc_20, (info->flags = UBLK_F_IO_DESC_SIZE, info->io_desc_size = 20))
CHANGE(desc_36, (info->flags = UBLK_F_IO_DESC_SIZE, info->io_desc_size = 36))
CHANGE(desc_64, (info->flags = UBLK_F_IO_DESC_SIZE, info->io_desc_size = 64))
CHANGE(desc_512, (info->flags = UBLK_F_IO_DESC_SIZE, info->io_desc_size = 512))
CHANGE(integrity_alone, info->flags = UBLK_F_INTEGRITY)
CHANGE(batch, info->flags = UBLK_F_BATCH_IO | UBLK_F_NEED_GET_DATA)
CHANGE(unprivileged, info->flags = UBLK_F_UNPRIVILEGED_DEV)
CHANGE(unprivileged_recovery, info->flags = UBLK_F_UNPRIVILEGED_DEV | UBLK_F_USER_RECOVERY)
CHANGE(unprivileged_user_copy, info->flags = UBLK_F_UNPRIVILEGED_DEV | UBLK_F_USER_COPY)
CHANGE(plain, info->flags = 0)

static void add_queue_id(void) { say_result(add_with(queue_0, NULL)); }
static void add_id_differs(void) { say_result(add_with(id_differs, NULL)); }
static void add_id_large(void) { say_result(add_with(id_large, NULL)); }
static void add_reissue_alone(void) { say_result(add_with(reissue_alone, NULL)); }
static void add_zoned_copy(void) { say_result(add_with(zoned_copy, NULL)); }

static void add_buffer(void)
{
	say_result(add_with(len_short, NULL));
	say_result(add_with(no_address, NULL));
	say_result(add_with(bad_address, NULL));
}

static void add_depth(void)
{
	say_result(add_with(depth_0, NULL));
	say_result(add_with(depth_4096, NULL));
	say_result(add_with(depth_4097, NULL));
}

static void add_queues(void)
{
	struct ublk_dev_info granted;

	say_result(add_with(queues_0, NULL));
	say_result(add_with(queues_4097, NULL));
	say_result(add_with(queues_4096, &granted));
	say(granted.nr_hw_queues == sysconf(_SC_NPROCESSORS_CONF) ? ", one per CPU" : ", %u",
	    granted.nr_hw_queues);
}

static void add_unknown_flag(void)
{
	struct ublk_dev_info granted;

	say_result(add_with(unknown_flag, &granted));
	say(granted.flags & 1ull << 60 ? ", kept" : ", dropped");
}

static void add_odd_buffer(void)
{
	struct ublk_dev_info granted;

	say_result(add_with(odd_buffer, &granted));
	say(", %u", granted.max_io_buf_bytes);
}

/* ADD_DEV with a state that only the driver may set, and what DEL_DEV makes of it. */
static void added_as_live(void)
{
	struct device d;

	device_init(&d);
	d.info = (struct ublk_dev_info){ .nr_hw_queues = 1, .queue_depth = 2,
		.max_io_buf_bytes = IO_BYTES, .dev_id = UBLK_DEV_ID_ANY,
		.state = UBLK_S_DEV_LIVE, .ublksrv_pid = 1 };
	say("%s", result_name(control(&d, UBLK_CMD_ADD_DEV, &d.info, sizeof(d.info), 0)));
	say(", state %u, DEL_DEV ", d.info.state);
	say("%s", result_name(control(&d, UBLK_CMD_DEL_DEV, NULL, 0, 0)));
}

static void add_get_data_user_copy(void)
{
	struct ublk_dev_info granted;

	say_result(add_with(get_data_user_copy, &granted));
	say(granted.flags & UBLK_F_NEED_GET_DATA ? ", kept" : ", dropped");
}

static void add_own_flags(void)
{
	struct ublk_dev_info granted;

	say_result(add_with(own_flags, &granted));
	say(granted.ublksrv_flags == 0x1234567890abcdefull ? ", kept" : ", dropped");
}

static void add_reissue_and_fail(void)
{
	need(UBLK_F_USER_RECOVERY_FAIL_IO);
	say_result(add_with(reissue_and_fail, NULL));
}

static void add_quiesce_alone(void)
{
	need(UBLK_F_QUIESCE);
	say_result(add_with(quiesce_alone, NULL));
}

static void add_integrity_alone(void)
{
	need(UBLK_F_INTEGRITY);
	say_result(add_with(integrity_alone, NULL));
}

static void add_desc_size(void)
{
	need(UBLK_F_IO_DESC_SIZE);
	say_result(add_with(desc_20, NULL));
	say_result(add_with(desc_36, NULL));
	say_result(add_with(desc_64, NULL));
	say_result(add_with(desc_512, NULL));
}

static void add_batch(void)
{
	struct ublk_dev_info granted;

	need(UBLK_F_BATCH_IO);
	say_result(add_with(batch, &granted));
	say(granted.flags & UBLK_F_NEED_GET_DATA ? ", get-data kept" : ", get-data dropped");
}

/* What the driver turns on by itself. */
static void add_granted(void)
{
	const uint64_t always = UBLK_F_CMD_IOCTL_ENCODE | UBLK_F_URING_CMD_COMP_IN_TASK;
	struct ublk_dev_info granted;

	say_result(add_with(plain, &granted));
	say((granted.flags & always) == always ? ", ioctl-encode comp-in-task" : ", neither");
	if (granted.flags & UBLK_F_PER_IO_DAEMON)
		say(" per-io-daemon");
	if (granted.flags & UBLK_F_BUF_REG_OFF_DAEMON)
		say(" buf-reg-off-daemon");
	if (granted.flags & UBLK_F_SAFE_STOP_DEV)
		say(" safe-stop");
}

static uint32_t taken_id;
CHANGE(id_taken, cmd->dev_id = info->dev_id = taken_id)

static void add_id_taken(void)
{
	struct device d;

	device_init(&d);
	expect_zero(device_add(&d, 0, 1, 1), "ADD_DEV");
	taken_id = d.info.dev_id;
	say_result(add_with(id_taken, NULL));
	expect_zero(control(&d, UBLK_CMD_DEL_DEV, NULL, 0, 0), "DEL_DEV");
}

static void no_device(void)
{
	struct ublk_dev_info info;
	struct device d;

	device_init(&d);
	d.info.dev_id = 4711;
	say_result(control(&d, UBLK_CMD_GET_DEV_INFO, &info, sizeof(info), 0));
	say_result(control(&d, UBLK_CMD_START_DEV, NULL, 0, (uint64_t)getpid()));
	say_result(control(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0));
	say_result(control(&d, UBLK_CMD_DEL_DEV, NULL, 0, 0));
}

/* ---- parameters ------------------------------------------------------------------ */

static int params_with(struct device *d, void (*change)(struct ublk_params *))
{
	struct ublk_params params = {
		.len = sizeof(params),
		.types = UBLK_PARAM_TYPE_BASIC,
		.basic = { .logical_bs_shift = 9, .physical_bs_shift = 12,
			   .max_sectors = IO_BYTES / 512, .dev_sectors = 2048 },
		.discard = { .discard_granularity = 512, .max_discard_sectors = 8,
			     .max_discard_segments = 1 },
	};

	change(&params);
	return control(d, UBLK_CMD_SET_PARAMS, &params, sizeof(params), 0);
}

static void p_none(struct ublk_params *p) { (void)p; }
static void p_no_basic(struct ublk_params *p) { p->types = UBLK_PARAM_TYPE_DISCARD; }
static void p_no_types(struct ublk_params *p) { p->types = 0; }
static void p_len_0(struct ublk_params *p) { p->len = 0; }
static void p_len_more(struct ublk_params *p) { p->len = sizeof(*p) + 1; }
static void p_shift_8(struct ublk_params *p) { p->basic.logical_bs_shift = 8; }
static void p_shift_13(struct ublk_params *p) { p->basic.logical_bs_shift = 13; }
static void p_shift_order(struct ublk_params *p) { p->basic.physical_bs_shift = 8; }
static void p_sectors_more(struct ublk_params *p) { p->basic.max_sectors += 1; }
static void p_sectors_7(struct ublk_params *p) { p->basic.max_sectors = 7; }
static void p_segments(struct ublk_params *p)
{
	p->types |= UBLK_PARAM_TYPE_DISCARD;
	p->discard.max_discard_segments = 2;
}
static void p_granularity(struct ublk_params *p)
{
	p->types |= UBLK_PARAM_TYPE_DISCARD;
	p->discard.discard_granularity = 0;
}
static void p_devt(struct ublk_params *p) { p->types |= UBLK_PARAM_TYPE_DEVT; }
static void p_unknown(struct ublk_params *p) { p->types |= 1u << 30; }
static void p_align(struct ublk_params *p)
{
	p->types |= UBLK_PARAM_TYPE_DMA_ALIGN;
	p->dma.alignment = 512; /* 511 is a mask, this is none */
}

static void params_case(void (*const *changes)(struct ublk_params *))
{
	struct device d;

	device_init(&d);
	expect_zero(device_add(&d, 0, 1, 1), "ADD_DEV");
	for (; *changes; changes++)
		say_result(params_with(&d, *changes));
	expect_zero(control(&d, UBLK_CMD_DEL_DEV, NULL, 0, 0), "DEL_DEV");
}

#define PARAMS_CASE(name, ...) \
	static void name(void) \
	{ \
		static void (*const changes[])(struct ublk_params *) = { __VA_ARGS__, NULL }; \
		params_case(changes); \
	}

PARAMS_CASE(params_basic, p_none, p_no_basic, p_no_types)
PARAMS_CASE(params_len, p_len_0, p_len_more)
PARAMS_CASE(params_blocks, p_shift_8, p_shift_13, p_shift_order)
PARAMS_CASE(params_sectors, p_sectors_7, p_sectors_more)
PARAMS_CASE(params_discard, p_segments, p_granularity)
PARAMS_CASE(params_devt, p_devt)
PARAMS_CASE(params_unknown, p_unknown)
PARAMS_CASE(params_align, p_align)

static void params_live(void)
{
	struct device d;

	device_live(&d, 0, 1, 2);
	say_result(device_params(&d));
	device_delete(&d);
}

/* GET_PARAMS takes the length from the structure, and adds the device numbers. */
static void get_params(void)
{
	struct ublk_params params = { 0 };
	struct device d;

	device_new(&d, 0, 1, 1);
	say_result(control(&d, UBLK_CMD_GET_PARAMS, &params, sizeof(params), 0));
	params.len = sizeof(params);
	say_result(control(&d, UBLK_CMD_GET_PARAMS, &params, sizeof(params), 0));
	say(", types %u, char %s, disk %s", params.types & 7, params.devt.char_major ? "yes" : "no",
	    params.devt.disk_major ? "yes" : "no");
	fetch_all(&d);
	expect_zero(start(&d), "START_DEV");
	params.len = sizeof(params);
	say_result(control(&d, UBLK_CMD_GET_PARAMS, &params, sizeof(params), 0));
	say(", disk %s", params.devt.disk_major ? "yes" : "no");
	device_delete(&d);
}

/* ---- without privilege --------------------------------------------------------------- */

/* Everybody may open the control device here; what the driver allows then is the question. */
static void become_nobody(void)
{
	if (chmod("/dev/ublk-control", 0666) || setgid(65534) || setuid(65534))
		give_up("nobody: %s", strerror(errno));
}

static void nobody_without_flag(void)
{
	become_nobody();
	say_result(add_with(plain, NULL));
}

static void root_with_flag(void)
{
	struct ublk_dev_info granted;

	say_result(add_with(unprivileged, &granted));
	say(granted.flags & UBLK_F_UNPRIVILEGED_DEV ? ", kept" : ", dropped");
}

static int with_limit(const char *limit)
{
	int fd = open("/sys/module/ublk_drv/parameters/ublks_max", O_WRONLY);
	int ret = fd < 0 || write(fd, limit, strlen(limit)) < 0 ? -errno : 0;

	close(fd);
	return ret;
}

static void nobody_past_the_limit(void)
{
	int root, nobody;
	pid_t pid;

	expect_zero(with_limit("0"), "ublks_max");
	root = add_with(plain, NULL);
	say("root %s, nobody ", result_name(root));
	pid = fork();
	if (!pid) {
		become_nobody();
		say("%s", result_name(add_with(unprivileged, NULL)));
		_exit(0);
	}
	doze(500);
	nobody = with_limit("64");
	expect_zero(nobody, "ublks_max");
}

/* Makes a device as nobody; its node belongs to root until that is changed. */
static void nobody_device(struct device *d, bool owned)
{
	char path[32];
	int fds[2], id = 0;

	/* One process stays root: it gives the node to nobody, as udev would. */
	if (pipe(fds))
		give_up("pipe");
	if (!fork()) {
		if (read(fds[0], &id, sizeof(id)) == sizeof(id)) {
			snprintf(path, sizeof(path), "/dev/ublkc%d", id);
			if (chown(path, 65534, 65534))
				say("chown: %s", strerror(errno));
		}
		_exit(0);
	}
	become_nobody();
	device_init(d);
	expect_zero(device_add(d, UBLK_F_UNPRIVILEGED_DEV, 1, 1), "ADD_DEV");
	id = (int)d->info.dev_id;
	if (owned && write(fds[1], &id, sizeof(id)) != sizeof(id))
		give_up("pipe");
	doze(100);
}

/* GET_DEV_INFO2 with a path in front of the structure. */
static int info_with_path(struct device *d, const char *path)
{
	struct { char path[64]; struct ublk_dev_info info; } buffer = { "" };
	struct ublk_ctrl_cmd *cmd;

	snprintf(buffer.path, sizeof(buffer.path), "%s", path);
	cmd = control_sqe(d, UBLK_CMD_GET_DEV_INFO2, &buffer, sizeof(buffer), 0);
	cmd->dev_path_len = sizeof(buffer.path);
	io_uring_submit(&d->ctrl);
	return control_end(d, 2000);
}

static void nobody_needs_the_path(void)
{
	struct ublk_dev_info info;
	struct device d;
	char path[32];

	nobody_device(&d, true);
	snprintf(path, sizeof(path), "/dev/ublkc%u", d.info.dev_id);
	say_result(control(&d, UBLK_CMD_GET_DEV_INFO2, &info, sizeof(info), 0));
	say_result(info_with_path(&d, "/dev/null"));
	say_result(info_with_path(&d, "/dev/nothing"));
	say_result(info_with_path(&d, path));
}

static void nobody_needs_permission(void)
{
	struct device d;
	char path[32];

	nobody_device(&d, false);
	snprintf(path, sizeof(path), "/dev/ublkc%u", d.info.dev_id);
	say_result(info_with_path(&d, path));
}

static void nobody_recovery(void)
{
	struct device d;

	become_nobody();
	device_init(&d);
	say_result(device_add(&d, UBLK_F_UNPRIVILEGED_DEV | UBLK_F_USER_RECOVERY, 1, 1));
	say(d.info.flags & UBLK_F_USER_RECOVERY ? ", kept" : ", dropped");
	(void)unprivileged_recovery;
}

static void nobody_user_copy(void)
{
	become_nobody();
	say_result(add_with(unprivileged_user_copy, NULL));
}

/* A device of root's is nobody else's to command. */
static void nobody_commands_roots(void)
{
	struct ublk_dev_info info;
	struct device d;

	device_init(&d);
	expect_zero(device_add(&d, 0, 1, 1), "ADD_DEV");
	become_nobody();
	say_result(control(&d, UBLK_CMD_GET_DEV_INFO, &info, sizeof(info), 0));
	say_result(control(&d, UBLK_CMD_DEL_DEV, NULL, 0, 0));
}

/* A server without privilege; root has given it the nodes, as udev would. */
static void nobodys_server(void *arg)
{
	bool *scanned = arg;
	struct event event;
	struct device d;
	int tries;

	become_nobody();
	device_init(&d);
	d.info = (struct ublk_dev_info){ .nr_hw_queues = 1, .queue_depth = 4,
		.max_io_buf_bytes = IO_BYTES, .dev_id = UBLK_DEV_ID_ANY,
		.flags = UBLK_F_UNPRIVILEGED_DEV };
	expect_zero(control(&d, UBLK_CMD_ADD_DEV, &d.info, sizeof(d.info), 0), "ADD_DEV");
	snprintf(d.path, sizeof(d.path), "/dev/ublkc%u", d.info.dev_id);
	server_ready(&d);
	for (tries = 0; access(d.path, W_OK) && tries < 500; tries++)
		doze(10);
	expect_zero(device_params(&d), "SET_PARAMS");
	device_open(&d);
	fetch_all(&d);
	d.silent = true;
	expect_zero(start(&d), "START_DEV");
	*scanned = next(&d, &event, 600);
	server_hold(&d, false);
}

static struct server nobody_serves(struct device *d, bool **scanned)
{
	struct server s;
	char path[64];

	*scanned = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	client_new();
	s = server_new(nobodys_server, *scanned);
	device_init(d);
	d->info.dev_id = (uint32_t)*s.id;
	snprintf(d->path, sizeof(d->path), "/dev/ublkc%d", *s.id);
	if (chown(d->path, 65534, 65534))
		give_up("chown: %s", strerror(errno));
	snprintf(path, sizeof(path), "/sys/block/ublkb%d/queue/io_timeout", *s.id);
	for (int tries = 0; access(path, F_OK) && tries < 800; tries++)
		doze(10);
	doze(1000);
	return s;
}

static void nobody_not_scanned(void)
{
	struct device d;
	struct server s;
	bool *scanned;

	s = nobody_serves(&d, &scanned);
	say("%s", *scanned ? "a read" : "no read");
	server_kill(&s);
	server_ended(&s, 8000);
}

static void nobody_timed_out(void)
{
	struct device d;
	struct server s;
	char path[64];
	bool *scanned;
	int fd, job;

	s = nobody_serves(&d, &scanned);
	snprintf(path, sizeof(path), "/sys/block/ublkb%d/queue/io_timeout", *s.id);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, "1000", 4) != 4)
		give_up("%s: %s", path, strerror(errno));
	close(fd);
	job = client_begin(&d, JOB_READ, 4096, 4096, -1);
	say("server %s", server_ended(&s, 15000) ? "killed" : "alive");
	say(", read %s", result_name(client_end(NULL, job, 15000)));
}

static void path_for_root_too(void)
{
	struct ublk_dev_info info;
	struct device d;
	struct server s;
	bool *scanned;

	s = nobody_serves(&d, &scanned);
	d.path[0] = '\0';
	say_result(control(&d, UBLK_CMD_GET_DEV_INFO, &info, sizeof(info), 0));
	server_kill(&s);
	server_ended(&s, 8000);
}

const struct claim add_claims[] = {
	{ "add-wants-queue-id-ffff", "ublk_ctrl_add_dev", add_queue_id, ALWAYS("-EINVAL") },
	{ "add-wants-64-bytes", "ublk_ctrl_add_dev", add_buffer,
	  ALWAYS("-EINVAL, -EINVAL, -EFAULT") },
	{ "add-depth-1-to-4096", "ublk_ctrl_add_dev", add_depth, ALWAYS("-EINVAL, 0, -EINVAL") },
	{ "add-clamps-queues-to-cpus", "ublk_ctrl_add_dev", add_queues,
	  ALWAYS("-EINVAL, -EINVAL, 0, one per CPU") },
	{ "add-ids-must-agree", "ublk_ctrl_add_dev", add_id_differs, ALWAYS("-EINVAL") },
	{ "add-id-below-2-to-the-20", "ublk_ctrl_add_dev", add_id_large, ALWAYS("-EINVAL") },
	{ "add-id-taken", "ublk_alloc_dev_number", add_id_taken, ALWAYS("-EEXIST") },
	{ "add-drops-unknown-flags", "ublk_ctrl_add_dev", add_unknown_flag,
	  ALWAYS("0, dropped") },
	{ "add-rounds-the-buffer-down", "ublk_align_max_io_size", add_odd_buffer,
	  ALWAYS("0, 12288") },
	{ "add-with-a-state", "ublk_ctrl_add_dev", added_as_live,
	  { { 0, "0, state 0, DEL_DEV 0" },
	    { KERNEL(6, 18), "0, state 1, DEL_DEV in flight" },
	    { KERNEL(7, 3), "0, state 0, DEL_DEV 0" } }, KERNEL(6, 18), KERNEL(6, 19) },
	{ "add-keeps-the-servers-flags", "ublk_ctrl_add_dev", add_own_flags, ALWAYS("0, kept") },
	{ "add-grants-by-itself", "ublk_ctrl_add_dev", add_granted,
	  { { 0, "0, ioctl-encode comp-in-task" },
	    { KERNEL(6, 16), "0, ioctl-encode comp-in-task per-io-daemon" },
	    { KERNEL(6, 18), "0, ioctl-encode comp-in-task per-io-daemon buf-reg-off-daemon" },
	    { KERNEL(7, 0),
	      "0, ioctl-encode comp-in-task per-io-daemon buf-reg-off-daemon safe-stop" } } },
	{ "user-copy-excludes-get-data", "ublk_ctrl_add_dev", add_get_data_user_copy,
	  ALWAYS("0, dropped") },
	{ "zoned-excludes-copy-mode", "ublk_ctrl_add_dev", add_zoned_copy, ALWAYS("-EINVAL") },
	{ "reissue-needs-recovery", "ublk_ctrl_add_dev", add_reissue_alone,
	  { { 0, "0" }, { KERNEL(6, 13), "-EINVAL" } } },
	{ "reissue-excludes-fail-io", "ublk_ctrl_add_dev", add_reissue_and_fail,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 13), "-EINVAL" } } },
	{ "quiesce-needs-recovery", "ublk_ctrl_add_dev", add_quiesce_alone,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 16), "-EINVAL" } } },
	{ "integrity-needs-user-copy", "ublk_ctrl_add_dev", add_integrity_alone,
	  { { 0, NOT_OFFERED }, { KERNEL(7, 0), "-EINVAL" } } },
	{ "descriptor-size-24-to-256", "ublk_ctrl_add_dev", add_desc_size,
	  { { 0, NOT_OFFERED }, { KERNEL(7, 2), "-EINVAL, -EINVAL, 0, -EINVAL" } } },
	{ "batch-excludes-get-data", "ublk_ctrl_add_dev", add_batch,
	  { { 0, NOT_OFFERED }, { KERNEL(7, 0), "0, get-data dropped" } } },
	{ "no-such-device", "ublk_ctrl_uring_cmd", no_device,
	  ALWAYS("-ENODEV, -ENODEV, -ENODEV, -ENODEV") },
	{ "params-need-basic", "ublk_validate_params", params_basic,
	  ALWAYS("0, -EINVAL, -EINVAL") },
	{ "params-len-within-the-buffer", "ublk_ctrl_set_params", params_len,
	  ALWAYS("-EINVAL, -EINVAL") },
	{ "params-block-512-to-4096", "ublk_validate_params", params_blocks,
	  ALWAYS("-EINVAL, -EINVAL, -EINVAL") },
	{ "params-max-sectors", "ublk_validate_params", params_sectors,
	  { { 0, "-EINVAL, -EINVAL" },
	    { KERNEL(6, 18), "0, -EINVAL" },
	    { KERNEL(7, 3), "-EINVAL, -EINVAL" } } },
	{ "params-discard", "ublk_validate_params", params_discard, ALWAYS("-EINVAL, -EINVAL") },
	{ "params-devt-is-read-only", "ublk_validate_params", params_devt, ALWAYS("-EINVAL") },
	{ "params-unknown-types-are-dropped", "ublk_ctrl_set_params", params_unknown, ALWAYS("0") },
	{ "params-alignment-is-a-mask", "ublk_validate_params", params_align,
	  { { 0, "0" }, { KERNEL(6, 15), "-EINVAL" } } },
	{ "params-are-read-by-length", "ublk_ctrl_get_params", get_params,
	  ALWAYS("-EINVAL, 0, types 5, char yes, disk no, 0, disk yes") },
	{ "params-only-before-start", "ublk_ctrl_set_params", params_live, ALWAYS("-EACCES") },
	{ "add-needs-privilege", "ublk_ctrl_add_dev", nobody_without_flag, ALWAYS("-EPERM") },
	{ "unprivileged-is-dropped-for-root", "ublk_ctrl_add_dev", root_with_flag,
	  ALWAYS("0, dropped") },
	{ "unprivileged-limit", "ublk_ctrl_add_dev", nobody_past_the_limit,
	  ALWAYS("root 0, nobody -EACCES") },
	{ "unprivileged-needs-the-path", "ublk_ctrl_uring_cmd_permission", nobody_needs_the_path,
	  ALWAYS("-EINVAL, -EPERM, -ENOENT, 0") },
	{ "unprivileged-needs-permission", "ublk_char_dev_permission", nobody_needs_permission,
	  ALWAYS("-EACCES") },
	{ "unprivileged-path-from-root-too", "ublk_ctrl_uring_cmd_permission", path_for_root_too,
	  ALWAYS("-EINVAL") },
	{ "unprivileged-is-not-scanned", "ublk_ctrl_start_dev", nobody_not_scanned,
	  ALWAYS("no read") },
	{ "unprivileged-time-out-kills", "ublk_timeout", nobody_timed_out,
	  ALWAYS("server killed, read -EIO") },
	{ "unprivileged-loses-recovery", "ublk_ctrl_add_dev", nobody_recovery,
	  ALWAYS("0, dropped") },
	{ "unprivileged-excludes-user-copy", "ublk_ctrl_add_dev", nobody_user_copy,
	  ALWAYS("-EINVAL") },
	{ "commands-need-privilege", "ublk_ctrl_uring_cmd_permission", nobody_commands_roots,
	  ALWAYS("-EPERM, -EPERM") },
	{ 0 },
};
