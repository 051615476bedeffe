/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "harness.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MS 40 /* an answer that does not wait for anything is there by then */
#define LOOK_MS 5
#define LONG_MS 8000 /* what must happen does so by then, in a slow guest too */

char *harness_said;

/* ---- what a case says ---------------------------------------------------- */

void say(const char *format, ...)
{
	size_t used = strlen(harness_said);
	va_list args;

	va_start(args, format);
	vsnprintf(harness_said + used, SAID_BYTES - used, format, args);
	va_end(args);
}

const char *result_name(int result)
{
	static char names[8][24];
	static unsigned next_name;
	char *name = names[next_name++ % 8];

	if (result == IN_FLIGHT)
		return "in flight";
	if (result >= 0 || !strerrorname_np(-result))
		snprintf(name, sizeof(names[0]), "%d", result);
	else
		snprintf(name, sizeof(names[0]), "-%s", strerrorname_np(-result));
	return name;
}

void say_result(int result)
{
	say("%s%s", harness_said[0] ? ", " : "", result_name(result));
}

void give_up(const char *format, ...)
{
	char text[200];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say(" (the case gave up: %s)", text);
	show_waiting_tasks();
	_exit(1);
}

void expect_zero(int result, const char *what)
{
	if (result)
		give_up("%s: %s", what, result_name(result));
}

bool offered(uint64_t features)
{
	static uint64_t mask;
	struct device d;

	if (!mask) {
		device_init(&d);
		expect_zero(control(&d, UBLK_CMD_GET_FEATURES, &mask, sizeof(mask), 0), "features");
		io_uring_queue_exit(&d.ctrl);
		close(d.ctrl_fd);
	}
	return (mask & features) == features;
}

void need(uint64_t features)
{
	if (offered(features))
		return;
	say(NOT_OFFERED);
	_exit(0);
}

int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t patient_ms(void)
{
	static _Thread_local int64_t last, counted;
	const int64_t now = now_ms();
	const int64_t passed = last ? now - last : 0;

	counted += passed < 2 * LOOK_MS ? passed : 2 * LOOK_MS;
	last = now;
	return counted;
}

void doze(int ms)
{
	const int64_t end = patient_ms() + ms;

	do
		poll(NULL, 0, ms < LOOK_MS ? ms : LOOK_MS);
	while (patient_ms() < end);
}

/* ---- control commands -------------------------------------------------------- */

struct ublk_ctrl_cmd *control_sqe(struct device *d, uint32_t op, void *buffer, uint16_t len,
				  uint64_t data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&d->ctrl);
	struct ublk_ctrl_cmd *cmd;

	if (!sqe)
		give_up("the control ring is full");
	memset(sqe, 0, 128);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = d->ctrl_fd;
	sqe->cmd_op = op;
	cmd = (void *)((char *)sqe + 48);
	*cmd = (struct ublk_ctrl_cmd){
		.dev_id = d->info.dev_id,
		.queue_id = UBLK_QUEUE_NONE,
		.addr = (uintptr_t)buffer,
		.len = len,
		.data = data,
	};
	return cmd;
}

/* A device of an ordinary user's is named by a path too, also by root. */
void control_begin(struct device *d, uint32_t op, void *buffer, uint16_t len, uint64_t data)
{
	static struct {
		char path[sizeof(d->path)];
		char buffer[256];
	} both;
	struct ublk_ctrl_cmd *cmd = control_sqe(d, op, buffer, len, data);

	if (d->path[0]) {
		memcpy(both.path, d->path, sizeof(both.path));
		if (len)
			memcpy(both.buffer, buffer, len);
		cmd->addr = (uintptr_t)&both;
		cmd->dev_path_len = sizeof(both.path);
		cmd->len = (uint16_t)(sizeof(both.path) + len);
	}
	io_uring_submit(&d->ctrl);
}

