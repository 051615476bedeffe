/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "service.h"

#include <assert.h>
#include <errno.h>
#include <libgen.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "identity.h"
#include "log.h"
#include "util/macros.h"

#define BACKLOG 128
#define PAUSE_SECONDS 1

/* A descriptor that came, and how many bytes of the input came before it, and with it. */
struct file {
	int fd;
	size_t until;
};

struct client {
	struct service *service;
	struct client *next, **link;
	int fd;
	ev_io on_input, on_output;
	ev_timer timer;            /* while it owes us the rest of a message, or has an answer to take */
	struct service_call *call; /* being answered */
	char *input;               /* what came behind the last message */
	size_t input_used, input_size;
	size_t searched;           /* so many bytes of it are no NUL */
	char *output;              /* an answer, NULL: none waits */
	size_t output_used, output_size;
	bool working;              /* go_on() is at it, and would come to itself again */
	bool last;                 /* hang up when the answer was taken */
	bool ended;                /* nothing more comes */
	bool crowded;              /* it sent more files than we keep */
	struct file files[SERVICE_FILES]; /* of messages that are not heard yet */
	unsigned nr_files;
};

/* ---- files -------------------------------------------------------------------------- */

static void close_file(struct service *service, int fd)
{
	service->nr_files--;
	close(fd);
}

int service_take_file(struct service_call *call, unsigned index)
{
	int fd = index < call->nr_files ? call->files[index] : -1;

	if (fd < 0)
		return -1;
	call->files[index] = -1;
	call->service->nr_files--;
	return fd;
}

static void close_files(struct service_call *call)
{
	for (unsigned i = 0; i < call->nr_files; i++) {
		if (call->files[i] >= 0)
			close_file(call->service, call->files[i]);
	}
	call->nr_files = 0;
}

static void keep_file(struct client *client, int fd)
{
	if (client->nr_files == SERVICE_FILES || client->service->nr_files == SERVICE_ALL_FILES) {
		client->crowded = true;
		close(fd);
		return;
	}
	client->files[client->nr_files++] = (struct file){ fd, client->input_used };
	client->service->nr_files++;
}

/* What came with the input that was received just now. */
static void keep_files(struct client *client, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			keep_file(client, fd);
		}
	}
	/* The kernel has closed what there was no room for. */
	client->crowded |= message->msg_flags & MSG_CTRUNC;
}

/* A message of so many bytes, with the NUL, leaves the input; its files are the call's. */
static void give_files(struct client *client, struct service_call *call, size_t length)
{
	unsigned left = 0;

	for (unsigned i = 0; i < client->nr_files; i++) {
		struct file *file = &client->files[i];

		if (file->until > length)
			client->files[left++] = (struct file){ file->fd, file->until - length };
		else if (call)
			call->files[call->nr_files++] = file->fd;
		else
			close_file(client->service, file->fd);
	}
	client->nr_files = left;
}

/* ---- the end of a client ------------------------------------------------------------ */

static void hang_up(struct client *client)
{
	struct ev_loop *loop = client->service->loop;

	ev_io_stop(loop, &client->on_input);
	ev_io_stop(loop, &client->on_output);
	ev_timer_stop(loop, &client->timer);
	if (client->call)
		client->call->client = NULL;
	*client->link = client->next;
	if (client->next)
		client->next->link = client->link;
	client->service->nr_clients--;
	give_files(client, NULL, SIZE_MAX);
	close(client->fd);
	free(client->input);
	free(client->output);
	free(client);
}

/* ---- answers ------------------------------------------------------------------------ */

static void go_on(struct client *client);

static void free_call(struct service_call *call)
{
	if (call->client)
		call->client->call = NULL;
	close_files(call);
	json_decref(call->message);
	free(call);
}

