/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the methods make of their parameters, and of the devices of a host that
 * never starts any: it is as before host_start().
 */
#define _GNU_SOURCE
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "exit.h"
#include "idle-manager.h"
#include "interfaces.h"
#include "manual.h"
#include "util/macros.h"

static struct idle_manager idle;

static int begin(void **state)
{
	(void)state;
	return idle_manager_begin(&idle, manager_call);
}

static int end(void **state)
{
	(void)state;
	idle_manager_stop(&idle);
	assert_int_equal(idle.host.count, 0);
	assert_null(idle.manager.jobs);
	idle_manager_end(&idle);
	return 0;
}

/* The answer, and what was logged is kept to itself; "": none yet. */
static const char *next_answer(void)
{
	static char text[65536];
	ssize_t got;

	capture_begin();
	for (int i = 0; i < 4; i++)
		ev_run(idle.manager.service.loop, EVRUN_NOWAIT);
	capture_end();
	got = recv(idle.client, text, sizeof(text) - 1, 0);
	text[MAX(got, 0)] = 0;
	return text;
}

static const char *answer_to(const char *call)
{
	assert_int_equal(send(idle.client, call, strlen(call) + 1, 0), strlen(call) + 1);
	return next_answer();
}

static const char *answer_with(const char *call, const int *files, unsigned count)
{
	send_with_files(idle.client, call, strlen(call) + 1, files, count);
	return next_answer();
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
		{ "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"null\","
		  "\"options\":{\"size\":\"1M\",\"worker\":\"x\"}}}",
		  ERROR("io.ublkd.Failed", "\"status\":2,\"message\":\"worker: expected none without "
			"--workers, got 'x'\"") },
		{ "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"null\","
		  "\"unprivileged\":true}}",
		  ERROR("io.ublkd.Failed", "\"status\":2,\"message\":\"unprivileged: expected a server "
			"of root's with --workers, which alone can serve a device by a process of another "
			"user\"") },
		{ "{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"null\","
		  "\"unprivileged\":1}}", INVALID("unprivileged") },
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
		  "{\"parameters\":{\"devices\":[],\"stuck\":[]}}" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(answer_to(cases[i].call), cases[i].answer);
	assert_int_equal(idle.host.count, 0);
}

#define ADD(name) \
	"{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"fault+null\"," name \
	"\"options\":{\"size\":\"1M\",\"read-only\":\"yes\"}}}"

static void a_device_that_waits_is_listed_and_left_alone(void **state)
{
	(void)state;
	/* Their answers come with the devices: nothing else is heard meanwhile. */
	assert_string_equal(answer_to(ADD("\"name\":\"a\",")), "");
	assert_int_equal(idle.host.count, 1);
	assert_string_equal(answer_to("{\"method\":\"io.ublkd.List\"}"), "");
	idle.host.devices[0]->state = HOSTED_LIVE;
	manager_live(&idle.manager, idle.host.devices[0]);
	idle.host.devices[0]->state = HOSTED_WAITS;
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
	manager_live(&idle.manager, idle.host.devices[0]);
	answer_to("{\"method\":\"io.ublkd.List\"}");
	assert_contains(answer_to(RESIZE("")), "\"status\":1,\"message\":\"it is not usable yet");
	device = &idle.host.devices[0]->device;
	idle.host.devices[0]->state = HOSTED_LIVE;
	device->name = idle.host.devices[0]->name;
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
	idle.host.devices[0]->state = HOSTED_WAITS;
#undef RESIZE
}

#define ADD_FILE(name, files) \
	"{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"fault+file\",\"name\":\"" name \
	"\",\"options\":{\"path\":\"/no/such/file\"},\"files\":" files "}}"

