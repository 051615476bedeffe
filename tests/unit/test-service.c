/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Framing and limits of the control socket, against clients of every kind. */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "service.h"
#include "util/macros.h"

#define PATIENCE 0.2 /* where a test waits for its end; else there is plenty */

static struct service service;
static struct service_call *kept; /* a call of Keep, which is answered later */
static unsigned heard, hung_up;

/*
 * Echo gives its parameters back, Large a megabyte, Keep nothing until it is told to, and Size
 * the size of the first file that came along.
 */
static void on_call(struct service_call *call)
{
	heard++;
	if (!strcmp(call->method, "t.Keep")) {
		kept = call;
	} else if (!strcmp(call->method, "t.Large")) {
		char *text = malloc(1 << 20);

		memset(text, 'x', 1 << 20);
		service_reply(call, json_pack("{s:s%}", "text", text, (size_t)(1 << 20)));
		free(text);
	} else if (!strcmp(call->method, "t.Size")) {
		struct stat st = { .st_size = -1 };
		int fd = service_take_file(call, 0);

		assert_int_equal(service_take_file(call, 0), -1);
		if (fd >= 0 && !fstat(fd, &st))
			close(fd);
		service_reply(call, json_pack("{s:I}", "size", (json_int_t)st.st_size));
	} else {
		service_reply(call, json_incref(call->parameters));
	}
}

static void on_hang_up(struct service_call *call)
{
	assert_ptr_equal(call, kept);
	hung_up++;
}

static int begin(void **state)
{
	service = (struct service){
		.loop = ev_default_loop(EVFLAG_NOENV),
		.group = (gid_t)-1,
		.most_clients = 8,
		.patience = 60,
		.on_call = on_call,
		.on_hang_up = on_hang_up,
	};
	heard = hung_up = 0;
	return scratch_make(state);
}

static int end(void **state)
{
	service_close(&service);
	assert_int_equal(service.nr_clients, 0);
	assert_int_equal(service.nr_files, 0);
	return scratch_remove(state);
}

static int new_client(void)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	service_take(&service, fds[0]);
	return fds[1];
}

static void turn(unsigned times)
{
	while (times--)
		ev_run(service.loop, EVRUN_NOWAIT);
}

static void on_time(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)timer;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

static void pass(double seconds)
{
	ev_timer timer;

	ev_timer_init(&timer, on_time, seconds, 0);
	ev_timer_start(service.loop, &timer);
	ev_run(service.loop, 0);
}

/* Sends all of it, the service reading meanwhile; false: it hung up. */
static bool put(int fd, const char *bytes, size_t length)
{
	while (length) {
		ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);

		if (sent < 0 && errno != EAGAIN)
			return false;
		bytes += MAX(sent, 0);
		length -= (size_t)MAX(sent, 0);
		turn(2);
	}
	return true;
}

#define PUT(fd, literal) assert_true(put(fd, literal, sizeof(literal)))

/* What has come, NULs as '|'; '$' at the end of the connection. */
static const char *got(int fd)
{
	static char text[1024];
	ssize_t length;

	turn(8);
	length = recv(fd, text, sizeof(text) - 2, 0);
	if (length < 0) {
		assert_int_equal(errno, EAGAIN);
		length = 0;
	} else {
		char byte;

		if (!length || !recv(fd, &byte, 1, MSG_PEEK))
			text[length++] = '$';
	}
	text[length] = 0;
	for (ssize_t i = 0; i < length; i++) {
		if (!text[i])
			text[i] = '|';
	}
	return text;
}

#define INVALID(name) \
	"{\"error\":\"org.varlink.service.InvalidParameter\",\"parameters\":{\"parameter\":\"" \
	name "\"}}|"

