/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "background.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "exit.h"
#include "log.h"
#include "util/macros.h"

/* Copies what the child reports, up to a NUL; its end without that is its failure. */
static int wait_for_child(pid_t pid, int fd)
{
	char text[4096];
	bool ready = false, printed = true;
	ssize_t got;
	int status;

	do {
		got = read(fd, text, sizeof(text));
		if (got > 0) {
			ssize_t size = got - !text[got - 1];

			ready |= size < got;
			printed = (!size || write(STDOUT_FILENO, text, (size_t)size) == size) && printed;
		}
	} while (got > 0 || (got < 0 && errno == EINTR));
	if (ready)
		return printed ? EXIT_DONE : EXIT_RUNTIME;
	if (waitpid(pid, &status, 0) != pid)
		return EXIT_RUNTIME;
	if (WIFSIGNALED(status)) {
		ublkd_error("the background process died of signal %d", WTERMSIG(status));
		return EXIT_RUNTIME;
	}
	return WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_RUNTIME;
}

int background_start(struct background *background)
{
	int pipe_fds[2], status;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC)) {
		ublkd_error("cannot make a pipe: %s", strerror(errno));
		return EXIT_RUNTIME;
	}
	pid = fork();
	if (pid < 0)
		ublkd_error("cannot fork: %s", strerror(errno));
	if (pid != 0) {
		close(pipe_fds[1]);
		status = pid < 0 ? EXIT_RUNTIME : wait_for_child(pid, pipe_fds[0]);
		close(pipe_fds[0]);
		return status;
	}
	close(pipe_fds[0]);
	setsid();
	background->report_fd = pipe_fds[1];
	return -1;
}

void background_ready(struct background *background, const char *lines)
{
	_cleanup_fd_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	size_t left = strlen(lines) + 1;
	ssize_t written;

	/* First the streams, so that a reader of them sees their end. */
	log_to_syslog();
	for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	if (chdir("/"))
		log_debug("cannot change to the root directory: %s", strerror(errno));
	while (left && (written = write(background->report_fd, lines, left)) > 0) {
		lines += written;
		left -= (size_t)written;
	}
	if (left)
		log_debug("nobody waits for the report: %s", strerror(errno));
	close(background->report_fd);
	background->report_fd = -1;
}

int pid_file_write(const char *path)
{
	_cleanup_file_ FILE *file = fopen(path, "we");

	if (file && fprintf(file, "%d\n", (int)getpid()) > 0 && !fflush(file))
		return 0;
	ublkd_error("cannot write the pid file '%s': %s", path, strerror(errno));
	return -errno;
}
