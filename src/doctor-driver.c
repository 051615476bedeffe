/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "doctor-check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "ctrl.h"
#include "feature.h"
#include "module.h"
#include "util/macros.h"
#include "util/parse.h"

/* ---- kernel and driver -------------------- */

void doctor_check_kernel(struct doctor *doctor)
{
	static const unsigned tested[][2] = { { 6, 12 }, { 6, 18 }, { 7, 3 } };
	unsigned major = 0, minor = 0;

	if (sscanf(doctor->release, "%u.%u", &major, &minor) == 2 &&
	    (major < 6 || (major == 6 && minor < 4))) {
		doctor_found(doctor, DOCTOR_PROBLEM, "Linux %s", doctor->release);
		doctor_expected(doctor, "Linux 6.4 or later");
		doctor_remedy(doctor, "boot a later kernel");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(tested); i++) {
		if (tested[i][0] == major && tested[i][1] == minor) {
			doctor_found(doctor, DOCTOR_OK,
				     "Linux %s, of a series that ublkd is tested on",
				     doctor->release);
			return;
		}
	}
	doctor_found(doctor, DOCTOR_NOTE, "Linux %s, of a series that ublkd is not tested on",
		     doctor->release);
	doctor_expected(doctor, "6.12, 6.18 or 7.3");
}

void doctor_check_module(struct doctor *doctor)
{
	const char *root = doctor->root, *release = doctor->release;
	/* A driver that is built in shows there for its parameters. */
	bool present = doctor_there(doctor, DRIVER_MODULE);

	if (present && doctor_there(doctor, DRIVER_MODULE "/initstate")) {
		doctor_found(doctor, DOCTOR_OK, "the module ublk_drv is loaded");
	} else if (present || module_built_in(root, release)) {
		doctor_found(doctor, DOCTOR_OK, "the driver is built into the kernel");
	} else if (module_known(root, release)) {
		doctor_found(doctor, DOCTOR_PROBLEM, "the module ublk_drv is not loaded");
		doctor_expected(doctor, "it is loaded");
		doctor_remedy(doctor, "modprobe ublk_drv; at each boot: echo ublk_drv "
				      ">/etc/modules-load.d/ublk.conf");
	} else {
		doctor_found(doctor, DOCTOR_PROBLEM,
			     "the kernel %s has no driver ublk_drv, neither built in nor as a "
			     "module",
			     release);
		doctor_expected(doctor,
				"a kernel with CONFIG_BLK_DEV_UBLK, and its modules in "
				"/lib/modules/%s",
				release);
		doctor_remedy(doctor, "install the kernel's package of further modules, or boot a "
				      "kernel that has the driver");
	}
}

static bool meaning_of(const struct doctor *doctor, const char *name, char *meaning, size_t size)
{
	size_t length = strlen(name);

	*meaning = 0;
	for (const char *line = doctor->parameters; line && *line; line += *line == '\n') {
		size_t end = strcspn(line, "\n");

		if (end > length && !strncmp(line, name, length) && line[length] == ':') {
			snprintf(meaning, size, "%.*s", (int)(end - length - 1), line + length + 1);
			return true;
		}
		line += end;
	}
	return false;
}

#define UBLKS_MAX DRIVER_MODULE "/parameters/ublks_max"

static void judge_ublks_max(struct doctor *doctor, const char *value, const char *meaning)
{
	bool others = strstr(meaning, "unprivileged");
	unsigned count = doctor->nr_devices, of_users = 0;
	uint64_t most;

	for (unsigned i = 0; i < doctor->nr_devices; i++)
		of_users += !doctor->devices[i].result &&
			    doctor->devices[i].info.flags & UBLK_F_UNPRIVILEGED_DEV;
	if (parse_uint(value, &most) || (others ? of_users : count) < most) {
		doctor_found(doctor, DOCTOR_OK,
			     "ublks_max is %s (%s); there are %u devices, %u of them of ordinary "
			     "users",
			     value, *meaning ? meaning : "meaning not known", count, of_users);
		return;
	}
	doctor_found(doctor,
		     others	? DOCTOR_NOTE
		     : *meaning ? DOCTOR_PROBLEM
				: DOCTOR_WARNING,
		     "ublks_max is %s (%s) and there are %u devices%s", value,
		     *meaning ? meaning
			      : "meaning not known: some kernels limit all devices with it, some "
				"only those of ordinary users",
		     others ? of_users : count,
		     others ? " of ordinary users: they can make no more" : "");
	doctor_expected(doctor, "more than the %u that there are", others ? of_users : count);
	doctor_remedy(doctor, "echo %u >" UBLKS_MAX, MAX(64u, 2 * count));
}