static void messages_come_in_pieces_and_several_at_once(void **state)
{
	static const char call[] = "{\"method\":\"t.Echo\",\"parameters\":{\"a\":1}}";
	int fd = new_client();

	(void)state;
	for (size_t i = 0; i < sizeof(call); i++) {
		assert_string_equal(got(fd), "");
		assert_true(put(fd, call + i, 1));
	}
	assert_string_equal(got(fd), "{\"parameters\":{\"a\":1}}|");
	PUT(fd, "{\"method\":\"t.Echo\"}\0{\"method\":\"t.Echo\",\"oneway\":true}\0"
		"{\"method\":\"t.Echo\",\"parameters\":{\"b\":[]}}");
	assert_true(put(fd, "{\"meth", 6));
	assert_string_equal(got(fd), "{\"parameters\":{}}|{\"parameters\":{\"b\":[]}}|");
	assert_int_equal(heard, 4);
	close(fd);
	turn(3);
	assert_int_equal(service.nr_clients, 0);
}

static void what_is_no_call_is_refused(void **state)
{
	static const struct {
		const char *text, *answer;
	} cases[] = {
		{ "", INVALID("message") "$" },
		{ "nonsense", INVALID("message") "$" },
		{ "\xff\xfe{}", INVALID("message") "$" },
		{ "[]", INVALID("message") "$" },
		{ "{\"method\":\"t.Echo\"} more", INVALID("message") "$" },
		{ "{\"method\":1e999}", INVALID("message") "$" },
		{ "{\"method\":99999999999999999999999}", INVALID("message") "$" },
		{ "{\"method\":\"a\",\"method\":\"b\"}", INVALID("message") "$" },
		{ "{}", INVALID("method") },
		{ "{\"method\":7}", INVALID("method") },
		{ "{\"method\":\"t.Echo\",\"parameters\":[]}", INVALID("parameters") },
		{ "{\"method\":\"t.Echo\",\"oneway\":1}", INVALID("oneway") },
		{ "{\"method\":\"t.Echo\",\"more\":{}}", INVALID("more") },
		{ "{\"method\":\"t.Echo\",\"upgrade\":true}", INVALID("upgrade") },
		{ "{\"method\":\"t.Echo\",\"x\":true}", INVALID("x") },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int fd = new_client();

		assert_true(put(fd, cases[i].text, strlen(cases[i].text) + 1));
		assert_string_equal(got(fd), cases[i].answer);
		close(fd);
		turn(2);
	}
	assert_int_equal(heard, 0);
	assert_int_equal(service.nr_clients, 0);
}

static void a_message_that_is_too_deep_or_too_long_is_refused(void **state)
{
	char *text = malloc(2 * SERVICE_MESSAGE_MAX);
	int fd = new_client();

	(void)state;
	memset(text, '[', SERVICE_MESSAGE_MAX);
	text[SERVICE_MESSAGE_MAX] = 0;
	assert_true(put(fd, text, SERVICE_MESSAGE_MAX + 1));
	assert_string_equal(got(fd), INVALID("message") "$");
	close(fd);

	/* The largest that there may be, and one byte more. */
	for (size_t more = 0; more <= 1; more++) {
		fd = new_client();
		memset(text, ' ', SERVICE_MESSAGE_MAX + more);
		memcpy(text, "{\"method\":\"t.Echo\"}", 19);
		text[SERVICE_MESSAGE_MAX + more] = 0;
		put(fd, text, SERVICE_MESSAGE_MAX + more + 1);
		assert_string_equal(got(fd), more ? INVALID("message") "$" : "{\"parameters\":{}}|");
		close(fd);
	}

	/* One without an end. */
	fd = new_client();
	memset(text, ' ', 2 * SERVICE_MESSAGE_MAX);
	put(fd, text, 2 * SERVICE_MESSAGE_MAX);
	assert_string_equal(got(fd), INVALID("message") "$");
	close(fd);
	turn(2);
	assert_int_equal(service.nr_clients, 0);
	free(text);
}

