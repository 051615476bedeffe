/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "ctl.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exit.h"
#include "log.h"
#include "use.h"
#include "util/clock.h"
#include "util/macros.h"

/* Calls, each at a connection of its own. */
#define AT_ONCE 8

/* ---- what has become of them ------------------------------------------------------------ */

static void print_users(const json_t *answer)
{
	if (json_is_string(json_object_get(answer, "holder")))
		ublkd_note("'%s' was in use: %s", ctl_text(answer, "name"), ctl_text(answer, "holder"));
	if (json_is_true(json_object_get(answer, "lingers")))
		ublkd_note("'%s' is deleted, but still open or mounted: its number is free when its "
			   "last user is gone", ctl_text(answer, "name"));
}

static void print_deleted(const json_t *answer)
{
	print_users(answer);
	if (json_is_string(json_object_get(answer, "file")))
		ublkd_note("'%s' brings '%s' back at the next start; del --persist removes it, where it "
			   "is in the folder that the server was given", ctl_text(answer, "file"),
			   ctl_text(answer, "name"));
}

/* Where it was to be removed. */
static int file_status(const json_t *answer)
{
	return json_is_string(json_object_get(answer, "file")) ? EXIT_RUNTIME : EXIT_DONE;
}

/* ---- unmounting ------------------------------------------------------------------------- */

/* Before once more, as who uses it may let it go. Microseconds. */
#define UNMOUNT_PAUSE 250000
/* Seconds from the last time on until what is waited for is late. */
#define UNMOUNT_MARGIN 0.5

/*
 * In a process of its own, which ends with this one, and does not keep the server from seeing
 * that. What is busy is tried until then, unless it is over.
 */
static int end_use(const struct ctl *ctl, const char *node, double until)
{
	char place[USE_PLACE_SIZE];
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	close(ctl->server.fd);
	while ((ret = use_end_node(node, place)) == -EBUSY && clock_now() < until)
		usleep(UNMOUNT_PAUSE);
	if (ret)
		ublkd_note("cannot unmount '%s': %s", place, strerror(-ret));
	return ret ? EXIT_RUNTIME : EXIT_DONE;
}

static bool is_in_state(const json_t *device, const char *state)
{
	return !strcmp(ctl_text(device, "state"), state);
}

/* Its node, if somebody serves it: else an unmount would wait for that. */
static bool node_of(const json_t *device, char node[32])
{
	unsigned number;

	if (!is_in_state(device, "live") ||
	    sscanf(ctl_text(device, "path"), "/dev/ublkb%u", &number) != 1)
		return false;
	snprintf(node, 32, "/dev/ublkb%u", number);
	return true;
}

/*
 * Each device by a process, as it takes as long as the backing does; what is not done in time is
 * left to it. With --when-unused the server waits for the end of its use meanwhile.
 */
static void unmount(const struct ctl *ctl, const json_t *devices)
{
	double timeout = (double)ctl->config.timeout, until = clock_now() + timeout;
	json_t *device;
	char node[32];
	pid_t pid;
	size_t i;

	json_array_foreach(devices, i, device) {
		if (!node_of(device, node))
			continue;
		pid = fork();
		if (!pid)
			_exit(end_use(ctl, node, ctl->config.when_unused ? until - UNMOUNT_MARGIN : 0));
		if (pid < 0)
			ublkd_note("cannot unmount what is on '%s': %s", node, strerror(errno));
	}
	while (!ctl->config.when_unused && clock_now() < until) {
		pid = waitpid(-1, NULL, WNOHANG);
		if (pid < 0)
			return;
		if (!pid)
			usleep(UNMOUNT_PAUSE / 10);
	}
}

/* ---- del -------------------------------------------------------------------------------- */

/* How a device is to go. A server that is older knows none of them. */
static json_t *deletion(const struct ctl *ctl)
{
	json_t *deletion = json_object();

	if (ctl->config.force)
		json_object_set_new(deletion, "force", json_true());
	if (ctl->config.when_unused)
		json_object_set_new(deletion, "when_unused", json_true());
	if (ctl->config.persist)
		json_object_set_new(deletion, "persist", json_true());
	return deletion;
}