void doctor_check_parameters(struct doctor *doctor)
{
	char path[PATH_ROOM], value[256], meaning[256];
	struct dirent *entry;
	bool any = false;
	DIR *dir = opendir(doctor_path(doctor, path, DRIVER_MODULE "/parameters"));

	while (dir && (entry = readdir(dir))) {
		if (*entry->d_name == '.')
			continue;
		any = true;
		snprintf(path, sizeof(path), DRIVER_MODULE "/parameters/%s", entry->d_name);
		doctor_first_line(doctor, path, value, sizeof(value));
		meaning_of(doctor, entry->d_name, meaning, sizeof(meaning));
		if (!strcmp(entry->d_name, "ublks_max"))
			judge_ublks_max(doctor, value, meaning);
		else
			doctor_found(doctor, DOCTOR_OK, "%s is %s%s%s%s", entry->d_name, value,
				     *meaning ? " (" : "", meaning, *meaning ? ")" : "");
	}
	if (dir)
		closedir(dir);
	if (!any)
		doctor_found(doctor, DOCTOR_OK, "the driver shows none%s",
			     doctor_there(doctor, DRIVER_MODULE) ? "" : ", as it is not loaded");
}

void doctor_check_control_node(struct doctor *doctor)
{
	char path[PATH_ROOM];
	struct stat st;
	int error = doctor->control_error;

	if (stat(doctor_path(doctor, path, CONTROL_NODE), &st)) {
		doctor_found(doctor, DOCTOR_PROBLEM, CONTROL_NODE " is not there: %s",
			     strerror(errno));
		doctor_expected(doctor, "the driver's control node");
		if (doctor_there(doctor, DRIVER_MODULE))
			doctor_remedy(doctor, "mount -t devtmpfs devtmpfs /dev, or let udev run; "
					      "in a container: pass " CONTROL_NODE " on to it");
		else if (module_known(doctor->root, doctor->release))
			doctor_remedy(doctor, "load the driver: modprobe ublk_drv");
		else
			doctor_remedy(doctor, "that of the check 'module'");
		return;
	}
	if (!error) {
		doctor_found(doctor, DOCTOR_OK,
			     CONTROL_NODE " is there, mode %03o, and can be opened",
			     st.st_mode & 0777);
		return;
	}
	doctor_found(doctor, DOCTOR_PROBLEM,
		     CONTROL_NODE " of user %u, group %u, mode %03o cannot be opened: %s",
		     st.st_uid, st.st_gid, st.st_mode & 0777, strerror(-error));
	if (error == -ENOTTY) {
		doctor_expected(doctor, "a character device");
		doctor_remedy(doctor,
			      "rm " CONTROL_NODE "; modprobe -r ublk_drv; modprobe ublk_drv");
	} else if (error == -EACCES || error == -EPERM) {
		doctor_expected(doctor, "to be allowed to read and write it");
		doctor_remedy(doctor,
			      "run ublkd as root; if this is root: a security policy or the device "
			      "rules of a container (DeviceAllow=, --device) forbid it");
	} else {
		doctor_expected(doctor, "a node of the running driver");
		doctor_remedy(doctor, "modprobe ublk_drv");
	}
}

static void list_modes(const struct doctor *doctor, char *text, size_t size)
{
	size_t used = 0;

	*text = 0;
	for (enum data_mode mode = DATA_ZERO_COPY; mode <= DATA_USER_COPY; mode++) {
		if (data_mode_offered(mode, doctor->features) && used < size)
			used += (size_t)snprintf(text + used, size - used, "%s%s",
						 used ? ", " : "", data_mode_name(mode));
	}
}

