/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is left of a device when its server dies, and how another takes it over. */
#define _GNU_SOURCE
#include "harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct plan {
	uint64_t flags;
	unsigned depth;
	bool serve;
};

static void plain_server(void *arg)
{
	const struct plan *plan = arg;
	struct device d;

	device_live(&d, plan->flags, 1, plan->depth);
	server_ready(&d);
	server_hold(&d, plan->serve);
}

/* A server, and the device as another process sees it. */
static struct server begin(struct device *d, uint64_t flags, unsigned depth, bool serve)
{
	struct plan plan = { flags, depth, serve };
	struct server s;

	client_new();
	s = server_new(plain_server, &plan);
	device_adopt(d, *s.id);
	return s;
}

static void remove_it(struct device *d)
{
	control(d, UBLK_CMD_STOP_DEV, NULL, 0, 0);
	device_close(d);
	expect_zero(control(d, UBLK_CMD_DEL_DEV, NULL, 0, 0), "DEL_DEV");
}

static void killed(struct server *s)
{
	server_kill(s);
	if (!server_ended(s, 10000))
		give_up("the server does not end");
}

static void no_recovery(void)
{
	struct device d;
	struct server s = begin(&d, 0, 4, true);
	bool gone;

	killed(&s);
	gone = wait_gone(*s.id, 8000);
	wait_state(&d, UBLK_S_DEV_DEAD, 2000);
	say("node %s, state %u", gone ? "gone" : "there", state_of(&d));
	say(", DEL_DEV %s", result_name(control(&d, UBLK_CMD_DEL_DEV, NULL, 0, 0)));
}

static void no_recovery_outstanding(void)
{
	struct device d;
	struct server s = begin(&d, 0, 4, false);
	int job = client_begin(&d, JOB_READ, 4096, 4096, -1);

	doze(300);
	killed(&s);
	say("outstanding read %s", result_name(client_end(NULL, job, 8000)));
	wait_gone(*s.id, 8000);
	remove_it(&d);
}

/* Not until it is QUIESCED can it be recovered. */
static void take_over(struct device *d)
{
	expect_zero(control(d, UBLK_CMD_START_USER_RECOVERY, NULL, 0, 0), "START_USER_RECOVERY");
	device_open(d);
	fetch_all(d);
	expect_zero(control(d, UBLK_CMD_END_USER_RECOVERY, NULL, 0, (uint64_t)getpid()),
		    "END_USER_RECOVERY");
}

static void recovery(void)
{
	struct device d;
	struct server s = begin(&d, UBLK_F_USER_RECOVERY, 4, true);
	int job;

	killed(&s);
	say("state %s", wait_state(&d, UBLK_S_DEV_QUIESCED, 8000) ? "2" : "not 2");
	job = client_begin(&d, JOB_READ, 4096, 4096, -1);
	say(", new read %s", result_name(client_end(NULL, job, 400)));
	take_over(&d);
	say("; recovered: state %u, read %s", state_of(&d), result_name(client_end(&d, job, 8000)));
	remove_it(&d);
}

static void end_waits(void)
{
	struct device d;
	struct server s = begin(&d, UBLK_F_USER_RECOVERY, 2, true);

	killed(&s);
	wait_state(&d, UBLK_S_DEV_QUIESCED, 8000);
	expect_zero(control(&d, UBLK_CMD_START_USER_RECOVERY, NULL, 0, 0), "START_USER_RECOVERY");
	device_open(&d);
	control_begin(&d, UBLK_CMD_END_USER_RECOVERY, NULL, 0, (uint64_t)getpid());
	say("no FETCH: %s", result_name(control_end(&d, 300)));
	fetch_all(&d);
	say("; all: %s", result_name(control_end(&d, 8000)));
	remove_it(&d);
}

static void outstanding(uint64_t flags, unsigned state)
{
	struct device d;
	struct server s = begin(&d, flags, 4, false);
	int job = client_begin(&d, JOB_READ, 4096, 4096, -1), after;

	doze(300);
	killed(&s);
	if (!wait_state(&d, state, 8000))
		give_up("state %u", state_of(&d));
	say("outstanding read %s", result_name(client_end(NULL, job, 400)));
	after = client_begin(&d, JOB_READ, 8192, 4096, -1);
	say(", new read %s", result_name(client_end(NULL, after, 400)));
	take_over(&d);
	say("; recovered: %s", result_name(client_end(&d, job, 8000)));
	say(" and %s", result_name(client_end(&d, after, 8000)));
	remove_it(&d);
}