/* As much as goes; false: the client does not take it any more. */
static bool put_out(struct client *client)
{
	while (client->output_used < client->output_size) {
		ssize_t sent = send(client->fd, client->output + client->output_used,
				    client->output_size - client->output_used,
				    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK;
		client->output_used += (size_t)sent;
	}
	free(client->output);
	client->output = NULL;
	ev_timer_stop(client->service->loop, &client->timer);
	return true;
}

/* With the NUL; a text that cannot be made ends the connection. */
static void say(struct client *client, const json_t *message)
{
	char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;

	assert(!client->output);
	client->output = text;
	client->output_used = 0;
	client->output_size = text ? strlen(text) + 1 : 0;
	client->last |= !text;
}

static void answer(struct service_call *call, const char *error, json_t *parameters)
{
	struct client *client = call->client;
	json_t *message = json_object();

	/* What could not be set is NULL, and is not said. */
	if (error)
		json_object_set_new(message, "error", json_string(error));
	json_object_set_new(message, "parameters", parameters ? parameters : json_object());
	if (client && !call->oneway)
		say(client, message);
	json_decref(message);
	free_call(call);
	if (client)
		go_on(client);
}

void service_reply(struct service_call *call, json_t *parameters)
{
	answer(call, NULL, parameters);
}

void service_error(struct service_call *call, const char *error, json_t *parameters)
{
	answer(call, error, parameters);
}

void service_invalid(struct service_call *call, const char *parameter)
{
	service_error(call, VARLINK_ERROR "InvalidParameter",
		      json_pack("{s:s}", "parameter", parameter));
}

/* ---- messages ----------------------------------------------------------------------- */

/* What cannot be answered as a call: the error, and then nothing more is heard. */
static void refuse(struct client *client, json_t *message)
{
	client->last = true;
	say(client, message);
	json_decref(message);
}

static void refuse_message(struct client *client, const char *parameter)
{
	refuse(client, json_pack("{s:s, s:{s:s}}", "error", VARLINK_ERROR "InvalidParameter",
				 "parameters", "parameter", parameter));
}

static void refuse_files(struct client *client)
{
	refuse(client, json_pack("{s:s, s:{s:i}}", "error", "io.ublkd.TooManyFiles", "parameters",
				 "most", SERVICE_FILES));
}

/* The name of a member that no call has, or not of this type; NULL: all is well. */
static const char *wrong_member(json_t *message)
{
	const char *name;
	json_t *value;

	json_object_foreach(message, name, value) {
		if (!strcmp(name, "method") ? json_is_string(value) :
		    !strcmp(name, "parameters") ? json_is_object(value) || json_is_null(value) :
		    !strcmp(name, "oneway") || !strcmp(name, "more") ? json_is_boolean(value) :
		    /* To another protocol on the same socket: there is none. */
		    !strcmp(name, "upgrade") ? json_is_false(value) : false)
			continue;
		return name;
	}
	return json_object_get(message, "method") ? NULL : "method";
}

/* Whatever the answer to another call was about, this one has nothing to do with it. */
static void hand_over(struct service_call *call)
{
	const char *before = log_switch(NULL);

	call->service->on_call(call);
	log_switch(before);
}

static void hear(struct client *client, const char *text, size_t length)
{
	struct service_call *call = calloc(1, sizeof(*call));
	json_t *message = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL), *parameters;
	const char *wrong;

	if (!call || !json_is_object(message)) {
		free(call);
		json_decref(message);
		refuse_message(client, "message");
		return;
	}
	parameters = json_object_get(message, "parameters");
	*call = (struct service_call){
		.service = client->service,
		.client = client,
		.message = message,
		.method = json_string_value(json_object_get(message, "method")),
		.parameters = json_is_object(parameters) ? parameters : NULL,
		.came = ev_now(client->service->loop),
		.oneway = json_is_true(json_object_get(message, "oneway")),
		.more = json_is_true(json_object_get(message, "more")),
	};
	give_files(client, call, length + 1);
	client->call = call;
	wrong = wrong_member(message);
	if (wrong)
		service_invalid(call, wrong);
	else
		hand_over(call);
	/* One that is not answered yet may take any time. */
	if (client->call)
		close_files(client->call);
}

/* Takes a message out of the input, if one is complete. */
static bool hear_next(struct client *client)
{
	char *nul = memchr(client->input + client->searched, 0,
			   client->input_used - client->searched);
	size_t length = nul ? (size_t)(nul - client->input) : client->input_used;

	client->searched = client->input_used;
	if (client->crowded) {
		refuse_files(client);
		return true;
	}
	if (length > SERVICE_MESSAGE_MAX) {
		refuse_message(client, "message");
		return true;
	}
	if (!nul)
		return false;
	ev_timer_stop(client->service->loop, &client->timer);
	hear(client, client->input, length);
	client->input_used -= length + 1;
	client->searched = 0;
	memmove(client->input, nul + 1, client->input_used);
	return true;
}

/* ---- what a client waits for -------------------------------------------------------- */

static void watch(struct ev_loop *loop, ev_io *watcher, bool on)
{
	if (on)
		ev_io_start(loop, watcher);
	else
		ev_io_stop(loop, watcher);
}

