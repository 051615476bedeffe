/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of the ublk protocol, laid by hand: no liburing and none of the
 * driver's headers, only io_uring_setup and io_uring_enter. A RAM disk of
 * 16 MiB with one queue and ONE tag, served by one thread on one ring.
 * minimal.c is how a server is written; this is what it does to the memory.
 *
 * "raw --fetch" prints the 128 bytes of its FETCH_REQ as well.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DISK_BYTES (16u << 20)
#define IO_BYTES (64u << 10)
#define ENTRIES 8u

/* user_data: which command a CQE is of. Any number will do. */
enum { CONTROL = 1, TAG0 = 2 };

static struct {
	int fd;
	unsigned char *sqes;           /* ENTRIES slots of 128 bytes */
	unsigned *sq_tail, *sq_array, *cq_head, *cq_tail;
	unsigned mask, cq_mask, tail, pending; /* pending: queued, not yet handed over */
	struct io_uring_cqe *cqes;
} ring;
static volatile sig_atomic_t stop_asked;
static unsigned char disk[DISK_BYTES], buffer[IO_BYTES];

static void put16(unsigned char *at, uint16_t v) { memcpy(at, &v, 2); }
static void put32(unsigned char *at, uint32_t v) { memcpy(at, &v, 4); }
static void put64(unsigned char *at, uint64_t v) { memcpy(at, &v, 8); }

static uint32_t get32(const volatile unsigned char *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get64(const volatile unsigned char *at)
{
	return get32(at) | (uint64_t)get32(at + 4) << 32;
}

/* The ring that both kinds of command fit: SQEs of 128 bytes. */
static int open_ring(void)
{
	struct io_uring_params p = { .flags = IORING_SETUP_SQE128 };
	char *sq, *cq;

	ring.fd = (int)syscall(__NR_io_uring_setup, ENTRIES, &p);
	if (ring.fd < 0)
		return -errno;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED,
		  ring.fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * 16, PROT_READ | PROT_WRITE, MAP_SHARED,
		  ring.fd, IORING_OFF_CQ_RING);
	ring.sqes = mmap(NULL, p.sq_entries * 128, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd,
			 IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || ring.sqes == MAP_FAILED)
		return -errno;
	ring.sq_tail = (void *)(sq + p.sq_off.tail);
	ring.sq_array = (void *)(sq + p.sq_off.array);
	ring.mask = p.sq_entries - 1;
	ring.cq_head = (void *)(cq + p.cq_off.head);
	ring.cq_tail = (void *)(cq + p.cq_off.tail);
	ring.cq_mask = p.cq_entries - 1;
	ring.cqes = (void *)(cq + p.cq_off.cqes);
	return 0;
}

/*
 * What every command has in common. Bytes that are not written stay 0: 1 the
 * flags, 2 ioprio, 12 (must be 0), 16 addr (auto buffer registration only),
 * 24 len (nobody reads it), 28 the URING_CMD flags (must be 0), 40 to 47.
 */
static unsigned char *next_sqe(int fd, uint32_t command, uint64_t user_data)
{
	unsigned slot = ring.tail++ & ring.mask;
	unsigned char *sqe = ring.sqes + slot * 128;

	memset(sqe, 0, 128);
	sqe[0] = IORING_OP_URING_CMD;  /* 46 */
	put32(sqe + 4, (uint32_t)fd);
	put32(sqe + 8, command);
	put64(sqe + 32, user_data);
	ring.sq_array[slot] = slot;
	ring.pending++;
	return sqe;
}

/* The command of /dev/ublk-control: 32 bytes from byte 48, so it reaches byte 79. */
static void control(int fd, uint32_t command, uint32_t id, const void *at, uint16_t len,
		    uint64_t data)
{
	unsigned char *sqe = next_sqe(fd, command, CONTROL);

	put32(sqe + 48, id);
	put16(sqe + 52, 0xffff);       /* for no queue */
	put16(sqe + 54, len);
	put64(sqe + 56, (uintptr_t)at);
	put64(sqe + 64, data);
}

/* The command of /dev/ublkcN: 16 bytes from byte 48. A 64-byte SQE would do. */
static unsigned char *io(int fd, uint32_t command, int32_t result)
{
	unsigned char *sqe = next_sqe(fd, command, TAG0);

	put16(sqe + 48, 0);            /* queue */
	put16(sqe + 50, 0);            /* tag */
	put32(sqe + 52, (uint32_t)result);
	put64(sqe + 56, (uintptr_t)buffer);
	return sqe;
}

/* Hands the queued SQEs over and takes one CQE. Signals come in only while it waits. */
static int next_cqe(uint64_t *user_data, const sigset_t *while_waiting)
{
	unsigned head = *ring.cq_head;
	int res;

	__atomic_store_n(ring.sq_tail, ring.tail, __ATOMIC_RELEASE);
	while (ring.pending || head == __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE)) {
		long n = syscall(__NR_io_uring_enter, ring.fd, ring.pending, 1,
				 IORING_ENTER_GETEVENTS, while_waiting, _NSIG / 8);

		/* Having handed SQEs over it says how many, whatever ended the wait. */
		if (while_waiting && stop_asked) {
			stop_asked = 0;
			ring.pending -= n > 0 ? (unsigned)n : 0;
			return -EINTR;
		}
		if (n < 0)
			return -errno;
		ring.pending -= (unsigned)n;
	}
	*user_data = ring.cqes[head & ring.cq_mask].user_data;
	res = ring.cqes[head & ring.cq_mask].res;
	__atomic_store_n(ring.cq_head, head + 1, __ATOMIC_RELEASE);
	return res;
}