static void a_file_that_was_passed_is_used(void **state)
{
	unsigned before = files_open();
	struct ublkd_target *target;
	int fds[2];

	(void)state;
	scratch_make(NULL);
	fds[0] = fds[1] = scratch_file("file", 8192);
	/* The second is for nothing. */
	assert_string_equal(answer_with(ADD_FILE("a", "{\"path\":0}"), fds, 2), "");
	close(fds[0]);
	assert_int_equal(files_open(), before + 1);
	assert_int_equal(idle.host.count, 1);
	assert_true(spec_is_passed(idle.host.devices[0]->spec));
	assert_int_equal(spec_open(idle.host.devices[0]->spec, &target), EXIT_DONE);
	assert_int_equal(target->size, 8192);
	backend_close(target, true);
	idle.host.hunted = true;
	host_stop(&idle.host, false);
	assert_int_equal(files_open(), before);
	scratch_remove(NULL);
}

static void refuses(const char *call, const char *message, int fd)
{
	unsigned before = files_open();

	assert_contains(answer_with(call, &fd, 1), message);
	assert_int_equal(files_open(), before);
	assert_int_equal(idle.host.count, 0);
	close(fd);
}

static void files_that_are_none_are_refused(void **state)
{
	int fds[2];

	(void)state;
	scratch_make(NULL);
	close(scratch_file("file", 8192));
#define FILE_AT(flags) open(scratch_path("file"), flags)
	assert_string_equal(answer_to(ADD_FILE("a", "7")), INVALID("files"));
	assert_string_equal(answer_to(ADD_FILE("a", "{\"path\":\"0\"}")), INVALID("files"));
	assert_string_equal(answer_to(ADD_FILE("a", "{\"path\":-1}")), INVALID("files"));
	assert_string_equal(answer_to(ADD_FILE("a", "{\"path\":8}")), INVALID("files"));
	assert_contains(answer_to(ADD_FILE("a", "{\"path\":0}")), "\"status\":2,\"message\":\"files: "
			"expected descriptor 0 with the message, for 'path' and nothing else, got 0 "
			"descriptor(s)");
	refuses(ADD_FILE("a", "{\"path\":1}"), "got 1 descriptor(s)", FILE_AT(O_RDWR));
	refuses(ADD_FILE("a", "{\"path\":0,\"depth\":0}"), "expected descriptor 0", FILE_AT(O_RDWR));
	refuses(ADD_FILE("a", "{\"depth\":0}"), "\"status\":2,\"message\":\"files: expected a setting "
		"that is given and is the path of a file, got 'depth'", FILE_AT(O_RDWR));
	refuses(ADD_FILE("a", "{\"colour\":0}"), "got 'colour'", FILE_AT(O_RDWR));
	refuses(ADD_FILE("a", "{\"path\":0}"), "\"status\":3,\"message\":\"path: expected a regular file "
		"or block device that is open to be read, got one that is open to be written only",
		FILE_AT(O_WRONLY));
	refuses(ADD_FILE("a", "{\"path\":0}"), "got one that is not open", FILE_AT(O_PATH));
	refuses(ADD_FILE("a", "{\"path\":0}"), "got a directory", open("/", O_RDONLY));
	refuses(ADD_FILE("a", "{\"path\":0}"), "got a character device", open("/dev/null", O_RDWR));
	assert_int_equal(pipe(fds), 0);
	refuses(ADD_FILE("a", "{\"path\":0}"), "got a pipe", fds[0]);
	close(fds[1]);
	refuses(ADD_FILE("a", "{\"path\":0}"), "got a socket", socket(AF_UNIX, SOCK_STREAM, 0));
	refuses("{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"mem\",\"options\":"
		"{\"size\":\"1M\"},\"files\":{\"path\":0}}}", "got 'path'", FILE_AT(O_RDWR));
#undef FILE_AT
	scratch_remove(NULL);
}

