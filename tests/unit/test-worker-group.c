/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "support.h"

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor.h"
#include "util/macros.h"

static struct supervisor supervisor;
static const struct worker_process callbacks;

/* name: of the device; worker: its setting, or NULL. */
static struct worker device(const char *name, const char *worker)
{
	return (struct worker){
		.name = (char *)(uintptr_t)name,
		.settings = json_pack("{s:s*}", "worker", worker),
		.supervisor = &supervisor,
	};
}

static unsigned groups(void)
{
	unsigned count = 0;

	for (const struct worker_group *g = supervisor.groups; g; g = g->next)
		count++;
	return count;
}

static void forget(struct worker *worker)
{
	worker_group_leave(worker);
	json_decref(worker->settings);
}

static void devices_that_name_the_same_worker_are_together(void **state)
{
	struct worker all[] = {
		device("a", "x"), device("b", NULL), device("c", "x"), device("d", "y"),
		device("e", NULL), device("x", NULL), device("f", "b"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		assert_true(worker_group_join(&all[i], &callbacks));
	assert_int_equal(groups(), 6);
	assert_ptr_equal(all[0].group, all[2].group);
	assert_ptr_equal(all[0].group->members, &all[0]);
	assert_ptr_equal(all[0].next_member, &all[2]);
	assert_null(all[2].next_member);
	assert_string_equal(all[0].group->name, "x");
	assert_true(all[0].group->named);
	assert_string_equal(all[1].group->name, "b");
	assert_false(all[1].group->named);
	/* A device of the worker's name is none of it. */
	assert_ptr_not_equal(all[5].group, all[0].group);
	assert_ptr_not_equal(all[6].group, all[1].group);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		forget(&all[i]);
	assert_null(supervisor.groups);
}

/* Which is refused by the process. */
static void what_is_no_name_is_no_worker(void **state)
{
	struct worker a = device("a", "x/y"), b = device("b", "x/y");

	(void)state;
	assert_true(worker_group_join(&a, &callbacks));
	assert_true(worker_group_join(&b, &callbacks));
	assert_ptr_not_equal(a.group, b.group);
	assert_false(a.group->named);
	assert_string_equal(a.group->name, "a");
	forget(&a);
	forget(&b);
}

static void rename_worker(struct worker *worker, const char *name)
{
	json_decref(worker->settings);
	worker->settings = json_pack("{s:s*}", "worker", name);
	worker_group_change(worker, &callbacks);
}

static void a_device_that_names_another_goes_to_that(void **state)
{
	struct worker a = device("a", "x"), b = device("b", "x");
	const struct worker_group *x;

	(void)state;
	assert_true(worker_group_join(&a, &callbacks));
	assert_true(worker_group_join(&b, &callbacks));
	x = a.group;
	rename_worker(&a, "x");
	assert_ptr_equal(a.group, x);
	rename_worker(&a, "y");
	assert_string_equal(a.group->name, "y");
	assert_ptr_equal(x->members, &b);
	assert_null(b.next_member);
	rename_worker(&b, "y");
	assert_ptr_equal(a.group, b.group);
	assert_int_equal(groups(), 1);
	rename_worker(&a, NULL);
	assert_false(a.group->named);
	x = a.group;
	rename_worker(&a, NULL);
	assert_ptr_equal(a.group, x);
	forget(&a);
	forget(&b);
	assert_null(supervisor.groups);
}

/* Also where their workers have one name. */
static void users_are_never_together(void **state)
{
	static const char *const users[] = { NULL, "1000:1000:", "1000:1000:24", "1001:1001:", "1000:1000:" };
	struct worker all[ARRAY_SIZE(users)];

	(void)state;
	assert_null(worker_group_of_others(&supervisor, "x", NULL));
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		all[i] = device("a", "x");
		all[i].user = (char *)(uintptr_t)users[i];
		assert_true(worker_group_join(&all[i], &callbacks));
	}
	assert_int_equal(groups(), 4);
	assert_ptr_equal(all[1].group, all[4].group);
	assert_null(all[0].group->user);
	assert_string_equal(all[2].group->user, users[2]);
	forget(&all[0]);
	forget(&all[2]);
	forget(&all[3]);
	assert_null(worker_group_of_others(&supervisor, "x", users[1]));
	assert_null(worker_group_of_others(&supervisor, "a", NULL));
	assert_ptr_equal(worker_group_of_others(&supervisor, "x", NULL), all[1].group);
	assert_ptr_equal(worker_group_of_others(&supervisor, "x", users[2]), all[1].group);
	/* By itself it goes to none of another user. */
	all[0] = device("b", "y");
	assert_true(worker_group_join(&all[0], &callbacks));
	rename_worker(&all[0], "x");
	assert_ptr_not_equal(all[0].group, all[1].group);
	forget(&all[0]);
	forget(&all[1]);
	forget(&all[4]);
	assert_null(supervisor.groups);
}

/* Its death is still to be heard. */
static void a_group_is_there_while_its_process_is(void **state)
{
	struct worker a = device("a", "x");
	struct worker_group *x;

	(void)state;
	assert_true(worker_group_join(&a, &callbacks));
	x = a.group;
	x->process.pid = 1;
	forget(&a);
	assert_ptr_equal(supervisor.groups, x);
	x->ends = true;
	x->process.pid = 0;
	worker_group_free_unused(x);
	assert_ptr_equal(supervisor.groups, x);
	x->ends = false;
	worker_group_free_unused(x);
	assert_null(supervisor.groups);
}

/* While one is served, or on its way. */
static void a_process_that_serves_nothing_gets_nothing_more(void **state)
{
	static const enum worker_state served[] = { WORKER_STARTS, WORKER_LIVE };
	struct worker a = device("a", "x"), b = device("b", "x");

	(void)state;
	assert_true(worker_group_join(&a, &callbacks));
	assert_true(worker_group_join(&b, &callbacks));
	a.state = WORKER_STUCK;
	a.group->process.pid = 1;
	for (size_t i = 0; i < ARRAY_SIZE(served); i++) {
		b.state = served[i];
		worker_group_release(a.group);
		assert_false(a.group->ends);
	}
	b.state = WORKER_QUIESCED;
	worker_group_release(a.group);
	assert_true(a.group->ends);
	a.group->process.pid = 0;
	a.group->ends = false;
	forget(&a);
	forget(&b);
}

/* The next one is theirs, and has the stuck one when that is free. */
static void a_process_that_hangs_is_left_by_the_others(void **state)
{
	struct worker a = device("a", "x"), b = device("b", "x"), c = device("c", "x");
	struct worker_group *x;

	(void)state;
	assert_true(worker_group_join(&a, &callbacks));
	assert_true(worker_group_join(&b, &callbacks));
	x = a.group;
	x->process.pid = 1;
	a.state = WORKER_STUCK;
	b.state = WORKER_LIVE;
	worker_group_split(x, &callbacks);
	assert_ptr_equal(b.group, x);
	x->ends = true;
	worker_group_split(x, &callbacks);
	assert_ptr_equal(b.group, x);
	b.state = WORKER_RESTS;
	worker_group_split(x, &callbacks);
	assert_ptr_equal(a.group, x);
	assert_ptr_not_equal(b.group, x);
	assert_string_equal(b.group->name, "x");
	assert_true(worker_group_join(&c, &callbacks));
	assert_ptr_equal(c.group, b.group);
	x->process.pid = 0;
	x->ends = false;
	worker_group_change(&a, &callbacks);
	assert_ptr_equal(a.group, b.group);
	forget(&a);
	forget(&b);
	forget(&c);
	assert_null(supervisor.groups);
}

/* Nobody waits for a user's longer than that; our own are given all the time they want. SIGURG ends none. */
static void a_users_process_that_does_not_end_is_killed(void **state)
{
	struct worker a = device("a", NULL), b = device("b", NULL);
	pid_t pid = fork();
	int status, pidfd;

	(void)state;
	while (!pid)
		pause();
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	assert_true(pidfd >= 0);
	b.user = (char *)(uintptr_t)"1000:1000:";
	supervisor.loop = ev_loop_new(EVFLAG_NOENV);
	supervisor.patience = 0.05;
	assert_true(worker_group_join(&a, &callbacks));
	assert_true(worker_group_join(&b, &callbacks));
	a.group->process.pid = b.group->process.pid = pid;
	a.group->process.pidfd = b.group->process.pidfd = pidfd;
	worker_group_end(a.group, SIGURG);
	ev_run(supervisor.loop, EVRUN_NOWAIT);
	assert_false(ev_is_active(&a.group->late));
	worker_group_end(b.group, SIGURG);
	assert_true(ev_is_active(&b.group->late));
	capture_begin();
	ev_run(supervisor.loop, 0);
	assert_string_not_equal(capture_end(), "");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(pidfd);
	a.group->process.pid = b.group->process.pid = 0;
	a.group->ends = b.group->ends = false;
	forget(&a);
	forget(&b);
	ev_loop_destroy(supervisor.loop);
	supervisor.loop = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(devices_that_name_the_same_worker_are_together),
		cmocka_unit_test(what_is_no_name_is_no_worker),
		cmocka_unit_test(a_device_that_names_another_goes_to_that),
		cmocka_unit_test(users_are_never_together),
		cmocka_unit_test(a_group_is_there_while_its_process_is),
		cmocka_unit_test(a_process_that_serves_nothing_gets_nothing_more),
		cmocka_unit_test(a_process_that_hangs_is_left_by_the_others),
		cmocka_unit_test(a_users_process_that_does_not_end_is_killed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
