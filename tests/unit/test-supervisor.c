/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How workers live and die, with processes that serve nothing: this program, started again, does
 * what the device's name says.
 */
#define _GNU_SOURCE
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor.h"
#include "util/json.h"
#include "util/macros.h"

/* Seconds for anything to come. */
#define PATIENCE 20

static struct supervisor supervisor;
static struct table table;
static struct stuck_list stuck;
static unsigned lives, failures, given_up, ends, processes_ended, settled, gone;
static int last_status;

/* ---- the processes ---------------------------------------------------------------------- */

static json_t *device_given(void)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, what;
	struct iovec data = { .iov_base = &what, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	int socket;

	if (recvmsg(atoi(WORKER_CHANNEL), &message, 0) != 1 || what != WORKER_DEVICE)
		return NULL;
	memcpy(&socket, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(socket));
	return json_read(socket, 0, NULL);
}

static int do_what(const char *name)
{
	char what;

	if (!strcmp(name, "fails")) {
		printf("fails gone 3\n");
		fflush(stdout);
		/* Until no more comes. */
		while (read(atoi(WORKER_CHANNEL), &what, 1) > 0)
			;
		return 0;
	}
	if (strcmp(name, "living"))
		return 3;
	printf("a /dev/ublkb7\nb /dev/ublkb8\n");
	fflush(stdout);
	pause();
	return 0;
}

/* A spare one does what it is called by who gives it a device. */
static int act(const char *name)
{
	json_t *device = device_given();
	const char *given = json_string_value(json_object_get(device, "worker"));
	bool spare = !strncmp(name, WORKER_SPARE, strlen(WORKER_SPARE));
	int status = !given ? 4 : do_what(spare ? given : name);

	json_decref(device);
	return status;
}

/* ---- the supervisor --------------------------------------------------------------------- */

static void on_live(struct worker *worker)
{
	(void)worker;
	lives++;
}

static void on_failed(struct worker *worker)
{
	(void)worker;
	failures++;
}

static void on_given_up(struct worker *worker)
{
	(void)worker;
	given_up++;
}

static void on_end(struct worker *worker)
{
	last_status = worker->status;
	ends++;
}

static void on_process_end(struct supervisor *any, pid_t pid)
{
	(void)any;
	(void)pid;
	processes_ended++;
}

static void on_settled(struct supervisor *any)
{
	(void)any;
	settled++;
}

static void on_gone(struct supervisor *any)
{
	(void)any;
	gone++;
}

static void on_any(struct supervisor *any)
{
	(void)any;
}

static int begin(void **state)
{
	static char *options[] = { NULL };

	if (scratch_make(state))
		return -1;
	lives = failures = given_up = ends = processes_ended = settled = gone = 0;
	supervisor = (struct supervisor){
		.loop = ev_default_loop(EVFLAG_NOENV),
		.table = &table,
		.stuck = &stuck,
		.options = options,
		.stays = true,
		.on_live = on_live,
		.on_settled = on_settled,
		.on_failed = on_failed,
		.on_given_up = on_given_up,
		.on_end = on_end,
		.on_process_end = on_process_end,
		.on_change = on_any,
		.on_gone = on_gone,
	};
	return table_open(&table, scratch_path("state")) || supervisor_open(&supervisor);
}

static int end(void **state)
{
	supervisor_close(&supervisor);
	table_close(&table);
	return scratch_remove(state);
}

/* A device that waits when its process has died, or one that does not, with this setting. */
static struct worker *add(const char *name, bool waits, const char *key, const char *value)
{
	json_t *settings = key ? json_pack("{s:s}", key, value) : json_object();
	struct worker *worker = supervisor_add(&supervisor, name, "null", settings, false, NULL, NULL);
	char file[80];

