/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of the control socket that adds a device of a file, FILE, and passes a descriptor
 * that is not what it says, for a guest test. Prints the answer. usage: passing SOCKET FILE
 * KIND; KIND is one of those below.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MS 15000
#define MOST 32

static int pipe_end(const char *file)
{
	int fds[2];

	(void)file;
	return pipe(fds) ? -1 : fds[0];
}

static int folder(const char *file)
{
	(void)file;
	return open("/", O_RDONLY | O_DIRECTORY);
}

static int a_socket(const char *file)
{
	(void)file;
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

static int write_only(const char *file)
{
	return open(file, O_WRONLY);
}

static int path_only(const char *file)
{
	return open(file, O_PATH);
}

static int usable(const char *file)
{
	return open(file, O_RDWR);
}

static const struct kind {
	const char *name;
	int (*open)(const char *file);
	unsigned count; /* of descriptors that come */
} kinds[] = {
	{ "pipe", pipe_end, 1 },	{ "folder", folder, 1 },      { "socket", a_socket, 1 },
	{ "write-only", write_only, 1 }, { "path-only", path_only, 1 }, { "none", usable, 0 },
	{ "more", usable, 4 },		{ "many", usable, MOST },     { NULL, NULL, 0 },
};

static int put(int fd, const char *text, const int *files, unsigned count)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(MOST * sizeof(int))] = { 0 };
	struct iovec data = { .iov_base = (char *)text, .iov_len = strlen(text) + 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
	struct cmsghdr *header = (struct cmsghdr *)control;

	if (count) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(header), files, count * sizeof(int));
	}
	return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)data.iov_len ? 0 : -1;
}

static int run(const char *path, const char *file, const struct kind *kind)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), files[MOST];
	struct pollfd waiting = { .fd = fd, .events = POLLIN };
	char text[4096], answer[4096];
	ssize_t got = -1;

	for (unsigned i = 0; i < MOST; i++)
		files[i] = i ? files[0] : kind->open(file);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	snprintf(text, sizeof(text), "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"file\","
		 "\"name\":\"passed\",\"options\":{\"path\":\"%s\",\"depth\":\"4\",\"max-io\":\"4K\"},"
		 "\"files\":{\"path\":0}}}", file);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    put(fd, text, files, kind->count)) {
		perror("passing");
		return 1;
	}
	if (poll(&waiting, 1, ANSWER_MS) == 1)
		got = recv(fd, answer, sizeof(answer) - 1, 0);
	printf("%.*s\n", got > 0 ? (int)got : 0, answer);
	return got <= 0;
}

int main(int argc, char **argv)
{
	const struct kind *kind = kinds;

	while (argc == 4 && kind->name && strcmp(kind->name, argv[3]))
		kind++;
	if (argc != 4 || !kind->name) {
		fprintf(stderr, "usage: passing SOCKET FILE KIND\n");
		return 2;
	}
	return run(argv[1], argv[2], kind);
}