int control_end(struct device *d, int ms)
{
	int64_t end = patient_ms() + ms;
	struct io_uring_cqe *cqe;
	int res;

	while (io_uring_peek_cqe(&d->ctrl, &cqe)) {
		if (patient_ms() > end)
			return IN_FLIGHT;
		if (d->char_fd >= 0 && !d->silent)
			serve_for(d, 5);
		else
			doze(3);
	}
	res = cqe->res;
	io_uring_cqe_seen(&d->ctrl, cqe);
	return res;
}

int control(struct device *d, uint32_t op, void *buffer, uint16_t len, uint64_t data)
{
	control_begin(d, op, buffer, len, data);
	return control_end(d, LONG_MS);
}

/* ---- a device -------------------------------------------------------------- */

void device_init(struct device *d)
{
	*d = (struct device){ .char_fd = -1, .disk = -1, .info.dev_id = UBLK_DEV_ID_ANY };
	d->ctrl_fd = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
	if (d->ctrl_fd < 0)
		give_up("/dev/ublk-control: %s", strerror(errno));
	expect_zero(io_uring_queue_init(8, &d->ctrl, IORING_SETUP_SQE128), "control ring");
	d->ring.ring_fd = -1;
}

int device_add(struct device *d, uint64_t flags, unsigned queues, unsigned depth)
{
	d->info = (struct ublk_dev_info){
		.nr_hw_queues = (uint16_t)queues,
		.queue_depth = (uint16_t)depth,
		.max_io_buf_bytes = IO_BYTES,
		.dev_id = UBLK_DEV_ID_ANY,
		.flags = flags,
	};
	return control(d, UBLK_CMD_ADD_DEV, &d->info, sizeof(d->info), 0);
}

int device_params(struct device *d)
{
	struct ublk_params params = {
		.len = sizeof(params),
		.types = UBLK_PARAM_TYPE_BASIC,
		.basic = {
			.logical_bs_shift = 9,
			.physical_bs_shift = 12,
			.io_opt_shift = 12,
			.io_min_shift = 9,
			.max_sectors = IO_BYTES / UBLK_SECTOR_SIZE,
			.dev_sectors = DISK_BYTES / UBLK_SECTOR_SIZE,
		},
	};

	return control(d, UBLK_CMD_SET_PARAMS, &params, sizeof(params), 0);
}

bool copies(const struct device *d)
{
	return !(d->info.flags &
		 (UBLK_F_USER_COPY | UBLK_F_SUPPORT_ZERO_COPY | UBLK_F_AUTO_BUF_REG));
}

uint64_t buffer_of(struct device *d, unsigned queue, unsigned tag)
{
	return (uintptr_t)d->buffers + ((size_t)queue * d->info.queue_depth + tag) * IO_BYTES;
}