/* Its time runs on while it owes us the same thing. */
static void watch_all(struct client *client)
{
	struct ev_loop *loop = client->service->loop;
	bool owes = client->output || (client->input_used && !client->call);

	watch(loop, &client->on_output, client->output);
	/* During a call only its end is looked for. */
	watch(loop, &client->on_input, !client->output);
	if (!owes) {
		ev_timer_stop(loop, &client->timer);
	} else if (!ev_is_active(&client->timer)) {
		ev_timer_set(&client->timer, client->service->patience, 0);
		ev_timer_start(loop, &client->timer);
	}
}

/* Called whenever something came, was taken or was answered. The client may be gone then. */
static void go_on(struct client *client)
{
	bool well = true;

	if (client->working)
		return;
	client->working = true;
	do
		well = !client->output || put_out(client);
	while (well && !client->output && !client->call && !client->last && client->input_used &&
		 hear_next(client));
	client->working = false;
	if (!well || (!client->output && !client->call && (client->last || client->ended)))
		hang_up(client);
	else
		watch_all(client);
}

static ssize_t receive(struct client *client)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(SERVICE_FILES * sizeof(int))];
	struct iovec data = { .iov_base = client->input + client->input_used,
			      .iov_len = client->input_size - client->input_used };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	ssize_t got = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (got < 0)
		return -errno;
	client->input_used += (size_t)got;
	keep_files(client, &message);
	return got;
}

/* false: there is no memory. */
static bool make_room(struct client *client)
{
	size_t size = client->input_size ? 2 * client->input_size : 1024;
	char *more;

	if (client->input_used < client->input_size)
		return true;
	more = realloc(client->input, size);
	if (!more)
		return false;
	client->input = more;
	client->input_size = size;
	return true;
}

static bool has_gone(const struct client *client)
{
	struct pollfd peer = { .fd = client->fd };

	return client->service->on_hang_up && poll(&peer, 1, 0) > 0 && peer.revents & POLLHUP;
}

/*
 * In the middle of a call the end of the client is looked for. What it sends meanwhile is kept for
 * later, as far as there is room for a message: else its end would not show behind that.
 */
static void on_input_in_call(struct client *client)
{
	bool gone = has_gone(client);
	ssize_t got = 0;

	if (!gone && client->input_used <= SERVICE_MESSAGE_MAX && make_room(client))
		got = receive(client);
	if (got <= 0 && got != -EAGAIN && got != -EINTR)
		ev_io_stop(client->service->loop, &client->on_input);
	if (gone)
		client->service->on_hang_up(client->call);
}

static void on_input(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct client *client = container_of(watcher, struct client, on_input);
	ssize_t got;

	(void)loop;
	(void)events;
	if (client->call) {
		on_input_in_call(client);
		return;
	}
	if (!make_room(client)) {
		hang_up(client);
		return;
	}
	got = receive(client);
	if (got == -EAGAIN || got == -EINTR)
		return;
	client->ended = got <= 0;
	go_on(client);
}

static void on_output(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)loop;
	(void)events;
	go_on(container_of(watcher, struct client, on_output));
}

static void on_late(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop;
	(void)events;
	hang_up(container_of(timer, struct client, timer));
}

/* ---- who comes ---------------------------------------------------------------------- */

static bool may_come(const struct service *service, int fd)
{
	struct identity peer;

	/* With more groups than are looked through, it is who it is all the same. */
	if (identity_of_peer(&peer, fd) && peer.uid == (uid_t)-1)
		return false;
	return !peer.uid || peer.uid == geteuid() ||
	       (service->group != (gid_t)-1 && identity_is_member(&peer, service->group));
}

int service_peer(const struct service_call *call, struct identity *identity)
{
	return call->client ? identity_of_peer(identity, call->client->fd) : -ENOTCONN;
}

