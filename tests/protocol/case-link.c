/* SPDX-License-Identifier: GPL-2.0-or-later */
/* COMMIT_AND_FETCH_REQ linked behind the SQE that does the work. */
#define _GNU_SOURCE
#include "harness.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static struct event read_request(struct device *d, int *job)
{
	client_new();
	device_live(d, 0, 1, 2);
	*job = client_begin(d, JOB_READ, 4096, 4096, -1);
	return wait_io(d, UBLK_IO_OP_READ, 8);
}

/* The chain's second half, with the result of the whole request. */
static struct io_uring_sqe *linked_commit(struct device *d, const struct event *event)
{
	struct io_uring_sqe *sqe = command(d, UBLK_IO_COMMIT_AND_FETCH_REQ, 0, event->tag, 4096);

	sqe->user_data = (uint64_t)LINKED << 32 | event->tag;
	return sqe;
}

/* What was posted within a while, and whether the request has ended; then the end of it. */
static void outcome(struct device *d, struct event *event, int job)
{
	bool head = false, commit = false, done;
	struct event got;
	int result, looks = 0;

	while (looks < 6) {
		if (!next(d, &got, 50)) {
			looks++;
			continue;
		}
		if (got.kind == HEAD) {
			head = true;
			say("head %s", result_name(got.res));
		} else if (got.kind == LINKED) {
			commit = true;
			say("%scommit %s", head ? ", " : "", result_name(got.res));
		}
	}
	done = client_ended(job, &result);
	if (!head && !commit)
		say("nothing");
	say("; request %s", done ? result_name(result) : "open");
	if (!done)
		serve(d, event);
	client_end(d, job, 4000);
	device_delete(d);
}

enum head { FULL, SHORT, FAILED, CANCELLED, FSYNC_FAILED, FALLOCATE_FAILED };

static void chain(enum head what, unsigned flags)
{
	struct io_uring_sqe *sqe;
	struct event event;
	struct device d;
	int job, fds[2];
	char *buffer;

	event = read_request(&d, &job);
	buffer = (char *)(uintptr_t)buffer_of(&d, 0, event.tag);
	if (pipe(fds))
		give_up("pipe");
	sqe = raw_sqe(&d.ring, HEAD, 0, 0);
	switch (what) {
	case FULL:
		io_uring_prep_read(sqe, d.disk, buffer, 4096, 4096);
		break;
	case SHORT:
		io_uring_prep_read(sqe, d.disk, buffer, 4096, DISK_BYTES - 512);
		break;
	case FAILED:
		io_uring_prep_read(sqe, 9999, buffer, 4096, 4096);
		break;
	case CANCELLED:
		io_uring_prep_read(sqe, fds[0], buffer, 4096, (uint64_t)-1);
		break;
	case FSYNC_FAILED: /* a pipe cannot be synced */
		io_uring_prep_fsync(sqe, fds[0], 0);
		break;
	case FALLOCATE_FAILED: /* this end cannot be written */
		io_uring_prep_fallocate(sqe, fds[0], 0, 0, 4096);
		break;
	}
	sqe->user_data = (uint64_t)HEAD << 32;
	sqe->flags |= (uint8_t)flags;
	linked_commit(&d, &event);
	submit(&d);
	if (what == CANCELLED) {
		doze(50);
		sqe = raw_sqe(&d.ring, OTHER, 0, 0);
		io_uring_prep_cancel64(sqe, (uint64_t)HEAD << 32, 0);
		sqe->user_data = (uint64_t)OTHER << 32;
		submit(&d);
	}
	outcome(&d, &event, job);
}

#define SKIP (IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS)

static void full(void) { chain(FULL, IOSQE_IO_LINK); }
static void full_skip(void) { chain(FULL, SKIP); }
static void is_short(void) { chain(SHORT, IOSQE_IO_LINK); }
static void is_short_skip(void) { chain(SHORT, SKIP); }
static void failed(void) { chain(FAILED, IOSQE_IO_LINK); }
static void failed_skip(void) { chain(FAILED, SKIP); }
static void cancelled(void) { chain(CANCELLED, IOSQE_IO_LINK); }
static void cancelled_skip(void) { chain(CANCELLED, SKIP); }
static void fsync_failed(void) { chain(FSYNC_FAILED, IOSQE_IO_LINK); }
static void fsync_failed_skip(void) { chain(FSYNC_FAILED, SKIP); }
static void fallocate_failed_skip(void) { chain(FALLOCATE_FAILED, SKIP); }
static void hard_failed(void) { chain(FAILED, IOSQE_IO_HARDLINK); }
static void hard_short(void) { chain(SHORT, IOSQE_IO_HARDLINK); }

