/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "orphan.h"

/* A process that has said its cookie and waits to be killed. */
static pid_t start_process(const char *name, uint64_t *cookie)
{
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		uint64_t mine;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, name);
		mine = orphan_cookie(false);
		if (write(fds[1], &mine, sizeof(mine)) == sizeof(mine))
			pause();
		_exit(1);
	}
	assert_int_equal(read(fds[0], cookie, sizeof(*cookie)), sizeof(*cookie));
	close(fds[0]);
	close(fds[1]);
	return pid;
}

static void end_process(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void the_cookie_of_this_process_is_alive_and_constant(void **state)
{
	(void)state;
	assert_int_equal(orphan_cookie(false), orphan_cookie(false));
	assert_false(orphan_cookie_dead(orphan_cookie(false)));
}

static void a_cookie_dies_with_its_process(void **state)
{
	uint64_t cookie;
	pid_t pid = start_process("server", &cookie);

	(void)state;
	assert_int_not_equal(cookie, orphan_cookie(false));
	assert_false(orphan_cookie_dead(cookie));
	end_process(pid);
	assert_true(orphan_cookie_dead(cookie));
}

static void the_name_of_the_process_does_not_matter(void **state)
{
	uint64_t cookie;
	pid_t pid = start_process("a) R 1 (b) 2 3", &cookie);

	(void)state;
	/* It must not be the number of a field that the name brought in. */
	assert_int_not_equal(cookie & 0x3fffff, 0);
	assert_false(orphan_cookie_dead(cookie));
	end_process(pid);
	assert_true(orphan_cookie_dead(cookie));
}

/* The same pid with another start time is another process. */
static void a_pid_that_is_used_again_does_not_keep_a_cookie_alive(void **state)
{
	(void)state;
	assert_true(orphan_cookie_dead(orphan_cookie(false) ^ 1));
	assert_true(orphan_cookie_dead(orphan_cookie(false) ^ 0x200000));
}

static void a_foreign_cookie_is_never_dead(void **state)
{
	uint64_t cookie;
	pid_t pid = start_process("server", &cookie);

	(void)state;
	end_process(pid);
	assert_true(orphan_cookie_dead(cookie));
	assert_false(orphan_cookie_dead(0));
	assert_false(orphan_cookie_dead(UINT64_MAX));
	assert_false(orphan_cookie_dead((uint64_t)pid));
	for (unsigned bit = 44; bit < 64; bit++)
		assert_false(orphan_cookie_dead(cookie ^ UINT64_C(1) << bit));
}

static void a_lasting_cookie_is_another_one_of_the_same_process(void **state)
{
	uint64_t cookie = orphan_cookie(true);

	(void)state;
	assert_true(orphan_cookie_lasting(cookie));
	assert_true(orphan_cookie_ours(cookie));
	assert_false(orphan_cookie_dead(cookie));
	assert_true(orphan_cookie_dead(cookie ^ 1));
	assert_int_not_equal(cookie, orphan_cookie(false));
	assert_false(orphan_cookie_lasting(orphan_cookie(false)));
	assert_false(orphan_cookie_lasting(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_cookie_of_this_process_is_alive_and_constant),
		cmocka_unit_test(a_cookie_dies_with_its_process),
		cmocka_unit_test(the_name_of_the_process_does_not_matter),
		cmocka_unit_test(a_pid_that_is_used_again_does_not_keep_a_cookie_alive),
		cmocka_unit_test(a_foreign_cookie_is_never_dead),
		cmocka_unit_test(a_lasting_cookie_is_another_one_of_the_same_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