static void recovery_outstanding(void)
{
	outstanding(UBLK_F_USER_RECOVERY, UBLK_S_DEV_QUIESCED);
}

static void recovery_reissue(void)
{
	outstanding(UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE, UBLK_S_DEV_QUIESCED);
}

static void recovery_fail_io(void)
{
	need(UBLK_F_USER_RECOVERY_FAIL_IO);
	outstanding(UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_FAIL_IO, UBLK_S_DEV_FAIL_IO);
}

static void stop_quiesced(void)
{
	struct device d;
	struct server s = begin(&d, UBLK_F_USER_RECOVERY, 4, true);
	int job;

	killed(&s);
	wait_state(&d, UBLK_S_DEV_QUIESCED, 8000);
	job = client_begin(&d, JOB_READ, 4096, 4096, -1);
	doze(200);
	say("STOP_DEV %s", result_name(control(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0)));
	say(", waiting read %s, state %u", result_name(client_end(NULL, job, 4000)), state_of(&d));
	remove_it(&d);
}

static void recovery_refused(void)
{
	struct device d;
	struct server s = begin(&d, UBLK_F_USER_RECOVERY, 2, true);
	struct device plain;

	say("alive %s",
	    result_name(control(&d, UBLK_CMD_START_USER_RECOVERY, NULL, 0, 0)));
	killed(&s);
	wait_state(&d, UBLK_S_DEV_QUIESCED, 8000);
	remove_it(&d);
	device_live(&plain, 0, 1, 1);
	say(", without the flag %s",
	    result_name(control(&plain, UBLK_CMD_START_USER_RECOVERY, NULL, 0, 0)));
	device_delete(&plain);
}

/* Every tag has a request, so no command is left whose end could tell the driver. */
static void every_tag_open(void)
{
	const int time_out = 8000; /* ms */
	char path[64];
	struct device d;
	struct server s = begin(&d, 0, 1, false);
	int64_t began;
	int job, fd, res;

	snprintf(path, sizeof(path), "/sys/block/ublkb%d/queue/io_timeout", *s.id);
	fd = open(path, O_WRONLY);
	if (fd < 0 || dprintf(fd, "%d", time_out) < 0)
		give_up("%s: %s", path, strerror(errno));
	close(fd);
	began = now_ms();
	job = client_begin(&d, JOB_READ, 4096, 4096, -1);
	doze(300);
	killed(&s);
	res = client_end(NULL, job, 4 * time_out);
	say("outstanding read %s %s", result_name(res),
	    now_ms() - began < time_out ? "at once" : "after the time-out");
	wait_gone(*s.id, 8000);
	remove_it(&d);
}

/* The order to stop came from elsewhere: nothing of the dead server waits for it. */
static void stop_from_elsewhere(void)
{
	struct device d;
	struct server s = begin(&d, 0, 4, false);
	int job = client_begin(&d, JOB_READ, 4096, 4096, -1);

	doze(300);
	control_begin(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0);
	say("STOP_DEV %s", result_name(control_end(&d, 300)));
	killed(&s);
	say("; server killed: %s", result_name(control_end(&d, 8000)));
	say(", read %s", result_name(client_end(NULL, job, 4000)));
	remove_it(&d);
}

/* ---- what keeps a device from being given up ----------------------------------------- */

static void forking_server(void *arg)
{
	struct device d;
	pid_t child, self = getpid();

	device_live(&d, UBLK_F_USER_RECOVERY, 1, 2);
	child = fork();
	if (!child) { /* it has the char device and the ring, and lives two seconds longer */
		while (getppid() == self)
			doze(10);
		doze(2000);
		_exit(0);
	}
	(void)arg;
	server_ready(&d);
	server_hold(&d, true);
}

