/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the methods make of their parameters, and of the devices of a host that
 * never starts any: it is as before host_start().
 */
#define _GNU_SOURCE
#include "support.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "exit.h"
#include "interfaces.h"
#include "service-methods.h"
#include "util/macros.h"

static struct host host;
static struct pool pool;
static struct manager manager;
static int client;

static void on_more(struct manager *of)
{
	assert_ptr_equal(of, &manager);
}

static void on_end(struct hosted *hosted)
{
	manager_ended(&manager, hosted);
}

static void on_gone(struct host *of, int status)
{
	(void)of;
	(void)status;
}

static int begin(void **state)
{
	int fds[2];

	(void)state;
	pool = (struct pool){ 0 };
	host = (struct host){ .pool = &pool, .stays = true, .on_end = on_end, .on_gone = on_gone };
	manager = (struct manager){
		.host = &host,
		.on_more = on_more,
		.service = {
			.loop = ev_default_loop(EVFLAG_NOENV),
			.group = (gid_t)-1,
			.most_clients = 2,
			.patience = 5,
			.on_call = manager_call,
			.on_hang_up = manager_hang_up,
		},
	};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds))
		return -1;
	service_take(&manager.service, fds[0]);
	client = fds[1];
	return 0;
}

static int end(void **state)
{
	(void)state;
	/* What waits to be started is gone at once. */
	host.hunted = true;
	host_stop(&host, false);
	assert_int_equal(host.count, 0);
	assert_null(manager.jobs);
	manager_close(&manager);
	host.table = NULL;
	host_free(&host);
	close(client);
	return 0;
}

/* The answer to a call, and what was logged is kept to itself; "": none yet. */
static const char *answer_to(const char *call)
{
	static char text[65536];
	ssize_t got;

	assert_int_equal(send(client, call, strlen(call) + 1, 0), strlen(call) + 1);
	capture_begin();
	for (int i = 0; i < 4; i++)
		ev_run(manager.service.loop, EVRUN_NOWAIT);
	capture_end();
	got = recv(client, text, sizeof(text) - 1, 0);
	text[MAX(got, 0)] = 0;
	return text;
}

#define ERROR(name, parameters) "{\"error\":\"" name "\",\"parameters\":{" parameters "}}"
#define INVALID(name) ERROR("org.varlink.service.InvalidParameter", "\"parameter\":\"" name "\"")

