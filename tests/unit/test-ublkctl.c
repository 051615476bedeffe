/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ublkctl's command line, without a server and with one that says what it is
 * told to; and its manual. The source is included for its tables.
 */
#define _GNU_SOURCE
#include "support.h"

#define UBLKCTL_TEST
#include "../../src/ctl-add.c"
#include "../../src/ctl-delete.c"
#include "../../src/ublkctl.c"

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
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
	REFUSES(EXIT_USAGE, "expected del DEVICE…|--all, got 0 argument(s)", "del");
	REFUSES(EXIT_USAGE, "expected del DEVICE…|--all, got 1 argument(s)", "del", "--all", "a");
	REFUSES(EXIT_USAGE, "all: expected none with 'gc'", "gc", "--all");
	REFUSES(EXIT_USAGE, "name: expected none with 'list'", "list", "--name=a");
	REFUSES(EXIT_USAGE, "force: expected none with 'show'", "show", "a", "--force");
	REFUSES(EXIT_USAGE, "when-unused: expected none with 'list'", "list", "--when-unused");
	REFUSES(EXIT_USAGE, "unmount: expected none with 'gc'", "gc", "--unmount");
	REFUSES(EXIT_USAGE, "when-unused: expected none with --force", "del", "a", "--force",
		"--when-unused");
	REFUSES(EXIT_USAGE, "persist: expected none with 'wait'", "wait", "a", "--persist");
	REFUSES(EXIT_USAGE, "unprivileged: expected none with 'set'", "set", "a", "b=c", "--unprivileged");
	REFUSES(EXIT_USAGE, "open: expected none with 'del'", "del", "a", "--open=client");
	REFUSES(EXIT_USAGE, "open: expected client or server, got 'me'", "add", "null", "--open=me");
	REFUSES(EXIT_USAGE, "shrink: expected none with 'del'", "del", "a", "--shrink");
	REFUSES(EXIT_USAGE, "expected resize DEVICE [SIZE], got 3 argument(s)", "resize", "a", "1M", "2M");
	REFUSES(EXIT_USAGE, "expected set DEVICE KEY=VALUE…, got 1 argument(s)", "set", "a");
	REFUSES(EXIT_USAGE, "timeout: expected 1…86400, got '0'", "--timeout=0", "list");
	REFUSES(EXIT_RUNTIME, "cannot reach a server at '/no/socket': No such file or directory: "
		"'ublkd serve --socket' makes one", "--socket=/no/socket", "list");
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void answer_calls(int peer, const char *const *answers)
{
	char byte;

	for (; *answers; answers++) {
		while (read(peer, &byte, 1) == 1 && byte)
			;
		if (write(peer, *answers, strlen(*answers) + 1) < 0)
			break;
	}
}

/* A server in a process of its own, which gives these answers, one to each call. */
static pid_t serve(const char *path, const char *const *answers)
{
	int fd = listen_at(path);
	pid_t pid = fork();

	if (pid) {
		close(fd);
		return pid;
	}
	alarm(20);
	answer_calls(accept(fd, NULL, NULL), answers);
	_exit(0);
}

/* The status of a list, within so many seconds. */
static int list_within(const char *path, unsigned seconds)
{
	char option[4200], timeout[32];

	snprintf(option, sizeof(option), "--socket=%s", path);
	snprintf(timeout, sizeof(timeout), "--timeout=%u", seconds);
	return CTL(option, timeout, "list");
}

/* One that lists these devices, and has such an answer to each call for one of them. */
static pid_t serve_deletion(const char *path, const char *devices, const char *const *answers)
{
	char list[512];
	int fd = listen_at(path), peers[AT_ONCE + 1];
	pid_t pid = fork();

	if (pid) {
		close(fd);
		return pid;
	}
	alarm(20);
	snprintf(list, sizeof(list), "{\"parameters\":{\"devices\":[%s]}}", devices);
	answer_calls(accept(fd, NULL, NULL), (const char *const[]){ list, NULL });
	/* All are called before one is answered. */
	for (unsigned i = 0; answers[i]; i++)
		peers[i] = accept(fd, NULL, NULL);
	for (unsigned i = 0; answers[i]; i++)
		answer_calls(peers[i], (const char *const[]){ answers[i], NULL });
	_exit(0);
}

static int status_of_all(const char *devices, const char *const *answers, const char *how)
{
	const char *path = scratch_path("socket");
	pid_t pid = serve_deletion(path, devices, answers);
	char option[4200];
	int status, ended;

	snprintf(option, sizeof(option), "--socket=%s", path);
	status = CTL(option, "del", "--all", how);
	assert_int_equal(waitpid(pid, &ended, 0), pid);
	assert_int_equal(ended, 0);
	return status;
}

