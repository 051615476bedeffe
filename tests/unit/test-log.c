/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_message_is_a_line_with_the_prefix_before_it,
				       start_with_defaults),
		cmocka_unit_test_setup(what_messages_are_about_is_switched_back_to,
				       start_with_defaults),
		cmocka_unit_test_setup(debug_messages_need_verbose, start_with_defaults),
		cmocka_unit_test_setup(a_long_message_is_cut_and_still_a_line, start_with_defaults),
		cmocka_unit_test_setup(each_message_is_one_write, start_with_defaults),
		cmocka_unit_test_setup(a_long_name_does_no_harm, start_with_defaults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