/* A control command while there is nothing else: its result. */
static int control_now(int fd, uint32_t command, uint32_t id, const void *at, uint16_t len)
{
	uint64_t user_data;

	control(fd, command, id, at, len, 0);
	return next_cqe(&user_data, NULL);
}

/* One request, from the 24 bytes of the descriptor. */
static int32_t serve(const volatile unsigned char *desc)
{
	uint32_t op = get32(desc) & 0xff;
	uint64_t at = get64(desc + 8) * 512, length = (uint64_t)get32(desc + 4) * 512;

	if (at + length > DISK_BYTES)
		return -EIO;
	if (op == 0)                   /* READ */
		memcpy(buffer, disk + at, length);
	else if (op == 1)              /* WRITE */
		memcpy(disk + at, buffer, length);
	else
		return -EOPNOTSUPP;
	return (int32_t)length;
}

static void show(const unsigned char *sqe)
{
	for (int i = 0; i < 128; i += 16) {
		printf("%3d ", i);
		for (int j = i; j < i + 16; j++)
			printf(" %02x", sqe[j]);
		printf("\n");
	}
}

static void on_signal(int number)
{
	(void)number;
	stop_asked = 1;
}

/* FETCH, START_DEV, serve, STOP_DEV, until the tag and the last command came back. */
static int live(int ctrl, int chr, uint32_t id, const volatile unsigned char *desc, int print)
{
	enum { STARTING, LIVE, STOPPING, STOPPED } state = STARTING;
	unsigned char *fetch = io(chr, 0xc0107520, 0); /* FETCH_REQ: no CQE until an I/O comes */
	sigset_t none;
	int fetched = 1, asked = 0, result = 0;

	sigemptyset(&none);
	if (print)
		show(fetch);
	control(ctrl, 0xc0207506, id, NULL, 0, (uint64_t)getpid()); /* START_DEV */
	while (fetched || state != STOPPED) {
		uint64_t user_data;
		int res;

		if (asked && state == LIVE) {
			control(ctrl, 0xc0207507, id, NULL, 0, 0); /* STOP_DEV */
			state = STOPPING;
		}
		res = next_cqe(&user_data, &none);
		if (res == -EINTR) {
			asked = 1;
		} else if (user_data == TAG0 && res == 0) {
			io(chr, 0xc0107521, serve(desc)); /* COMMIT_AND_FETCH_REQ */
		} else if (user_data == TAG0) { /* -ENODEV: the end of the tag */
			fetched = 0;
			if (res != -ENODEV)
				return res;
		} else if (state == STARTING && res == 0) {
			state = LIVE;
			printf("/dev/ublkb%u\n", id);
			fflush(stdout);
		} else if (state == STARTING) { /* let go of the FETCH */
			result = res;
			control(ctrl, 0xc0207507, id, NULL, 0, 0);
			state = STOPPING;
		} else {
			state = STOPPED;
		}
	}
	return result;
}

int main(int argc, char **argv)
{
	unsigned char info[64] = { 0 }, params[40] = { 0 }, *desc = MAP_FAILED;
	struct sigaction action = { .sa_handler = on_signal };
	char path[32];
	int ctrl, chr, ret;
	sigset_t signals;
	uint32_t id;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	/* The driver writes into the buffer only where a page is present. */
	memset(buffer, 0, sizeof(buffer));

	ctrl = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
	ret = ctrl < 0 ? -errno : open_ring();
	if (ret < 0)
		goto out;

	put16(info + 0, 1);            /* queues */
	put16(info + 2, 1);            /* depth */
	put32(info + 8, IO_BYTES);     /* largest request */
	put32(info + 12, 0xffffffff);  /* any number; the same as in the command */
	ret = control_now(ctrl, 0xc0207504, 0xffffffff, info, 64); /* ADD_DEV */
	if (ret < 0)
		goto out;
	id = get32(info + 12);

	put32(params + 0, 40);         /* bytes that are meant: the basic ones */
	put32(params + 4, 1);          /* types: basic */
	params[12] = 9;                /* logical block: 1 << 9 bytes */
	params[13] = 12;               /* physical block */
	params[14] = 12;               /* best I/O */
	params[15] = 12;               /* smallest good I/O */
	put32(params + 16, IO_BYTES / 512);
	put64(params + 24, DISK_BYTES / 512);
	ret = control_now(ctrl, 0xc0207508, id, params, 40); /* SET_PARAMS */

	snprintf(path, sizeof(path), "/dev/ublkc%u", id);
	chr = open(path, O_RDWR | O_CLOEXEC);
	if (!ret && chr >= 0) /* 1 tag of 24 bytes, rounded up to a page */
		desc = mmap(NULL, 4096, PROT_READ, MAP_SHARED, chr, 0);
	if (!ret)
		ret = desc == MAP_FAILED ? -errno :
					   live(ctrl, chr, id, desc, argc > 1 && !strcmp(argv[1], "--fetch"));
	if (desc != MAP_FAILED)
		munmap(desc, 4096);
	if (chr >= 0)
		close(chr);
	control_now(ctrl, 0xc0207505, id, NULL, 0); /* DEL_DEV */
out:
	if (ret < 0)
		fprintf(stderr, "raw: %s\n", strerror(-ret));
	return ret < 0;
}
