/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "worker-process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spec.h"
#include "util/json.h"
#include "util/macros.h"
#include "util/self.h"

#define MOST_READS 128
#define MOST_ARGUMENTS 16

/* ---- what it says ----------------------------------------------------------------------- */

/* What a pipe holds: one that goes on and on would keep all others waiting. */
static void read_stream(struct worker_stream *stream)
{
	unsigned reads = 0;
	ssize_t got = -1;

	while (reads++ < MOST_READS &&
	       (got = read(stream->readable.fd, stream->text + stream->used,
			   sizeof(stream->text) - 1 - stream->used)) > 0) {
		char *line = stream->text, *end;

		stream->used += (size_t)got;
		stream->text[stream->used] = 0;
		while ((end = strchr(line, '\n'))) {
			*end = 0;
			/* What it has logged before is the reason. */
			if (stream == &stream->process->out)
				read_stream(&stream->process->err);
			stream->on_line(stream->process, line);
			line = end + 1;
		}
		stream->used = strlen(line);
		/* A line that is too long is none of ours. */
		if (stream->used == sizeof(stream->text) - 1)
			stream->used = 0;
		memmove(stream->text, line, stream->used);
	}
	/* It has closed its files, and its end will be known soon. */
	if (!got)
		ev_io_stop(stream->process->loop, &stream->readable);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)loop;
	(void)events;
	read_stream(container_of(watcher, struct worker_stream, readable));
}

static void watch_stream(struct worker_process *process, struct worker_stream *stream, int fd,
			 void (*on_line)(struct worker_process *process, const char *line))
{
	stream->process = process;
	stream->on_line = on_line;
	stream->used = 0;
	ev_io_init(&stream->readable, on_readable, fd, EV_READ);
	ev_io_start(process->loop, &stream->readable);
}

/* ---- its end ---------------------------------------------------------------------------- */

void worker_process_shut(struct worker_process *process)
{
	cleanup_fd(&process->channel);
	process->channel = -1;
}

static void close_streams(struct worker_process *process)
{
	struct worker_stream *streams[] = { &process->out, &process->err };

	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		ev_io_stop(process->loop, &streams[i]->readable);
		close(streams[i]->readable.fd);
	}
	worker_process_shut(process);
	cleanup_fd(&process->pidfd);
	process->pidfd = -1;
}

int worker_process_signal(const struct worker_process *process, int signal)
{
	return syscall(SYS_pidfd_send_signal, process->pidfd, signal, NULL, 0) ? -errno : 0;
}

static void on_end(struct ev_loop *loop, ev_child *child, int events)
{
	struct worker_process *process = container_of(child, struct worker_process, child);

	(void)events;
	ev_child_stop(loop, child);
	/* What it said last. */
	read_stream(&process->err);
	read_stream(&process->out);
	close_streams(process);
	process->on_death(process, child->rstatus);
}

void worker_process_close(struct worker_process *process)
{
	if (!process->pid)
		return;
	ev_child_stop(process->loop, &process->child);
	close_streams(process);
	process->pid = 0;
}

/* ---- its start -------------------------------------------------------------------------- */

/* Ends of pipes and of the channel: ours and the process's. */
struct ends {
	int out[2], err[2], channel[2];
};

static int open_ends(struct ends *ends)
{
	*ends = (struct ends){ { -1, -1 }, { -1, -1 }, { -1, -1 } };
	if (pipe2(ends->out, O_CLOEXEC) || pipe2(ends->err, O_CLOEXEC) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends->channel))
		return -errno;
	if (fcntl(ends->out[0], F_SETFL, O_NONBLOCK) || fcntl(ends->err[0], F_SETFL, O_NONBLOCK))
		return -errno;
	return 0;
}

static void close_ends(struct ends *ends, int side)
{
	int *fds[] = { &ends->out[side], &ends->err[side], &ends->channel[!side] };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		cleanup_fd(fds[i]);
		*fds[i] = -1;
	}
}

static int spawn(pid_t *pid, char *const *argv, int folder, const struct ends *ends)
{
	posix_spawn_file_actions_t actions;
	int ret;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addfchdir_np(&actions, folder);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, ends->out[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, ends->err[1], STDERR_FILENO);
	posix_spawn_file_actions_adddup2(&actions, ends->channel[0], atoi(WORKER_CHANNEL));
	ret = self_spawn(pid, argv, &actions);
	posix_spawn_file_actions_destroy(&actions);
	return ret;
}

