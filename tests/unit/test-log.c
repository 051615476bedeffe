/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "log-limit.h"
#include "log-socket.h"
#include "log.h"

#define PATIENCE 10 /* seconds */

static int start_with_defaults(void **state)
{
	(void)state;
	log_switch(NULL);
	log_set_verbose(false);
	return 0;
}

static void a_message_is_a_line_with_the_prefix_before_it(void **state)
{
	(void)state;
	capture_begin();
	ublkd_error("%s: expected %d", "depth", 1);
	log_switch("ublkb0");
	ublkd_note("serving");
	assert_string_equal(capture_end(), "ublkd: depth: expected 1\nublkb0: serving\n");
}

static void what_messages_are_about_is_switched_back_to(void **state)
{
	char name[] = "ublkd";
	const char *program, *first;

	(void)state;
	capture_begin();
	program = log_switch(name);
	first = log_switch("second");
	ublkd_note("one");
	log_switch(first);
	/* Kept, not copied: a device has no number at first. */
	memcpy(name, "ublkb", sizeof(name));
	ublkd_note("two");
	log_switch(program);
	ublkd_note("three");
	assert_string_equal(capture_end(), "second: one\nublkb: two\nublkd: three\n");
	assert_null(program);
	assert_ptr_equal(first, name);
	assert_null(log_about());
}

static void debug_messages_need_verbose(void **state)
{
	(void)state;
	capture_begin();
	log_debug("first");
	log_set_verbose(true);
	log_debug("second");
	assert_string_equal(capture_end(), "ublkd: second\n");
}

static void take(void *arg, enum log_level level, const char *about, const char *text)
{
	char *taken = arg;

	sprintf(taken + strlen(taken), "%d %s %s\n", level, about ? about : "-", text);
}

static void messages_are_diverted_to_who_wants_them(void **state)
{
	struct log_listener listener = { .about = "a" };
	char taken[256] = "";

	(void)state;
	capture_begin();
	log_divert(take, taken);
	log_switch(listener.about);
	log_listen(&listener);
	ublkd_error("wrong %d", 7);
	log_stop_listening(&listener);
	log_switch(NULL);
	ublkd_note("noted");
	log_debug("not wanted");
	log_divert(NULL, NULL);
	ublkd_error("said");
	assert_string_equal(capture_end(), "ublkd: said\n");
	assert_string_equal(taken, "0 a wrong 7\n1 - noted\n");
	assert_string_equal(listener.text, "wrong 7");
}

static void a_long_message_is_cut_and_still_a_line(void **state)
{
	char text[3000];
	const char *said;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	capture_begin();
	ublkd_error("%s", text);
	ublkd_error("next");
	said = capture_end();
	assert_int_equal(strspn(said + strlen("ublkd: "), "x"), 1023 - strlen("ublkd: \n"));
	assert_string_equal(strchr(said, '\n'), "\nublkd: next\n");
}

/* On a socket of packets, each write is one of them. */
static void each_message_is_one_write(void **state)
{
	int pair[2], real = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	char packet[64];
	ssize_t got[3];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	dup2(pair[1], STDERR_FILENO);
	ublkd_error("one %s", "message");
	ublkd_error("2");
	dup2(real, STDERR_FILENO);
	close(real);
	for (unsigned i = 0; i < 3; i++)
		got[i] = recv(pair[0], packet, sizeof(packet), 0);
	assert_int_equal(got[0], strlen("ublkd: one message\n"));
	assert_int_equal(got[1], strlen("ublkd: 2\n"));
	assert_int_equal(got[2], -1);
	close(pair[0]);
	close(pair[1]);
}

static void a_long_name_does_no_harm(void **state)
{
	char name[2000];
	const char *said;

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	capture_begin();
	log_switch(name);
	ublkd_error("text");
	said = capture_end();
	assert_int_equal(strspn(said, "x"), 255);
	assert_string_equal(said + 255, ": text\n");
}

/* As a worker's lines are read by the supervisor. */
static void a_level_goes_before_the_line_and_is_taken_off_again(void **state)
{
	char text[256];

	(void)state;
	log_set_verbose(true);
	log_with_levels();
	capture_begin();
	ublkd_error("bad");
	ublkd_note("news");
	log_debug("step");
	snprintf(text, sizeof(text), "%s", capture_end());
	assert_string_equal(text, "<3>ublkd: bad\n<5>ublkd: news\n<7>ublkd: step\n");
	unsetenv("UBLKD_LOG_LEVELS");
	log_inherit_levels();
	capture_begin();
	ublkd_error("bad");
	log_line("<3>a: bad");
	log_line("<8>a: <3>");
	log_line("plain");
	assert_string_equal(capture_end(), "ublkd: bad\na: bad\n<8>a: <3>\nplain\n");
	assert_string_equal(log_line_text("<3>a: bad"), "a: bad");
	assert_string_equal(log_line_text("<8>a: <3>"), "<8>a: <3>");
	assert_string_equal(log_line_text("plain"), "plain");
}