static void some_settings_change_while_it_is_live(void **state)
{
#define SET(options) "{\"method\":\"io.ublkd.Set\",\"parameters\":{\"device\":\"a\",\"options\":" options "}}"
	struct hosted *hosted;

	(void)state;
	answer_to(ADD("\"name\":\"a\","));
	hosted = idle.host.devices[0];
	manager_live(&idle.manager, hosted);
	answer_to("{\"method\":\"io.ublkd.List\",\"oneway\":true}");
	assert_contains(answer_to(SET("{\"poll\":\"1\"}")), "it is not usable yet");
	hosted->state = HOSTED_LIVE;
	hosted->device.config = &hosted->spec->device;
	hosted->device.pool = &idle.pool;
	assert_string_equal(answer_to(SET("{}")), INVALID("options"));
	assert_string_equal(answer_to(SET("{\"poll\":1}")), INVALID("options"));
	assert_contains(answer_to(SET("{\"poll\":\"5\",\"depth\":\"8\"}")), "\"status\":2,\"message\":"
			"\"expected a setting that can change while the device is served (cpus, poll, "
			"give-up, max-deaths, autoclear, owner, mode), got 'depth'");
	assert_contains(answer_to(SET("{\"size\":\"2M\"}")), "got 'size'");
	assert_contains(answer_to(SET("{\"poll\":\"5\",\"mode\":\"0999\"}")), "\"status\":2,\"message\":"
			"\"mode: expected an octal mode up to 0777, got '0999'");
	assert_contains(answer_to(SET("{\"cpus\":\"1000\"}")), "cpus: expected CPUs that this process may use");
	assert_contains(answer_to(SET("{\"owner\":\"no body\"}")), "owner: expected USER[:GROUP] that exists");
	assert_int_equal(hosted->spec->device.poll, 0);
	assert_string_equal(answer_to(SET("{\"poll\":\"5\"}")), "{\"parameters\":{}}");
	assert_string_equal(answer_to(SET("{\"poll\":\"7\"}")), "{\"parameters\":{}}");
	assert_int_equal(hosted->spec->device.poll, 7);
	assert_string_equal(json_string_value(json_object_get(hosted->spec->lasting, "poll")), "7");
	assert_string_equal(json_string_value(json_object_get(hosted->spec->lasting, "read-only")), "yes");
	hosted->state = HOSTED_WAITS;
	answer_to("{\"method\":\"io.ublkd.List\",\"oneway\":true}");
	assert_contains(answer_to("{\"method\":\"io.ublkd.Show\",\"parameters\":{\"device\":\"a\"}}"),
			"\"poll\":\"7\"");
#undef SET
}

static void what_goes_on_waiting_is_for_workers(void **state)
{
#define CALL(method) "{\"method\":\"io.ublkd." method "\",\"parameters\":{\"device\":\"a\"}}"
	struct device *device;

	(void)state;
	answer_to(ADD("\"name\":\"a\","));
	manager_live(&idle.manager, idle.host.devices[0]);
	answer_to("{\"method\":\"io.ublkd.List\",\"oneway\":true}");
	device = &idle.host.devices[0]->device;
	idle.host.devices[0]->state = HOSTED_LIVE;
	assert_contains(answer_to(CALL("FailIo")), "\"status\":2,\"message\":\"expected a device that no "
			"process serves");
	assert_contains(answer_to(CALL("Quiesce")), "\"status\":2,\"message\":\"expected a server with "
			"--workers");
	assert_contains(answer_to(CALL("Resume")), "\"status\":2,\"message\":\"expected a device that was "
			"quiesced");
	idle.manager.worker = true;
	assert_contains(answer_to(CALL("Quiesce")), "\"status\":2,\"message\":\"expected a device that is "
			"live and whose I/O can wait");
	device->live = device->entered = true;
	device->info.flags = UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_FAIL_IO;
	assert_contains(answer_to(CALL("Quiesce")), "\"status\":2");
	device->info.flags = UBLK_F_USER_RECOVERY;
	assert_contains(answer_to(CALL("Quiesce")), "\"status\":4,\"message\":\"expected a device that the "
			"driver can quiesce");
	idle.host.devices[0]->state = HOSTED_WAITS;
#undef CALL
}

static void what_was_set_is_shown(void **state)
{
	const char *answer;
	json_t *whole, *shown, *config;

	(void)state;
	answer_to(ADD(""));
	assert_int_equal(idle.host.count, 1);
	assert_string_equal(idle.host.devices[0]->name, "null-1");
	manager_live(&idle.manager, idle.host.devices[0]);
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
	assert_true(json_is_null(json_object_get(shown, "pause")));
	shown = json_object_get(shown, "device");
	assert_string_equal(json_string_value(json_object_get(shown, "backend")), "fault+null");
	assert_string_equal(json_string_value(json_object_get(shown, "state")), "waiting");
	json_decref(whole);
	assert_contains(answer_to(ADD("\"name\":\"null-1\",")), "name: expected another than that");
	assert_contains(answer_to("{\"method\":\"io.ublkd.Delete\",\"parameters\":"
				  "{\"device\":\"null-1\"}}"), "it is not usable yet");
}