/* ["--as" USER "ublkd"] "--worker" CHANNEL OPTION… "--" NAME */
static int exec_worker(pid_t *pid, char *const *options, const char *user, const char *name,
		       int folder, const struct ends *ends)
{
	char title[SPEC_NAME_MOST + 1], *argv[MOST_ARGUMENTS];
	size_t used = 0;

	argv[used++] = (char *)(uintptr_t)"ublkd";
	if (user) {
		argv[used++] = (char *)(uintptr_t)"--as";
		argv[used++] = (char *)(uintptr_t)user;
		argv[used++] = (char *)(uintptr_t)"ublkd";
	}
	argv[used++] = (char *)(uintptr_t)"--worker";
	argv[used++] = (char *)(uintptr_t)WORKER_CHANNEL;
	for (size_t i = 0; options[i]; i++) {
		assert(used < MOST_ARGUMENTS - 3);
		argv[used++] = options[i];
	}
	argv[used++] = (char *)(uintptr_t)"--";
	/* It writes there what it is called, which ps shows. */
	snprintf(title, sizeof(title), "%-*s", SPEC_NAME_MOST, WORKER_SPARE);
	argv[used++] = name ? (char *)(uintptr_t)name : title;
	argv[used] = NULL;
	return spawn(pid, argv, folder, ends);
}

static void watch(struct worker_process *process, int out, int err)
{
	watch_stream(process, &process->out, out, process->on_line);
	watch_stream(process, &process->err, err, process->on_log);
	ev_child_init(&process->child, on_end, process->pid, 0);
	ev_child_start(process->loop, &process->child);
}

int worker_process_start(struct worker_process *process, char *const *options, const char *user,
			 const char *name, int folder)
{
	struct ends ends;
	pid_t pid = 0;
	int ret = open_ends(&ends);

	if (!ret)
		ret = exec_worker(&pid, options, user, name, folder, &ends);
	close_ends(&ends, 1);
	if (ret) {
		close_ends(&ends, 0);
		return ret;
	}
	/* Its number is its own until it is waited for, which may be before we hear of that. */
	process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (process->pidfd < 0) {
		ret = -errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		close_ends(&ends, 0);
		return ret;
	}
	process->pid = pid;
	process->channel = ends.channel[1];
	watch(process, ends.out[0], ends.err[0]);
	return 0;
}

static void unwatch(struct worker_process *process)
{
	ev_io_stop(process->loop, &process->out.readable);
	ev_io_stop(process->loop, &process->err.readable);
	ev_child_stop(process->loop, &process->child);
}

static void move_text(struct worker_stream *stream, const struct worker_stream *other)
{
	memcpy(stream->text, other->text, other->used);
	stream->used = other->used;
}

void worker_process_move(struct worker_process *process, struct worker_process *other)
{
	unwatch(other);
	process->pid = other->pid;
	process->pidfd = other->pidfd;
	process->channel = other->channel;
	watch(process, other->out.readable.fd, other->err.readable.fd);
	move_text(&process->out, &other->out);
	move_text(&process->err, &other->err);
	other->pid = 0;
	other->pidfd = other->channel = -1;
}

/* ---- what it is sent -------------------------------------------------------------------- */

static int put(const struct worker_process *process, char what, const int *fds, size_t count)
{
	char control[CMSG_SPACE(sizeof(int) * (1 + SPEC_MOST_FILES))] = { 0 };
	struct iovec data = { .iov_base = &what, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = CMSG_SPACE(sizeof(int) * count) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int) * count);
	memcpy(CMSG_DATA(header), fds, sizeof(int) * count);
	return sendmsg(process->channel, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}

/* Of a pair ours is the first, and the other goes, with files behind it. */
static int send_other(const struct worker_process *process, char what, const int pair[2],
		       const struct ublkd_passed *files)
{
	int fds[1 + SPEC_MOST_FILES] = { pair[1] };
	size_t count = 1;

	for (; files && files->option; files++)
		fds[count++] = files->fd;
	return put(process, what, fds, count);
}

static int open_pair(int pair[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) ? -errno : 0;
}

/* Written as a whole before it is sent: what a client may say fits into a socket's buffer. */
int worker_process_give(const struct worker_process *process, json_t *device,
			const struct ublkd_passed *files)
{
	int pair[2], ret = open_pair(pair);

	if (ret)
		return ret;
	if (json_write(device, pair[0], JSON_COMPACT))
		ret = -EMSGSIZE;
	else
		ret = send_other(process, WORKER_DEVICE, pair, files);
	close(pair[0]);
	close(pair[1]);
	return ret;
}

int worker_process_connect(const struct worker_process *process)
{
	int pair[2], ret = open_pair(pair);

	if (ret)
		return ret;
	ret = send_other(process, WORKER_CALL, pair, NULL);
	close(pair[1]);
	if (!ret)
		return pair[0];
	close(pair[0]);
	return ret;
}
