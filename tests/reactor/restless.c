/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A reactor that goes to rest after microseconds instead of milliseconds, so that it does so,
 * and is woken, thousands of times a second: completions come after random gaps, each way by
 * which the kernel may post them alone and all of them close together, and the next ones when
 * these were seen. One that is not seen in time is a wake-up that was lost, as nothing else
 * wakes the thread. Takes the place of wait.c, and needs no driver.
 *
 * usage: restless [MILLISECONDS [SEED]]    of each case; the result is TAP
 */
#define _GNU_SOURCE
#include "wait.h"

#define TICK_NS 30000
static void start_waiting(struct reactor *reactor);
static void event_seen(void *whose, int result);
#define wait_start start_waiting
#define io_part_done event_seen
#include "wait.c"
#undef wait_start
#undef io_part_done

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "util/parse.h"

#define DEADLINE_NS 10000000000u
#define GAP_NS 200000     /* the longest gap, at first; then, see adapt(), */
#define LEAST_GAP_NS 5000 /* between these */
#define MOST_GAP_NS 20000000
#define CLOSE_NS 10000    /* between the events of a round */
#define WINDOW 8          /* rounds */
#define ENOUGH_ROUNDS 128 /* so that it has to have rested */

/* Ways by which something reaches the reactor. */
enum way {
	BY_POLL,   /* task work, added by the thread that writes to the eventfd */
	BY_TIMER,  /* task work, added by an interrupt */
	BY_WORKER, /* posted by a thread of io-wq, which waits for the pipe */
	BY_RING,   /* posted from another ring */
	BY_ORDER,  /* no completion, but a watcher that is ready */
	WAYS,
};

static const char *const way_names[WAYS] = { "poll", "timer", "worker", "ring", "order" };

struct event {
	_Alignas(8) enum way way;
	uint64_t made; /* by the main thread */
	_Atomic(uint64_t) seen; /* by the reactor */
};

/* One case at a time. */
static struct {
	enum ring_mode mode;
	bool unpolled; /* as where libev's descriptor cannot be polled */
	unsigned ways; /* bits */
	struct ev_loop *loop;
	struct mailbox box;
	struct reactor reactor;
	bool started, ended;
	struct event events[WAYS];
	int poll_fd, pipe[2], null_fd;
	struct io_uring other;
	struct message order;
	struct __kernel_timespec gap; /* of the timer */
	_Atomic(uint64_t) longest;    /* gap, ns */
	uint64_t seed, timer_seed;
	ev_check on_wake;
	_Atomic(uint64_t) woken; /* times that the thread slept in libev's poll */
	_Atomic(int) error;      /* of an event, -errno */
} test;

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* xorshift64, whose seed is not 0 */
static uint64_t below(uint64_t *seed, uint64_t limit)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed % limit;
}

static uint64_t random_gap(uint64_t *seed)
{
	return below(seed, test.longest >> below(seed, 4));
}

/* ---- on the reactor ------------------------------------------------------------ */

static uint64_t data_of(struct event *event)
{
	return (uintptr_t)event | DISPATCH_PART;
}

/* What makes an event come as a completion, where that is not the main thread alone. */
static void arm_event(struct event *event)
{
	struct io_uring_sqe *sqe;

	if (event->way == BY_RING || event->way == BY_ORDER)
		return;
	sqe = ring_sqe(&test.reactor.ring);
	if (event->way == BY_POLL) {
		io_uring_prep_poll_add(sqe, test.poll_fd, POLLIN);
	} else if (event->way == BY_TIMER) {
		test.gap.tv_nsec = (long long)random_gap(&test.timer_seed);
		io_uring_prep_timeout(sqe, &test.gap, 0, 0);
	} else {
		io_uring_prep_splice(sqe, test.pipe[0], -1, test.null_fd, -1, 1, 0);
	}
	sqe->user_data = data_of(event);
}

static void event_seen(void *whose, int result)
{
	struct event *event = whose;
	uint64_t count;

	if (result < 0 && !(event->way == BY_TIMER && result == -ETIME))
		test.error = result;
	if (event->way == BY_POLL && read(test.poll_fd, &count, sizeof(count)) < 0)
		test.error = -errno;
	arm_event(event);
	event->seen++;
}