#define UUID "1b4e28ba-2fa1-4ed2-883f-0016d3cca427"
#define UPPER_UUID "1B4E28BA-2FA1-4ED2-883F-0016D3CCA427"
#define ADD_UUID(name, uuid) \
	"{\"method\":\"io.ublkd.Add\",\"parameters\":{\"backend\":\"null\",\"name\":\"" name \
	"\",\"options\":{\"size\":\"1M\",\"uuid\":\"" uuid "\"}}}"
#define SHOW(name) "{\"method\":\"io.ublkd.Show\",\"parameters\":{\"device\":\"" name "\"}}"

/* The last one that was added is usable, as far as its client knows. */
static void answer_add(void)
{
	manager_live(&idle.manager, idle.host.devices[idle.host.count - 1]);
	next_answer();
}

static void a_uuid_is_that_of_one_device(void **state)
{
	const struct hosted *hosted;

	(void)state;
	idle.host.begun = true;
	assert_contains(answer_to(ADD_UUID("a", "1b4e")), "\"status\":2,\"message\":\"uuid: expected a UUID");
	assert_string_equal(answer_to(ADD_UUID("a", UPPER_UUID)), "");
	answer_add();
	hosted = idle.host.devices[0];
	assert_string_equal(hosted->device.entry.uuid, UUID);
	/* For the table, and for a file. */
	assert_string_equal(json_string_value(json_object_get(hosted->spec->lasting, "uuid")), UUID);
	assert_contains(answer_to(ADD_UUID("b", UUID)), "\"status\":5,\"message\":\"uuid: expected another "
			"than that of 'a', got '" UUID "'\"");
	assert_int_equal(idle.host.count, 1);
	assert_string_equal(answer_to(ADD("\"name\":\"c\",")), "");
	answer_add();
	hosted = idle.host.devices[1];
	assert_string_equal(json_string_value(json_object_get(hosted->spec->lasting, "uuid")),
			    hosted->device.entry.uuid);
	assert_string_not_equal(hosted->device.entry.uuid, UUID);
	assert_int_equal(hosted->device.entry.uuid[14], '4');
}

static void a_device_is_called_by_its_uuid(void **state)
{
	struct table_entry entry = { .name = "left", .backend = "null", .uuid = UUID };
	struct table table = { .entries = &entry, .count = 1 };

	(void)state;
	entry.uuid[0] = '2';
	idle.host.begun = true;
	assert_contains(answer_to(SHOW(UUID)), "NotFound\",\"parameters\":{\"device\":\"" UUID "\"");
	answer_to(ADD_UUID("a", UUID));
	answer_add();
	assert_contains(answer_to(SHOW(UUID)), "\"name\":\"a\",\"uuid\":\"" UUID "\"");
	assert_contains(answer_to(SHOW(UPPER_UUID)), "\"name\":\"a\"");
	idle.host.table = &table;
	manager_knows(&idle.manager);
	assert_contains(answer_to(SHOW("2b4e28ba-2fa1-4ed2-883f-0016d3cca427")), "\"name\":\"left\"");
	assert_contains(answer_to(ADD_UUID("b", "2b4e28ba-2fa1-4ed2-883f-0016d3cca427")),
			"than that of 'left'");
	/* Whoever is named so, here or waiting, comes first. */
	strcpy(entry.name, UUID);
	assert_contains(answer_to(SHOW(UUID)), "\"name\":\"" UUID "\",\"uuid\":\"2b4e28ba");
	idle.host.table = NULL;
	assert_contains(answer_to(SHOW(UUID)), "\"name\":\"a\"");
	answer_to(ADD_UUID(UUID, "3b4e28ba-2fa1-4ed2-883f-0016d3cca427"));
	answer_add();
	assert_contains(answer_to(SHOW(UUID)), "\"name\":\"" UUID "\",\"uuid\":\"3b4e28ba");
}