static void inherited(void)
{
	struct server s;
	struct device d;
	int res, tries;

	s = server_new(forking_server, NULL);
	device_adopt(&d, *s.id);
	killed(&s);
	doze(300);
	say("heir lives: %s", result_name(control(&d, UBLK_CMD_START_USER_RECOVERY, NULL, 0, 0)));
	for (tries = 0; tries < 100; tries++) {
		res = control(&d, UBLK_CMD_START_USER_RECOVERY, NULL, 0, 0);
		if (!res)
			break;
		doze(50);
	}
	say("; gone: %s", result_name(res));
	remove_it(&d);
}

struct thread_plan {
	struct device *d;
	volatile int end;
};

static void *serving_thread(void *arg)
{
	struct thread_plan *plan = arg;

	fetch_all(plan->d);
	while (!plan->end)
		serve_for(plan->d, 10);
	return NULL;
}

static void thread_ends(void)
{
	struct thread_plan plan = { 0 };
	struct event event;
	pthread_t thread;
	struct device d;
	unsigned n = 0;
	int job;

	client_new();
	device_new(&d, 0, 1, 4);
	d.silent = true;
	plan.d = &d;
	if (pthread_create(&thread, NULL, serving_thread, &plan))
		give_up("thread");
	expect_zero(control(&d, UBLK_CMD_START_DEV, NULL, 0, (uint64_t)getpid()), "START_DEV");
	doze(100);
	plan.end = 1;
	pthread_join(thread, NULL);
	while (next(&d, &event, 300))
		n += event.res == -ENODEV;
	say("%u of 4 FETCHes -ENODEV, state %u", n, state_of(&d));
	job = client_begin(&d, JOB_READ, 4096, 4096, -1);
	say(", read %s", result_name(client_end(NULL, job, 4000)));
	device_delete(&d);
}

static void quiesce(void)
{
	struct device d;

	need(UBLK_F_QUIESCE);
	device_live(&d, UBLK_F_USER_RECOVERY | UBLK_F_QUIESCE, 1, 4);
	say("%s", result_name(control(&d, UBLK_CMD_QUIESCE_DEV, NULL, 0, 2000)));
	serve_for(&d, 200);
	say(", %u of 4 FETCHes -ENODEV, state %u", d.aborted, state_of(&d));
	device_close(&d);
	say("; closed: state %s", wait_state(&d, UBLK_S_DEV_QUIESCED, 4000) ? "2" : "not 2");
	take_over(&d);
	say("; recovered: state %u", state_of(&d));
	device_delete(&d);
}

static void quiesce_unasked(void)
{
	struct device d;

	need(UBLK_F_QUIESCE);
	device_live(&d, UBLK_F_USER_RECOVERY, 1, 1);
	say_result(control(&d, UBLK_CMD_QUIESCE_DEV, NULL, 0, 2000));
	device_delete(&d);
}

const struct claim death_claims[] = {
	{ "killed-without-recovery", "ublk_ch_release_work_fn", no_recovery,
	  ALWAYS("node gone, state 0, DEL_DEV 0") },
	{ "killed-with-a-request-open", "ublk_abort_queue", no_recovery_outstanding,
	  ALWAYS("outstanding read -EIO") },
	{ "killed-with-every-tag-open", "ublk_timeout", every_tag_open,
	  { { 0, "outstanding read -EIO after the time-out" },
	    { KERNEL(6, 16), "outstanding read -EIO at once" } } },
	{ "recovery", "ublk_ctrl_end_recovery", recovery,
	  ALWAYS("state 2, new read in flight; recovered: state 1, read 4096") },
	{ "recovery-waits-for-the-fetches", "ublk_ctrl_end_recovery", end_waits,
	  ALWAYS("no FETCH: in flight; all: 0") },
	{ "recovery-of-open-requests", "__ublk_fail_req", recovery_outstanding,
	  ALWAYS("outstanding read -EIO, new read in flight; recovered: -EIO and 4096") },
	{ "recovery-with-reissue", "__ublk_fail_req", recovery_reissue,
	  ALWAYS("outstanding read in flight, new read in flight; recovered: 4096 and 4096") },
	{ "recovery-with-fail-io", "ublk_prep_req", recovery_fail_io,
	  { { 0, NOT_OFFERED },
	    { KERNEL(6, 13), "outstanding read -EIO, new read -EREMOTEIO; recovered: -EIO and "
			     "-EREMOTEIO" } } },
	{ "recovery-refused", "ublk_ctrl_start_recovery", recovery_refused,
	  ALWAYS("alive -EBUSY, without the flag -EINVAL") },
	{ "stop-of-a-quiesced-device", "ublk_force_abort_dev", stop_quiesced,
	  ALWAYS("STOP_DEV 0, waiting read -EIO, state 0") },
	{ "heirs-block-recovery", "ublk_ctrl_start_recovery", inherited,
	  ALWAYS("heir lives: -EBUSY; gone: 0") },
	{ "thread-end-fails-its-tags", "ublk_dispatch_req", thread_ends,
	  ALWAYS("0 of 4 FETCHes -ENODEV, state 1, read -EIO") },
	{ "stop-from-another-process", "ublk_ch_release_work_fn", stop_from_elsewhere,
	  ALWAYS("STOP_DEV in flight; server killed: 0, read -EIO") },
	{ "quiesce", "ublk_ctrl_quiesce_dev", quiesce,
	  { { 0, NOT_OFFERED },
	    { KERNEL(6, 16), "0, 4 of 4 FETCHes -ENODEV, state 1; closed: state 2; recovered: "
			     "state 1" } } },
	{ "quiesce-must-be-asked-for", "ublk_ctrl_quiesce_dev", quiesce_unasked,
	  { { 0, NOT_OFFERED }, { KERNEL(6, 16), "-EOPNOTSUPP" } } },
	{ 0 },
};