void doctor_check_features(struct doctor *doctor)
{
	unsigned known = 0, offered = 0;
	char modes[128];
	bool zero_copy;

	if (doctor->features_error == 1) {
		doctor_found(doctor, DOCTOR_NOTE, "the driver could not be asked");
		doctor_expected(doctor, "a control node and an io_uring to ask it with");
		return;
	}
	if (doctor->features_error == -ETIMEDOUT) {
		doctor_found(doctor, DOCTOR_PROBLEM, "the driver does not say what it offers");
		doctor_expected(doctor, "an answer within 10 s");
		doctor_remedy(doctor, "look for the cause in the kernel log (dmesg) and reboot");
		return;
	}
	if (features_unknown(doctor->features_error)) {
		doctor_found(doctor, DOCTOR_NOTE, "the driver cannot say what it offers");
		doctor_expected(doctor, "Linux 6.5 or later");
		return;
	}
	if (doctor->features_error) {
		doctor_found(doctor, DOCTOR_PROBLEM, "the driver refuses to say what it offers: %s",
			     strerror(-doctor->features_error));
		doctor_expected(doctor, "an answer");
		doctor_remedy(doctor, "run ublkd as root");
		return;
	}
	for (const struct feature *feature = driver_features; feature->name; feature++) {
		known++;
		offered += !!(doctor->features & feature->flag);
	}
	list_modes(doctor, modes, sizeof(modes));
	zero_copy = data_mode_offered(DATA_REGISTER, doctor->features);
	if (!(doctor->features & UBLK_F_CMD_IOCTL_ENCODE)) {
		doctor_found(doctor, DOCTOR_PROBLEM,
			     "the driver does not take commands that are encoded like ioctls");
		doctor_expected(doctor, "Linux 6.4 or later");
		doctor_remedy(doctor, "boot a later kernel");
		return;
	}
	doctor_found(doctor, zero_copy ? DOCTOR_OK : DOCTOR_NOTE,
		     "%u of %u known features (ublkd features lists them); data modes %s", offered,
		     known, modes);
	if (!zero_copy)
		doctor_expected(doctor,
				"zero copy, for less work per request (Linux 6.15; better 6.16)");
}

/* ---- the kernel's log -------------------- */

#define MOST_RECORDS 1000000
/* So far below its first line goes the trace of a fault. */
#define TRACE_RECORDS 60

static bool is_fault(const char *line)
{
	static const char *const faults[] = {
		"WARNING: ", "BUG: ", "kernel BUG", "Oops", "general protection fault",
		"refcount_t: ", "list_del corruption", "list_add corruption", "KASAN",
	};

	if (strstr(line, "blocked") && strstr(line, "for more than"))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		if (strstr(line, faults[i]))
			return true;
	}
	return false;
}

/* A function of the driver with its offset, or the module's name behind one. */
static bool is_of_driver(const char *line)
{
	const char *name = strstr(line, "ublk_");

	return (name && strstr(name, "+0x")) || strstr(line, "[ublk_drv]") ||
	       strstr(line, "drivers/block/ublk_drv.c");
}

struct log_search {
	char fault[200]; /* the last one */
	unsigned age;    /* records since */
	unsigned count;  /* of faults in the driver */
	char last[200];
};

static void look_at_record(struct log_search *search, char *record)
{
	char *text = strchr(record, ';'), *line, *rest;

	text = text ? text + 1 : record;
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (is_fault(line)) {
			snprintf(search->fault, sizeof(search->fault), "%.199s", line);
			search->age = 0;
		}
		if (*search->fault && is_of_driver(line)) {
			memcpy(search->last, search->fault, sizeof(search->last));
			search->count++;
			*search->fault = 0;
		}
		if (++search->age > TRACE_RECORDS)
			*search->fault = 0;
	}
}

void doctor_check_kernel_log(struct doctor *doctor)
{
	struct log_search search = { 0 };
	char path[PATH_ROOM], record[8192];
	_cleanup_fd_ int fd = open(doctor_path(doctor, path, "/dev/kmsg"),
				   O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0) {
		doctor_found(doctor, DOCTOR_NOTE, "it cannot be read: %s", strerror(errno));
		doctor_expected(doctor, "no faults of the driver in it");
		doctor_remedy(doctor, "look yourself, as root: dmesg | grep -E 'ublk_|blocked for "
				      "more than'");
		return;
	}
	for (unsigned i = 0; i < MOST_RECORDS; i++) {
		ssize_t length = read(fd, record, sizeof(record) - 1);

		/* Overwritten before it was read. */
		if (length < 0 && errno == EPIPE)
			continue;
		if (length <= 0)
			break;
		record[length] = 0;
		look_at_record(&search, record);
	}
	if (!search.count) {
		doctor_found(doctor, DOCTOR_OK, "no fault of the driver is in it");
		return;
	}
	doctor_found(doctor, DOCTOR_WARNING, "%u faults in which the driver was, the last: %s",
		     search.count, search.last);
	doctor_expected(doctor, "none: after one, commands and devices may hang");
	doctor_remedy(doctor, "read it (dmesg), reboot, and try the latest kernel of the series");
}