	json_decref(settings);
	assert_non_null(worker);
	snprintf(file, sizeof(file), "state/%s.json", name);
	if (waits)
		close(open(scratch_path(file), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	return worker;
}

/* What was logged meanwhile. */
static const char *wait_for(const unsigned *count, unsigned least)
{
	ev_tstamp until = ev_time() + PATIENCE;

	capture_begin();
	while (*count < least && ev_time() < until)
		ev_run(supervisor.loop, EVRUN_ONCE);
	return capture_end();
}

static void set(struct worker *worker, const char *key, const char *value)
{
	json_object_set_new(worker->settings, key, json_string(value));
}

static void what_dies_too_often_waits(void **state)
{
	struct worker *worker = add("dies", true, "max-deaths", "2");

	(void)state;
	supervisor_start(&supervisor);
	assert_contains(wait_for(&failures, 1), "dies: its process died 2 times in a row: its I/O waits");
	assert_int_equal(worker->state, WORKER_FAILED);
	assert_int_equal(worker->deaths, 2);
	assert_contains(worker->error, "ended with status 3");
	assert_int_equal(given_up, 0);
	assert_int_equal(supervisor_failures(&supervisor), 1);
	worker_again(worker);
	wait_for(&failures, 2);
	assert_int_equal(worker->deaths, 2);
	/* Somebody gives it up. */
	assert_true(worker_hold(worker));
	worker_let_go(worker, true);
	assert_int_equal(ends, 1);
	assert_int_equal(last_status, 0);
}

static void what_is_not_to_wait_is_given_up(void **state)
{
	struct worker *worker = add("dies", true, "max-deaths", "2");

	(void)state;
	set(worker, "give-up", "fail");
	supervisor_start(&supervisor);
	assert_contains(wait_for(&given_up, 1), "2 times in a row: its I/O fails now, as give-up=fail says");
	assert_int_equal(failures, 1);
	assert_contains(worker->error, "given up (give-up=fail), as its process died 2 times in a row: its "
			"process ");
	/* The driver did not do it: it waits as any other, once. */
	assert_true(worker_hold(worker));
	worker_let_go(worker, false);
	assert_int_equal(worker->state, WORKER_FAILED);
	assert_int_equal(given_up, 1);
	worker_again(worker);
	wait_for(&given_up, 2);
	assert_true(worker_hold(worker));
	assert_true(worker->seen);
	worker_let_go(worker, true);
	assert_int_equal(ends, 1);
	assert_int_equal(last_status, 1);
}

/* It makes no difference for how often it is tried. */
static void a_device_that_cannot_wait_goes(void **state)
{
	const struct worker *worker = add("dies", false, "give-up", "fail");

	(void)state;
	assert_false(worker->seen);
	supervisor_start(&supervisor);
	assert_contains(wait_for(&ends, 1), "ended with status 3");
	assert_int_equal(last_status, 3);
	assert_int_equal(given_up + failures, 0);
	assert_null(supervisor.workers);
}

/* As if it had never died, although a single death would be too often; what cannot wait goes. */
static void what_is_killed_is_served_again_at_once(void **state)
{
	struct worker *a = add("a", true, "worker", "living"), *b = add("b", false, "worker", "living");
	pid_t pid;

	(void)state;
	set(a, "max-deaths", "1");
	set(a, "give-up", "fail");
	assert_int_equal(worker_kill(a), -ESRCH);
	supervisor_start(&supervisor);
	wait_for(&lives, 2);
	assert_int_equal(supervisor.groups->process.pid, worker_pid(b));
	pid = worker_pid(a);
	a->deaths = 7;
	worker_pause(a);
	assert_int_equal(worker_kill(a), 0);
	assert_contains(wait_for(&processes_ended, 1), "died of signal 9");
	assert_int_equal(ends, 1);
	assert_ptr_equal(supervisor.workers, a);
	assert_null(a->next);
	wait_for(&lives, 3);
	assert_int_equal(a->state, WORKER_LIVE);
	assert_int_not_equal(worker_pid(a), pid);
	assert_int_equal(a->deaths, 0);
	assert_int_equal(failures + given_up, 0);
	/* The next death is one. */
	assert_int_equal(kill(worker_pid(a), SIGKILL), 0);
	wait_for(&given_up, 1);
	assert_int_equal(given_up, 1);
}

/* Its process ends later than that is known. */
static void a_start_of_which_nothing_is_left_is_none(void **state)
{
	(void)state;
	add("fails", false, NULL, NULL);
	supervisor.stays = false;
	supervisor_start(&supervisor);
	wait_for(&gone, 1);
	assert_int_equal(ends, 1);
	assert_int_equal(gone, 1);
	assert_int_equal(settled, 0);
	assert_int_equal(supervisor.status, 3);
}

static void who_can_be_asked_for_more_has_started(void **state)
{
	(void)state;
	add("fails", false, NULL, NULL);
	supervisor_start(&supervisor);
	wait_for(&processes_ended, 1);
	assert_int_equal(settled, 1);
	assert_int_equal(gone, 0);
}

/* Somebody deleted the one that waits, and its number was free. */
static void a_path_is_that_of_the_last_that_had_it(void **state)
{
	struct worker *waits = add("dies", true, "max-deaths", "1"), *a;

	(void)state;
	supervisor_start(&supervisor);
	wait_for(&failures, 1);
	snprintf(waits->path, sizeof(waits->path), "/dev/ublkb7");
	a = add("a", true, "worker", "living");
	add("b", true, "worker", "living");
	supervisor_go_on(&supervisor);
	wait_for(&lives, 2);
	assert_ptr_equal(supervisor_find(&supervisor, "/dev/ublkb7"), a);
	assert_ptr_equal(supervisor_find(&supervisor, "7"), a);
	assert_ptr_equal(supervisor_find(&supervisor, "dies"), waits);
}

/* When there is one that has no device. */
static pid_t wait_for_spare(void)
{
	ev_tstamp until = ev_time() + PATIENCE;

	while (!supervisor.spare.process.pid && ev_time() < until)
		ev_run(supervisor.loop, EVRUN_ONCE);
	assert_int_not_equal(supervisor.spare.process.pid, 0);
	return supervisor.spare.process.pid;
}

static void a_spare_process_is_that_of_the_next_device(void **state)
{
	struct worker *a = add("a", true, "worker", "living");
	pid_t spare;

	(void)state;
	supervisor_start(&supervisor);
	wait_for(&lives, 1);
	spare = wait_for_spare();
	assert_int_not_equal(worker_pid(a), spare);
	assert_int_equal(worker_kill(a), 0);
	wait_for(&lives, 2);
	assert_int_equal(worker_pid(a), spare);
	assert_int_equal(failures + ends, 0);
	/* It is a process as any other: its end is heard of, and there is another. */
	assert_int_not_equal(wait_for_spare(), spare);
	spare = wait_for_spare();
	assert_int_equal(worker_kill(a), 0);
	wait_for(&lives, 3);
	assert_int_equal(worker_pid(a), spare);
	assert_int_equal(processes_ended, 2);
}

/* The timer had ended, and was started again before that was heard of, as there was none yet. */
static void there_is_one_spare_process_only(void **state)
{
	pid_t spare;

	(void)state;
	add("a", true, "worker", "living");
	supervisor_start(&supervisor);
	wait_for(&lives, 1);
	assert_true(ev_is_active(&supervisor.spare.timer));
	ev_feed_event(supervisor.loop, &supervisor.spare.timer, EV_TIMER);
	ev_invoke_pending(supervisor.loop);
	spare = supervisor.spare.process.pid;
	assert_int_not_equal(spare, 0);
	/* Its timer would start the second. */
	while (ev_is_active(&supervisor.spare.timer))
		ev_run(supervisor.loop, EVRUN_ONCE);
	assert_int_equal(supervisor.spare.process.pid, spare);
}

static void a_spare_process_that_is_dead_serves_nothing(void **state)
{
	struct worker *a = add("a", true, "worker", "living");
	siginfo_t info;
	pid_t spare;

	(void)state;
	supervisor_start(&supervisor);
	wait_for(&lives, 1);
	spare = wait_for_spare();
	/* Nobody has heard of that yet. */
	assert_int_equal(kill(spare, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)spare, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(worker_kill(a), 0);
	wait_for(&lives, 2);
	assert_int_not_equal(worker_pid(a), spare);
	assert_int_equal(a->deaths, 0);
	assert_int_equal(failures + ends, 0);
	/* Without one it goes as well. */
	assert_int_equal(worker_kill(a), 0);
	wait_for(&lives, 3);
}

static void a_spare_process_ends_with_the_last_device(void **state)
{
	struct worker *a = add("a", false, "worker", "living");
	pid_t spare;

	(void)state;
	supervisor.stays = false;
	supervisor_start(&supervisor);
	wait_for(&lives, 1);
	spare = wait_for_spare();
	assert_int_equal(worker_kill(a), 0);
	wait_for(&gone, 1);
	assert_int_equal(ends, 1);
	assert_int_equal(kill(spare, 0), -1);
	assert_int_equal(errno, ESRCH);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(what_dies_too_often_waits),
		TEST(what_is_not_to_wait_is_given_up),
		TEST(a_device_that_cannot_wait_goes),
		TEST(what_is_killed_is_served_again_at_once),
		TEST(a_start_of_which_nothing_is_left_is_none),
		TEST(who_can_be_asked_for_more_has_started),
		TEST(a_path_is_that_of_the_last_that_had_it),
		TEST(a_spare_process_is_that_of_the_next_device),
		TEST(there_is_one_spare_process_only),
		TEST(a_spare_process_that_is_dead_serves_nothing),
		TEST(a_spare_process_ends_with_the_last_device),
	};

	if (argc > 1 && !strcmp(argv[1], "--worker"))
		return act(argv[argc - 1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