static void on_order(struct message *message)
{
	(void)message;
	test.events[BY_ORDER].seen++;
}

static void on_wake(struct ev_loop *loop, ev_check *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
	if (test.reactor.resting && !ev_is_active(&test.reactor.keep_going))
		test.woken++;
}

void wait_start(struct reactor *reactor)
{
	start_waiting(reactor);
	if (test.unpolled)
		reactor->loop_fd = -1;
	ev_check_init(&test.on_wake, on_wake);
	ev_check_start(reactor->loop, &test.on_wake);
	for (unsigned way = 0; way < WAYS; way++) {
		if (test.ways & 1u << way)
			arm_event(&test.events[way]);
	}
}

/* ---- on the main thread ---------------------------------------------------------- */

static void on_started(struct reactor *reactor)
{
	(void)reactor;
	test.started = true;
}

static void on_ended(struct reactor *reactor)
{
	reactor_join(reactor);
	test.ended = true;
}

/* A part of the test that is not what it tests. */
static void need(bool worked, const char *what)
{
	if (worked)
		return;
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

static void tell_by_ring(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&test.other);
	struct io_uring_cqe *cqe;

	io_uring_prep_msg_ring(sqe, test.reactor.ring.uring.ring_fd, 0,
			       data_of(&test.events[BY_RING]), 0);
	io_uring_submit(&test.other);
	need(!io_uring_wait_cqe(&test.other, &cqe), "a message to a ring");
	if (cqe->res < 0)
		test.error = cqe->res;
	io_uring_cqe_seen(&test.other, cqe);
}

static void make_event(struct event *event)
{
	event->made++;
	switch (event->way) {
	case BY_POLL:
		need(!eventfd_write(test.poll_fd, 1), "an eventfd");
		break;
	case BY_WORKER:
		need(write(test.pipe[1], "", 1) == 1, "a pipe");
		break;
	case BY_RING:
		tell_by_ring();
		break;
	case BY_ORDER:
		test.order.deliver = on_order;
		mailbox_post(&test.reactor.inbox, &test.order);
		break;
	case BY_TIMER: /* it goes by itself */
	case WAYS:
		break;
	}
}

static void wait_for(uint64_t ns)
{
	uint64_t end = now() + ns;

	while (now() < end)
		;
}

static bool all_seen(void)
{
	for (unsigned way = 0; way < WAYS; way++) {
		if (test.ways & 1u << way && test.events[way].seen < test.events[way].made)
			return false;
	}
	return true;
}

/* All of them, in an order by chance, and each is seen. */
static bool round_passes(void)
{
	unsigned first = (unsigned)below(&test.seed, WAYS);
	uint64_t deadline;

	wait_for(random_gap(&test.seed));
	for (unsigned i = 0; i < WAYS; i++) {
		struct event *event = &test.events[(first + i) % WAYS];

		if (!(test.ways & 1u << event->way))
			continue;
		if (event->way == BY_TIMER)
			event->made = event->seen;
		make_event(event);
		if (test.ways & ~(1u << event->way))
			wait_for(below(&test.seed, CLOSE_NS));
	}
	deadline = now() + DEADLINE_NS;
	while (!all_seen() && !test.error && now() < deadline)
		sched_yield();
	return all_seen() && !test.error;
}

static void tell_what_is_missing(void)
{
	if (test.error)
		printf("# an event failed: %s\n", strerror(-test.error));
	for (unsigned way = 0; way < WAYS; way++) {
		if (test.ways & 1u << way)
			printf("# %s: made %" PRIu64 ", seen %" PRIu64 "\n", way_names[way],
			       test.events[way].made, test.events[way].seen);
	}
}

static void run_main_loop(const bool *until)
{
	uint64_t deadline = now() + DEADLINE_NS;

	while (!*until && now() < deadline) {
		ev_run(test.loop, EVRUN_NOWAIT);
		sched_yield();
	}
	need(*until, "the thread does not answer");
}

