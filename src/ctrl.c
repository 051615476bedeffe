/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ctrl.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "log.h"
#include "module.h"
#include "util/macros.h"
#include "util/parse.h"

#define CTRL_SQES 32

const char *ctrl_op_name(uint32_t op)
{
	switch (op) {
	case UBLK_CMD_GET_QUEUE_AFFINITY:
		return "GET_QUEUE_AFFINITY";
	case UBLK_CMD_ADD_DEV:
		return "ADD_DEV";
	case UBLK_CMD_DEL_DEV:
		return "DEL_DEV";
	case UBLK_CMD_START_DEV:
		return "START_DEV";
	case UBLK_CMD_STOP_DEV:
		return "STOP_DEV";
	case UBLK_CMD_SET_PARAMS:
		return "SET_PARAMS";
	case UBLK_CMD_GET_PARAMS:
		return "GET_PARAMS";
	case UBLK_CMD_UPDATE_SIZE:
		return "UPDATE_SIZE";
	case UBLK_CMD_GET_FEATURES:
		return "GET_FEATURES";
	case UBLK_CMD_START_USER_RECOVERY:
		return "START_USER_RECOVERY";
	case UBLK_CMD_END_USER_RECOVERY:
		return "END_USER_RECOVERY";
	case UBLK_CMD_TRY_STOP_DEV:
		return "TRY_STOP_DEV";
	case UBLK_CMD_GET_DEV_INFO2:
		return "GET_DEV_INFO2";
	case UBLK_CMD_QUIESCE_DEV:
		return "QUIESCE_DEV";
	default:
		return "unknown command";
	}
}

/* What most likely stands behind an error; op 0 is any command. */
static const char *likely_cause(uint32_t op, int error)
{
	static const struct {
		uint32_t op;
		int error;
		const char *cause;
	} causes[] = {
		{ UBLK_CMD_ADD_DEV, EEXIST, "the device number is taken" },
		{ UBLK_CMD_ADD_DEV, EACCES,
		  "the driver's limit of devices is reached; see the module parameter "
		  "ublks_max of ublk_drv" },
		{ UBLK_CMD_ADD_DEV, EINVAL, "this kernel refuses the depth, queues or features" },
		{ UBLK_CMD_ADD_DEV, ENOMEM, "no memory for the queues; try a smaller depth" },
		{ UBLK_CMD_START_DEV, EINVAL, "this kernel refuses the block sizes or limits" },
		{ UBLK_CMD_SET_PARAMS, EINVAL, "this kernel refuses the block sizes or limits" },
		{ UBLK_CMD_SET_PARAMS, EACCES, "the device is started already" },
		{ UBLK_CMD_START_DEV, EEXIST, "the device is started already" },
		{ UBLK_CMD_START_USER_RECOVERY, EBUSY, "another server has the device" },
		{ 0, EPERM, "root, or CAP_SYS_ADMIN, is needed" },
		{ 0, EACCES, "root, or permission for the device's node, is needed" },
		{ 0, ENODEV, "somebody deleted the device" },
		{ 0, EOPNOTSUPP, "this kernel's ublk driver has no such command" },
		{ 0, EINTR, "the command was interrupted" },
		{ 0, ETIMEDOUT, "the driver does not answer; the kernel log may say why" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(causes); i++) {
		if ((!causes[i].op || causes[i].op == op) && causes[i].error == -error)
			return causes[i].cause;
	}
	return "the kernel log may say more";
}

void ctrl_report(const struct ctrl_command *command, int result)
{
	char device[32] = "the driver";

	if (command->dev_id != UBLK_DEV_ID_ANY)
		snprintf(device, sizeof(device), "device %u", command->dev_id);
	else if (command->op == UBLK_CMD_ADD_DEV)
		snprintf(device, sizeof(device), "a new device");
	ublkd_error("%s for %s failed: %s (errno %d): %s", ctrl_op_name(command->op), device,
		    strerror(-result), -result, likely_cause(command->op, result));
}

/* ---- the reasons why the control device may be missing --------------------- */

static void explain_missing_node(int error)
{
	struct utsname system;

	if (error != -ENOENT && error != -ENXIO && error != -ENODEV) {
		ublkd_error("cannot open '" CONTROL_NODE "': %s: root, or permission for "
			    "the node, is needed; see DEVICES OF ORDINARY USERS in ublkd(8)",
			    strerror(-error));
	} else if (!access("/sys/module/ublk_drv", F_OK)) {
		ublkd_error("cannot open '" CONTROL_NODE "': %s: the driver ublk_drv is loaded, "
			    "but its node is missing; expected devtmpfs or udev to make it",
			    strerror(-error));
	} else if (!uname(&system) && module_known("", system.release)) {
		ublkd_error("cannot open '" CONTROL_NODE "': %s: the module ublk_drv is not "
			    "loaded; 'modprobe ublk_drv' loads it", strerror(-error));
	} else {
		ublkd_error("cannot open '" CONTROL_NODE "': %s: the running kernel %s has no "
			    "ublk driver; expected one built with CONFIG_BLK_DEV_UBLK",
			    strerror(-error), system.release);
	}
}

static void explain_no_ring(int error)
{
	uint64_t disabled = 0;

	read_uint_file("/proc/sys/kernel/io_uring_disabled", &disabled);
	if (disabled)
		ublkd_error("cannot make an io_uring: %s: the setting kernel.io_uring_disabled "
			    "is %u, expected 0", strerror(-error), (unsigned)disabled);
	else if (error == -EPERM || error == -EACCES || error == -ENOSYS)
		ublkd_error("cannot make an io_uring: %s: a seccomp filter or security policy "
			    "may forbid it", strerror(-error));
	else if (error == -EINVAL)
		ublkd_error("cannot make an io_uring with 128-byte entries: %s: expected "
			    "Linux 6.0 or later", strerror(-error));
	else
		ublkd_error("cannot make an io_uring: %s", strerror(-error));
}

/* ---- commands ------------------------------------------------------------- */

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct ctrl_command *command = container_of(timer, struct ctrl_command, timer);
	struct ctrl_helper *helper = command->helper;
	const char *before = log_switch(command->about);

	(void)loop;
	(void)events;
	if (command->late)
		command->late(command);
	log_switch(before);
	/* The command may be gone by now; its helper is not. */
	if (helper)
		ctrl_helper_late(helper);
}

