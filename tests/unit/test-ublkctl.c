/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ublkctl's command line, without a server and with one that says what it is
 * told to; and its manual. The source is included for its tables.
 */
#define _GNU_SOURCE
#include "support.h"

#define UBLKCTL_TEST
#include "../../src/ublkctl.c"

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "manual.h"

static const char *said;

static int ctl_with(const char *const *args)
{
	int status = run_captured(ctl_main, "ublkctl", args, &said);

	log_switch(NULL);
	return status;
}

#define CTL(...) ctl_with((const char *const[]){ __VA_ARGS__, NULL })

#define REFUSES(status, text, ...) \
	do { \
		assert_int_equal(CTL(__VA_ARGS__), status); \
		assert_string_equal(said, "ublkctl: " text "\n"); \
	} while (0)

static void the_command_line_is_checked(void **state)
{
	(void)state;
	assert_int_equal(ctl_with((const char *const[]){ NULL }), EXIT_USAGE);
	assert_contains(said, "expected a command, got none");
	REFUSES(EXIT_USAGE, "expected a command, got 'mount'; 'ublkctl --help' lists them", "mount");
	REFUSES(EXIT_USAGE, "expected an option of 'ublkctl', got '--fast'; 'ublkctl --help' lists them",
		"list", "--fast");
	REFUSES(EXIT_USAGE, "expected show DEVICE, got 0 argument(s)", "show");
	REFUSES(EXIT_USAGE, "expected list, got 1 argument(s)", "list", "a");
	REFUSES(EXIT_USAGE, "expected del DEVICE…, got 0 argument(s)", "del");
	REFUSES(EXIT_USAGE, "name: expected none with 'list'", "list", "--name=a");
	REFUSES(EXIT_USAGE, "force: expected none with 'show'", "show", "a", "--force");
	REFUSES(EXIT_USAGE, "when-unused: expected none with 'list'", "list", "--when-unused");
	REFUSES(EXIT_USAGE, "when-unused: expected none with --force", "del", "a", "--force",
		"--when-unused");
	REFUSES(EXIT_USAGE, "persist: expected none with 'wait'", "wait", "a", "--persist");
	REFUSES(EXIT_USAGE, "shrink: expected none with 'del'", "del", "a", "--shrink");
	REFUSES(EXIT_USAGE, "expected resize DEVICE [SIZE], got 3 argument(s)", "resize", "a", "1M", "2M");
	REFUSES(EXIT_USAGE, "timeout: expected 1…86400, got '0'", "--timeout=0", "list");
	REFUSES(EXIT_RUNTIME, "cannot reach a server at '/no/socket': No such file or directory: "
		"'ublkd serve --socket' makes one", "--socket=/no/socket", "list");
}

/* A server in a process of its own, which gives these answers, one to each call. */
static pid_t serve(const char *path, const char *const *answers)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;
	char byte;
	pid_t pid;

	strcpy(address.sun_path, path);
	unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	pid = fork();
	if (pid) {
		close(fd);
		return pid;
	}
	alarm(20);
	peer = accept(fd, NULL, NULL);
	for (; *answers; answers++) {
		while (read(peer, &byte, 1) == 1 && byte)
			;
		if (write(peer, *answers, strlen(*answers) + 1) < 0)
			break;
	}
	_exit(0);
}

/* The status of a command with its arguments where the server's answer is this. */
static int status_of(const char *answer, const char *command, const char *first, const char *second)
{
	const char *path = scratch_path("socket");
	pid_t pid = serve(path, (const char *const[]){ answer, NULL });
	char option[4200];
	int status;

	snprintf(option, sizeof(option), "--socket=%s", path);
	status = CTL(option, command, first, second);
	kill(pid, SIGTERM); /* where it was not called */
	waitpid(pid, NULL, 0);
	return status;
}

static int status_for(const char *answer)
{
	return status_of(answer, "del", "x", NULL);
}