void device_open(struct device *d)
{
	const unsigned slots = d->info.nr_hw_queues * d->info.queue_depth;
	const off_t stride = (off_t)(UBLK_MAX_QUEUE_DEPTH * sizeof(struct ublk_io_desc));
	char path[32];
	unsigned q;

	snprintf(path, sizeof(path), "/dev/ublkc%u", d->info.dev_id);
	d->char_fd = open(path, O_RDWR | O_CLOEXEC);
	if (d->char_fd < 0)
		give_up("%s: %s", path, strerror(errno));
	d->descs_bytes = (d->info.queue_depth * sizeof(struct ublk_io_desc) + 4095) & ~4095ul;
	for (q = 0; q < d->info.nr_hw_queues && q < MAX_QUEUES; q++) {
		d->descs[q] = mmap(NULL, d->descs_bytes, PROT_READ, MAP_SHARED, d->char_fd,
				   q * stride);
		if (d->descs[q] == MAP_FAILED)
			give_up("descriptors of queue %u: %s", q, strerror(errno));
	}
	if (d->disk < 0) {
		d->disk = memfd_create("disk", MFD_CLOEXEC);
		if (ftruncate(d->disk, DISK_BYTES))
			give_up("memory");
	}
	d->buffers = mmap(NULL, (size_t)slots * IO_BYTES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	expect_zero(io_uring_queue_init(256, &d->ring, 0), "ring");
	if (d->info.flags & (UBLK_F_SUPPORT_ZERO_COPY | UBLK_F_AUTO_BUF_REG))
		expect_zero(io_uring_register_buffers_sparse(&d->ring, slots), "buffer table");
}

void device_new(struct device *d, uint64_t flags, unsigned queues, unsigned depth)
{
	device_init(d);
	expect_zero(device_add(d, flags, queues, depth), "ADD_DEV");
	expect_zero(device_params(d), "SET_PARAMS");
	device_open(d);
}

void device_close(struct device *d)
{
	unsigned q;

	if (d->ring.ring_fd >= 0)
		io_uring_queue_exit(&d->ring);
	d->ring.ring_fd = -1;
	for (q = 0; q < MAX_QUEUES; q++) {
		if (d->descs[q])
			munmap((void *)d->descs[q], d->descs_bytes);
		d->descs[q] = NULL;
	}
	if (d->buffers)
		munmap(d->buffers, (size_t)d->info.nr_hw_queues * d->info.queue_depth * IO_BYTES);
	d->buffers = NULL;
	if (d->char_fd >= 0)
		close(d->char_fd);
	d->char_fd = -1;
	d->stashed = 0;
}

void device_delete(struct device *d)
{
	expect_zero(control(d, UBLK_CMD_STOP_DEV, NULL, 0, 0), "STOP_DEV");
	device_close(d);
	expect_zero(control(d, UBLK_CMD_DEL_DEV, NULL, 0, 0), "DEL_DEV");
	io_uring_queue_exit(&d->ctrl);
	close(d->ctrl_fd);
	if (d->disk >= 0)
		close(d->disk);
}

void fetch_all(struct device *d)
{
	unsigned q, tag;

	for (q = 0; q < d->info.nr_hw_queues; q++)
		for (tag = 0; tag < d->info.queue_depth; tag++)
			command(d, UBLK_IO_FETCH_REQ, q, tag, 0);
	submit(d);
}

int start(struct device *d)
{
	return control(d, UBLK_CMD_START_DEV, NULL, 0, (uint64_t)getpid());
}

void device_live(struct device *d, uint64_t flags, unsigned queues, unsigned depth)
{
	device_new(d, flags, queues, depth);
	fetch_all(d);
	expect_zero(start(d), "START_DEV");
}

unsigned state_of(struct device *d)
{
	struct ublk_dev_info info;

	expect_zero(control(d, UBLK_CMD_GET_DEV_INFO, &info, sizeof(info), 0), "GET_DEV_INFO");
	return info.state;
}

/* ---- I/O commands ------------------------------------------------------------ */

struct io_uring_sqe *raw_sqe(struct io_uring *ring, enum kind kind, unsigned queue, unsigned tag)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		give_up("the ring is full");
	memset(sqe, 0, 64);
	sqe->user_data = (uint64_t)kind << 32 | queue << 16 | tag;
	return sqe;
}

struct ublk_io_cmd *command_of(struct io_uring_sqe *sqe)
{
	return (void *)((char *)sqe + 48);
}

static struct io_uring_sqe *command_on(struct io_uring *ring, struct device *d, uint32_t op,
				       unsigned queue, unsigned tag, int32_t result)
{
	struct io_uring_sqe *sqe = raw_sqe(ring, IO, queue, tag);

	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = d->char_fd;
	sqe->cmd_op = op;
	if (d->info.flags & UBLK_F_AUTO_BUF_REG)
		sqe->addr = ublk_auto_buf_reg(
			(uint16_t)(queue * d->info.queue_depth + tag), 0);
	*command_of(sqe) = (struct ublk_io_cmd){
		.q_id = (uint16_t)queue,
		.tag = (uint16_t)tag,
		.result = result,
		.addr = copies(d) ? buffer_of(d, queue, tag) : 0,
	};
	return sqe;
}

