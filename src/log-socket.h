/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The system's log, at the socket of syslog(3). That function waits while nobody reads the
 * socket, and whoever reads it may wait for I/O of our devices, to write down what others
 * said; so this is ours, and never waits. What finds no room is lost, and counted. Main thread.
 */
#ifndef LOG_SOCKET_H
#define LOG_SOCKET_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct log_socket {
	int fd; /* -1: there is no connection yet, or not any more */
	struct sockaddr_un address;
	uint64_t lost; /* lines, since one went through */
};

/* path: fits into an address. Nothing is tried before the first line. */
void log_socket_init(struct log_socket *log, const char *path);
/* One line, as syslog(3) would send it; priority without a facility. */
void log_socket_send(struct log_socket *log, int priority, const char *text);
void log_socket_close(struct log_socket *log);

#endif