/* One short message fits into a new socket's buffer, or is lost. */
static void turn_away(int fd, const char *error)
{
	char text[128];
	int length = snprintf(text, sizeof(text), "{\"error\":\"%s\",\"parameters\":{}}", error);

	if (send(fd, text, (size_t)length + 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("a client that was turned away is gone already");
	close(fd);
}

void service_take(struct service *service, int fd)
{
	struct client *client;

	if (!may_come(service, fd)) {
		turn_away(fd, VARLINK_ERROR "PermissionDenied");
		return;
	}
	client = service->nr_clients < service->most_clients ? calloc(1, sizeof(*client)) : NULL;
	if (!client) {
		turn_away(fd, "io.ublkd.TooManyClients");
		return;
	}
	*client = (struct client){
		.service = service,
		.fd = fd,
		.next = service->clients,
		.link = &service->clients,
	};
	if (client->next)
		client->next->link = &client->next;
	service->clients = client;
	service->nr_clients++;
	ev_io_init(&client->on_input, on_input, fd, EV_READ);
	ev_io_init(&client->on_output, on_output, fd, EV_WRITE);
	ev_timer_init(&client->timer, on_late, service->patience, 0);
	watch_all(client);
}

static void on_client(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct service *service = container_of(watcher, struct service, on_client);
	int fd = accept4(service->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd >= 0) {
		service_take(service, fd);
	} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
		/* It would be called again at once, and again. */
		ev_io_stop(loop, &service->on_client);
		ev_timer_set(&service->pause, PAUSE_SECONDS, 0);
		ev_timer_start(loop, &service->pause);
	}
}

static void on_pause_over(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)events;
	ev_io_start(loop, &container_of(timer, struct service, pause)->on_client);
}

/* ---- the socket --------------------------------------------------------------------- */

/* Somebody listens there; or 0: nobody, and nothing is there any more; or -errno. */
static int look_for_another(const struct sockaddr_un *address)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (lstat(address->sun_path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	/* EAGAIN: one that has too many callers just now. */
	if (!connect(fd, (const struct sockaddr *)address, sizeof(*address)) || errno == EAGAIN)
		return -EADDRINUSE;
	if (errno != ECONNREFUSED)
		return -errno;
	return unlink(address->sun_path) && errno != ENOENT ? -errno : 0;
}

/* Nobody but our user, until the group is set. */
static int bind_closed(int fd, const struct sockaddr_un *address, gid_t group)
{
	_cleanup_free_ char *folder = strdup(address->sun_path);
	mode_t mask;
	int ret;

	/* Such as one below /run, which is empty after each boot. */
	if (folder && mkdir(dirname(folder), 0755) && errno != EEXIST)
		log_debug("cannot make the folder of the socket: %s", strerror(errno));
	mask = umask(0177);
	ret = bind(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;

	umask(mask);
	if (ret || group == (gid_t)-1)
		return ret;
	if (chown(address->sun_path, (uid_t)-1, group) || chmod(address->sun_path, 0660)) {
		ret = -errno;
		unlink(address->sun_path);
	}
	return ret;
}

static int listen_at(const char *path, gid_t group)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int ret = fd < 0 ? -errno : 0;

	if (strlen(path) >= sizeof(address.sun_path)) {
		ublkd_error("socket: expected a path of at most %zu bytes, got '%s'",
			    sizeof(address.sun_path) - 1, path);
		return -ENAMETOOLONG;
	}
	strcpy(address.sun_path, path);
	if (!ret)
		ret = look_for_another(&address);
	if (ret == -EADDRINUSE) {
		ublkd_error("socket: expected a path that no server uses, got '%s', where one "
			    "answers", path);
		return ret;
	}
	if (ret == -ENOTSOCK) {
		ublkd_error("socket: expected a path with nothing or a dead server's socket, got "
			    "'%s', which is another file", path);
		return ret;
	}
	if (!ret)
		ret = bind_closed(fd, &address, group);
	if (!ret && listen(fd, BACKLOG)) {
		ret = -errno;
		unlink(path);
	}
	if (ret) {
		ublkd_error("cannot make the socket '%s': %s", path, strerror(-ret));
		return ret;
	}
	return steal_fd(&fd);
}

int service_open(struct service *service, const char *path)
{
	/* The daemon changes its directory before it removes the file. */
	_cleanup_free_ char *here = *path == '/' ? strdup("") : realpath(".", NULL);

	service->fd = -1;
	if (!here || asprintf(&service->path, "%s%s%s", here, *here ? "/" : "", path) < 0) {
		service->path = NULL;
		ublkd_error("cannot make the socket '%s': %s", path, strerror(errno));
		return -errno;
	}
	service->fd = listen_at(path, service->group);
	if (service->fd < 0) {
		free(service->path);
		service->path = NULL;
		return service->fd;
	}
	ev_timer_init(&service->pause, on_pause_over, PAUSE_SECONDS, 0);
	ev_io_init(&service->on_client, on_client, service->fd, EV_READ);
	ev_io_start(service->loop, &service->on_client);
	return 0;
}

void service_close(struct service *service)
{
	while (service->clients)
		hang_up(service->clients);
	if (!service->path)
		return;
	ev_io_stop(service->loop, &service->on_client);
	ev_timer_stop(service->loop, &service->pause);
	unlink(service->path);
	close(service->fd);
	free(service->path);
	service->path = NULL;
}
