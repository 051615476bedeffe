/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a service manager hears, at a socket as systemd has it. */
#include "support.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "notify.h"
#include "util/macros.h"

#define PATIENCE 10 /* seconds */

struct world {
	struct ev_loop *loop;
	struct notify notify;
	int manager;
	const char *about;
	char heard[512];
};

static void describe(struct notify *notify, char text[NOTIFY_TEXT])
{
	snprintf(text, NOTIFY_TEXT, "%s", container_of(notify, struct world, notify)->about);
}

static int make_world(void **state)
{
	static struct world world;
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (scratch_make(state))
		return -1;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", scratch_path("socket"));
	world = (struct world){ .loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV),
				.notify.describe = describe, .about = "at rest" };
	world.manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(world.manager, (const struct sockaddr *)&address, sizeof(address)))
		return -1;
	setenv("NOTIFY_SOCKET", address.sun_path, 1);
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	*state = &world;
	return 0;
}

static int end_world(void **state)
{
	struct world *world = *state;

	notify_end(&world->notify);
	ev_loop_destroy(world->loop);
	close(world->manager);
	return scratch_remove(state);
}

static void start(struct world *world)
{
	notify_take(&world->notify);
	notify_start(&world->notify, world->loop);
}

/* The next message; "" when none has come yet. */
static const char *heard(struct world *world)
{
	ssize_t got = recv(world->manager, world->heard, sizeof(world->heard) - 1, MSG_DONTWAIT);

	world->heard[got < 0 ? 0 : got] = 0;
	return world->heard;
}

static void out_of_patience(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)loop, (void)timer, (void)events;
	fail_msg("no message within %d s", PATIENCE);
}

/* The same, while our loop goes round. */
static const char *awaited(struct world *world)
{
	ev_timer timer;

	ev_timer_init(&timer, out_of_patience, PATIENCE, 0);
	ev_timer_start(world->loop, &timer);
	while (!*heard(world))
		ev_run(world->loop, EVRUN_ONCE);
	ev_timer_stop(world->loop, &timer);
	return world->heard;
}

static void a_state_is_said_with_what_there_is_to_say_of_us(void **state)
{
	struct world *world = *state;

	start(world);
	notify_state(&world->notify, NOTIFY_READY);
	assert_string_equal(heard(world), "READY=1\nSTATUS=at rest\n");
	notify_state(&world->notify, NOTIFY_STOPPING);
	assert_string_equal(heard(world), "STOPPING=1\n");
}

static void changes_are_said_together(void **state)
{
	struct world *world = *state;

	start(world);
	for (int i = 0; i < 100; i++)
		notify_changed(&world->notify);
	assert_string_equal(heard(world), "");
	world->about = "at work";
	assert_string_equal(awaited(world), "STATUS=at work\n");
	assert_string_equal(heard(world), "");
}

static void what_is_no_news_is_not_said(void **state)
{
	struct world *world = *state;

	start(world);
	notify_state(&world->notify, NOTIFY_READY);
	heard(world);
	notify_changed(&world->notify);
	ev_run(world->loop, 0); /* until no timer is left */
	assert_string_equal(heard(world), "");
}

static void the_watchdog_hears_of_us_in_half_of_its_time(void **state)
{
	struct world *world = *state;
	char pid[16];
	ev_tstamp began;

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_USEC", "400000", 1);
	setenv("WATCHDOG_PID", pid, 1);
	start(world);
	assert_string_equal(awaited(world), "STATUS=at rest\nWATCHDOG=1\n");
	began = ev_time();
	assert_string_equal(awaited(world), "WATCHDOG=1\n");
	assert_true(ev_time() - began > 0.1);
}

static void a_watchdog_of_another_process_is_not_ours(void **state)
{
	struct world *world = *state;

	setenv("WATCHDOG_USEC", "100000", 1);
	setenv("WATCHDOG_PID", "1", 1);
	start(world);
	assert_false(ev_is_active(&world->notify.ping));
}

static void the_watchdog_of_the_process_before_is_ours_from_then_on(void **state)
{
	struct world *world = *state;

	start(world);
	notify_watchdog(&world->notify, 0);
	assert_false(ev_is_active(&world->notify.ping));
	notify_watchdog(&world->notify, 200000);
	assert_string_equal(awaited(world), "STATUS=at rest\nWATCHDOG=1\n");
	assert_string_equal(awaited(world), "WATCHDOG=1\n");
}

static void what_we_start_does_not_inherit_it(void **state)
{
	struct world *world = *state;

	setenv("WATCHDOG_USEC", "1000000", 1);
	setenv("WATCHDOG_PID", "1", 1);
	start(world);
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_null(getenv("WATCHDOG_USEC"));
	assert_null(getenv("WATCHDOG_PID"));
}

/* It may itself wait for a device of ours. */
static void a_manager_that_does_not_read_keeps_nobody(void **state)
{
	struct world *world = *state;
	unsigned unread = 0, read = 0;

	start(world);
	do {
		notify_state(&world->notify, NOTIFY_RELOADING);
		unread += !world->notify.state;
		assert_true(unread < 1000000);
	} while (!world->notify.state);
	assert_true(unread > 0);
	notify_state(&world->notify, NOTIFY_READY);
	while (*heard(world)) {
		assert_null(strstr(world->heard, "READY"));
		read++;
	}
	assert_int_equal(read, unread);
	/* It comes when there is room. */
	assert_string_equal(awaited(world), "READY=1\n");
}

static void without_a_manager_nothing_is_said(void **state)
{
	struct world *world = *state;
	static const char *const nowhere[] = { "relative", "", "/no/such/folder/socket" };

	unsetenv("NOTIFY_SOCKET");
	start(world);
	notify_state(&world->notify, NOTIFY_READY);
	notify_changed(&world->notify);
	assert_int_equal(world->notify.fd, -1);
	for (size_t i = 0; i < ARRAY_SIZE(nowhere); i++) {
		notify_end(&world->notify);
		setenv("NOTIFY_SOCKET", nowhere[i], 1);
		start(world);
		notify_state(&world->notify, NOTIFY_READY);
	}
	assert_string_equal(heard(world), "");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_world, end_world)
		TEST(a_state_is_said_with_what_there_is_to_say_of_us),
		TEST(changes_are_said_together),
		TEST(what_is_no_news_is_not_said),
		TEST(the_watchdog_hears_of_us_in_half_of_its_time),
		TEST(a_watchdog_of_another_process_is_not_ours),
		TEST(the_watchdog_of_the_process_before_is_ours_from_then_on),
		TEST(what_we_start_does_not_inherit_it),
		TEST(a_manager_that_does_not_read_keeps_nobody),
		TEST(without_a_manager_nothing_is_said),
#undef TEST
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