#define WAIT(name) "{\"method\":\"io.ublkd.Wait\",\"parameters\":{\"device\":\"" name "\"}}"

static void a_device_is_waited_for(void **state)
{
	struct hosted *hosted;

	(void)state;
	assert_string_equal(answer_to(WAIT("a")), ERROR("io.ublkd.NotFound", "\"device\":\"a\""));
	assert_string_equal(answer_to(ADD("\"name\":\"a\",")), "");
	hosted = idle.host.devices[0];
	manager_live(&idle.manager, hosted);
	assert_contains(answer_to(WAIT("a")), "\"name\":\"a\"");
	assert_non_null(idle.manager.jobs);
	hosted->state = HOSTED_LIVE;
	manager_live(&idle.manager, hosted);
	assert_null(idle.manager.jobs);
	assert_string_equal(answer_to(WAIT("a")),
			    "{\"parameters\":{\"name\":\"a\",\"path\":\"\",\"number\":0}}");
	hosted->state = HOSTED_WAITS;
}

/* Nobody was told of it, as a file describes the device. */
static void a_failure_is_kept_for_who_waits_later(void **state)
{
	struct spec spec = { 0 };
	struct hosted hosted = { .name = "a", .spec = &spec, .was_live = true, .status = EXIT_BACKING };
	char name[] = "a", uuid[] = UUID;
	struct conf_device described = { .name = name, .spec.device.uuid = uuid }, *devices = &described;
	struct conf conf = { .devices = &devices, .count = 1 };

	(void)state;
	manager_ended(&idle.manager, &hosted);
	assert_string_equal(answer_to("{\"method\":\"io.ublkd.List\"}"),
			    "{\"parameters\":{\"devices\":[],\"stuck\":[]}}");
	assert_string_equal(answer_to(WAIT("a")),
			    ERROR("io.ublkd.Failed", "\"status\":3,\"message\":\"the server's log says "
				  "why\""));
	idle.manager.conf = &conf;
	assert_contains(answer_to(WAIT(UUID)), "\"status\":3");
	idle.manager.conf = NULL;
	hosted.status = 0;
	manager_live(&idle.manager, &hosted);
	assert_string_equal(answer_to(WAIT("a")), ERROR("io.ublkd.NotFound", "\"device\":\"a\""));
}

#define ABOUT(method, device) \
	"{\"method\":\"io.ublkd." method "\",\"parameters\":{\"device\":\"" device "\"}}"
#define FAILED "{\"name\":\"a\",\"uuid\":\"" UUID "\",\"path\":null,\"number\":null," \
	       "\"state\":\"failed\",\"size\":null,\"backend\":\"null\",\"pid\":null,\"worker\":null," \
	       "\"owner_uid\":null,\"owner_gid\":null,\"error\":\"no such thing\"}"

static void end_at_its_start(struct spec *spec)
{
	struct hosted hosted = { .name = "a", .spec = spec, .status = EXIT_BACKING,
				 .device.entry.uuid = UUID, .listener.text = "no such thing" };

	manager_ended(&idle.manager, &hosted);
}

