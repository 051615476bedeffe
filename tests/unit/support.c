/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- stderr -------------------------------------------------------------- */

static int real_stderr = -1;

void capture_begin(void)
{
	int fd = memfd_create("stderr", MFD_CLOEXEC);

	assert_true(fd >= 0 && real_stderr < 0);
	real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	dup2(fd, STDERR_FILENO);
	close(fd);
}

const char *capture_end(void)
{
	static char text[16384];
	ssize_t got = pread(STDERR_FILENO, text, sizeof(text) - 1, 0);

	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	real_stderr = -1;
	assert_true(got >= 0);
	text[got] = 0;
	return text;
}

int run_captured(int (*run)(int argc, char **argv), const char *name, const char *const *args,
		 const char **said)
{
	char *argv[16] = { (char *)(uintptr_t)name };
	int argc = 1, status;

	for (; *args; args++) {
		assert_true(argc < 15);
		argv[argc++] = (char *)(uintptr_t)*args;
	}
	capture_begin();
	status = run(argc, argv);
	*said = capture_end();
	return status;
}

void assert_contains_at(const char *text, const char *part, const char *file, int line)
{
	if (strstr(text, part))
		return;
	print_error("expected '%s' in '%s'\n", part, text);
	_fail(file, line);
}

/* ---- processes ----------------------------------------------------------- */

bool aborts(void (*act)(void *arg), void *arg)
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		/* What the assertion says is of no interest, nor is a core. */
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
		close(STDERR_FILENO);
		act(arg);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* ---- files --------------------------------------------------------------- */

static char scratch[4096];

int scratch_make(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)state;
	snprintf(scratch, sizeof(scratch), "%s/ublkd-unit-XXXXXX", base ? base : "/tmp");
	return mkdtemp(scratch) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

int scratch_remove(void **state)
{
	(void)state;
	return nftw(scratch, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *scratch_path(const char *name)
{
	static char paths[8][sizeof(scratch) + 64];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", scratch, name);
	return path;
}

int scratch_file(const char *name, uint64_t size)
{
	int fd = open(scratch_path(name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	uint8_t *bytes = malloc(size);

	assert_true(fd >= 0 && bytes);
	for (uint64_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(i % 251);
	assert_int_equal(write(fd, bytes, size), size);
	free(bytes);
	return fd;
}

unsigned files_open(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

#define MOST_SENT 64

void send_with_files(int fd, const char *bytes, size_t length, const int *files, unsigned count)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(MOST_SENT * sizeof(int))] = { 0 };
	struct iovec data = { .iov_base = (char *)(uintptr_t)bytes, .iov_len = length };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = CMSG_SPACE(count * sizeof(int)) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	assert_in_range(count, 1, MOST_SENT);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(header), files, count * sizeof(int));
	assert_int_equal(sendmsg(fd, &message, MSG_NOSIGNAL), length);
}

/* ---- chance -------------------------------------------------------------- */

uint32_t random_below(uint64_t *seed, uint32_t n)
{
	/* The constants of MMIX's generator; its high bits are the good ones. */
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((*seed >> 33) % n);
}