struct io_uring_sqe *command(struct device *d, uint32_t op, unsigned queue, unsigned tag,
			     int32_t result)
{
	return command_on(&d->ring, d, op, queue, tag, result);
}

/* In this thread, as far as it may have it. */
static void set_sys_admin(bool on)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
	const uint32_t bit = 1u << CAP_SYS_ADMIN;

	if (syscall(SYS_capget, &header, sets))
		give_up("capget: %s", strerror(errno));
	sets[0].effective = on ? sets[0].effective | (sets[0].permitted & bit) :
				 sets[0].effective & ~bit;
	if (syscall(SYS_capset, &header, sets))
		give_up("capset: %s", strerror(errno));
}

static void submit_ring(struct io_uring *ring)
{
	int ret = io_uring_submit(ring);

	if (ret < 0)
		give_up("submit: %s", result_name(ret));
}

/*
 * What a thread without privilege fetches is not scanned for partitions, so
 * that on every kernel a device that was started is quiet.
 */
void submit_quietly(struct io_uring *ring)
{
	set_sys_admin(false);
	submit_ring(ring);
	set_sys_admin(true);
}

void submit(struct device *d)
{
	if (d->scanned)
		submit_ring(&d->ring);
	else
		submit_quietly(&d->ring);
}

static int left_until(int64_t end)
{
	const int64_t now = patient_ms();

	return now < end ? (int)(end - now) : 0;
}

static bool take(struct io_uring *ring, struct event *event, int ms)
{
	struct __kernel_timespec time = { .tv_nsec = LOOK_MS * 1000000l };
	const int64_t end = patient_ms() + ms;
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(ring, &cqe)) {
		if (patient_ms() >= end)
			return false;
		io_uring_wait_cqe_timeout(ring, &cqe, &time);
	}
	*event = (struct event){
		.kind = (enum kind)(cqe->user_data >> 32 & 0xff),
		.question = (unsigned)(cqe->user_data >> 40),
		.queue = cqe->user_data >> 16 & 0xffff,
		.tag = cqe->user_data & 0xffff,
		.res = cqe->res,
	};
	io_uring_cqe_seen(ring, cqe);
	return true;
}

bool next(struct device *d, struct event *event, int ms)
{
	if (d->stashed) {
		*event = d->stash[0];
		memmove(d->stash, d->stash + 1, --d->stashed * sizeof(d->stash[0]));
		return true;
	}
	return take(&d->ring, event, ms);
}

/* A number of its own for each question, as an earlier one may be in flight still. */
static unsigned mark(struct io_uring_sqe *sqe, enum kind kind)
{
	static unsigned question;

	sqe->user_data = (sqe->user_data & 0xffffffffu) | (uint64_t)kind << 32 |
			 (uint64_t)++question << 40;
	return question;
}

int ask_on(struct io_uring *ring, struct io_uring_sqe *sqe, int ms)
{
	const int64_t end = patient_ms() + ms;
	unsigned question = mark(sqe, PROBE);
	struct event event;

	submit_quietly(ring);
	while (take(ring, &event, left_until(end)))
		if (event.question == question)
			return event.res;
	return IN_FLIGHT;
}

/* A command that stays in flight is the tag's fetch from then on. */
int ask(struct device *d, struct io_uring_sqe *sqe)
{
	const int64_t end = patient_ms() + ANSWER_MS;
	unsigned question = mark(sqe, PROBE);
	struct event event;

	submit(d);
	while (take(&d->ring, &event, left_until(end))) {
		if (event.question == question)
			return event.res;
		d->stash[d->stashed++] = event;
	}
	return IN_FLIGHT;
}

int ask_command(struct device *d, uint32_t op, unsigned queue, unsigned tag, int32_t result)
{
	return ask(d, command(d, op, queue, tag, result));
}