static void half_a_message_is_waited_for_only_so_long(void **state)
{
	int slow = new_client(), idle = new_client();

	(void)state;
	service.patience = PATIENCE;
	assert_true(put(slow, "{", 1));
	pass(PATIENCE / 2);
	/* More of it does not give it more time. */
	put(slow, " ", 1);
	pass(PATIENCE * 3 / 4);
	assert_string_equal(got(slow), "$");
	assert_int_equal(service.nr_clients, 1);
	PUT(idle, "{\"method\":\"t.Echo\"}");
	assert_string_equal(got(idle), "{\"parameters\":{}}|");
	close(slow);
	close(idle);
	turn(2);
}

static void an_answer_that_is_not_taken_is_given_up(void **state)
{
	int fd = new_client();

	(void)state;
	service.patience = PATIENCE;
	/* Of many calls, only the first is heard. */
	for (int i = 0; i < 100; i++)
		assert_true(send(fd, "{\"method\":\"t.Large\"}", 21, MSG_NOSIGNAL) == 21);
	turn(10);
	assert_int_equal(heard, 1);
	pass(2 * PATIENCE);
	assert_int_equal(service.nr_clients, 0);
	close(fd);
}

static void an_answer_may_be_longer_than_the_socket_holds(void **state)
{
	int fd = new_client();
	size_t all = 0;
	char bytes[4096];

	(void)state;
	PUT(fd, "{\"method\":\"t.Large\"}\0{\"method\":\"t.Echo\"}");
	while (all < (1 << 20) + 20) {
		ssize_t length = recv(fd, bytes, sizeof(bytes), 0);

		assert_true(length > 0 || (length < 0 && errno == EAGAIN));
		all += (size_t)MAX(length, 0);
		turn(1);
	}
	turn(4);
	assert_int_equal(heard, 2);
	assert_int_equal(service.nr_clients, 1);
	close(fd);
	turn(3);
}

static void a_call_outlives_its_client(void **state)
{
	int fd = new_client();

	(void)state;
	PUT(fd, "{\"method\":\"t.Keep\"}\0{\"method\":\"t.Echo\"}");
	turn(3);
	assert_int_equal(heard, 1);
	service_reply(kept, NULL);
	assert_string_equal(got(fd), "{\"parameters\":{}}|{\"parameters\":{}}|");

	/* It goes before the answer, which is found out by the answer. */
	PUT(fd, "{\"method\":\"t.Keep\"}");
	close(fd);
	turn(3);
	service_reply(kept, NULL);
	assert_int_equal(service.nr_clients, 0);

	/* So do all. */
	fd = new_client();
	PUT(fd, "{\"method\":\"t.Keep\"}");
	service_close(&service);
	assert_string_equal(got(fd), "$");
	assert_null(kept->client);
	service_error(kept, "t.Error", NULL);
	close(fd);
}

static void a_hang_up_is_noticed_during_a_call(void **state)
{
	int fd = new_client();

	(void)state;
	PUT(fd, "{\"method\":\"t.Keep\"}");
	turn(3);
	assert_int_equal(hung_up, 0);
	close(fd);
	turn(3);
	assert_int_equal(hung_up, 1);
	service_reply(kept, NULL);
	assert_int_equal(service.nr_clients, 0);

	/* Behind the next call, too, which came in the meantime. */
	fd = new_client();
	PUT(fd, "{\"method\":\"t.Keep\"}");
	turn(3);
	PUT(fd, "{\"method\":\"t.Echo\"}");
	turn(3);
	assert_int_equal(hung_up, 1);
	close(fd);
	turn(3);
	assert_int_equal(hung_up, 2);
	service_reply(kept, NULL);
	assert_int_equal(service.nr_clients, 0);

	/* Who says only that nothing more comes still hears the answer. */
	fd = new_client();
	PUT(fd, "{\"method\":\"t.Keep\"}");
	shutdown(fd, SHUT_WR);
	turn(3);
	assert_int_equal(hung_up, 2);
	service_reply(kept, NULL);
	turn(3);
	assert_string_equal(got(fd), "{\"parameters\":{}}|$");
	close(fd);
}