static void all_devices_are_deleted_side_by_side(void **state)
{
#define DEVICE(name, state) "{\"name\":\"" name "\",\"state\":\"" state "\"}"
#define THREE DEVICE("a", "live") "," DEVICE("b", "failed") "," DEVICE("c", "waiting")
	const char *in_use = "{\"error\":\"io.ublkd.InUse\",\"parameters\":{\"device\":\"a\","
			     "\"holder\":\"mounted at /m\"}}";
	const char *gone = "{\"parameters\":{\"name\":\"b\",\"file\":\"/c/b.conf\"}}";

	(void)state;
	assert_int_equal(status_of_all("", (const char *const[]){ NULL }, NULL), EXIT_DONE);
	assert_int_equal(status_of_all(THREE, (const char *const[]){ gone, gone, gone, NULL }, NULL),
			 EXIT_DONE);
	assert_string_equal(said, "");
	assert_int_equal(status_of_all(THREE, (const char *const[]){ gone, in_use, gone, NULL },
				       "--when-unused"), EXIT_TAKEN);
	assert_string_equal(said, "ublkctl: 'a' is in use: mounted at /m\n");
	assert_int_equal(status_of_all(THREE, (const char *const[]){ gone, gone, gone, NULL },
				       "--persist"), EXIT_RUNTIME);
#undef THREE
#undef DEVICE
}

/* As many as its socket takes before one is accepted. */
static unsigned call_until_full(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	unsigned calls = 0;

	strcpy(address.sun_path, path);
	while (!connect(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
			(struct sockaddr *)&address, sizeof(address)))
		calls++;
	assert_int_equal(errno, EAGAIN);
	return calls;
}

