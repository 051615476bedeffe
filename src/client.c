/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "client.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "exit.h"
#include "log.h"
#include "util/clock.h"
#include "util/macros.h"

#define AWAIT_PAUSE_NS 50000000 /* 50 ms */
/* Of an answer, so that a server gone mad does not take all our memory. */
#define MOST_INPUT (64u << 20)

/* EAGAIN: so many have called at once that its socket takes no more just now. */
static bool may_pass(int error, bool await)
{
	return error == -EAGAIN || (await && (error == -ENOENT || error == -ECONNREFUSED));
}

static int reach(int fd, const struct sockaddr_un *address, double deadline, bool await)
{
	while (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address))) {
		int ret = -errno;

		if (fd < 0 || !may_pass(ret, await))
			return ret;
		if (clock_now() >= deadline)
			return ret == -EAGAIN ? -ETIMEDOUT : ret;
		nanosleep(&(struct timespec){ .tv_nsec = AWAIT_PAUSE_NS }, NULL);
	}
	return 0;
}

int client_open(struct connection *connection, const char *path, double timeout, bool await)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int ret;

	*connection = (struct connection){ .fd = -1, .timeout = timeout };
	if (strlen(path) >= sizeof(address.sun_path)) {
		ublkd_error("socket: expected a path of at most %zu bytes, got '%s'",
			    sizeof(address.sun_path) - 1, path);
		return -ENAMETOOLONG;
	}
	strcpy(address.sun_path, path);
	ret = reach(fd, &address, clock_now() + timeout, await);
	if (ret) {
		ublkd_error("cannot reach a server at '%s': %s%s", path, strerror(-ret),
			    ret == -ENOENT || ret == -ECONNREFUSED ?
				    ": 'ublkd serve --socket' makes one" : "");
		return ret;
	}
	connection->fd = steal_fd(&fd);
	return 0;
}

void client_close(struct connection *connection)
{
	cleanup_fd(&connection->fd);
	free(connection->input);
}

/* 0, or -errno. */
static int wait_for(const struct connection *connection, short events, double deadline)
{
	struct pollfd waiting = { .fd = connection->fd, .events = events };
	double left = deadline - clock_now();
	int ret = left <= 0 ? 0 : poll(&waiting, 1, (int)(left * 1000) + 1);

	return ret > 0 || (ret < 0 && errno == EINTR) ? 0 : ret ? -errno : -ETIMEDOUT;
}

/* Descriptors go with the first byte. */
static ssize_t send_with(int fd, const char *text, size_t length, const int *files, unsigned nr_files)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(CLIENT_FILES * sizeof(int))] = { 0 };
	struct iovec data = { .iov_base = (char *)(uintptr_t)text, .iov_len = length };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = CMSG_SPACE(nr_files * sizeof(int)) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	assert(nr_files <= CLIENT_FILES);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(nr_files * sizeof(int));
	memcpy(CMSG_DATA(header), files, nr_files * sizeof(int));
	return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static int put(const struct connection *connection, const char *text, const int *files,
	       unsigned nr_files, double deadline)
{
	size_t left = strlen(text) + 1;

	while (left) {
		ssize_t sent = nr_files ? send_with(connection->fd, text, left, files, nr_files) :
					  send(connection->fd, text, left, MSG_NOSIGNAL);
		int ret = sent < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;

		if (!ret && sent < 0)
			ret = wait_for(connection, POLLOUT, deadline);
		if (ret)
			return ret;
		text += MAX(sent, 0);
		left -= (size_t)MAX(sent, 0);
		if (sent > 0)
			nr_files = 0;
	}
	return 0;
}

/* Some more input; 0, or -errno. */
static int get_more(struct connection *connection, double deadline)
{
	ssize_t got;
	int ret;

	if (connection->used == connection->size) {
		size_t size = MAX(2 * connection->size, 4096);
		char *more = size <= MOST_INPUT ? realloc(connection->input, size) : NULL;

		if (!more)
			return -ENOMEM;
		connection->input = more;
		connection->size = size;
	}
	ret = wait_for(connection, POLLIN, deadline);
	if (ret)
		return ret;
	got = recv(connection->fd, connection->input + connection->used,
		   connection->size - connection->used, 0);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	connection->used += (size_t)got;
	return got ? 0 : -ECONNRESET;
}

/* The next message, NULL if it is none; 0, or -errno. */
static int get(struct connection *connection, double deadline, json_t **message)
{
	size_t searched = 0;
	char *nul;
	int ret;

	while (!(nul = connection->used > searched ? memchr(connection->input + searched, 0,
							      connection->used - searched) : NULL)) {
		searched = connection->used;
		ret = get_more(connection, deadline);
		if (ret)
			return ret;
	}
	*message = json_loads(connection->input, 0, NULL);
	connection->used -= (size_t)(nul + 1 - connection->input);
	memmove(connection->input, nul + 1, connection->used);
	return 0;
}

/* Has the members that client.h promises. */
static bool is_answer(json_t *answer)
{
	json_t *error = json_object_get(answer, "error");

	if (!json_object_get(answer, "parameters") && json_is_object(answer))
		json_object_set_new(answer, "parameters", json_object());
	return json_is_object(json_object_get(answer, "parameters")) &&
	       (!error || json_is_string(error));
}

void client_send(struct connection *connection, const char *method, json_t *parameters,
		 const int *files, unsigned nr_files)
{
	json_t *call = json_pack("{s:s, s:o}", "method", method, "parameters",
				 parameters ? parameters : json_object());
	_cleanup_free_ char *text = call ? json_dumps(call, JSON_COMPACT) : NULL;

	json_decref(call);
	connection->deadline = clock_now() + connection->timeout;
	connection->sent = text ? put(connection, text, files, nr_files, connection->deadline) :
				  -ENOMEM;
}

json_t *client_receive(struct connection *connection, int *status)
{
	json_t *answer = NULL;
	int ret = connection->sent;

	/* One that turned us away has said why before it hung up. */
	if (!ret || ret == -EPIPE || ret == -ECONNRESET)
		ret = get(connection, connection->deadline, &answer);
	if (!ret && is_answer(answer))
		return answer;
	json_decref(answer);
	*status = ret == -ETIMEDOUT ? EXIT_TIMEOUT : EXIT_RUNTIME;
	if (ret == -ETIMEDOUT)
		ublkd_error("the server has not answered within %.0f s", connection->timeout);
	else if (ret == -ECONNRESET)
		ublkd_error("the server has hung up");
	else
		ublkd_error("cannot talk to the server: %s",
			    ret ? strerror(-ret) : "its answer is no message of Varlink");
	return NULL;
}

json_t *client_call(struct connection *connection, const char *method, json_t *parameters,
		    const int *files, unsigned nr_files, int *status)
{
	client_send(connection, method, parameters, files, nr_files);
	return client_receive(connection, status);
}