static void too_many_clients_are_turned_away(void **state)
{
	int fds[8], more;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = new_client();
	more = new_client();
	assert_string_equal(got(more), "{\"error\":\"io.ublkd.TooManyClients\",\"parameters\":{}}|$");
	close(more);
	close(fds[3]);
	turn(2);
	fds[3] = new_client();
	PUT(fds[3], "{\"method\":\"t.Echo\"}");
	assert_string_equal(got(fds[3]), "{\"parameters\":{}}|");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	turn(3);
	assert_int_equal(service.nr_clients, 0);
}

static void chance_finds_nothing(void **state)
{
	static const char *const words[] = { "{", "}", "\"method\"", ":", "\"t.Echo\"", ",", "[",
					     "\"parameters\"", "null", "1", "\\u0000", "\xc3" };
	uint64_t seed = 1;

	(void)state;
	for (int round = 0; round < 300; round++) {
		int fd = new_client();

		for (uint32_t i = random_below(&seed, 60); i; i--) {
			const char *word = words[random_below(&seed, ARRAY_SIZE(words))];

			/* Now and then with its NUL. */
			if (!put(fd, word, strlen(word) + !random_below(&seed, 4)))
				break;
		}
		close(fd);
		turn(2);
	}
	assert_int_equal(service.nr_clients, 0);
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void the_socket_is_one_servers_alone(void **state)
{
	const char *path = scratch_path("folder/socket");
	struct service second = service;
	struct stat st;
	int fd;

	(void)state;
	assert_int_equal(service_open(&service, path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	fd = connect_to(path);
	PUT(fd, "{\"method\":\"t.Echo\"}");
	assert_string_equal(got(fd), "{\"parameters\":{}}|");
	close(fd);
	turn(2);

	capture_begin();
	assert_int_equal(service_open(&second, path), -EADDRINUSE);
	assert_contains(capture_end(), "socket: expected a path that no server uses");
	turn(2);

	/* The file of one that is gone. */
	close(service.fd);
	service.fd = -1;
	second.group = getegid();
	assert_int_equal(service_open(&second, path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	ev_io_stop(service.loop, &service.on_client);
	service_close(&second);
	assert_int_equal(stat(path, &st), -1);
}

static void the_socket_takes_no_other_files_place(void **state)
{
	char path[200];

	(void)state;
	close(scratch_file("file", 10));
	capture_begin();
	assert_int_equal(service_open(&service, scratch_path("file")), -ENOTSOCK);
	assert_contains(capture_end(), "which is another file");
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = 0;
	capture_begin();
	assert_int_equal(service_open(&service, path), -ENAMETOOLONG);
	assert_contains(capture_end(), "socket: expected a path of at most 107 bytes");
}

#define SIZE "{\"method\":\"t.Size\"}"
#define ECHO "{\"method\":\"t.Echo\"}"
#define KEEP "{\"method\":\"t.Keep\"}"
#define TOO_MANY "{\"error\":\"io.ublkd.TooManyFiles\",\"parameters\":{\"most\":8}}|$"

static void files_are_those_of_their_message(void **state)
{
	int small = scratch_file("small", 10), large = scratch_file("large", 20), fd = new_client();
	unsigned before = files_open();

	(void)state;
	send_with_files(fd, SIZE, sizeof(SIZE), &small, 1);
	assert_string_equal(got(fd), "{\"parameters\":{\"size\":10}}|");
	/* With other messages before and behind, which came in the same moment. */
	assert_int_equal(send(fd, SIZE, sizeof(SIZE), 0), sizeof(SIZE));
	send_with_files(fd, SIZE, sizeof(SIZE), &large, 1);
	assert_int_equal(send(fd, SIZE, sizeof(SIZE), 0), sizeof(SIZE));
	send_with_files(fd, SIZE, sizeof(SIZE), &small, 1);
	assert_string_equal(got(fd), "{\"parameters\":{\"size\":-1}}|{\"parameters\":{\"size\":20}}|"
			    "{\"parameters\":{\"size\":-1}}|{\"parameters\":{\"size\":10}}|");
	/* With the beginning of one. */
	send_with_files(fd, SIZE, 5, &large, 1);
	turn(4);
	assert_true(put(fd, &SIZE[5], sizeof(SIZE) - 5));
	assert_string_equal(got(fd), "{\"parameters\":{\"size\":20}}|");
	/* Of who leaves. */
	send_with_files(fd, SIZE, 5, &large, 1);
	turn(4);
	assert_int_equal(files_open(), before + 1);
	close(fd);
	turn(4);
	assert_int_equal(files_open(), before - 2);
	close(small);
	close(large);
}

static void files_that_nobody_takes_are_closed(void **state)
{
	int files[8], fd = new_client();
	unsigned before;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		files[i] = i ? files[0] : scratch_file("file", 10);
	before = files_open();
	send_with_files(fd, ECHO, sizeof(ECHO), files, 8);
	assert_string_equal(got(fd), "{\"parameters\":{}}|");
	assert_int_equal(files_open(), before);
	/* A call may take any time to be answered. */
	send_with_files(fd, KEEP, sizeof(KEEP), files, 8);
	turn(4);
	assert_int_equal(files_open(), before);
	service_reply(kept, NULL);
	send_with_files(fd, "nonsense", sizeof("nonsense"), files, 8);
	assert_string_equal(got(fd), "{\"parameters\":{}}|" INVALID("message") "$");
	turn(2);
	assert_int_equal(files_open(), before - 1);
	close(fd);
	close(files[0]);
}

static void too_many_files_are_refused(void **state)
{
	int files[9], fds[SERVICE_ALL_FILES / SERVICE_FILES], fd = new_client();
	unsigned before;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		files[i] = i ? files[0] : scratch_file("file", 10);
	before = files_open();
	send_with_files(fd, SIZE, sizeof(SIZE), files, 9);
	assert_string_equal(got(fd), TOO_MANY);
	close(fd);
	turn(2);
	assert_int_equal(files_open(), before - 2);

	/* Those of messages that do not end count together, until their time is over. */
	service.most_clients = SERVICE_ALL_FILES;
	service.patience = PATIENCE;
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = new_client();
		send_with_files(fds[i], "{", 1, files, 8);
	}
	turn(4);
	fd = new_client();
	send_with_files(fd, SIZE, sizeof(SIZE), files, 1);
	assert_string_equal(got(fd), TOO_MANY);
	close(fd);
	pass(PATIENCE * 3 / 2);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		assert_string_equal(got(fds[i]), "$");
		close(fds[i]);
	}
	fd = new_client();
	send_with_files(fd, SIZE, sizeof(SIZE), files, 1);
	assert_string_equal(got(fd), "{\"parameters\":{\"size\":10}}|");
	close(fd);
	turn(2);
	assert_int_equal(files_open(), before - 2);
	close(files[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(messages_come_in_pieces_and_several_at_once),
		TEST(what_is_no_call_is_refused),
		TEST(a_message_that_is_too_deep_or_too_long_is_refused),
		TEST(half_a_message_is_waited_for_only_so_long),
		TEST(an_answer_that_is_not_taken_is_given_up),
		TEST(an_answer_may_be_longer_than_the_socket_holds),
		TEST(a_call_outlives_its_client),
		TEST(a_hang_up_is_noticed_during_a_call),
		TEST(too_many_clients_are_turned_away),
		TEST(chance_finds_nothing),
		TEST(files_are_those_of_their_message),
		TEST(files_that_nobody_takes_are_closed),
		TEST(too_many_files_are_refused),
		TEST(the_socket_is_one_servers_alone),
		TEST(the_socket_takes_no_other_files_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