/* The chain must not be cut by the end of a submission. */
static void split(void)
{
	struct io_uring_sqe *sqe;
	struct event event;
	struct device d;
	int job;

	event = read_request(&d, &job);
	sqe = raw_sqe(&d.ring, HEAD, 0, 0);
	io_uring_prep_read(sqe, 9999, NULL, 4096, 0);
	sqe->user_data = (uint64_t)HEAD << 32;
	sqe->flags = IOSQE_IO_LINK;
	submit(&d);
	linked_commit(&d, &event);
	submit(&d);
	outcome(&d, &event, job);
}

/*
 * Both requests of the device are the server's. The commit of the one waits in
 * a chain, and while it waits the memory of its SQE is used for something else:
 * a commit of the other one with an error. Which of the two does the driver see?
 */
static void overwritten(void)
{
	static struct __kernel_timespec time = { .tv_nsec = 100 * 1000000l };
	struct io_uring_sqe *sqe;
	struct event event[2];
	struct device d;
	int jobs[2], result[2], i;

	client_new();
	device_live(&d, 0, 1, 2);
	jobs[0] = client_begin(&d, JOB_READ, 4096, 4096, -1);
	event[0] = wait_io(&d, UBLK_IO_OP_READ, 8);
	jobs[1] = client_begin(&d, JOB_READ, 8192, 4096, -1);
	event[1] = wait_io(&d, UBLK_IO_OP_READ, 16);

	sqe = raw_sqe(&d.ring, HEAD, 0, 0);
	io_uring_prep_timeout(sqe, &time, 0, IORING_TIMEOUT_ETIME_SUCCESS);
	sqe->user_data = (uint64_t)HEAD << 32;
	sqe->flags = IOSQE_IO_LINK;
	sqe = linked_commit(&d, &event[0]);
	submit(&d);
	*command_of(sqe) = (struct ublk_io_cmd){
		.tag = (uint16_t)event[1].tag,
		.result = -ENOSPC,
		.addr = buffer_of(&d, 0, event[1].tag),
	};
	doze(400);
	for (i = 0; i < 2; i++)
		result[i] = client_ended(jobs[i], &result[i]) ? result[i] : IN_FLIGHT;
	say("queued for: %s, written over it: %s", result_name(result[0]), result_name(result[1]));
	for (i = 0; i < 2; i++)
		if (result[i] == IN_FLIGHT)
			serve(&d, &event[i]);
	client_end(&d, jobs[0], 4000);
	client_end(&d, jobs[1], 4000);
	device_delete(&d);
}

/* The same without a chain: the command is issued inside io_uring_enter(). */
static void overwritten_unlinked(void)
{
	struct io_uring_sqe *sqe;
	struct event event;
	struct device d;
	int job;

	event = read_request(&d, &job);
	sqe = linked_commit(&d, &event);
	submit(&d);
	memset(sqe, 0xff, 64);
	say("request %s", result_name(client_end(&d, job, 4000)));
	device_delete(&d);
}

const struct claim link_claims[] = {
	{ "link-full", "io_queue_next", full, ALWAYS("head 4096; request 4096") },
	{ "link-full-skip", "io_queue_next", full_skip, ALWAYS("nothing; request 4096") },
	{ "link-short", "io_disarm_next", is_short,
	  ALWAYS("head 512, commit -ECANCELED; request open") },
	{ "link-short-skip", "io_disarm_next", is_short_skip, ALWAYS("head 512; request open") },
	{ "link-failed", "io_disarm_next", failed,
	  ALWAYS("head -EBADF, commit -ECANCELED; request open") },
	{ "link-failed-skip", "io_disarm_next", failed_skip, ALWAYS("head -EBADF; request open") },
	{ "link-cancelled", "io_disarm_next", cancelled,
	  ALWAYS("head -ECANCELED, commit -ECANCELED; request open") },
	{ "link-cancelled-skip", "io_disarm_next", cancelled_skip,
	  ALWAYS("head -ECANCELED; request open") },
	{ "link-fsync-failed", "io_fsync", fsync_failed, ALWAYS("head -EINVAL; request 4096") },
	{ "link-fsync-failed-skip", "io_fsync", fsync_failed_skip, ALWAYS("nothing; request 4096") },
	{ "link-fallocate-failed-skip", "io_fallocate", fallocate_failed_skip,
	  ALWAYS("nothing; request 4096") },
	{ "hardlink-failed", "io_disarm_next", hard_failed, ALWAYS("head -EBADF; request 4096") },
	{ "hardlink-short", "io_disarm_next", hard_short, ALWAYS("head 512; request 4096") },
	{ "link-ends-with-the-submission", "io_submit_sqes", split,
	  ALWAYS("head -EBADF; request 4096") },
	{ "linked-sqe-is-read-when-issued", "io_uring_cmd_prep", overwritten,
	  { { 0, "queued for: in flight, written over it: -ENOSPC" },
	    { KERNEL(6, 15), "queued for: 4096, written over it: in flight" } } },
	{ "unlinked-sqe-is-free-after-submit", "io_uring_cmd", overwritten_unlinked,
	  ALWAYS("request 4096") },
	{ 0 },
};