/* One that has no process can go by force alone, and one that waits has no end of its use. */
static void begin_deletion(const struct ctl *ctl, struct connection *server, const json_t *device)
{
	bool fails = ctl->config.force &&
		     (is_in_state(device, "failed") || is_in_state(device, "recovering"));
	json_t *parameters = fails ? json_object() : deletion(ctl);

	if (is_in_state(device, "waiting"))
		json_object_del(parameters, "when_unused");
	json_object_set_new(parameters, "device", json_string(ctl_text(device, "name")));
	client_send(server, fails ? "io.ublkd.FailIo" : "io.ublkd.Delete", parameters, NULL, 0);
}

static int delete_some(const struct ctl *ctl, const json_t *devices, size_t first)
{
	size_t count = MIN(json_array_size(devices) - first, AT_ONCE);
	int statuses[AT_ONCE], status = EXIT_DONE;
	struct connection servers[AT_ONCE];

	for (size_t i = 0; i < count; i++)
		statuses[i] = ctl_connect(ctl, &servers[i], false);
	/* The server may do at once for all what it has to do for those that come together. */
	for (size_t i = 0; i < count; i++) {
		if (!statuses[i])
			begin_deletion(ctl, &servers[i], json_array_get(devices, first + i));
	}
	for (size_t i = 0; i < count; i++) {
		json_t *answer = statuses[i] ? NULL : client_receive(&servers[i], &statuses[i]);

		answer = ctl_parameters_of(answer, &statuses[i]);
		statuses[i] = ctl_tell(ctl, answer, statuses[i], print_users,
				   ctl->config.persist ? file_status : NULL);
		client_close(&servers[i]);
		if (!status)
			status = statuses[i];
	}
	return status;
}

/* That a file brings one back is no news to who deletes all. */
static int delete_all(struct ctl *ctl)
{
	int status = EXIT_DONE, last;
	json_t *answer = ctl_call(ctl, "io.ublkd.List", NULL, &status);
	json_t *devices = json_object_get(answer, "devices");

	if (ctl->config.unmount)
		unmount(ctl, devices);
	for (size_t i = 0; i < json_array_size(devices); i += AT_ONCE) {
		last = delete_some(ctl, devices, i);
		if (!status)
			status = last;
	}
	json_decref(answer);
	return status;
}

int ctl_delete(struct ctl *ctl)
{
	json_t *devices;

	if (ctl->config.all)
		return delete_all(ctl);
	if (ctl->config.unmount) {
		devices = ctl_list_named(ctl);
		unmount(ctl, devices);
		json_decref(devices);
	}
	return ctl_ask_each(ctl, "io.ublkd.Delete", deletion(ctl), print_deleted,
			ctl->config.persist ? file_status : NULL);
}

/* ---- gc, fail-io ------------------------------------------------------------------------ */

static void print_collected(const json_t *answer)
{
	json_t *one;
	size_t i;

	json_array_foreach(json_object_get(answer, "deleted"), i, one) {
		printf("%s\n", ctl_text(one, "name"));
		print_deleted(one);
	}
	json_array_foreach(json_object_get(answer, "kept"), i, one)
		ublkd_error("'%s' is left: %s", ctl_text(one, "name"), ctl_text(one, "reason"));
}

/* That of the first that is left, though it ought to go. */
static int kept_status(const json_t *answer)
{
	const json_t *kept = json_array_get(json_object_get(answer, "kept"), 0);

	return kept ? ctl_failed_status(kept) : EXIT_DONE;
}

int ctl_collect(struct ctl *ctl)
{
	json_t *force = ctl->config.force ? json_pack("{s:b}", "force", true) : NULL;

	return ctl_ask_for(ctl, "io.ublkd.Collect", force, print_collected, kept_status);
}

int ctl_fail_io(struct ctl *ctl)
{
	return ctl_ask_each(ctl, "io.ublkd.FailIo", json_object(), print_deleted, NULL);
}
