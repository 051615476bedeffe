/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/macros.h"
#include "util/mailbox.h"

#define SENDERS 4
#define POSTS 5000

struct letter {
	struct message message;
	struct office *office;
	unsigned sender, number;
};

struct office {
	struct mailbox box;
	struct ev_loop *loop;
	pthread_t thread;              /* that runs the loop */
	struct letter letters[SENDERS][POSTS];
	unsigned next[SENDERS];        /* expected of each sender */
	unsigned delivered, wanted;
	unsigned out_of_order, on_other_thread;
};

static void count_letter(struct message *message)
{
	struct letter *letter = container_of(message, struct letter, message);
	struct office *office = letter->office;

	office->out_of_order += letter->number != office->next[letter->sender]++;
	office->on_other_thread += !pthread_equal(pthread_self(), office->thread);
	if (++office->delivered == office->wanted)
		ev_break(office->loop, EVBREAK_ALL);
}

static void give_up(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)timer;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

/* Runs the loop until the wanted letters are there, 30 s at most. */
static void run_loop(struct office *office, unsigned wanted)
{
	ev_timer limit;

	office->wanted = wanted;
	ev_timer_init(&limit, give_up, 30, 0);
	ev_timer_start(office->loop, &limit);
	ev_run(office->loop, 0);
	ev_timer_stop(office->loop, &limit);
}

static int open_office(void **state)
{
	struct office *office = calloc(1, sizeof(*office));

	*state = office;
	office->loop = ev_loop_new(EVFLAG_NOENV);
	office->thread = pthread_self();
	for (unsigned s = 0; s < SENDERS; s++) {
		for (unsigned i = 0; i < POSTS; i++)
			office->letters[s][i] = (struct letter){
				.message.deliver = count_letter,
				.office = office,
				.sender = s,
				.number = i,
			};
	}
	if (!office->loop || mailbox_open(&office->box))
		return -1;
	mailbox_start(&office->box, office->loop);
	return 0;
}

static int close_office(void **state)
{
	struct office *office = *state;

	mailbox_stop(&office->box, office->loop);
	mailbox_close(&office->box);
	ev_loop_destroy(office->loop);
	free(office);
	return 0;
}

static void post_all(struct office *office, unsigned sender)
{
	for (unsigned i = 0; i < POSTS; i++)
		mailbox_post(&office->box, &office->letters[sender][i].message);
}

static void *send_letters(void *arg)
{
	struct letter *first = arg;

	post_all(first->office, first->sender);
	return NULL;
}

static void nothing_is_lost_and_each_senders_order_is_kept(void **state)
{
	struct office *office = *state;
	pthread_t threads[SENDERS];

	for (unsigned s = 0; s < SENDERS; s++)
		assert_int_equal(pthread_create(&threads[s], NULL, send_letters,
						&office->letters[s][0]), 0);
	run_loop(office, SENDERS * POSTS);
	for (unsigned s = 0; s < SENDERS; s++)
		pthread_join(threads[s], NULL);
	assert_int_equal(office->delivered, SENDERS * POSTS);
	assert_int_equal(office->out_of_order, 0);
	assert_int_equal(office->on_other_thread, 0);
}

static void messages_posted_before_the_loop_runs_are_delivered(void **state)
{
	struct office *office = *state;

	post_all(office, 2);
	assert_int_equal(office->delivered, 0);
	run_loop(office, POSTS);
	assert_int_equal(office->delivered, POSTS);
	assert_int_equal(office->out_of_order, 0);
}

static void post_again(struct message *message)
{
	struct letter *letter = container_of(message, struct letter, message);

	if (++letter->number < 10)
		mailbox_post(&letter->office->box, message);
	else
		ev_break(letter->office->loop, EVBREAK_ALL);
}

static void a_message_may_be_posted_again_while_it_is_delivered(void **state)
{
	struct office *office = *state;
	struct letter *letter = &office->letters[0][0];

	letter->message.deliver = post_again;
	/* The one behind it must not get lost over that. */
	mailbox_post(&office->box, &letter->message);
	mailbox_post(&office->box, &office->letters[1][0].message);
	run_loop(office, 0);
	assert_int_equal(letter->number, 10);
	assert_int_equal(office->delivered, 1);
}

static void free_it(struct message *message)
{
	struct letter *letter = container_of(message, struct letter, message);

	ev_break(letter->office->loop, EVBREAK_ALL);
	free(letter);
}

static void a_message_may_be_freed_while_it_is_delivered(void **state)
{
	struct office *office = *state;
	struct letter *letter = malloc(sizeof(*letter));

	assert_non_null(letter);
	*letter = (struct letter){ .message.deliver = free_it, .office = office };
	mailbox_post(&office->box, &letter->message);
	mailbox_post(&office->box, &office->letters[3][0].message);
	run_loop(office, 0);
	assert_int_equal(office->delivered, 1);
}

static void a_read_mailbox_does_not_wake_the_loop(void **state)
{
	struct office *office = *state;
	struct pollfd poll_fd = { .fd = office->box.event_fd, .events = POLLIN };

	assert_int_equal(poll(&poll_fd, 1, 0), 0);
	post_all(office, 0);
	assert_int_equal(poll(&poll_fd, 1, 0), 1);
	run_loop(office, POSTS);
	assert_int_equal(poll(&poll_fd, 1, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing_is_lost_and_each_senders_order_is_kept,
						open_office, close_office),
		cmocka_unit_test_setup_teardown(messages_posted_before_the_loop_runs_are_delivered,
						open_office, close_office),
		cmocka_unit_test_setup_teardown(a_message_may_be_posted_again_while_it_is_delivered,
						open_office, close_office),
		cmocka_unit_test_setup_teardown(a_message_may_be_freed_while_it_is_delivered,
						open_office, close_office),
		cmocka_unit_test_setup_teardown(a_read_mailbox_does_not_wake_the_loop, open_office,
						close_office),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
