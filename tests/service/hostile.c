/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clients of the control socket that mean no good, for a guest test: idle
 * ones, and others that send chance, half messages, endless ones and deep
 * ones, files that nobody asked for, of the wrong kind or too many, do not read
 * what they asked for, or leave while a device is added for them. usage: hostile
 * SOCKET IDLE ROUNDS. Status 0: a decent client was answered in the end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LIST "{\"method\":\"io.ublkd.List\"}"
#define SHOW "{\"method\":\"io.ublkd.Show\",\"parameters\":{\"device\":\"0\"}}"
#define ADD "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"null\",\"options\":" \
	    "{\"size\":\"1M\",\"depth\":\"4\",\"max-io\":\"4K\"}}}"
#define WAIT "{\"method\":\"io.ublkd.Wait\",\"parameters\":{\"device\":\"web\"}}"
#define ADD_FILE "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"file\",\"options\":" \
		 "{\"path\":\"/no/such/file\"},\"files\":{\"path\":0}}}"
#define ANSWER_MS 15000
#define MOST_FILES 64
#define TRIES 20

static uint32_t seed = 1;

static uint32_t chance(uint32_t n)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % n;
}

static int reach(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		perror("hostile: connect");
		exit(1);
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* As much as it takes, and whether that was all; it may hang up whenever it likes. */
static bool put(int fd, const void *bytes, size_t length)
{
	const char *at = bytes;

	for (int i = 0; length && i < TRIES; i++) {
		ssize_t sent = send(fd, at, length, MSG_NOSIGNAL);

		if (sent < 0 && errno != EAGAIN)
			return false;
		if (sent < 0)
			usleep(1000);
		at += sent > 0 ? sent : 0;
		length -= sent > 0 ? (size_t)sent : 0;
	}
	return !length;
}

static void send_chance(int fd)
{
	uint8_t bytes[4096];
	size_t length = 1 + chance(sizeof(bytes));

	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)chance(256);
	put(fd, bytes, length);
}

static void send_half(int fd)
{
	put(fd, ADD, 1 + chance(sizeof(ADD) - 1));
}

static void send_repeated(int fd, char byte)
{
	char bytes[100000];

	memset(bytes, byte, sizeof(bytes));
	put(fd, bytes, sizeof(bytes));
}

static void send_deep(int fd)
{
	char bytes[60000];

	memset(bytes, '[', sizeof(bytes) - 1);
	bytes[sizeof(bytes) - 1] = 0;
	put(fd, bytes, sizeof(bytes));
}

static void ask_much(int fd)
{
	for (int i = 0; i < 500 && put(fd, SHOW, sizeof(SHOW)); i++)
		;
}

/* As they are, or a part of one; the kernel may refuse it where too many are on their way. */
static void send_files(int fd, const char *text, size_t length)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(MOST_FILES * sizeof(int))] = { 0 };
	struct iovec data = { .iov_base = (char *)text, .iov_len = length };
	uint32_t count = 1 + chance(MOST_FILES);
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int file = chance(2) ? open("/dev/null", O_RDWR | O_CLOEXEC) : memfd_create("hostile", MFD_CLOEXEC);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(count * sizeof(int));
	for (uint32_t i = 0; i < count; i++)
		memcpy(CMSG_DATA(header) + i * sizeof(int), &file, sizeof(int));
	for (int i = 0; i < 4 && sendmsg(fd, &message, MSG_NOSIGNAL) > 0; i++)
		;
	close(file);
}

static void be_bad(const char *path, unsigned way)
{
	int fd = reach(path);

	switch (way) {
	case 0:
		send_chance(fd);
		break;
	case 1:
		send_half(fd);
		break;
	case 2:
		send_repeated(fd, ' ');
		break;
	case 3:
		send_repeated(fd, 0);
		break;
	case 4:
		send_deep(fd);
		break;
	case 5:
		ask_much(fd);
		break;
	case 6:
		send_files(fd, ADD_FILE, sizeof(ADD_FILE));
		break;
	case 7:
		send_files(fd, WAIT, 1 + chance(sizeof(WAIT)));
		break;
	}
	close(fd);
}

/* Gets the answer to a decent question. */
static int be_good(const char *path)
{
	int fd = reach(path);
	struct pollfd waiting = { .fd = fd, .events = POLLIN };
	char answer[65536];
	ssize_t got = 0;

	put(fd, LIST, sizeof(LIST));
	if (poll(&waiting, 1, ANSWER_MS) == 1)
		got = recv(fd, answer, sizeof(answer) - 1, 0);
	answer[got > 0 ? got : 0] = 0;
	close(fd);
	if (!strncmp(answer, "{\"parameters\":{\"devices\":[", 26))
		return 0;
	fprintf(stderr, "hostile: a decent client got '%s'\n", answer);
	return 1;
}

int main(int argc, char **argv)
{
	int idle = argc == 4 ? atoi(argv[2]) : 0, rounds = argc == 4 ? atoi(argv[3]) : 0, fd;
	struct rlimit files;

	if (argc != 4) {
		fprintf(stderr, "usage: hostile SOCKET IDLE ROUNDS\n");
		return 2;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	for (int i = 0; i < idle; i++)
		reach(argv[1]);
	for (int i = 0; i < rounds; i++) {
		be_bad(argv[1], (unsigned)i % 8);
		if (i % 20 == 19 && be_good(argv[1]))
			return 1;
	}
	/* They stay as they are until the end: half messages, one with files, and answers that nobody takes. */
	send_half(reach(argv[1]));
	send_files(reach(argv[1]), WAIT, 4);
	ask_much(reach(argv[1]));
	fd = reach(argv[1]);
	put(fd, ADD, sizeof(ADD));
	close(fd);
	return be_good(argv[1]);
}