/* Until it is usable, or deleted; beside it the name is free. */
static void what_could_not_be_started_is_seen(void **state)
{
	static char place[] = "/none/a.conf", name[] = "a";
	struct conf_device described = { .name = name, .place = place }, *devices = &described;
	struct conf conf = { .devices = &devices, .count = 1 };
	json_t *settings = json_pack("{s:s}", "size", "1M");
	struct spec spec;

	(void)state;
	spec_init(&spec);
	assert_int_equal(spec_fill(&spec, "null", settings), EXIT_DONE);
	idle.manager.conf = &conf;
	end_at_its_start(&spec);
	assert_string_equal(answer_to("{\"method\":\"io.ublkd.List\"}"),
			    "{\"parameters\":{\"devices\":[" FAILED "],\"stuck\":[]}}");
	assert_contains(answer_to(ABOUT("Show", UUID)),
			"{\"parameters\":{\"device\":" FAILED ",\"config\":{\"size\":\"1M\"}");
	assert_contains(answer_to(WAIT("a")), "\"status\":3,\"message\":\"no such thing\"");
	assert_contains(answer_to(ABOUT("Resize", "a")), "\"status\":3,\"message\":\"it is not "
			"served, and 'ublkctl recover' starts it again: no such thing\"");
	assert_contains(answer_to(ABOUT("Recover", "a")), "\"status\":2,\"message\":\"what describes it "
			"cannot be used, '/none/a.conf': cannot open");
	/* Another that is called so. */
	assert_string_equal(answer_to(ADD("\"name\":\"a\",")), "");
	assert_null(strstr(answer_to("{\"method\":\"io.ublkd.List\"}"), "no such thing"));
	idle_manager_stop(&idle);
	assert_contains(next_answer(), "before it was usable");
	assert_contains(answer_to(ABOUT("Delete", UUID)), "{\"parameters\":{\"name\":\"a\"");
	assert_string_equal(answer_to(WAIT("a")), ERROR("io.ublkd.NotFound", "\"device\":\"a\""));
	end_at_its_start(&spec);
	assert_contains(answer_to(ABOUT("FailIo", "a")), "{\"parameters\":{\"name\":\"a\"");
	assert_string_equal(answer_to(ABOUT("FailIo", "a")), ERROR("io.ublkd.NotFound", "\"device\":\"a\""));
	assert_int_equal(idle.forgotten, 2);
	idle.manager.conf = NULL;
	spec_free(&spec);
	json_decref(settings);
}

static void what_the_last_server_had_is_known_first(void **state)
{
	struct table_entry entry = { .name = "a", .backend = "null",
				     .options = json_pack("{s:s}", "size", "1M") };
	struct table table = { .entries = &entry, .count = 1 };

	(void)state;
	idle.host.table = &table;
	assert_string_equal(answer_to(WAIT("a")), "");
	assert_non_null(idle.manager.jobs);
	manager_take_over(&idle.manager, &table);
	manager_knows(&idle.manager);
	assert_int_equal(idle.host.count, 1);
	assert_non_null(idle.manager.jobs);
	/* Who hangs up waits no more. */
	close(idle.client);
	ev_run(idle.manager.service.loop, EVRUN_NOWAIT);
	ev_run(idle.manager.service.loop, EVRUN_NOWAIT);
	assert_null(idle.manager.jobs);
	idle.client = -1;
	json_decref(entry.options);
}

/* Not what is served, what is gone, and what the host is about to start. */
static void what_the_last_server_left_is_listed(void **state)
{
	struct table_entry entries[] = {
		{ .name = "left", .id = 3, .backend = "mem", .sectors = 2048, .queues = 1, .depth = 8,
		  .uuid = UUID },
		{ .name = "served", .backend = "null", .state = TABLE_SERVED },
		{ .name = "goes", .backend = "null", .state = TABLE_GOES },
		{ .name = "added", .backend = "null", .options = json_pack("{s:s}", "size", "1M") },
	};
	struct table table = { .entries = entries, .count = ARRAY_SIZE(entries) };

	(void)state;
	idle.host.table = &table;
	manager_take_over(&idle.manager, &table);
	manager_knows(&idle.manager);
#define LEFT "{\"name\":\"left\",\"uuid\":\"" UUID "\"," \
	     "\"path\":\"/dev/ublkb3\",\"number\":3,\"state\":\"waiting\"," \
	     "\"size\":1048576,\"backend\":\"mem\",\"pid\":null,\"worker\":null," \
	     "\"owner_uid\":null,\"owner_gid\":null,\"error\":null}"
	assert_contains(answer_to("{\"method\":\"io.ublkd.List\"}"), "," LEFT "],\"stuck\":[]}}");
	assert_string_equal(answer_to("{\"method\":\"io.ublkd.Show\",\"parameters\":"
				      "{\"device\":\"3\"}}"),
			    "{\"parameters\":{\"device\":" LEFT ",\"config\":{},\"queues\":1,"
			    "\"depth\":8,\"data\":null,\"data_reason\":null,\"batch\":null,"
			    "\"batch_reason\":null,\"ring\":null,\"pause\":null,"
			    "\"counters\":null,\"stuck\":[]}}");
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
	idle.host.hunted = true;
	host_stop(&idle.host, false);
	assert_int_equal(idle.host.count, 0);
	got = recv(idle.client, text, sizeof(text) - 1, 0);
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
	manager_take_over(&idle.manager, &table);
	manager_knows(&idle.manager);
	manager_take_over(&idle.manager, &table);
	manager_knows(&idle.manager);
	assert_contains(capture_end(), "unfit: device 7 cannot be taken over as it was added");
	assert_int_equal(idle.host.count, 1);
	assert_string_equal(idle.host.devices[0]->name, "one");
	assert_true(idle.host.devices[0]->added);
	assert_true(json_equal(idle.host.devices[0]->spec->given, entries[0].options));
	assert_false(idle.host.devices[0]->quiet);
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
	assert_int_equal(methods, 14);
	assert_contains(answer_to("{\"method\":\"org.varlink.service.GetInterfaceDescription\","
				  "\"parameters\":{\"interface\":\"io.ublkd\"}}"),
			"interface io.ublkd\\n");
	assert_contains(answer_to("{\"method\":\"org.varlink.service.GetInfo\"}"),
			"\"interfaces\":[\"org.varlink.service\",\"io.ublkd\"]");
	assert_contains(answer_to("{\"method\":\"io.ublkd.Backends\"}"),
			"{\"name\":\"path\",\"type\":\"path\",\"required\":true");
}

