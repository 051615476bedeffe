/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a supervisor hears of a worker, by lines and as answers, where the test is the worker. The
 * source is included for its inner parts.
 */
#define _GNU_SOURCE
#include "support.h"

#include "../../src/worker-process.c"

#include "forward.h"

#define MOST_LINES 100000
#define MOST_BYTES (64u << 20) /* more than any answer may have */

/* ---- lines -------------------- */

struct world {
	struct worker_process process;
	int out, err; /* where the process writes */
	unsigned lines, logs;
	char last[64];
};

static void on_line(struct worker_process *process, const char *line)
{
	struct world *world = container_of(process, struct world, process);

	world->lines++;
	snprintf(world->last, sizeof(world->last), "%s, behind %u", line, world->logs);
}

static void on_log(struct worker_process *process, const char *line)
{
	struct world *world = container_of(process, struct world, process);

	(void)line;
	world->logs++;
}

/* Says more for each line that is heard. */
static void on_endless_log(struct worker_process *process, const char *line)
{
	struct world *world = container_of(process, struct world, process);

	(void)line;
	if (++world->logs < MOST_LINES)
		assert_int_equal(write(world->err, "more\n", 5), 5);
}

static int make_world(void **state)
{
	static struct world world;
	struct worker_process *process = &world.process;
	struct ends ends;

	if (open_ends(&ends))
		return -1;
	close(ends.channel[0]);
	world = (struct world){ .out = ends.out[1], .err = ends.err[1] };
	process->loop = ev_loop_new(EVFLAG_NOENV);
	process->channel = ends.channel[1];
	watch_stream(process, &process->out, ends.out[0], on_line);
	watch_stream(process, &process->err, ends.err[0], on_log);
	*state = &world;
	return 0;
}

static int end_world(void **state)
{
	struct world *world = *state;

	close_streams(&world->process);
	close(world->out);
	close(world->err);
	ev_loop_destroy(world->process.loop);
	return 0;
}

static void what_was_logged_is_heard_before_the_line_that_it_explains(void **state)
{
	struct world *world = *state;

	assert_int_equal(write(world->out, "web go", 6), 6);
	ev_run(world->process.loop, EVRUN_NOWAIT);
	assert_int_equal(world->lines, 0);
	assert_int_equal(write(world->out, "ne 3\n", 5), 5);
	assert_int_equal(write(world->err, "why\nindeed\n", 11), 11);
	ev_run(world->process.loop, EVRUN_NOWAIT);
	assert_int_equal(world->lines, 1);
	assert_string_equal(world->last, "web gone 3, behind 2");
}

static void a_process_that_never_stops_talking_keeps_no_other_waiting(void **state)
{
	struct world *world = *state;

	world->process.err.on_line = on_endless_log;
	assert_int_equal(write(world->err, "first\n", 6), 6);
	ev_run(world->process.loop, EVRUN_NOWAIT);
	assert_in_range(world->logs, 1, MOST_LINES / 100);
	/* What is left comes in the next turn. */
	ev_run(world->process.loop, EVRUN_NOWAIT);
	assert_in_range(world->logs, MOST_READS + 1, MOST_LINES / 100);
}

/* ---- answers -------------------- */

struct asked {
	struct ev_loop *loop;
	struct forward forward, *all;
	int other; /* end of the socket */
	unsigned ended;
	char *answer; /* NULL: none came */
};

static void ended(struct forward *forward, json_t *answer)
{
	struct asked *asked = container_of(forward, struct asked, forward);

	asked->ended++;
	asked->answer = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
}

static int ask(void **state)
{
	static struct asked asked;
	json_t *parameters = json_pack("{s:s}", "device", "web");
	int pair[2], ret;

	asked = (struct asked){ .loop = ev_loop_new(EVFLAG_NOENV), .forward.done = ended };
	if (open_pair(pair))
		return -1;
	asked.other = pair[1];
	ret = forward_start(&asked.forward, &asked.all, asked.loop, pair[0], "io.ublkd.Show", parameters,
			    0);
	json_decref(parameters);
	*state = &asked;
	return ret;
}

static int end_asked(void **state)
{
	struct asked *asked = *state;

	forward_end_all(&asked->all);
	free(asked->answer);
	close(asked->other);
	ev_loop_destroy(asked->loop);
	return 0;
}

static void an_answer_ends_with_a_nul(void **state)
{
	struct asked *asked = *state;
	char call[128];

	assert_true(read(asked->other, call, sizeof(call)) > 0);
	assert_string_equal(call, "{\"method\":\"io.ublkd.Show\",\"parameters\":{\"device\":\"web\"}}");
	assert_int_equal(write(asked->other, "{\"a\":", 5), 5);
	ev_run(asked->loop, EVRUN_NOWAIT);
	assert_int_equal(asked->ended, 0);
	assert_int_equal(write(asked->other, "7}", 3), 3);
	ev_run(asked->loop, EVRUN_NOWAIT);
	assert_int_equal(asked->ended, 1);
	assert_string_equal(asked->answer, "{\"a\":7}");
	assert_null(asked->all);
}

static void a_process_that_dies_answers_nothing(void **state)
{
	struct asked *asked = *state;

	assert_int_equal(write(asked->other, "{\"a\":7}", 7), 7);
	shutdown(asked->other, SHUT_RDWR);
	while (!asked->ended)
		ev_run(asked->loop, EVRUN_ONCE);
	assert_null(asked->answer);
	assert_null(asked->all);
}

static void an_answer_without_an_end_is_none(void **state)
{
	struct asked *asked = *state;
	static char text[65536];
	size_t sent = 0;
	ssize_t got;

	memset(text, ' ', sizeof(text));
	while (!asked->ended && sent < MOST_BYTES) {
		while ((got = send(asked->other, text, sizeof(text), MSG_NOSIGNAL)) > 0)
			sent += (size_t)got;
		ev_run(asked->loop, EVRUN_NOWAIT);
	}
	assert_int_equal(asked->ended, 1);
	assert_null(asked->answer);
	assert_true(sent < MOST_BYTES);
}

#define HEARD(name) cmocka_unit_test_setup_teardown(name, make_world, end_world)
#define ASKED(name) cmocka_unit_test_setup_teardown(name, ask, end_asked)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HEARD(what_was_logged_is_heard_before_the_line_that_it_explains),
		HEARD(a_process_that_never_stops_talking_keeps_no_other_waiting),
		ASKED(an_answer_ends_with_a_nul),
		ASKED(a_process_that_dies_answers_nothing),
		ASKED(an_answer_without_an_end_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