const struct ublk_io_desc *desc_of(struct device *d, const struct event *event)
{
	return &d->descs[event->queue][event->tag];
}

/* Something on the ring whose result is needed now. */
static int now(struct device *d, struct io_uring_sqe *sqe)
{
	unsigned question = mark(sqe, OTHER);
	struct event event;

	submit(d);
	while (take(&d->ring, &event, LONG_MS)) {
		if (event.question == question)
			return event.res;
		d->stash[d->stashed++] = event;
	}
	give_up("an operation on the ring did not end");
}

/* Moves so many bytes of a request between it and the disk, in the device's data mode. */
int serve_data(struct device *d, const struct event *event, uint32_t bytes)
{
	const struct ublk_io_desc *desc = desc_of(d, event);
	const bool read = (desc->op_flags & UBLK_IO_OP_MASK) == UBLK_IO_OP_READ;
	const off_t at = (off_t)desc->start_sector * UBLK_SECTOR_SIZE;
	const uint16_t slot = (uint16_t)(event->queue * d->info.queue_depth + event->tag);
	char *buffer = (char *)(uintptr_t)buffer_of(d, event->queue, event->tag);
	uint64_t place = ublk_data_offset((uint16_t)event->queue, (uint16_t)event->tag, 0);
	struct io_uring_sqe *sqe;
	ssize_t n;
	int res;

	if (copies(d))
		return (int)(read ? pread(d->disk, buffer, bytes, at) :
				    pwrite(d->disk, buffer, bytes, at));
	if (d->info.flags & UBLK_F_USER_COPY) {
		if (!read && pread(d->char_fd, buffer, bytes, (off_t)place) != (ssize_t)bytes)
			return -errno;
		n = read ? pread(d->disk, buffer, bytes, at) : pwrite(d->disk, buffer, bytes, at);
		if (read && pwrite(d->char_fd, buffer, (size_t)n, (off_t)place) != n)
			return -errno;
		return (int)n;
	}
	if (!(d->info.flags & UBLK_F_AUTO_BUF_REG)) {
		sqe = command(d, UBLK_IO_REGISTER_IO_BUF, event->queue, event->tag, 0);
		command_of(sqe)->addr = slot;
		expect_zero(now(d, sqe), "REGISTER_IO_BUF");
	}
	sqe = raw_sqe(&d->ring, OTHER, 0, 0);
	if (read)
		io_uring_prep_read_fixed(sqe, d->disk, NULL, bytes, (uint64_t)at, slot);
	else
		io_uring_prep_write_fixed(sqe, d->disk, NULL, bytes, (uint64_t)at, slot);
	res = now(d, sqe);
	if (!(d->info.flags & UBLK_F_AUTO_BUF_REG)) {
		sqe = command(d, UBLK_IO_UNREGISTER_IO_BUF, event->queue, event->tag, 0);
		command_of(sqe)->addr = slot;
		expect_zero(now(d, sqe), "UNREGISTER_IO_BUF");
	}
	return res;
}

void commit(struct device *d, const struct event *event, int32_t result)
{
	command(d, UBLK_IO_COMMIT_AND_FETCH_REQ, event->queue, event->tag, result);
	submit(d);
}

void serve(struct device *d, const struct event *event)
{
	const struct ublk_io_desc *desc;
	int res = 0;

	if (event->res == UBLK_IO_RES_ABORT)
		d->aborted++;
	if (event->kind == HEAD || event->kind == OTHER || event->res < 0)
		return;
	if (event->res == UBLK_IO_RES_NEED_GET_DATA) {
		command(d, UBLK_IO_NEED_GET_DATA, event->queue, event->tag, 0);
		submit(d);
		return;
	}
	if (event->tag < 32)
		d->seen[event->queue] |= 1u << event->tag;
	desc = desc_of(d, event);
	if ((desc->op_flags & UBLK_IO_OP_MASK) <= UBLK_IO_OP_WRITE)
		res = serve_data(d, event, desc->nr_sectors * UBLK_SECTOR_SIZE);
	commit(d, event, res);
}