/* What a client has to know before it opens them. */
static void options_that_are_files_are_told_alone(void **state)
{
	const char *answer = answer_to("{\"method\":\"io.ublkd.Backends\",\"parameters\":{\"files\":true}}");

	(void)state;
	assert_contains(answer, "{\"parameters\":{\"device\":[],");
	assert_contains(answer, "{\"name\":\"path\",\"type\":\"path\"");
	assert_contains(answer, "{\"name\":\"create\",\"type\":\"size\",\"required\":false,\"makes\":true");
	assert_null(strstr(answer, "\"makes\":false,\"live\":true"));
	assert_true(strlen(answer) < 2500);
}

/* kind: "\nmethod " and the like. */
static unsigned missing_in(const char *manual, const char *kind)
{
	unsigned missing = 0;
	char name[32];

	for (const char *at = interface_io_ublkd; (at = strstr(at, kind)); at++) {
		assert_int_equal(sscanf(at + strlen(kind), "%31[A-Za-z]", name), 1);
		if (manual_has(manual, "Li", name))
			continue;
		print_error("the manual has no '.It Li %s'\n", name);
		missing++;
	}
	return missing;
}

static void the_manual_has_every_method_and_error(void **state)
{
	_cleanup_free_ char *manual = manual_read_page("io.ublkd.7");

	(void)state;
	assert_int_equal(missing_in(manual, "\nmethod "), 0);
	assert_int_equal(missing_in(manual, "\nerror "), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(parameters_are_checked),
		TEST(a_device_that_waits_is_listed_and_left_alone),
		TEST(a_device_is_resized_once_it_is_live),
		TEST(a_file_that_was_passed_is_used),
		TEST(files_that_are_none_are_refused),
		TEST(some_settings_change_while_it_is_live),
		TEST(what_goes_on_waiting_is_for_workers),
		TEST(what_was_set_is_shown),
		TEST(a_uuid_is_that_of_one_device),
		TEST(a_device_is_called_by_its_uuid),
		TEST(a_device_is_waited_for),
		TEST(a_failure_is_kept_for_who_waits_later),
		TEST(what_could_not_be_started_is_seen),
		TEST(what_the_last_server_had_is_known_first),
		TEST(what_the_last_server_left_is_listed),
		TEST(a_stop_answers_those_who_wait),
		TEST(what_was_added_to_the_last_server_is_added_again),
		TEST(options_that_are_files_are_told_alone),
		TEST(the_interface_has_every_method_and_no_other),
		TEST(the_manual_has_every_method_and_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
