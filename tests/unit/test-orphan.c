/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
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
		mine = orphan_cookie(false, 0);
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
	assert_int_equal(orphan_cookie(false, 3), orphan_cookie(false, 3));
	assert_false(orphan_cookie_dead(orphan_cookie(false, 3)));
}

/* A device that has the number of one before it, from the same server. */
static void each_device_has_a_cookie_of_its_own(void **state)
{
	(void)state;
	for (unsigned i = 1; i < 4096; i++) {
		uint64_t cookie = orphan_cookie(true, i);

		assert_int_not_equal(cookie, orphan_cookie(true, i - 1));
		assert_int_not_equal(cookie, orphan_cookie(true, 0));
		assert_true(orphan_cookie_lasting(cookie));
		assert_false(orphan_cookie_dead(cookie));
	}
	/* The process may have made more. */
	assert_true(orphan_cookie_lasting(orphan_cookie(true, UINT32_MAX)));
	assert_false(orphan_cookie_dead(orphan_cookie(true, UINT32_MAX)));
}

static void a_cookie_dies_with_its_process(void **state)
{
	uint64_t cookie;
	pid_t pid = start_process("server", &cookie);

	(void)state;
	assert_int_not_equal(cookie, orphan_cookie(false, 0));
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
	assert_int_not_equal(cookie >> 12 & 0x3fff, 0);
	assert_false(orphan_cookie_dead(cookie));
	end_process(pid);
	assert_true(orphan_cookie_dead(cookie));
}

/* The same pid with another start time is another process. */
static void a_pid_that_is_used_again_does_not_keep_a_cookie_alive(void **state)
{
	(void)state;
	assert_true(orphan_cookie_dead(orphan_cookie(false, 0) ^ UINT64_C(1) << 12));
	assert_true(orphan_cookie_dead(orphan_cookie(false, 0) ^ UINT64_C(1) << 25));
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
	/* But for the bit that makes it the other kind of ours. */
	for (unsigned bit = 49; bit < 64; bit++)
		assert_false(orphan_cookie_dead(cookie ^ UINT64_C(1) << bit));
}

static void a_lasting_cookie_is_another_one_of_the_same_process(void **state)
{
	uint64_t cookie = orphan_cookie(true, 0);

	(void)state;
	assert_true(orphan_cookie_lasting(cookie));
	assert_true(orphan_cookie_ours(cookie));
	assert_false(orphan_cookie_dead(cookie));
	assert_true(orphan_cookie_dead(cookie ^ UINT64_C(1) << 12));
	assert_int_not_equal(cookie, orphan_cookie(false, 0));
	assert_false(orphan_cookie_lasting(orphan_cookie(false, 0)));
	assert_false(orphan_cookie_lasting(0));
}

/* 20 bits, 22 of the pid, 22 of the start time; the server of a device may be an older one. */
static uint64_t old_cookie(uint64_t magic, pid_t pid, uint64_t start)
{
	return magic << 44 | (uint64_t)pid << 22 | (start & 0x3fffff);
}

/* Field 22 of /proc/PID/stat. */
static uint64_t start_of(pid_t pid)
{
	char path[32], text[512];
	unsigned long long start;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	assert_int_equal(sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u "
						    "%*u %*d %*d %*d %*d %*d %*d %llu", &start), 1);
	return start;
}

static void an_older_cookie_is_known(void **state)
{
	uint64_t unused, ending, lasting;
	pid_t pid = start_process("server", &unused);

	(void)state;
	ending = old_cookie(0xb10cd, pid, start_of(pid));
	lasting = old_cookie(0xb10ce, pid, start_of(pid));
	assert_true(orphan_cookie_ours(ending));
	assert_false(orphan_cookie_lasting(ending));
	assert_true(orphan_cookie_ours(lasting));
	assert_true(orphan_cookie_lasting(lasting));
	assert_false(orphan_cookie_dead(ending));
	assert_false(orphan_cookie_dead(lasting));
	assert_true(orphan_cookie_dead(ending ^ 1));
	assert_true(orphan_cookie_dead(lasting ^ 0x200000));
	end_process(pid);
	assert_true(orphan_cookie_dead(ending));
	assert_true(orphan_cookie_dead(lasting));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_cookie_of_this_process_is_alive_and_constant),
		cmocka_unit_test(each_device_has_a_cookie_of_its_own),
		cmocka_unit_test(a_cookie_dies_with_its_process),
		cmocka_unit_test(the_name_of_the_process_does_not_matter),
		cmocka_unit_test(a_pid_that_is_used_again_does_not_keep_a_cookie_alive),
		cmocka_unit_test(a_foreign_cookie_is_never_dead),
		cmocka_unit_test(a_lasting_cookie_is_another_one_of_the_same_process),
		cmocka_unit_test(an_older_cookie_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