static void an_answer_decides_the_exit_status(void **state)
{
	(void)state;
	assert_int_equal(status_for("{\"parameters\":{}}"), EXIT_DONE);
	assert_string_equal(said, "");
	assert_int_equal(status_for("{}"), EXIT_DONE);
	assert_int_equal(status_for("{\"parameters\":{\"name\":\"x\",\"holder\":\"mounted at /m\","
				    "\"lingers\":true}}"), EXIT_DONE);
	assert_string_equal(said, "ublkctl: 'x' was in use: mounted at /m\n"
			    "ublkctl: 'x' is deleted, but still open or mounted: its number is free "
			    "when its last user is gone\n");
	assert_int_equal(status_for("{\"error\":\"io.ublkd.NotFound\",\"parameters\":"
				    "{\"device\":\"x\"}}"), EXIT_USAGE);
	assert_int_equal(status_for("{\"error\":\"io.ublkd.InUse\",\"parameters\":"
				    "{\"device\":\"x\",\"holder\":\"mounted at /m\"}}"), EXIT_TAKEN);
	assert_string_equal(said, "ublkctl: 'x' is in use: mounted at /m\n");
	assert_int_equal(status_for("{\"error\":\"io.ublkd.Failed\",\"parameters\":"
				    "{\"status\":3,\"message\":\"no such file\"}}"), EXIT_BACKING);
	assert_string_equal(said, "ublkctl: no such file\n");
	assert_int_equal(status_for("{\"error\":\"io.ublkd.Failed\",\"parameters\":"
				    "{\"status\":300}}"), EXIT_RUNTIME);
	assert_int_equal(status_for("{\"error\":\"org.varlink.service.PermissionDenied\"}"),
			 EXIT_KERNEL);
	assert_int_equal(status_for("{\"error\":\"a.b\"}"), EXIT_RUNTIME);
	assert_int_equal(status_for("[]"), EXIT_RUNTIME);
	assert_int_equal(status_for("nonsense"), EXIT_RUNTIME);
	assert_int_equal(status_for("{\"error\":7}"), EXIT_RUNTIME);
}

static void a_file_that_is_left_is_named(void **state)
{
#define LEFT "{\"parameters\":{\"name\":\"x\",\"holder\":null,\"lingers\":false,\"file\":\"/c/x.conf\"}}"
	(void)state;
	assert_int_equal(status_of(LEFT, "del", "x", NULL), EXIT_DONE);
	assert_string_equal(said, "ublkctl: '/c/x.conf' brings 'x' back at the next start; del --persist "
			    "removes it, where it is in the folder that the server was given\n");
	assert_int_equal(status_of(LEFT, "del", "--persist", "x"), EXIT_RUNTIME);
#undef LEFT
}

static void a_size_is_read_before_the_server_is_asked(void **state)
{
	(void)state;
	assert_int_equal(status_of("{\"parameters\":{\"size\":1048576}}", "resize", "x", "1M"),
			 EXIT_DONE);
	assert_string_equal(said, "");
	assert_int_equal(status_of("{}", "resize", "x", "-1"), EXIT_USAGE);
	assert_string_equal(said, "ublkctl: expected a size such as 64M, got '-1'\n");
	assert_int_equal(status_of("{}", "resize", "x", "8E"), EXIT_USAGE);
}

static void what_is_left_decides_too(void **state)
{
	(void)state;
	assert_int_equal(status_of("{\"parameters\":{\"deleted\":[],\"kept\":[]}}", "gc", NULL, NULL), EXIT_DONE);
	assert_int_equal(status_of("{\"parameters\":{\"deleted\":[],\"kept\":[{\"name\":\"x\","
				   "\"status\":5,\"reason\":\"mounted at /m\"}]}}", "gc", NULL, NULL), EXIT_TAKEN);
	assert_string_equal(said, "ublkctl: 'x' is left: mounted at /m\n");
}

static void assert_value(json_t *known, const char *layers, const char *name, const char *given,
			 const char *expected)
{
	json_t *value = value_of(known, layers, name, given);

	assert_string_equal(json_string_value(value), expected);
	json_decref(value);
}

static void paths_are_made_absolute(void **state)
{
	json_t *known = json_loads(
		"{\"device\":[{\"name\":\"owner\",\"type\":\"string\"}],\"backends\":["
		"{\"name\":\"file\",\"options\":[{\"name\":\"path\",\"type\":\"path\"}]},"
		"{\"name\":\"filer\",\"options\":[{\"name\":\"other\",\"type\":\"path\"}]}]}", 0, NULL);
	_cleanup_free_ char *here = realpath(".", NULL);
	char expected[4200];

	(void)state;
	snprintf(expected, sizeof(expected), "%s/a.img", here);
	assert_non_null(known);
	assert_value(known, "file", "path", "a.img", expected);
	assert_value(known, "fault+file", "path", "a.img", expected);
	assert_value(known, "file", "path", "/a.img", "/a.img");
	assert_value(known, "file", "owner", "a", "a");
	assert_value(known, "file", "other", "a", "a");
	assert_value(known, "mem", "path", "a", "a");
	json_decref(known);
}

static void the_manual_has_every_option_and_command(void **state)
{
	_cleanup_free_ char *manual = manual_read_page("ublkctl.8");

	(void)state;
	assert_int_equal(manual_lacks(manual, "Fl Fl", ctl_options), 0);
	for (size_t i = 0; i < ARRAY_SIZE(ctl_commands); i++)
		assert_true(manual_has(manual, "Cm", ctl_commands[i].name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_command_line_is_checked),
		cmocka_unit_test_setup_teardown(an_answer_decides_the_exit_status, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(a_file_that_is_left_is_named, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(a_size_is_read_before_the_server_is_asked, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(what_is_left_decides_too, scratch_make, scratch_remove),
		cmocka_unit_test(paths_are_made_absolute),
		cmocka_unit_test(the_manual_has_every_option_and_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
