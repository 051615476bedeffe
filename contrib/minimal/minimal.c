/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A whole ublk server: a RAM disk as /dev/ublkbN. It needs liburing and, for
 * the numbers and structures of the driver, <ublkd/ublk_abi.h>; nothing else.
 * PROTOCOL, beside README, explains each step.
 *
 *	make
 *	./minimal [MIB] &	prints /dev/ublkbN when that can be used
 *	kill %1			SIGINT or SIGTERM: stops and deletes the device
 *
 * Two threads. The main thread issues the control commands: START_DEV and
 * STOP_DEV wait until requests have been served, so the thread that serves
 * must be another one. The queue's thread owns the queue: every FETCH and
 * every COMMIT comes from it, as the driver refuses a commit from elsewhere.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <ublkd/ublk_abi.h>

#define DEPTH 32           /* tags: requests the kernel may have open at once */
#define IO_BYTES (256u << 10) /* the largest request, and each tag's buffer */

struct server {
	struct io_uring ctrl; /* main thread; 128-byte SQEs */
	int ctrl_fd;          /* /dev/ublk-control */
	struct ublk_dev_info info;
	uint64_t bytes;
	char *disk;           /* the data */

	/* The queue's thread, once it runs. */
	struct io_uring ring;
	int char_fd;          /* /dev/ublkcN */
	const struct ublk_io_desc *descs; /* the driver writes, we read */
	size_t descs_bytes;
	char *buffers;        /* DEPTH times IO_BYTES */
};

static int failed(const char *what, int error)
{
	fprintf(stderr, "minimal: %s: %s\n", what, strerror(-error));
	return error;
}

/* The one way to the control device: queue a command and wait for its result. */
static int control(struct server *s, uint32_t op, void *buffer, uint16_t len, uint64_t data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ctrl);
	struct io_uring_cqe *cqe;
	struct ublk_ctrl_cmd *cmd;
	int ret;

	if (!sqe)
		return -EBUSY;
	memset(sqe, 0, 128);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = s->ctrl_fd;
	sqe->cmd_op = op;
	cmd = (void *)((char *)sqe + 48); /* bytes 48 to 79 */
	cmd->dev_id = s->info.dev_id;
	cmd->queue_id = UBLK_QUEUE_NONE;
	cmd->addr = (uintptr_t)buffer;
	cmd->len = len;
	cmd->data = data;

	ret = io_uring_submit(&s->ctrl);
	if (ret < 0)
		return ret;
	do {
		ret = io_uring_wait_cqe(&s->ctrl, &cqe);
	} while (ret == -EINTR);
	if (ret)
		return ret;
	ret = cqe->res;
	io_uring_cqe_seen(&s->ctrl, cqe);
	return ret;
}

/* FETCH_REQ the first time; later COMMIT_AND_FETCH_REQ with the request's result. */
static void queue_command(struct server *s, uint32_t op, uint16_t tag, int32_t result)
{
	/* At most one command for each tag is on its way, so the ring has room. */
	struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);
	struct ublk_io_cmd *cmd;

	if (!sqe)
		abort();
	memset(sqe, 0, 64);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = s->char_fd;
	sqe->cmd_op = op;
	sqe->user_data = tag; /* comes back in the CQE; the driver does not see it */
	cmd = (void *)((char *)sqe + 48); /* bytes 48 to 63 */
	cmd->q_id = 0;
	cmd->tag = tag;
	cmd->result = result;
	/* Where the driver puts a write's data, and takes a read's from. */
	cmd->addr = (uintptr_t)(s->buffers + (size_t)tag * IO_BYTES);
}

/*
 * Does the request of a tag and returns its result: the number of bytes, or
 * 0 for what moves none, or -errno. All of it or an error: newer drivers take a
 * short count for the whole.
 */
static int32_t serve(struct server *s, uint16_t tag)
{
	const struct ublk_io_desc *desc = &s->descs[tag];
	uint64_t offset = desc->start_sector * UBLK_SECTOR_SIZE;
	uint64_t length = (uint64_t)desc->nr_sectors * UBLK_SECTOR_SIZE;
	char *buffer = s->buffers + (size_t)tag * IO_BYTES;

	/* A flush has no sectors, and its start_sector is no number of one. */
	if ((desc->op_flags & UBLK_IO_OP_MASK) == UBLK_IO_OP_FLUSH)
		return 0; /* RAM has no cache to write back */
	if (offset > s->bytes || length > s->bytes - offset)
		return -EIO;
	switch (desc->op_flags & UBLK_IO_OP_MASK) {
	case UBLK_IO_OP_READ:
		memcpy(buffer, s->disk + offset, length);
		return (int32_t)length;
	case UBLK_IO_OP_WRITE:
		memcpy(s->disk + offset, buffer, length);
		return (int32_t)length;
	case UBLK_IO_OP_DISCARD:
	case UBLK_IO_OP_WRITE_ZEROES:
		memset(s->disk + offset, 0, length);
		return 0;
	}
	return -EOPNOTSUPP;
}

