/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Waiting for a libev loop from outside, and the processes that a loop waits for. */
#include "support.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/child.h"
#include "util/loop.h"

struct world {
	struct ev_loop *loop;
	ev_io watcher;
	int event, seen;
};

static void on_event(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct world *world = watcher->data;
	eventfd_t count;

	(void)loop;
	(void)events;
	assert_int_equal(eventfd_read(watcher->fd, &count), 0);
	world->seen++;
}

static int make_world(void **state)
{
	static struct world world;

	world = (struct world){ .loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV) };
	world.event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	world.watcher.data = &world;
	ev_io_init(&world.watcher, on_event, world.event, EV_READ);
	*state = &world;
	return world.loop && world.event >= 0 ? 0 : -1;
}

static int end_world(void **state)
{
	struct world *world = *state;

	ev_loop_destroy(world->loop);
	close(world->event);
	return 0;
}

static bool readable(int fd)
{
	return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) == 1;
}

static void its_descriptor_is_readable_while_a_watcher_has_something(void **state)
{
	struct world *world = *state;
	int fd = loop_fd(world->loop);

	assert_true(fd >= 0);
	ev_io_start(world->loop, &world->watcher);
	ev_run(world->loop, EVRUN_NOWAIT);
	for (int i = 1; i <= 3; i++) {
		assert_false(readable(fd));
		eventfd_write(world->event, 1);
		assert_true(readable(fd));
		assert_true(readable(fd));
		ev_run(world->loop, EVRUN_NOWAIT);
		assert_int_equal(world->seen, i);
	}
	ev_io_stop(world->loop, &world->watcher);
}

static void asking_for_it_disturbs_no_other_watcher(void **state)
{
	struct world *world = *state;

	ev_io_start(world->loop, &world->watcher);
	ev_run(world->loop, EVRUN_NOWAIT);
	assert_true(loop_fd(world->loop) >= 0);
	assert_int_equal(world->seen, 0);
	eventfd_write(world->event, 1);
	ev_run(world->loop, EVRUN_NOWAIT);
	assert_int_equal(world->seen, 1);
	ev_io_stop(world->loop, &world->watcher);
	/* Nothing of ours is left: a loop without watchers ends at once. */
	ev_run(world->loop, 0);
}

static void a_loop_of_another_backend_has_none(void **state)
{
	struct ev_loop *loop = ev_loop_new(EVBACKEND_SELECT | EVFLAG_NOENV);

	(void)state;
	assert_non_null(loop);
	assert_true(loop_fd(loop) < 0);
	ev_loop_destroy(loop);
}

/* The far-off watcher must neither come nor keep the loop from what is due. */
static void a_loop_at_rest_still_wakes_for_its_watchers(void **state)
{
	struct world *world = *state;
	ev_periodic far;

	loop_rest_undisturbed(world->loop, &far);
	ev_io_start(world->loop, &world->watcher);
	eventfd_write(world->event, 1);
	ev_run(world->loop, EVRUN_ONCE);
	assert_int_equal(world->seen, 1);
	assert_true(ev_is_active(&far));
	assert_true(ev_periodic_at(&far) - ev_now(world->loop) > 9 * 365.25 * 86400);
	ev_periodic_stop(world->loop, &far);
	ev_io_stop(world->loop, &world->watcher);
}

static void on_expiry(struct loop_timer *timer, uint64_t times)
{
	*(uint64_t *)timer->watcher.data += times;
}

static void a_timer_shows_on_the_descriptor(void **state)
{
	struct loop_timer timer = { .expired = on_expiry };
	struct world *world = *state;
	int fd = loop_fd(world->loop);
	uint64_t times = 0;

	timer.watcher.data = &times;
	assert_int_equal(loop_timer_start(&timer, world->loop, 3000000, 1000000), 0);
	ev_run(world->loop, EVRUN_NOWAIT);
	for (uint64_t before = 0; before < 3; before = times) {
		assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, -1), 1);
		ev_run(world->loop, EVRUN_NOWAIT);
		assert_true(times > before);
	}
	loop_timer_stop(&timer, world->loop);
	ev_run(world->loop, 0);
}

static void a_timer_may_expire_at_once_and_once_only(void **state)
{
	struct loop_timer timer = { .expired = on_expiry };
	struct world *world = *state;
	uint64_t times = 0;

	timer.watcher.data = &times;
	assert_int_equal(loop_timer_start(&timer, world->loop, 0, 0), 0);
	ev_run(world->loop, EVRUN_ONCE);
	assert_int_equal(times, 1);
	assert_false(readable(timer.watcher.fd));
	loop_timer_stop(&timer, world->loop);
	ev_run(world->loop, 0);
}

static void on_end(struct ev_loop *loop, ev_child *child, int events)
{
	(void)loop, (void)child, (void)events;
}

static void what_has_ended_is_sent_no_signal(void **state)
{
	struct world *world = *state;
	pid_t pid = fork();
	ev_child child;
	int status;

	if (!pid)
		_exit(pause());
	ev_child_init(&child, on_end, pid, 0);
	/* Its number is another process's by now. */
	ev_feed_event(world->loop, &child, EV_CHILD);
	child_signal(&child, SIGTERM);
	poll(NULL, 0, 50);
	ev_clear_pending(world->loop, &child);
	child_signal(&child, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGKILL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_world, end_world)
	const struct CMUnitTest tests[] = {
		TEST(its_descriptor_is_readable_while_a_watcher_has_something),
		TEST(asking_for_it_disturbs_no_other_watcher),
		TEST(a_loop_of_another_backend_has_none),
		TEST(a_loop_at_rest_still_wakes_for_its_watchers),
		TEST(a_timer_shows_on_the_descriptor),
		TEST(a_timer_may_expire_at_once_and_once_only),
		TEST(what_has_ended_is_sent_no_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