void serve_for(struct device *d, int ms)
{
	int64_t end = patient_ms() + ms;
	struct event event;

	do {
		if (next(d, &event, left_until(end)))
			serve(d, &event);
	} while (patient_ms() < end);
}

struct event wait_io(struct device *d, unsigned op, uint64_t sector)
{
	int64_t end = patient_ms() + LONG_MS;
	struct event event;

	while (patient_ms() < end) {
		if (!next(d, &event, 100))
			continue;
		if (event.res >= 0 && event.kind != HEAD && event.kind != OTHER &&
		    (desc_of(d, &event)->op_flags & UBLK_IO_OP_MASK) == op &&
		    desc_of(d, &event)->start_sector == sector)
			return event;
		serve(d, &event);
	}
	give_up("no request %u at sector %llu", op, (unsigned long long)sector);
}

/* ---- the client -------------------------------------------------------------- */

#define JOBS 256
#define JOB_BYTES IO_BYTES

struct job {
	int number, op, id, cpu;
	uint32_t len;
	uint64_t offset;
};

static struct {
	int socket;
	int jobs;
	char *buffers;                  /* shared */
	volatile struct { int ended, result; } *results; /* shared */
} client;

static int held = -1;

static int do_job(const struct job *job)
{
	char *buffer = client.buffers + (size_t)job->number * JOB_BYTES;
	const bool buffered = job->op == JOB_BUFFERED_WRITE || job->op == JOB_FSYNC;
	char path[32];
	ssize_t n = 0;
	int fd;

	if (job->op == JOB_RELEASE) {
		close(held);
		return 0;
	}
	if (job->cpu >= 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(job->cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	snprintf(path, sizeof(path), "/dev/ublkb%d", job->id);
	fd = open(path, (job->op == JOB_READ || job->op == JOB_HOLD ? O_RDONLY : O_RDWR) |
				(buffered || job->op == JOB_HOLD ? 0 : O_DIRECT));
	if (fd < 0)
		return -errno;
	if (job->op == JOB_HOLD) {
		held = fd;
		return 0;
	}
	if (job->op == JOB_READ)
		n = pread(fd, buffer, job->len, (off_t)job->offset);
	else if (job->op == JOB_FSYNC)
		n = fsync(fd);
	else
		n = pwrite(fd, buffer, job->len, (off_t)job->offset);
	if (n < 0)
		n = -errno;
	/* What matters has happened; closing may have to wait for the server. */
	client.results[job->number].result = (int)n;
	__atomic_store_n(&client.results[job->number].ended, 1, __ATOMIC_RELEASE);
	close(fd);
	return (int)n;
}

static void *job_thread(void *arg)
{
	struct job *job = arg;
	int result = do_job(job);

	client.results[job->number].result = result;
	__atomic_store_n(&client.results[job->number].ended, 1, __ATOMIC_RELEASE);
	free(job);
	return NULL;
}

static void client_loop(void)
{
	pthread_t thread;
	struct job *job;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		job = malloc(sizeof(*job));
		if (!job || recv(client.socket, job, sizeof(*job), 0) != sizeof(*job))
			_exit(0);
		if (pthread_create(&thread, NULL, job_thread, job))
			_exit(1);
		pthread_detach(thread);
	}
}

void client_new(void)
{
	int pair[2];

	client.buffers = mmap(NULL, (size_t)JOBS * JOB_BYTES, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	client.results = mmap(NULL, JOBS * sizeof(client.results[0]), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		give_up("socketpair");
	client.socket = pair[1];
	if (!fork()) {
		close(pair[0]);
		client_loop();
	}
	close(pair[1]);
	client.socket = pair[0];
}

int client_begin(struct device *d, enum job_op op, uint64_t offset, uint32_t len, int cpu)
{
	struct job job = {
		.number = client.jobs++,
		.op = op,
		.id = (int)d->info.dev_id,
		.cpu = cpu,
		.len = len,
		.offset = offset,
	};

	if (job.number >= JOBS)
		give_up("too many jobs");
	if (send(client.socket, &job, sizeof(job), 0) != sizeof(job))
		give_up("the client is gone");
	return job.number;
}

bool client_ended(int job, int *result)
{
	if (!__atomic_load_n(&client.results[job].ended, __ATOMIC_ACQUIRE))
		return false;
	*result = client.results[job].result;
	return true;
}

int client_end(struct device *d, int job, int ms)
{
	int64_t end = patient_ms() + ms;
	int result;

	while (!client_ended(job, &result)) {
		if (patient_ms() > end)
			return IN_FLIGHT;
		if (d && d->char_fd >= 0 && !d->silent)
			serve_for(d, 5);
		else
			doze(3);
	}
	return result;
}

char *client_buffer(int job)
{
	return client.buffers + (size_t)job * JOB_BYTES;
}

/* ---- other threads and processes ---------------------------------------------- */

struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int (*call)(void *);
	void *argument;
	int result;
};

static void *worker_loop(void *arg)
{
	struct worker *w = arg;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (!w->call)
			pthread_cond_wait(&w->changed, &w->lock);
		w->result = w->call(w->argument);
		w->call = NULL;
		pthread_cond_broadcast(&w->changed);
	}
	return NULL;
}

/* A thread that lives on: the tags of one that has ended fail their requests. */
struct worker *worker_new(void)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (!w)
		give_up("memory");
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	if (pthread_create(&w->thread, NULL, worker_loop, w))
		give_up("thread");
	return w;
}