static void begin(void)
{
	for (unsigned way = 0; way < WAYS; way++)
		test.events[way] = (struct event){ .way = (enum way)way };
	test.woken = 0;
	test.longest = GAP_NS;
	test.timer_seed = test.seed;
	test.poll_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	need(test.poll_fd >= 0 && !pipe2(test.pipe, O_CLOEXEC), "descriptors");
	test.started = test.ended = false;
	test.reactor = (struct reactor){ .name = "restless", .ring_mode = test.mode,
					 .size = { .sqes = 64 }, .main_box = &test.box,
					 .on_started = on_started, .on_ended = on_ended };
	need(!reactor_start(&test.reactor), "a thread");
	run_main_loop(&test.started);
}

static void end(void)
{
	reactor_stop(&test.reactor);
	run_main_loop(&test.ended);
	close(test.poll_fd);
	close(test.pipe[0]);
	close(test.pipe[1]);
}

/*
 * Half of the events are to find the thread at rest, so that many find it on its way there.
 * How long that takes is the machine's.
 */
static void adapt(uint64_t rests)
{
	if (rests < WINDOW / 4)
		test.longest = MIN(test.longest * 2, (uint64_t)MOST_GAP_NS);
	else if (rests > WINDOW - WINDOW / 4)
		test.longest = MAX(test.longest / 2, (uint64_t)LEAST_GAP_NS);
}

/* Whether all were seen, and it rested, so that this means something. */
static bool case_passes(uint64_t ms)
{
	uint64_t rounds = 0, rests = 0, until;
	bool passed = true;

	begin();
	until = now() + ms * 1000000;
	do {
		passed = round_passes();
		rounds += passed;
		if (rounds % WINDOW == 0) {
			adapt(test.woken - rests);
			rests = test.woken;
		}
	} while (passed && now() < until);
	printf("# %" PRIu64 " rounds, woken %" PRIu64 " times, gaps up to %" PRIu64 " us\n", rounds,
	       test.woken, test.longest / 1000);
	if (!passed)
		tell_what_is_missing();
	else if (!test.woken && rounds >= ENOUGH_ROUNDS)
		passed = false;
	end();
	return passed;
}

static bool there_is(enum ring_mode mode)
{
	struct ring ring;
	bool is = !ring_open(&ring, 4, 0, mode, 0);

	if (is)
		ring_close(&ring);
	return is;
}

int main(int argc, char **argv)
{
	/* Each alone, and close together those that wait for the main thread. */
	static const unsigned ways[] = { 1u << BY_POLL,  1u << BY_TIMER, 1u << BY_WORKER,
					 1u << BY_RING,  1u << BY_ORDER,
					 ((1u << WAYS) - 1) & ~(1u << BY_TIMER) };
	uint64_t ms = 50, cases = 0;
	bool passed = true;

	test.seed = (uint64_t)time(NULL);
	if ((argc > 1 && parse_uint(argv[1], &ms)) || (argc > 2 && parse_uint(argv[2], &test.seed))) {
		fprintf(stderr, "usage: restless [MILLISECONDS [SEED]]\n");
		return 2;
	}
	if (!there_is(RING_AUTO)) {
		printf("1..0 # SKIP no io_uring\n");
		return 0;
	}
	printf("1..%zu\n# seed %" PRIu64 "\n", 3 * 2 * ARRAY_SIZE(ways), test.seed);
	test.seed |= 1;
	test.loop = ev_default_loop(EVBACKEND_EPOLL);
	test.null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	need(test.null_fd >= 0 && !mailbox_open(&test.box), "descriptors");
	need(!io_uring_queue_init(4, &test.other, 0), "a ring");
	mailbox_start(&test.box, test.loop);
	for (test.mode = RING_DEFER; test.mode <= RING_PLAIN; test.mode++) {
		for (unsigned i = 0; i < 2 * ARRAY_SIZE(ways); i++) {
			bool there = there_is(test.mode), passes;

			test.unpolled = i % 2;
			test.ways = ways[i / 2];
			passes = !there || case_passes(ms);
			printf("%sok %" PRIu64 " - %s, %s%s%s\n", passes ? "" : "not ", ++cases,
			       ring_mode_name(test.mode), test.ways & (test.ways - 1) ? "all together" : way_names[__builtin_ctz(test.ways)], test.unpolled ? ", unpolled" : "",
			       there ? "" : " # SKIP the kernel has no such rings");
			fflush(stdout);
			passed = passed && passes;
		}
	}
	return !passed;
}