static void a_server_that_many_call_at_once_is_waited_for(void **state)
{
	const char *path = scratch_path("socket");
	int fd = listen_at(path);
	unsigned calls = call_until_full(path);
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(list_within(path, 1), EXIT_TIMEOUT);
	assert_contains(said, "cannot reach a server at '");
	pid = fork();
	if (!pid) {
		alarm(20);
		usleep(300000);
		while (calls--)
			accept(fd, NULL, NULL);
		answer_calls(accept(fd, NULL, NULL),
			     (const char *const[]){ "{\"parameters\":{\"devices\":[]}}", NULL });
		_exit(0);
	}
	assert_int_equal(list_within(path, 20), EXIT_DONE);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
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

static void what_is_stuck_is_said_beside_the_answer(void **state)
{
	const char *one = "{\"command\":\"STOP_DEV\",\"device\":\"disk\",\"number\":3,\"since\":0,"
			  "\"pid\":77}";
	char answer[512];

	(void)state;
	snprintf(answer, sizeof(answer), "{\"parameters\":{\"devices\":[],\"stuck\":[%s]}}", one);
	assert_int_equal(status_of(answer, "list", NULL, NULL), EXIT_DONE);
	assert_contains(said, "ublkctl: the driver is degraded: 1 command(s) have not ended in time\n");
	assert_contains(said, "ublkctl: STOP_DEV for 'disk', device 3, since 19");
	assert_contains(said, ", in process 77\n");
	snprintf(answer, sizeof(answer), "{\"parameters\":{\"device\":{},\"stuck\":[%s]}}", one);
	assert_int_equal(status_of(answer, "show", "other", NULL), EXIT_DONE);
	assert_contains(said, "STOP_DEV for 'disk'");
	assert_int_equal(status_of("{\"parameters\":{\"devices\":[],\"stuck\":[]}}", "list", NULL, NULL),
			 EXIT_DONE);
	assert_null(strstr(said, "degraded"));
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

/* A node that sysfs, below the scratch folder, has at this place; false: nodes cannot be made here. */
static bool make_node(const char *place)
{
	const char *node = scratch_path("node"), *number = scratch_path("sys/dev/block/7:300");

	unlink(node);
	unlink(number);
	return !symlink(place, number) && !mknod(node, S_IFBLK | 0600, makedev(7, 300));
}

static void assert_device(const char *text, const char *expected)
{
	char name[CLIENT_DEVICE_SIZE];
	const char *found;

	capture_begin();
	found = client_device_name(scratch_path(""), text, name);
	said = capture_end();
	if (expected)
		assert_string_equal(found, expected);
	else
		assert_null(found);
}

static void a_path_that_leads_to_a_device_names_it(void **state)
{
	char link[4200];

	(void)state;
	snprintf(link, sizeof(link), "%s", scratch_path("link"));
	assert_int_equal(mkdir(scratch_path("sys"), 0700) || mkdir(scratch_path("sys/dev"), 0700) ||
			 mkdir(scratch_path("sys/dev/block"), 0700), 0);
	assert_int_equal(symlink("node", link), 0);
	if (!make_node("../../devices/virtual/ublk-char/ublkc7/block/ublkb7"))
		skip();
	assert_device(link, "/dev/ublkb7");
	make_node("../../devices/virtual/block/ublkb1048575");
	assert_device(link, "/dev/ublkb1048575");
	make_node("../../devices/virtual/block/ublkb7/ublkb7p12");
	assert_device(link, NULL);
	assert_contains(said, "/link', which leads to the partition ublkb7p12 of '/dev/ublkb7'");
	make_node("../../devices/virtual/block/loop0");
	assert_device(link, NULL);
	assert_contains(said, "/link', which leads to another device");
	/* Without sysfs the server is asked. */
	unlink(scratch_path("sys/dev/block/7:300"));
	assert_device(link, link);
}

static void a_path_that_leads_nowhere_may_say_a_name(void **state)
{
	(void)state;
	assert_device("web", "web");
	assert_device("7", "7");
	assert_device("/dev/ublkb77777", "/dev/ublkb77777");
	assert_device("/dev/ublkd/by-name/no.such", "no.such");
	assert_device("/dev/ublkd/by-uuid/1b4e28ba-2fa1-4ed2-883f-0016d3cca427",
		      "1b4e28ba-2fa1-4ed2-883f-0016d3cca427");
	assert_device("/dev/null/x", "/dev/null/x");
	assert_device("/dev/null", NULL);
	assert_contains(said, "got '/dev/null', which leads to none; a file");
	assert_int_equal(symlink("loop", scratch_path("loop")), 0);
	assert_device(scratch_path("loop"), NULL);
	assert_contains(said, "cannot look at '");
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

/* What became of a file that was made, and the status, where the server's second answer is this. */
static int status_of_add(const char *answer, const char *open, const char *create)
{
	const char *path = scratch_path("socket");
	pid_t pid = serve(path, (const char *const[]){
		"{\"parameters\":{\"device\":[{\"name\":\"read-only\",\"type\":\"bool\"}],\"backends\":"
		"[{\"name\":\"file\",\"options\":[{\"name\":\"path\",\"type\":\"path\",\"makes\":false},"
		"{\"name\":\"create\",\"type\":\"size\",\"makes\":true}]}]}}", answer, NULL });
	char option[4200], setting[4200];
	int status;

	snprintf(option, sizeof(option), "--socket=%s", path);
	snprintf(setting, sizeof(setting), "path=%s", scratch_path("made"));
	status = CTL(option, open, "add", "file", setting, create);
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	return status;
}

static void a_file_is_made_for_a_device_that_comes(void **state)
{
#define FAILED(status) "{\"error\":\"io.ublkd.Failed\",\"parameters\":{\"status\":" status "}}"
	unsigned before = files_open();

	(void)state;
	assert_int_equal(status_of_add("{}", "--open=client", NULL), EXIT_BACKING);
	assert_contains(said, "ublkctl: cannot open '");
	assert_int_equal(status_of_add(FAILED("3"), "--open=client", "create=1M"), EXIT_BACKING);
	assert_int_not_equal(access(scratch_path("made"), F_OK), 0);
	assert_int_equal(status_of_add("{}", "--open=server", "create=1M"), EXIT_DONE);
	assert_int_not_equal(access(scratch_path("made"), F_OK), 0);
	/* The device may be there. */
	assert_int_equal(status_of_add(FAILED("1"), "--open=client", "create=1M"), EXIT_RUNTIME);
	assert_contains(said, "was made, and is left");
	assert_int_equal(unlink(scratch_path("made")), 0);
	assert_int_equal(status_of_add("{}", "--open=client", "create=1M"), EXIT_DONE);
	assert_int_equal(access(scratch_path("made"), F_OK), 0);
	/* One that is there is nobody's to remove. */
	assert_int_equal(status_of_add("{}", "--open=client", "create=1M"), EXIT_BACKING);
	assert_contains(said, "ublkctl: cannot create '");
	assert_int_equal(status_of_add(FAILED("3"), "--open=client", NULL), EXIT_BACKING);
	assert_int_equal(access(scratch_path("made"), F_OK), 0);
	assert_int_equal(files_open(), before);
#undef FAILED
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
		cmocka_unit_test_setup_teardown(what_is_stuck_is_said_beside_the_answer, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(all_devices_are_deleted_side_by_side, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(a_server_that_many_call_at_once_is_waited_for,
						scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(an_answer_decides_the_exit_status, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(a_file_that_is_left_is_named, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(a_size_is_read_before_the_server_is_asked, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(what_is_left_decides_too, scratch_make, scratch_remove),
		cmocka_unit_test_setup_teardown(a_path_that_leads_to_a_device_names_it, scratch_make,
						scratch_remove),
		cmocka_unit_test_setup_teardown(a_path_that_leads_nowhere_may_say_a_name, scratch_make,
						scratch_remove),
		cmocka_unit_test(paths_are_made_absolute),
		cmocka_unit_test_setup_teardown(a_file_is_made_for_a_device_that_comes, scratch_make,
						scratch_remove),
		cmocka_unit_test(the_manual_has_every_option_and_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