/* Who owns a device is not known before its information is there. */
static bool wants_path(const struct ctrl_command *command)
{
	return command->of_user || command->op == UBLK_CMD_GET_DEV_INFO2;
}

static void load(struct ctrl_command *command)
{
	command->path_length = 0;
	if (!wants_path(command))
		return;
	assert(command->length <= CTRL_BUFFER_MAX);
	command->path_length = (uint16_t)snprintf(command->carried, CTRL_PATH_SIZE,
						  "/dev/ublkc%" PRIu32, command->dev_id) + 1;
	if (command->length)
		memcpy(command->carried + command->path_length, command->buffer, command->length);
}

static void unload(const struct ctrl_command *command)
{
	if (command->path_length && command->length)
		memcpy(command->buffer, command->carried + command->path_length, command->length);
}

void ctrl_ended(struct ctrl_command *command, int result)
{
	const char *before = log_switch(command->about);

	command->pending = false;
	ev_timer_stop(command->ctrl->loop, &command->timer);
	log_debug("%s for device %d: %d", ctrl_op_name(command->op), (int)command->dev_id, result);
	command->done(command, result);
	log_switch(before);
}

static void on_ring(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct ctrl *ctrl = container_of(watcher, struct ctrl, on_ring);
	struct io_uring_cqe *cqe;
	uint64_t count;

	(void)loop;
	(void)events;
	if (read(ctrl->ring.event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return;
	/* done() may issue the next command, or close us. */
	while (ctrl->fd >= 0 && !io_uring_peek_cqe(&ctrl->ring.uring, &cqe)) {
		struct ctrl_command *command = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&ctrl->ring.uring, cqe);
		unload(command);
		ctrl_ended(command, result);
	}
}

static void fill_sqe(struct io_uring_sqe *sqe, int fd, const struct ctrl_command *command)
{
	struct ublk_ctrl_cmd *cmd = (void *)sqe->cmd;

	memset(sqe->cmd, 0, 80); /* the second half, which ring_sqe() leaves */
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = fd;
	sqe->cmd_op = command->op;
	*cmd = (struct ublk_ctrl_cmd){
		.dev_id = command->dev_id,
		.queue_id = UBLK_QUEUE_NONE,
		.addr = (uintptr_t)(command->path_length ? command->carried : command->buffer),
		.len = command->path_length + command->length,
		.data = command->data,
		.dev_path_len = command->path_length,
	};
}

/*
 * All but those that only copy what the driver has in memory. The others take locks, of the
 * device or of the driver, that a command holds while it waits for the device's I/O; so each of
 * them may wait for another's, and that cannot be interrupted.
 */
static bool may_get_stuck(uint32_t op)
{
	return op != UBLK_CMD_GET_FEATURES && op != UBLK_CMD_GET_DEV_INFO2 &&
	       op != UBLK_CMD_GET_QUEUE_AFFINITY;
}

static void issue_by_ring(struct ctrl_command *command)
{
	struct ring *ring = &command->ctrl->ring;
	struct io_uring_sqe *sqe = ring_sqe(ring);

	load(command);
	fill_sqe(sqe, command->ctrl->fd, command);
	io_uring_sqe_set_data(sqe, command);
	while (ring_submit(ring) == -EINTR)
		;
}

void ctrl_issue(struct ctrl *ctrl, struct ctrl_command *command)
{
	command->ctrl = ctrl;
	command->about = log_about();
	command->pending = true;
	ev_timer_init(&command->timer, on_deadline, command->deadline, command->deadline);
	ev_timer_start(ctrl->loop, &command->timer);
	command->helper = NULL;
	if (!may_get_stuck(command->op) || ctrl_helper_run(ctrl, command))
		issue_by_ring(command);
}

void ctrl_abandon(struct ctrl_command *command)
{
	ev_timer_stop(command->ctrl->loop, &command->timer);
	if (command->pending && command->helper)
		ctrl_helper_abandon(command->helper);
	command->pending = false;
}

/* A signal that stops and continues us ends the wait, and not the command. */
int ctrl_run(struct ctrl *ctrl, struct ctrl_command *command)
{
	struct io_uring_cqe *cqe;
	int ret;

	load(command);
	fill_sqe(ring_sqe(&ctrl->ring), ctrl->fd, command);
	do {
		ret = ring_submit_and_wait(&ctrl->ring, 1);
		if (!ret || ret == -EINTR)
			ret = io_uring_peek_cqe(&ctrl->ring.uring, &cqe);
	} while (ret == -EAGAIN);
	if (ret)
		return ret;
	ret = cqe->res;
	io_uring_cqe_seen(&ctrl->ring.uring, cqe);
	unload(command);
	return ret;
}

static int open_node(void)
{
	int fd = open(CONTROL_NODE, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Plain: completions must make the eventfd readable by themselves. */
static int open_ring(struct ctrl *ctrl)
{
	return ring_open(&ctrl->ring, CTRL_SQES, 0, RING_PLAIN, IORING_SETUP_SQE128);
}

int ctrl_open_alone(struct ctrl *ctrl)
{
	int fd = open_node(), ret;

	if (fd < 0)
		return fd;
	*ctrl = (struct ctrl){ .fd = fd };
	ret = open_ring(ctrl);
	if (ret)
		close(fd);
	return ret;
}

int ctrl_run_one(struct ctrl_command *command)
{
	struct ctrl ctrl;
	int ret = ctrl_open_alone(&ctrl);

	if (ret)
		return ret;
	ret = ctrl_run(&ctrl, command);
	ring_close(&ctrl.ring);
	close(ctrl.fd);
	return ret;
}

int ctrl_open(struct ctrl *ctrl, struct ev_loop *loop)
{
	_cleanup_fd_ int fd = open_node();
	int ret;

	if (fd < 0) {
		explain_missing_node(fd);
		return fd;
	}
	ret = open_ring(ctrl);
	if (ret) {
		explain_no_ring(ret);
		return ret;
	}
	ctrl->fd = steal_fd(&fd);
	ctrl->loop = loop;
	ctrl->helpers = NULL;
	ctrl->stuck.loop = loop;
	ctrl->stuck.first = NULL;
	ev_io_init(&ctrl->on_ring, on_ring, ctrl->ring.event_fd, EV_READ);
	ev_io_start(loop, &ctrl->on_ring);
	return 0;
}

void ctrl_close(struct ctrl *ctrl)
{
	if (ctrl->fd < 0)
		return;
	stuck_close(&ctrl->stuck);
	ctrl_helpers_close(ctrl);
	ev_io_stop(ctrl->loop, &ctrl->on_ring);
	ring_close(&ctrl->ring);
	close(ctrl->fd);
	ctrl->fd = -1;
}