static void what_is_started_has_levels_too(void **state)
{
	(void)state;
	log_with_levels();
	assert_string_equal(getenv("UBLKD_LOG_LEVELS"), "yes");
	log_inherit_levels();
	capture_begin();
	ublkd_error("bad");
	assert_string_equal(capture_end(), "<3>ublkd: bad\n");
	unsetenv("UBLKD_LOG_LEVELS");
	log_inherit_levels();
}

/* ---- the socket of the system's log -------------------------------------------------------- */

struct system {
	struct log_socket log;
	int reader;
	char line[2048];
};

static int open_reader(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) ? -1 : fd;
}

static int make_system(void **state)
{
	static struct system system;

	if (scratch_make(state))
		return -1;
	log_socket_init(&system.log, scratch_path("log"));
	system.reader = open_reader(&system.log.address);
	*state = &system;
	return system.reader < 0 ? -1 : 0;
}

static int free_system(void **state)
{
	struct system *system = *state;

	alarm(0);
	log_socket_close(&system->log);
	close(system->reader);
	return scratch_remove(state);
}

/* The next line, without what is before its text; NULL: there is none. */
static const char *next_line(struct system *system, int priority)
{
	ssize_t got = recv(system->reader, system->line, sizeof(system->line) - 1, 0);
	char before[64];

	if (got < 0)
		return NULL;
	system->line[got] = 0;
	snprintf(before, sizeof(before), "<%d>ublkd[%d]: ", LOG_DAEMON | priority, (int)getpid());
	assert_memory_equal(system->line, before, strlen(before));
	return system->line + strlen(before);
}

static void a_line_comes_with_priority_and_process(void **state)
{
	struct system *system = *state;

	log_socket_send(&system->log, LOG_ERR, "web: bad");
	assert_string_equal(next_line(system, LOG_ERR), "web: bad");
	log_socket_send(&system->log, LOG_DEBUG, "step");
	assert_string_equal(next_line(system, LOG_DEBUG), "step");
	assert_null(next_line(system, LOG_DEBUG));
}

/* The reader may wait for I/O of our devices. */
static void nobody_waits_for_a_reader_that_does_not_read(void **state)
{
	struct system *system = *state;
	char text[64], lost[64];
	uint64_t got = 0;

	alarm(PATIENCE);
	for (int i = 0; i < 20000; i++) {
		snprintf(text, sizeof(text), "%d", i);
		log_socket_send(&system->log, LOG_NOTICE, text);
	}
	assert_true(system->log.lost > 0);
	for (; next_line(system, LOG_NOTICE); got++)
		;
	assert_int_equal(got + system->log.lost, 20000);
	snprintf(lost, sizeof(lost), "ublkd: %d line(s) of the log were lost", (int)system->log.lost);
	log_socket_send(&system->log, LOG_NOTICE, "again");
	assert_string_equal(next_line(system, LOG_WARNING), lost);
	assert_string_equal(next_line(system, LOG_NOTICE), "again");
	assert_int_equal(system->log.lost, 0);
	log_socket_send(&system->log, LOG_NOTICE, "more");
	assert_string_equal(next_line(system, LOG_NOTICE), "more");
}

static void a_reader_that_was_started_again_is_found(void **state)
{
	struct system *system = *state;

	log_socket_send(&system->log, LOG_NOTICE, "first");
	close(system->reader);
	log_socket_send(&system->log, LOG_NOTICE, "to nobody");
	assert_int_equal(unlink(system->log.address.sun_path), 0);
	log_socket_send(&system->log, LOG_NOTICE, "nowhere");
	assert_int_equal(system->log.lost, 2);
	system->reader = open_reader(&system->log.address);
	log_socket_send(&system->log, LOG_NOTICE, "again");
	assert_string_equal(next_line(system, LOG_WARNING), "ublkd: 2 line(s) of the log were lost");
	assert_string_equal(next_line(system, LOG_NOTICE), "again");
	/* And one that comes between two lines misses none. */
	close(system->reader);
	assert_int_equal(unlink(system->log.address.sun_path), 0);
	system->reader = open_reader(&system->log.address);
	log_socket_send(&system->log, LOG_NOTICE, "all");
	assert_string_equal(next_line(system, LOG_NOTICE), "all");
	assert_null(next_line(system, LOG_NOTICE));
}