int worker_call(struct worker *w, int (*call)(void *), void *argument)
{
	int result;

	pthread_mutex_lock(&w->lock);
	w->argument = argument;
	w->call = call;
	pthread_cond_broadcast(&w->changed);
	while (w->call)
		pthread_cond_wait(&w->changed, &w->lock);
	result = w->result;
	pthread_mutex_unlock(&w->lock);
	return result;
}

static volatile int *server_id;

struct server server_new(void (*body)(void *), void *argument)
{
	int64_t end = patient_ms() + LONG_MS;
	struct server s;

	s.id = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*s.id = -1;
	s.pid = fork();
	if (!s.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		server_id = s.id;
		body(argument);
		_exit(0);
	}
	while (*s.id < 0) {
		if (patient_ms() > end)
			give_up("the server did not start");
		doze(3);
	}
	return s;
}

void server_ready(const struct device *d)
{
	*server_id = (int)d->info.dev_id;
}

void server_hold(struct device *d, bool serve_it)
{
	for (;;) {
		if (serve_it)
			serve_for(d, 1000);
		else
			doze(1000);
	}
}

void server_kill(struct server *s)
{
	kill(s->pid, SIGKILL);
}

bool server_ended(struct server *s, int ms)
{
	int64_t end = patient_ms() + ms;

	while (waitpid(s->pid, NULL, WNOHANG) != s->pid) {
		if (patient_ms() > end)
			return false;
		doze(3);
	}
	return true;
}

void device_adopt(struct device *d, int id)
{
	device_init(d);
	d->info.dev_id = (uint32_t)id;
	expect_zero(control(d, UBLK_CMD_GET_DEV_INFO, &d->info, sizeof(d->info), 0),
		    "GET_DEV_INFO");
}

bool wait_gone(int id, int ms)
{
	int64_t end = patient_ms() + ms;
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/ublkb%d", id);
	while (!access(path, F_OK)) {
		if (patient_ms() > end)
			return false;
		doze(3);
	}
	return true;
}

bool wait_state(struct device *d, unsigned state, int ms)
{
	int64_t end = patient_ms() + ms;

	while (state_of(d) != state) {
		if (patient_ms() > end)
			return false;
		doze(3);
	}
	return true;
}