/* ---- the zombie --------------------------------------------------------------------- */

/* How the process looks a while after SIGKILL: its leader's state, and a thread's that waits. */
static void remains(struct server *s)
{
	char path[64], line[256], state = '?';
	const char *at;
	FILE *file;

	server_kill(s);
	if (server_ended(s, 6000)) {
		say("ends");
		return;
	}
	snprintf(path, sizeof(path), "/proc/%d/stat", s->pid);
	file = fopen(path, "r");
	if (file && fgets(line, sizeof(line), file) && (at = strrchr(line, ')')))
		state = at[2];
	say("stays, %s", state == 'Z' ? "a zombie" : state == 'D' ? "uninterruptible" : "alive");
}

static void *own_user(void *arg)
{
	struct device *d = arg;
	char path[32], *memory = (char *)(uintptr_t)buffer_of(d, 0, 0);
	int fd;

	snprintf(path, sizeof(path), "/dev/ublkb%u", d->info.dev_id);
	fd = open(path, O_RDONLY | O_DIRECT);
	if (pread(fd, memory, 4096, 8192) < 0)
		return NULL;
	return arg;
}

/* A thread of the server reads its own device, and the answer never comes. */
static void own_user_server(void *arg)
{
	const struct plan *plan = arg;
	pthread_t thread;
	struct device d;

	device_live(&d, plan->flags, 1, plan->depth);
	if (pthread_create(&thread, NULL, own_user, &d))
		return;
	doze(500);
	server_ready(&d);
	server_hold(&d, false);
}

static void reads_itself(void)
{
	struct plan plan = { 0, 4, false };
	struct server s = server_new(own_user_server, &plan);

	remains(&s);
}

/* The server stops its own device, from the process that has the device open. */
static void own_stop_server(void *arg)
{
	const struct plan *plan = arg;
	struct device d;

	device_live(&d, plan->flags, 1, plan->depth);
	server_ready(&d);
	doze(1000); /* a client's request comes, and is not served */
	control_begin(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0);
	server_hold(&d, false);
}

static void stops_itself(void)
{
	struct plan plan = { 0, 4, false };
	struct device d;
	struct server s;

	client_new();
	s = server_new(own_stop_server, &plan);
	device_adopt(&d, *s.id);
	client_begin(&d, JOB_READ, 4096, 4096, -1);
	doze(2000);
	remains(&s);
}

const struct claim zombie_claims[] = {
	{ "zombie-that-reads-its-own-device", "ublk_ch_release", reads_itself,
	  ALWAYS("stays, a zombie"), WEDGES_ALL },
	{ "zombie-that-stops-its-own-device", "ublk_stop_dev", stops_itself,
	  ALWAYS("stays, uninterruptible"), WEDGES_ALL },
	{ 0 },
};
