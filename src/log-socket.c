/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "log-socket.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "util/macros.h"

/* A line, and what stands before it. */
#define MOST_BYTES 1100

void log_socket_init(struct log_socket *log, const char *path)
{
	assert(strlen(path) < sizeof(log->address.sun_path));
	*log = (struct log_socket){ .fd = -1, .address.sun_family = AF_UNIX };
	strcpy(log->address.sun_path, path);
}

void log_socket_close(struct log_socket *log)
{
	cleanup_fd(&log->fd);
	log->fd = -1;
}

static int reach(struct log_socket *log)
{
	log->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (log->fd < 0)
		return -errno;
	return connect(log->fd, (const struct sockaddr *)&log->address, sizeof(log->address)) ?
		       -errno : 0;
}

/* Whoever reads may have been started again since the last line, and then has another socket. */
static bool put(struct log_socket *log, const char *text, size_t length)
{
	for (int tries = 0; tries < 2; tries++) {
		if (log->fd < 0 && reach(log)) {
			log_socket_close(log);
			return false;
		}
		if (send(log->fd, text, length, MSG_NOSIGNAL) >= 0)
			return true;
		if (errno == EAGAIN || errno == ENOBUFS || errno == EMSGSIZE)
			return false;
		log_socket_close(log);
	}
	return false;
}

/* Without a time, which is the reader's to add: our clock's zone is in a file. */
static bool put_line(struct log_socket *log, int priority, const char *text)
{
	char line[MOST_BYTES];
	int length = snprintf(line, sizeof(line), "<%d>ublkd[%d]: %s", LOG_DAEMON | priority,
			      (int)getpid(), text);

	return put(log, line, MIN((size_t)length, sizeof(line) - 1));
}

void log_socket_send(struct log_socket *log, int priority, const char *text)
{
	char lost[64];

	snprintf(lost, sizeof(lost), "ublkd: %" PRIu64 " line(s) of the log were lost", log->lost);
	/* First, as that is where they are missing. */
	if (log->lost && put_line(log, LOG_WARNING, lost))
		log->lost = 0;
	if (log->lost || !put_line(log, priority, text))
		log->lost++;
}