/* Fetch all tags; then, for each completion: serve, commit, and fetch again. */
static void *queue_thread(void *arg)
{
	struct server *s = arg;
	struct io_uring_cqe *cqe;
	int fetched = DEPTH;
	uint16_t tag;

	for (tag = 0; tag < DEPTH; tag++)
		queue_command(s, UBLK_IO_FETCH_REQ, tag, 0);
	while (fetched) {
		int ret = io_uring_submit_and_wait(&s->ring, 1);

		if (ret < 0 && ret != -EINTR)
			break;
		while (!io_uring_peek_cqe(&s->ring, &cqe)) {
			tag = (uint16_t)cqe->user_data;
			ret = cqe->res;
			io_uring_cqe_seen(&s->ring, cqe);
			if (ret == UBLK_IO_RES_OK) {
				queue_command(s, UBLK_IO_COMMIT_AND_FETCH_REQ, tag, serve(s, tag));
			} else {
				/* -ENODEV is the end: the device stops. Never fetch again. */
				if (ret != UBLK_IO_RES_ABORT)
					failed("a command was refused", ret);
				fetched--;
			}
		}
	}
	return NULL;
}

/* The number, the size and the limits of the device; /dev/ublkcN is there after it. */
static int add(struct server *s)
{
	struct ublk_params params = {
		.len = sizeof(params),
		.types = UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD,
		.basic = {
			.logical_bs_shift = 9,   /* 512 bytes */
			.physical_bs_shift = 12, /* 4096 */
			.io_opt_shift = 12,
			.io_min_shift = 12,
			.max_sectors = IO_BYTES / UBLK_SECTOR_SIZE,
			.dev_sectors = s->bytes / UBLK_SECTOR_SIZE,
		},
		.discard = {
			.discard_granularity = 4096,
			.max_discard_sectors = 1u << 20,
			.max_write_zeroes_sectors = 1u << 20,
			.max_discard_segments = 1,
		},
	};
	char path[32];
	int ret;

	s->info = (struct ublk_dev_info){
		.nr_hw_queues = 1,
		.queue_depth = DEPTH,
		.max_io_buf_bytes = IO_BYTES,
		.dev_id = UBLK_DEV_ID_ANY,
	};
	ret = control(s, UBLK_CMD_ADD_DEV, &s->info, sizeof(s->info), 0);
	if (ret)
		return failed("ADD_DEV", ret);
	/* The driver has written what it granted into info: the number too. */
	ret = control(s, UBLK_CMD_SET_PARAMS, &params, sizeof(params), 0);
	if (ret)
		return failed("SET_PARAMS", ret);

	snprintf(path, sizeof(path), "/dev/ublkc%u", s->info.dev_id);
	s->char_fd = open(path, O_RDWR | O_CLOEXEC);
	if (s->char_fd < 0)
		return failed(path, -errno);
	/* Queue 0 is at offset 0. The length has to be this, exactly. */
	s->descs_bytes = (DEPTH * sizeof(struct ublk_io_desc) + 4095) & ~4095ul;
	s->descs = mmap(NULL, s->descs_bytes, PROT_READ, MAP_SHARED, s->char_fd, 0);
	if (s->descs == MAP_FAILED)
		return failed("the descriptors", -errno);
	return 0;
}

/* From START_DEV to the end of the device. */
static int run(struct server *s, const sigset_t *signals)
{
	pthread_t thread;
	int ret, caught;

	ret = -pthread_create(&thread, NULL, queue_thread, s);
	if (ret)
		return failed("thread", ret);
	/* Waits for the last FETCH; older kernels read the partition table in it. */
	ret = control(s, UBLK_CMD_START_DEV, NULL, 0, (uint64_t)getpid());
	if (ret) {
		failed("START_DEV", ret);
	} else {
		printf("/dev/ublkb%u\n", s->info.dev_id);
		fflush(stdout);
		sigwait(signals, &caught);
	}
	/* Writes dirty pages back, which the queue's thread serves; then FETCHes end. */
	control(s, UBLK_CMD_STOP_DEV, NULL, 0, 0);
	pthread_join(thread, NULL);
	return ret;
}

int main(int argc, char **argv)
{
	struct server s = { .char_fd = -1, .descs = MAP_FAILED, .disk = MAP_FAILED };
	const int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	sigset_t signals;
	int ret;

	s.bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 64) << 20;
	/* Blocked before the first thread, so that only sigwait() sees them. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);

	s.ctrl_fd = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
	if (s.ctrl_fd < 0)
		return failed("/dev/ublk-control", -errno) ? 1 : 0;
	s.disk = mmap(NULL, s.bytes, prot, flags, -1, 0);
	/* Present from the start: the driver cannot copy into a page that is not there. */
	s.buffers = mmap(NULL, (size_t)DEPTH * IO_BYTES, prot, flags | MAP_POPULATE, -1, 0);
	if (s.disk == MAP_FAILED || s.buffers == MAP_FAILED)
		return failed("memory", -errno) ? 1 : 0;
	ret = io_uring_queue_init(4, &s.ctrl, IORING_SETUP_SQE128);
	if (!ret)
		ret = io_uring_queue_init(DEPTH, &s.ring, 0);
	if (ret)
		return failed("io_uring", ret) ? 1 : 0;

	s.info.dev_id = UBLK_DEV_ID_ANY;
	ret = add(&s);
	if (!ret)
		ret = run(&s, &signals);

	/* DEL_DEV waits for everything that still holds the device: let go first. */
	io_uring_queue_exit(&s.ring);
	if (s.descs != MAP_FAILED)
		munmap((void *)s.descs, s.descs_bytes);
	if (s.char_fd >= 0)
		close(s.char_fd);
	if (s.info.dev_id != UBLK_DEV_ID_ANY)
		control(&s, UBLK_CMD_DEL_DEV, NULL, 0, 0);
	return ret ? 1 : 0;
}