static void parameters_are_checked(void **state)
{
	static const struct {
		const char *call, *answer;
	} cases[] = {
		{ "{\"method\":\"List\"}", INVALID("method") },
		{ "{\"method\":\"io.ublkd.Format\"}",
		  ERROR("org.varlink.service.MethodNotFound", "\"method\":\"io.ublkd.Format\"") },
		{ "{\"method\":\"io.other.List\"}",
		  ERROR("org.varlink.service.InterfaceNotFound", "\"interface\":\"io.other\"") },
		{ "{\"method\":\"io.ublkd.List\",\"more\":true}", INVALID("more") },
		{ "{\"method\":\"io.ublkd.List\",\"parameters\":{\"x\":1}}", INVALID("x") },
		{ "{\"method\":\"io.ublkd.Show\"}", INVALID("device") },
		{ "{\"method\":\"io.ublkd.Show\",\"parameters\":{\"device\":7}}", INVALID("device") },
		{ "{\"method\":\"io.ublkd.Show\",\"parameters\":{\"device\":null}}",
		  INVALID("device") },
		{ "{\"method\":\"io.ublkd.Show\",\"parameters\":{\"device\":\"x\"}}",
		  ERROR("io.ublkd.NotFound", "\"device\":\"x\"") },
		{ "{\"method\":\"io.ublkd.Delete\",\"parameters\":{\"device\":\"../x\"}}",
		  ERROR("io.ublkd.NotFound", "\"device\":\"../x\"") },
		{ "{\"method\":\"io.ublkd.Delete\",\"parameters\":{\"device\":\"x\","
		  "\"force\":1}}", INVALID("force") },
		{ "{\"method\":\"io.ublkd.Delete\",\"parameters\":{\"device\":\"x\","
		  "\"when_unused\":\"yes\"}}", INVALID("when_unused") },
		{ "{\"method\":\"io.ublkd.Delete\",\"parameters\":{\"device\":\"x\","
		  "\"force\":false}}", ERROR("io.ublkd.NotFound", "\"device\":\"x\"") },
		{ "{\"method\":\"io.ublkd.Delete\",\"parameters\":{\"device\":\"x\","
		  "\"persist\":true}}",
		  ERROR("io.ublkd.Failed", "\"status\":2,\"message\":\"persist: expected a server that "
			"was given one folder of files that describe devices, got one that was given "
			"none, or several\"") },
		{ "{\"method\":\"io.ublkd.FailIo\",\"parameters\":{\"device\":\"x\"}}",
		  ERROR("io.ublkd.NotFound", "\"device\":\"x\"") },
		{ "{\"method\":\"io.ublkd.Add\",\"parameters\":{}}", INVALID("backend") },
		{ "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"null\",\"name\":\"\"}}",
		  INVALID("name") },
		{ "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"null\",\"name\":\"12\"}}",
		  INVALID("name") },
		{ "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"null\",\"name\":\"a/b\"}}",
		  INVALID("name") },
		{ "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"null\","
		  "\"options\":{\"size\":1}}}", INVALID("options") },
		{ "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"null\","
		  "\"options\":[]}}", INVALID("options") },
		{ "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"tape\"}}",
		  ERROR("io.ublkd.Failed", "\"status\":2,\"message\":\"expected a backend, got 'tape'; "
			"'ublkd help' lists them\"") },
		{ "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"null\"}}",
		  ERROR("io.ublkd.Failed", "\"status\":2,\"message\":\"null: expected size=SIZE, which "
			"is required, got none\"") },
		{ "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"null\","
		  "\"options\":{\"size\":\"1M\",\"depth\":\"0\"}}}",
		  ERROR("io.ublkd.Failed", "\"status\":2,\"message\":\"depth: expected 1…4096, got "
			"'0'\"") },
		{ "{\"method\":\"org.varlink.service.GetInterfaceDescription\","
		  "\"parameters\":{\"interface\":\"a.b\"}}",
		  ERROR("org.varlink.service.InterfaceNotFound", "\"interface\":\"a.b\"") },
		{ "{\"method\":\"io.ublkd.Resize\",\"parameters\":{\"device\":\"x\",\"size\":\"1M\"}}",
		  INVALID("size") },
		{ "{\"method\":\"io.ublkd.Resize\",\"parameters\":{\"device\":\"x\",\"shrink\":1}}",
		  INVALID("shrink") },
		{ "{\"method\":\"io.ublkd.Resize\",\"parameters\":{\"device\":\"x\",\"size\":null,"
		  "\"shrink\":false}}", ERROR("io.ublkd.NotFound", "\"device\":\"x\"") },
		{ "{\"method\":\"io.ublkd.List\",\"parameters\":null}",
		  "{\"parameters\":{\"devices\":[]}}" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(answer_to(cases[i].call), cases[i].answer);
	assert_int_equal(host.count, 0);
}

#define ADD(name) \
	"{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"fault+null\"," name \
	"\"options\":{\"size\":\"1M\",\"read-only\":\"yes\"}}}"

static void a_device_that_waits_is_listed_and_left_alone(void **state)
{
	(void)state;
	/* Their answers come with the devices: nothing else is heard meanwhile. */
	assert_string_equal(answer_to(ADD("\"name\":\"a\",")), "");
	assert_int_equal(host.count, 1);
	assert_string_equal(answer_to("{\"method\":\"io.ublkd.List\"}"), "");
	host.devices[0]->state = HOSTED_LIVE;
	manager_live(&manager, host.devices[0]);
	host.devices[0]->state = HOSTED_WAITS;
	assert_string_equal(answer_to("{\"method\":\"io.ublkd.Delete\",\"parameters\":"
				      "{\"device\":\"a\"}}"),
			    "{\"parameters\":{\"name\":\"a\",\"path\":\"\",\"number\":0}}");
}

static void a_device_is_resized_once_it_is_live(void **state)
{
#define RESIZE(what) "{\"method\":\"io.ublkd.Resize\",\"parameters\":{\"device\":\"a\"" what "}}"
	struct device *device;

	(void)state;
	answer_to(ADD("\"name\":\"a\","));
	manager_live(&manager, host.devices[0]);
	answer_to("{\"method\":\"io.ublkd.List\"}");
	assert_contains(answer_to(RESIZE("")), "\"status\":1,\"message\":\"it is not usable yet");
	device = &host.devices[0]->device;
	host.devices[0]->state = HOSTED_LIVE;
	device->name = host.devices[0]->name;
	device->live = true;
	device->plan = (struct device_plan){ .sectors = 2048, .logical_block = 4096 };
	assert_contains(answer_to(RESIZE(",\"size\":-1")), "\"status\":2,\"message\":\"size: expected");
	assert_contains(answer_to(RESIZE("")), "\"status\":4,\"message\":\"size: expected none, as this "
			"kernel's driver");
	device->features = UBLK_F_UPDATE_SIZE;
	assert_contains(answer_to(RESIZE(",\"size\":512")), "\"status\":2,\"message\":\"size: expected a "
			"multiple of the block size 4096, got '512'\"");
	assert_contains(answer_to(RESIZE(",\"size\":4096")), "\"status\":2,\"message\":\"shrink: expected "
			"yes");
	device->resize.busy = true;
	assert_contains(answer_to(RESIZE(",\"size\":4096,\"shrink\":true")), "one that is being resized");
	device->resize.busy = false;
	device->stopping = true;
	assert_contains(answer_to(RESIZE(",\"size\":4096,\"shrink\":true")), "a device that is live");
	host.devices[0]->state = HOSTED_WAITS;
#undef RESIZE
}

static void what_goes_on_waiting_is_for_workers(void **state)
{
#define CALL(method) "{\"method\":\"io.ublkd." method "\",\"parameters\":{\"device\":\"a\"}}"
	struct device *device;

	(void)state;
	answer_to(ADD("\"name\":\"a\","));
	manager_live(&manager, host.devices[0]);
	answer_to("{\"method\":\"io.ublkd.List\",\"oneway\":true}");
	device = &host.devices[0]->device;
	host.devices[0]->state = HOSTED_LIVE;
	assert_contains(answer_to(CALL("FailIo")), "\"status\":2,\"message\":\"expected a device that no "
			"process serves");
	assert_contains(answer_to(CALL("Quiesce")), "\"status\":2,\"message\":\"expected a server with "
			"--workers");
	assert_contains(answer_to(CALL("Resume")), "\"status\":2,\"message\":\"expected a device that was "
			"quiesced");
	manager.worker = true;
	assert_contains(answer_to(CALL("Quiesce")), "\"status\":2,\"message\":\"expected a device that is "
			"live and whose I/O can wait");
	device->live = device->entered = true;
	device->info.flags = UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_FAIL_IO;
	assert_contains(answer_to(CALL("Quiesce")), "\"status\":2");
	device->info.flags = UBLK_F_USER_RECOVERY;
	assert_contains(answer_to(CALL("Quiesce")), "\"status\":4,\"message\":\"expected a device that the "
			"driver can quiesce");
	host.devices[0]->state = HOSTED_WAITS;
#undef CALL
}

static void what_was_set_is_shown(void **state)
{
	const char *answer;
	json_t *whole, *shown, *config;

	(void)state;
	answer_to(ADD(""));
	assert_int_equal(host.count, 1);
	assert_string_equal(host.devices[0]->name, "null-1");
	manager_live(&manager, host.devices[0]);
	answer_to("{\"method\":\"io.ublkd.List\",\"oneway\":true}");
	answer = answer_to("{\"method\":\"io.ublkd.Show\",\"parameters\":{\"device\":\"null-1\"}}");
	whole = json_loads(answer, 0, NULL);
	shown = json_object_get(whole, "parameters");
	assert_non_null(shown);
	config = json_object_get(shown, "config");
	assert_string_equal(json_string_value(json_object_get(config, "size")), "1M");
	assert_string_equal(json_string_value(json_object_get(config, "read-only")), "yes");
	assert_string_equal(json_string_value(json_object_get(config, "depth")), "128");
	assert_null(json_object_get(config, "id"));
	assert_true(json_is_null(json_object_get(shown, "counters")));
	shown = json_object_get(shown, "device");
	assert_string_equal(json_string_value(json_object_get(shown, "backend")), "fault+null");
	assert_string_equal(json_string_value(json_object_get(shown, "state")), "waiting");
	json_decref(whole);
	assert_contains(answer_to(ADD("\"name\":\"null-1\",")), "name: expected another than that");
	assert_contains(answer_to("{\"method\":\"io.ublkd.Delete\",\"parameters\":"
				  "{\"device\":\"null-1\"}}"), "it is not usable yet");
}

#define WAIT(name) "{\"method\":\"io.ublkd.Wait\",\"parameters\":{\"device\":\"" name "\"}}"

static void a_device_is_waited_for(void **state)
{
	struct hosted *hosted;

	(void)state;
	assert_string_equal(answer_to(WAIT("a")), ERROR("io.ublkd.NotFound", "\"device\":\"a\""));
	assert_string_equal(answer_to(ADD("\"name\":\"a\",")), "");
	hosted = host.devices[0];
	manager_live(&manager, hosted);
	assert_contains(answer_to(WAIT("a")), "\"name\":\"a\"");
	assert_non_null(manager.jobs);
	hosted->state = HOSTED_LIVE;
	manager_live(&manager, hosted);
	assert_null(manager.jobs);
	assert_string_equal(answer_to(WAIT("a")),
			    "{\"parameters\":{\"name\":\"a\",\"path\":\"\",\"number\":0}}");
	hosted->state = HOSTED_WAITS;
}

/* Nobody was told of it, as a file describes the device. */
static void a_failure_is_kept_for_who_waits_later(void **state)
{
	struct hosted hosted = { .name = "a", .status = EXIT_BACKING };

	(void)state;
	manager_ended(&manager, &hosted);
	assert_string_equal(answer_to(WAIT("a")),
			    ERROR("io.ublkd.Failed", "\"status\":3,\"message\":\"the server's log says "
				  "why\""));
	hosted.status = 0;
	manager_live(&manager, &hosted);
	assert_string_equal(answer_to(WAIT("a")), ERROR("io.ublkd.NotFound", "\"device\":\"a\""));
}

static void what_the_last_server_had_is_known_first(void **state)
{
	struct table_entry entry = { .name = "a", .backend = "null",
				     .options = json_pack("{s:s}", "size", "1M") };
	struct table table = { .entries = &entry, .count = 1 };

	(void)state;
	host.table = &table;
	assert_string_equal(answer_to(WAIT("a")), "");
	assert_non_null(manager.jobs);
	manager_take_over(&manager, &table);
	manager_knows(&manager);
	assert_int_equal(host.count, 1);
	assert_non_null(manager.jobs);
	/* Who hangs up waits no more. */
	close(client);
	ev_run(manager.service.loop, EVRUN_NOWAIT);
	ev_run(manager.service.loop, EVRUN_NOWAIT);
	assert_null(manager.jobs);
	client = -1;
	json_decref(entry.options);
}

/* Not what is served, what is gone, and what the host is about to start. */
static void what_the_last_server_left_is_listed(void **state)
{
	struct table_entry entries[] = {
		{ .name = "left", .id = 3, .backend = "mem", .sectors = 2048, .queues = 1, .depth = 8 },
		{ .name = "served", .backend = "null", .state = TABLE_SERVED },
		{ .name = "goes", .backend = "null", .state = TABLE_GOES },
		{ .name = "added", .backend = "null", .options = json_pack("{s:s}", "size", "1M") },
	};
	struct table table = { .entries = entries, .count = ARRAY_SIZE(entries) };

	(void)state;
	host.table = &table;
	manager_take_over(&manager, &table);
	manager_knows(&manager);
#define LEFT "{\"name\":\"left\",\"path\":\"/dev/ublkb3\",\"number\":3,\"state\":\"waiting\"," \
	     "\"size\":1048576,\"backend\":\"mem\",\"pid\":null}"
	assert_contains(answer_to("{\"method\":\"io.ublkd.List\"}"), "," LEFT "]}}");
	assert_string_equal(answer_to("{\"method\":\"io.ublkd.Show\",\"parameters\":"
				      "{\"device\":\"3\"}}"),
			    "{\"parameters\":{\"device\":" LEFT ",\"config\":{},\"queues\":1,"
			    "\"depth\":8,\"data\":null,\"counters\":null}}");
	assert_contains(answer_to(WAIT("left")), "\"status\":3,\"message\":\"it waits for a server");
	assert_contains(answer_to("{\"method\":\"io.ublkd.Delete\",\"parameters\":"
				  "{\"device\":\"/dev/ublkb3\",\"when_unused\":true}}"),
			"expected a device that is served");
	/* One that is described is none for Collect. */
	entries[0].wanted = true;
	assert_string_equal(answer_to("{\"method\":\"io.ublkd.Collect\"}"),
			    "{\"parameters\":{\"deleted\":[],\"kept\":[]}}");
	json_decref(entries[3].options);
}

static void a_stop_answers_those_who_wait(void **state)
{
	char text[256];
	ssize_t got;

	(void)state;
	assert_string_equal(answer_to(ADD("")), "");
	host.hunted = true;
	host_stop(&host, false);
	assert_int_equal(host.count, 0);
	got = recv(client, text, sizeof(text) - 1, 0);
	assert_true(got > 0);
	assert_string_equal(text, ERROR("io.ublkd.Failed", "\"status\":1,\"message\":\"it was stopped "
					"before it was usable\""));
	assert_contains(answer_to(ADD("")), "the server is stopping");
}

/* Only what waits, was added, and is not there already. */
static void what_was_added_to_the_last_server_is_added_again(void **state)
{
	struct table_entry entries[] = {
		{ .name = "one", .backend = "null", .options = json_pack("{s:s}", "size", "1M") },
		{ .name = "described", .backend = "null" },
		{ .name = "gone", .backend = "null", .state = TABLE_GONE,
		  .options = json_pack("{s:s}", "size", "1M") },
		{ .name = "unfit", .id = 7, .backend = "null",
		  .options = json_pack("{s:s}", "tape", "1") },
	};
	const struct table table = { .entries = entries, .count = ARRAY_SIZE(entries) };

	(void)state;
	capture_begin();
	manager_take_over(&manager, &table);
	manager_knows(&manager);
	manager_take_over(&manager, &table);
	manager_knows(&manager);
	assert_contains(capture_end(), "unfit: device 7 cannot be taken over as it was added");
	assert_int_equal(host.count, 1);
	assert_string_equal(host.devices[0]->name, "one");
	assert_true(host.devices[0]->added);
	assert_true(json_equal(host.devices[0]->spec->given, entries[0].options));
	assert_false(host.devices[0]->quiet);
	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		json_decref(entries[i].options);
}

static void the_interface_has_every_method_and_no_other(void **state)
{
	char line[64];
	unsigned methods = 0;

	(void)state;
	for (const char *at = interface_io_ublkd; (at = strstr(at, "\nmethod ")); methods++) {
		at += strlen("\nmethod ");
		/* A parameter that none has: it is known, and does nothing. */
		snprintf(line, sizeof(line), "{\"method\":\"io.ublkd.%.*s\",\"parameters\":{\"no\":1}}",
			 (int)strcspn(at, "("), at);
		assert_string_equal(answer_to(line), INVALID("no"));
	}
	assert_int_equal(methods, 13);
	assert_contains(answer_to("{\"method\":\"org.varlink.service.GetInterfaceDescription\","
				  "\"parameters\":{\"interface\":\"io.ublkd\"}}"),
			"interface io.ublkd\\n");
	assert_contains(answer_to("{\"method\":\"org.varlink.service.GetInfo\"}"),
			"\"interfaces\":[\"org.varlink.service\",\"io.ublkd\"]");
	assert_contains(answer_to("{\"method\":\"io.ublkd.Backends\"}"),
			"{\"name\":\"path\",\"type\":\"path\",\"required\":true");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(parameters_are_checked),
		TEST(a_device_that_waits_is_listed_and_left_alone),
		TEST(a_device_is_resized_once_it_is_live),
		TEST(what_goes_on_waiting_is_for_workers),
		TEST(what_was_set_is_shown),
		TEST(a_device_is_waited_for),
		TEST(a_failure_is_kept_for_who_waits_later),
		TEST(what_the_last_server_had_is_known_first),
		TEST(what_the_last_server_left_is_listed),
		TEST(a_stop_answers_those_who_wait),
		TEST(what_was_added_to_the_last_server_is_added_again),
		TEST(the_interface_has_every_method_and_no_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