static void a_line_that_is_too_long_is_cut(void **state)
{
	struct system *system = *state;
	char text[3000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	log_socket_send(&system->log, LOG_NOTICE, text);
	assert_in_range(strspn(next_line(system, LOG_NOTICE), "x"), 1024, 1100);
}

/* ---- limits ---------------------------------------------------------------------------------- */

static unsigned lines(const char *text, const char *part)
{
	unsigned count = 0;

	while ((text = strstr(text, part))) {
		text += strlen(part);
		count++;
	}
	return count;
}

static void say_if_it_may_be_said(struct log_limit *limit, unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		if (log_limit_passes(limit, 2))
			ublkd_error("failed");
	}
}

static void what_comes_too_fast_is_left_out_and_counted(void **state)
{
	struct log_limit limit = { .loop = ev_loop_new(EVFLAG_NOENV), .what = "requests failed" };
	const char *said;

	(void)state;
	log_switch("disk");
	capture_begin();
	say_if_it_may_be_said(&limit, LOG_LIMIT_MESSAGES + 100);
	log_switch(NULL);
	/* The period is over; what comes then is of the next one. */
	ev_feed_event(limit.loop, &limit.period, EV_TIMER);
	ev_invoke_pending(limit.loop);
	log_switch("disk");
	say_if_it_may_be_said(&limit, LOG_LIMIT_MESSAGES + 3);
	log_switch(NULL);
	log_limit_end(&limit);
	said = capture_end();
	assert_int_equal(lines(said, "disk: failed\n"), 2 * LOG_LIMIT_MESSAGES);
	assert_int_equal(lines(said, "disk: 200 messages more were left out: requests failed\n"), 1);
	assert_int_equal(lines(said, "disk: 6 messages more were left out: requests failed\n"), 1);
	assert_int_equal(lines(said, "\n"), 2 * LOG_LIMIT_MESSAGES + 2);
	assert_false(ev_is_active(&limit.period));
	ev_loop_destroy(limit.loop);
}

static void what_comes_slowly_is_all_said(void **state)
{
	struct log_limit limit = { .loop = ev_loop_new(EVFLAG_NOENV), .what = "requests failed" };
	const char *said;

	(void)state;
	capture_begin();
	for (unsigned i = 0; i < 3; i++) {
		say_if_it_may_be_said(&limit, LOG_LIMIT_MESSAGES);
		ev_feed_event(limit.loop, &limit.period, EV_TIMER);
		ev_invoke_pending(limit.loop);
	}
	said = capture_end();
	assert_int_equal(lines(said, "\n"), 3 * LOG_LIMIT_MESSAGES);
	assert_false(ev_is_active(&limit.period));
	ev_loop_destroy(limit.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_comes_too_fast_is_left_out_and_counted,
				       start_with_defaults),
		cmocka_unit_test_setup(what_comes_slowly_is_all_said, start_with_defaults),
		cmocka_unit_test_setup(a_message_is_a_line_with_the_prefix_before_it,
				       start_with_defaults),
		cmocka_unit_test_setup(what_messages_are_about_is_switched_back_to,
				       start_with_defaults),
		cmocka_unit_test_setup(debug_messages_need_verbose, start_with_defaults),
		cmocka_unit_test_setup(messages_are_diverted_to_who_wants_them, start_with_defaults),
		cmocka_unit_test_setup(a_long_message_is_cut_and_still_a_line, start_with_defaults),
		cmocka_unit_test_setup(each_message_is_one_write, start_with_defaults),
		cmocka_unit_test_setup(a_long_name_does_no_harm, start_with_defaults),
		cmocka_unit_test_setup(a_level_goes_before_the_line_and_is_taken_off_again,
				       start_with_defaults),
		cmocka_unit_test_setup(what_is_started_has_levels_too, start_with_defaults),
		cmocka_unit_test_setup_teardown(a_line_comes_with_priority_and_process, make_system,
						free_system),
		cmocka_unit_test_setup_teardown(nobody_waits_for_a_reader_that_does_not_read,
						make_system, free_system),
		cmocka_unit_test_setup_teardown(a_reader_that_was_started_again_is_found,
						make_system, free_system),
		cmocka_unit_test_setup_teardown(a_line_that_is_too_long_is_cut, make_system,
						free_system),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
