/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "doctor.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "buffer.h"
#include "client.h"
#include "config.h"
#include "ctrl.h"
#include "exit.h"
#include "feature.h"
#include "log.h"
#include "module.h"
#include "node.h"
#include "option.h"
#include "orphan.h"
#include "process.h"
#include "serve.h"
#include "serve-settings.h"
#include "stuck.h"
#include "util/macros.h"
#include "util/parse.h"

/* ---- what is found -------------------- */

__attribute__((format(printf, 3, 4)))
static void found(struct doctor *doctor, enum doctor_level level, const char *format, ...)
{
	struct doctor_finding *all = realloc(doctor->findings,
					     (doctor->nr_findings + 1) * sizeof(*all));
	struct doctor_finding *finding;
	va_list args;

	if (!all) {
		doctor->no_memory = true;
		return;
	}
	doctor->findings = all;
	finding = &all[doctor->nr_findings++];
	*finding = (struct doctor_finding){ .check = doctor->check, .level = level };
	va_start(args, format);
	if (vasprintf(&finding->found, format, args) < 0) {
		finding->found = NULL;
		doctor->no_memory = true;
	}
	va_end(args);
}

__attribute__((format(printf, 3, 0)))
static void add(struct doctor *doctor, bool remedy, const char *format, va_list args)
{
	struct doctor_finding *last;
	char *text;

	if (doctor->no_memory)
		return;
	last = &doctor->findings[doctor->nr_findings - 1];
	if (vasprintf(&text, format, args) < 0)
		doctor->no_memory = true;
	else if (remedy)
		last->remedy = text;
	else
		last->expected = text;
}

/* These two add to the last one that was found. */
__attribute__((format(printf, 2, 3)))
static void expected(struct doctor *doctor, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add(doctor, false, format, args);
	va_end(args);
}

__attribute__((format(printf, 2, 3)))
static void remedy(struct doctor *doctor, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add(doctor, true, format, args);
	va_end(args);
}

/* ---- files -------------------- */

#define PATH_ROOM 4096

static const char *path_of(const struct doctor *doctor, char path[PATH_ROOM], const char *name)
{
	snprintf(path, PATH_ROOM, "%s%s", doctor->root, name);
	return path;
}

static bool there(const struct doctor *doctor, const char *name)
{
	char path[PATH_ROOM];

	return !access(path_of(doctor, path, name), F_OK);
}

static FILE *open_text(const struct doctor *doctor, const char *name)
{
	char path[PATH_ROOM];

	return fopen(path_of(doctor, path, name), "re");
}

/* Its first line, "" if there is none. */
static void first_line(const struct doctor *doctor, const char *name, char *line, size_t size)
{
	_cleanup_file_ FILE *file = open_text(doctor, name);

	if (!file || !fgets(line, (int)size, file))
		*line = 0;
	line[strcspn(line, "\n")] = 0;
}

static int read_number(const struct doctor *doctor, const char *name, uint64_t *number)
{
	char path[PATH_ROOM];

	return read_uint_file(path_of(doctor, path, name), number);
}

/* A number of /proc/self/status. */
static bool own_status(const struct doctor *doctor, const char *key, int base, uint64_t *number)
{
	_cleanup_file_ FILE *file = open_text(doctor, "/proc/self/status");
	size_t length = strlen(key);
	char line[256];

	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, key, length) && line[length] == ':') {
			*number = strtoull(line + length + 1, NULL, base);
			return true;
		}
	}
	return false;
}

/* In the first user namespace, as those of another count for nothing in the driver. */
static bool have(const struct doctor *doctor, unsigned capability)
{
	unsigned long long from = 0, to = 0, count = 0;
	uint64_t effective;
	char map[64];

	first_line(doctor, "/proc/self/uid_map", map, sizeof(map));
	if (sscanf(map, "%llu %llu %llu", &from, &to, &count) == 3 && count < UINT32_MAX)
		return false;
	return own_status(doctor, "CapEff", 16, &effective) && effective >> capability & 1;
}

/*
 * What is mounted at the folder or, if nothing is, above it: the type and
 * whether mounts reach us from elsewhere.
 */
static bool find_mount(const struct doctor *doctor, const char *folder, char type[64],
		       bool *receives)
{
	_cleanup_file_ FILE *file = open_text(doctor, "/proc/self/mountinfo");
	_cleanup_free_ char *line = NULL;
	size_t size = 0, best = 0;

	while (file && getline(&line, &size, file) > 0) {
		char point[PATH_ROOM], *dash = strstr(line, " - ");
		size_t length;

		if (!dash || sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1)
			continue;
		length = strlen(point);
		if (strcmp(point, folder) && strcmp(point, "/"))
			continue;
		/* The later of two lies above. */
		if (length < best)
			continue;
		best = length;
		sscanf(dash + 3, "%63s", type);
		*dash = 0;
		*receives = strstr(line, " shared:") || strstr(line, " master:");
	}
	return best > 0;
}

/* ---- kernel and driver -------------------- */

static void check_kernel(struct doctor *doctor)
{
	static const unsigned tested[][2] = { { 6, 12 }, { 6, 18 }, { 7, 3 } };
	unsigned major = 0, minor = 0;

	if (sscanf(doctor->release, "%u.%u", &major, &minor) == 2 &&
	    (major < 6 || (major == 6 && minor < 4))) {
		found(doctor, DOCTOR_PROBLEM, "Linux %s", doctor->release);
		expected(doctor, "Linux 6.4 or later");
		remedy(doctor, "boot a later kernel");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(tested); i++) {
		if (tested[i][0] == major && tested[i][1] == minor) {
			found(doctor, DOCTOR_OK, "Linux %s, of a series that ublkd is tested on",
			      doctor->release);
			return;
		}
	}
	found(doctor, DOCTOR_NOTE, "Linux %s, of a series that ublkd is not tested on",
	      doctor->release);
	expected(doctor, "6.12, 6.18 or 7.3");
}

static void check_module(struct doctor *doctor)
{
	const char *root = doctor->root, *release = doctor->release;
	/* A driver that is built in shows there for its parameters. */
	bool present = there(doctor, DRIVER_MODULE);

	if (present && there(doctor, DRIVER_MODULE "/initstate")) {
		found(doctor, DOCTOR_OK, "the module ublk_drv is loaded");
	} else if (present || module_built_in(root, release)) {
		found(doctor, DOCTOR_OK, "the driver is built into the kernel");
	} else if (module_known(root, release)) {
		found(doctor, DOCTOR_PROBLEM, "the module ublk_drv is not loaded");
		expected(doctor, "it is loaded");
		remedy(doctor, "modprobe ublk_drv; at each boot: "
		       "echo ublk_drv >/etc/modules-load.d/ublk.conf");
	} else {
		found(doctor, DOCTOR_PROBLEM, "the kernel %s has no driver ublk_drv, neither built "
		      "in nor as a module", release);
		expected(doctor, "a kernel with CONFIG_BLK_DEV_UBLK, and its modules in "
			 "/lib/modules/%s", release);
		remedy(doctor, "install the kernel's package of further modules, or boot a kernel "
		       "that has the driver");
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
		found(doctor, DOCTOR_OK, "ublks_max is %s (%s); there are %u devices, %u of them "
		      "of ordinary users", value, *meaning ? meaning : "meaning not known", count,
		      of_users);
		return;
	}
	found(doctor, others ? DOCTOR_NOTE : *meaning ? DOCTOR_PROBLEM : DOCTOR_WARNING,
	      "ublks_max is %s (%s) and there are %u devices%s", value,
	      *meaning ? meaning : "meaning not known: some kernels limit all devices with it, "
				   "some only those of ordinary users",
	      others ? of_users : count, others ? " of ordinary users: they can make no more" : "");
	expected(doctor, "more than the %u that there are", others ? of_users : count);
	remedy(doctor, "echo %u >" UBLKS_MAX, MAX(64u, 2 * count));
}

static void check_parameters(struct doctor *doctor)
{
	char path[PATH_ROOM], value[256], meaning[256];
	struct dirent *entry;
	bool any = false;
	DIR *dir = opendir(path_of(doctor, path, DRIVER_MODULE "/parameters"));

	while (dir && (entry = readdir(dir))) {
		if (*entry->d_name == '.')
			continue;
		any = true;
		snprintf(path, sizeof(path), DRIVER_MODULE "/parameters/%s", entry->d_name);
		first_line(doctor, path, value, sizeof(value));
		meaning_of(doctor, entry->d_name, meaning, sizeof(meaning));
		if (!strcmp(entry->d_name, "ublks_max"))
			judge_ublks_max(doctor, value, meaning);
		else
			found(doctor, DOCTOR_OK, "%s is %s%s%s%s", entry->d_name, value,
			      *meaning ? " (" : "", meaning, *meaning ? ")" : "");
	}
	if (dir)
		closedir(dir);
	if (!any)
		found(doctor, DOCTOR_OK, "the driver shows none%s",
		      there(doctor, DRIVER_MODULE) ? "" : ", as it is not loaded");
}

static void check_control_node(struct doctor *doctor)
{
	char path[PATH_ROOM];
	struct stat st;
	int error = doctor->control_error;

	if (stat(path_of(doctor, path, CONTROL_NODE), &st)) {
		found(doctor, DOCTOR_PROBLEM, CONTROL_NODE " is not there: %s", strerror(errno));
		expected(doctor, "the driver's control node");
		if (there(doctor, DRIVER_MODULE))
			remedy(doctor, "mount -t devtmpfs devtmpfs /dev, or let udev run; in a "
			       "container: pass " CONTROL_NODE " on to it");
		else if (module_known(doctor->root, doctor->release))
			remedy(doctor, "load the driver: modprobe ublk_drv");
		else
			remedy(doctor, "that of the check 'module'");
		return;
	}
	if (!error) {
		found(doctor, DOCTOR_OK, CONTROL_NODE " is there, mode %03o, and can be opened",
		      st.st_mode & 0777);
		return;
	}
	found(doctor, DOCTOR_PROBLEM, CONTROL_NODE " of user %u, group %u, mode %03o cannot be "
	      "opened: %s", st.st_uid, st.st_gid, st.st_mode & 0777, strerror(-error));
	if (error == -ENOTTY) {
		expected(doctor, "a character device");
		remedy(doctor, "rm " CONTROL_NODE "; modprobe -r ublk_drv; modprobe ublk_drv");
	} else if (error == -EACCES || error == -EPERM) {
		expected(doctor, "to be allowed to read and write it");
		remedy(doctor, "run ublkd as root; if this is root: a security policy or the "
		       "device rules of a container (DeviceAllow=, --device) forbid it");
	} else {
		expected(doctor, "a node of the running driver");
		remedy(doctor, "modprobe ublk_drv");
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

static void check_features(struct doctor *doctor)
{
	unsigned known = 0, offered = 0;
	char modes[128];
	bool zero_copy;

	if (doctor->features_error == 1) {
		found(doctor, DOCTOR_NOTE, "the driver could not be asked");
		expected(doctor, "a control node and an io_uring to ask it with");
		return;
	}
	if (doctor->features_error == -ETIMEDOUT) {
		found(doctor, DOCTOR_PROBLEM, "the driver does not say what it offers");
		expected(doctor, "an answer within 10 s");
		remedy(doctor, "look for the cause in the kernel log (dmesg) and reboot");
		return;
	}
	if (features_unknown(doctor->features_error)) {
		found(doctor, DOCTOR_NOTE, "the driver cannot say what it offers");
		expected(doctor, "Linux 6.5 or later");
		return;
	}
	if (doctor->features_error) {
		found(doctor, DOCTOR_PROBLEM, "the driver refuses to say what it offers: %s",
		      strerror(-doctor->features_error));
		expected(doctor, "an answer");
		remedy(doctor, "run ublkd as root");
		return;
	}
	for (const struct feature *feature = driver_features; feature->name; feature++) {
		known++;
		offered += !!(doctor->features & feature->flag);
	}
	list_modes(doctor, modes, sizeof(modes));
	zero_copy = data_mode_offered(DATA_REGISTER, doctor->features);
	if (!(doctor->features & UBLK_F_CMD_IOCTL_ENCODE)) {
		found(doctor, DOCTOR_PROBLEM, "the driver does not take commands that are encoded "
		      "like ioctls");
		expected(doctor, "Linux 6.4 or later");
		remedy(doctor, "boot a later kernel");
		return;
	}
	found(doctor, zero_copy ? DOCTOR_OK : DOCTOR_NOTE, "%u of %u known features (ublkd "
	      "features lists them); data modes %s", offered, known, modes);
	if (!zero_copy)
		expected(doctor, "zero copy, for less work per request (Linux 6.15; better 6.16)");
}

/* ---- what the server needs -------------------- */

static void refuse_ring(struct doctor *doctor, int error)
{
	uint64_t disabled = 0, seccomp = 0;

	read_number(doctor, "/proc/sys/kernel/io_uring_disabled", &disabled);
	own_status(doctor, "Seccomp", 10, &seccomp);
	if (disabled > 1) {
		found(doctor, DOCTOR_PROBLEM, "no io_uring can be made: %s: "
		      "kernel.io_uring_disabled is %" PRIu64, strerror(-error), disabled);
		expected(doctor, "0, or 1 for a process with CAP_SYS_ADMIN or of the group "
			 "kernel.io_uring_group");
		remedy(doctor, "sysctl -w kernel.io_uring_disabled=0; at each boot: a line "
		       "'kernel.io_uring_disabled = 0' in /etc/sysctl.d");
	} else if (disabled) {
		char group[32];

		first_line(doctor, "/proc/sys/kernel/io_uring_group", group, sizeof(group));
		found(doctor, DOCTOR_PROBLEM, "no io_uring can be made: %s: "
		      "kernel.io_uring_disabled is 1, kernel.io_uring_group is %s",
		      strerror(-error), *group ? group : "unknown");
		expected(doctor, "CAP_SYS_ADMIN, membership of that group, or "
			 "kernel.io_uring_disabled at 0");
		remedy(doctor, "run ublkd as root, or: sysctl -w kernel.io_uring_group=%u",
		       (unsigned)getgid());
	} else if (error == -EPERM || error == -EACCES || (error == -ENOSYS && seccomp)) {
		found(doctor, DOCTOR_PROBLEM, "no io_uring can be made: %s, although "
		      "kernel.io_uring_disabled is 0: %s", strerror(-error),
		      seccomp ? "this process has a seccomp filter" : "a security policy");
		expected(doctor, "io_uring_setup, io_uring_enter and io_uring_register are "
			 "allowed");
		remedy(doctor, "systemd: SystemCallFilter=io_uring_setup io_uring_enter "
		       "io_uring_register; docker, podman: --security-opt seccomp=PROFILE with "
		       "them, or unconfined; SELinux, AppArmor: look for denials in the audit log");
	} else if (error == -ENOSYS) {
		found(doctor, DOCTOR_PROBLEM, "the kernel has no io_uring");
		expected(doctor, "a kernel with CONFIG_IO_URING");
		remedy(doctor, "boot a kernel that has it");
	} else if (error == -EMFILE || error == -ENFILE) {
		found(doctor, DOCTOR_PROBLEM, "no io_uring can be made: %s", strerror(-error));
		expected(doctor, "room for more open files");
		remedy(doctor, "ulimit -n 65536; in a unit: LimitNOFILE=65536");
	} else {
		found(doctor, DOCTOR_PROBLEM, "no io_uring can be made: %s", strerror(-error));
		expected(doctor, "one with 128-byte entries (Linux 6.0), and memory for it");
		remedy(doctor, "look at the free memory and at the limits of this process's "
		       "cgroup");
	}
}

static void check_io_uring(struct doctor *doctor)
{
	uint64_t disabled = 0;
	char modes[64] = "";

	if (doctor->control_ring_error) {
		refuse_ring(doctor, doctor->control_ring_error);
		return;
	}
	for (enum ring_mode mode = RING_DEFER; mode <= RING_PLAIN; mode++) {
		if (!doctor->ring_errors[mode])
			snprintf(modes + strlen(modes), sizeof(modes) - strlen(modes), "%s%s",
				 *modes ? ", " : "", ring_mode_name(mode));
	}
	if (!*modes) {
		refuse_ring(doctor, doctor->ring_errors[RING_PLAIN]);
		return;
	}
	if (doctor->ring_errors[RING_DEFER]) {
		found(doctor, DOCTOR_WARNING, "ring modes %s; defer: %s", modes,
		      strerror(-doctor->ring_errors[RING_DEFER]));
		expected(doctor, "ring mode defer, which costs the least (Linux 6.1)");
		remedy(doctor, "boot a later kernel");
		return;
	}
	read_number(doctor, "/proc/sys/kernel/io_uring_disabled", &disabled);
	if (disabled)
		found(doctor, DOCTOR_OK, "ring modes %s; kernel.io_uring_disabled is %" PRIu64 ", "
		      "and this process is allowed to", modes, disabled);
	else
		found(doctor, DOCTOR_OK, "ring modes %s", modes);
}

/* What a queue of a device with the presets locks in copy mode. */
static uint64_t usual_buffers(void)
{
	struct device_config config = { 0 };
	struct options set;
	uint64_t bytes = 0;

	if (!options_init(&set, device_options, &config))
		bytes = buffers_bytes((unsigned)config.depth, config.max_io,
				      (enum huge_pages)config.huge_pages);
	options_free(&set);
	return bytes;
}

static void check_memlock(struct doctor *doctor)
{
	char needed[SIZE_TEXT_MAX], limit[SIZE_TEXT_MAX];
	uint64_t bytes = usual_buffers();

	format_size(needed, bytes);
	if (have(doctor, CAP_IPC_LOCK) || doctor->memlock.rlim_cur == RLIM_INFINITY) {
		found(doctor, DOCTOR_OK, "any memory may be locked; a queue with the presets locks "
		      "%s in copy mode", needed);
		return;
	}
	format_size(limit, doctor->memlock.rlim_cur);
	if (doctor->memlock.rlim_cur >= bytes) {
		found(doctor, DOCTOR_OK, "%s may be locked; a queue with the presets locks %s in "
		      "copy mode, and what else a server has is not locked", limit, needed);
		return;
	}
	found(doctor, DOCTOR_WARNING, "%s of memory may be locked (RLIMIT_MEMLOCK), and there is "
	      "no CAP_IPC_LOCK", limit);
	expected(doctor, "%s for each queue with the presets in copy mode (depth × "
		 "max-io)", needed);
	remedy(doctor, "run ublkd as root, or: ulimit -l %" PRIu64 "; in a unit: "
	       "LimitMEMLOCK=infinity; or smaller depth=, max-io= or memory=", bytes / 1024);
}

/* Below, it is worth saying. */
#define FEW_DEVICES 64
#define FILES_OF_DEVICES(n) (FILES_PER_PROCESS + (n) * (FILES_PER_DEVICE + FILES_PER_REACTOR))

static void check_files(struct doctor *doctor)
{
	/* run and serve raise the soft limit, and serve the hard one if it may. */
	bool raises = have(doctor, CAP_SYS_RESOURCE);
	rlim_t soft = doctor->files.rlim_cur, hard = doctor->files.rlim_max;
	rlim_t one = FILES_OF_DEVICES(1), devices;
	enum doctor_level level = DOCTOR_OK;

	if (hard == RLIM_INFINITY) {
		found(doctor, DOCTOR_OK, "any number of files may be open");
		return;
	}
	devices = hard < one ? 0 :
			       (hard - FILES_PER_PROCESS) / (FILES_PER_DEVICE + FILES_PER_REACTOR);
	if (devices < FEW_DEVICES)
		level = devices ? (raises ? DOCTOR_NOTE : DOCTOR_WARNING) :
				  (raises ? DOCTOR_WARNING : DOCTOR_PROBLEM);
	found(doctor, level, "%llu files may be open (RLIMIT_NOFILE), %llu once the soft limit is "
	      "raised to the hard one: enough for %llu devices of one queue%s",
	      (unsigned long long)soft, (unsigned long long)hard, (unsigned long long)devices,
	      level && raises ? "; 'ublkd serve' can raise the hard limit" : "");
	if (level) {
		expected(doctor, "%d for a process, %d for a device and %d for each queue, such as "
			 "%d for %d devices", FILES_PER_PROCESS, (int)FILES_PER_DEVICE,
			 FILES_PER_REACTOR, (int)FILES_OF_DEVICES(FEW_DEVICES), FEW_DEVICES);
		remedy(doctor, "ulimit -n 65536 (as root); in a unit: LimitNOFILE=65536; for "
		       "users: 'nofile' in /etc/security/limits.conf");
	}
}

static void check_privileges(struct doctor *doctor)
{
	bool admin = have(doctor, CAP_SYS_ADMIN), resource = have(doctor, CAP_SYS_RESOURCE);
	bool of_user = !doctor->control_error && doctor->features & UBLK_F_UNPRIVILEGED_DEV;
	uint64_t effective = 0;

	own_status(doctor, "CapEff", 16, &effective);
	of_user &= !(effective >> CAP_SYS_ADMIN & 1);
	if (of_user) {
		found(doctor, DOCTOR_NOTE, "no CAP_SYS_ADMIN: devices are those of an ordinary "
		      "user");
		expected(doctor, "CAP_SYS_ADMIN in the first user namespace, for others");
	} else if (!admin) {
		found(doctor, DOCTOR_PROBLEM, "no CAP_SYS_ADMIN%s",
		      effective >> CAP_SYS_ADMIN & 1 ? " but that of a user namespace" : "");
		expected(doctor, "CAP_SYS_ADMIN in the first user namespace, to make devices");
		remedy(doctor, "run ublkd as root, outside of user namespaces: sudo ublkd …");
	}
	if (!resource) {
		found(doctor, of_user ? DOCTOR_NOTE : DOCTOR_WARNING,
		      "no CAP_SYS_RESOURCE, so no IO_FLUSHER and no OOM "
		      "score below the present one: when memory is short, the server may wait for "
		      "its own device, or be killed");
		expected(doctor, "CAP_SYS_RESOURCE (prctl(2), PR_SET_IO_FLUSHER)");
		remedy(doctor, "run ublkd as root; in a unit: "
		       "CapabilityBoundingSet= with CAP_SYS_RESOURCE");
	}
	if (admin && resource)
		found(doctor, DOCTOR_OK, "CAP_SYS_ADMIN and CAP_SYS_RESOURCE are there");
}

static bool parse_version(const char *text, unsigned *version)
{
	unsigned major, minor;

	if (sscanf(text, "%u.%u", &major, &minor) != 2)
		return false;
	*version = major << 16 | minor;
	return true;
}

static void check_liburing(struct doctor *doctor)
{
	unsigned built, running;

	if (!parse_version(doctor->liburing, &running) || !parse_version(LIBURING_VERSION,
									 &built)) {
		found(doctor, DOCTOR_OK, "built with " LIBURING_VERSION "; the one that runs does "
		      "not say its version");
	} else if (running < built) {
		found(doctor, DOCTOR_WARNING, "%s runs, and ublkd was built with " LIBURING_VERSION,
		      doctor->liburing);
		expected(doctor, LIBURING_VERSION " or later");
		remedy(doctor, "install that liburing, or build ublkd with the older one; look for "
		       "an old copy with: ldd $(command -v ublkd)");
	} else {
		found(doctor, DOCTOR_OK, "%s; built with " LIBURING_VERSION, doctor->liburing);
	}
}

static void check_helper(struct doctor *doctor)
{
	if (!doctor->helper_error) {
		found(doctor, DOCTOR_OK, "the program can start itself as a helper");
		return;
	}
	found(doctor, DOCTOR_PROBLEM, "the program cannot start itself by /proc/self/fd: %s",
	      strerror(-doctor->helper_error));
	expected(doctor, "to start devices and to stop them by a process of its own");
	remedy(doctor, "mount -t proc proc /proc; look for limits of processes (ulimit -u, "
	       "TasksMax=) and for filters of execve");
}

/* One that has not had its time yet may well end. */
static void judge_command(void *arg, const struct stuck_helper *helper)
{
	const struct stuck_info *info = &helper->info;
	uint64_t now = (uint64_t)time(NULL);
	struct doctor *doctor = arg;
	char text[STUCK_TEXT_SIZE];

	if (helper->stopped) {
		found(doctor, DOCTOR_WARNING, "process %d, which runs control commands for process %d, "
		      "is stopped by a signal", (int)info->pid, (int)helper->of);
		expected(doctor, "one that runs");
		remedy(doctor, "kill -CONT %d", (int)info->pid);
	} else if (now > info->late) {
		found(doctor, DOCTOR_WARNING, "the driver has had %s%s%s for %" PRIu64 " s, from process "
		      "%d", stuck_text(info, text), info->name[0] ? " of " : "", info->name,
		      now - info->since, (int)info->pid);
		expected(doctor, "an end within %" PRIu64 " s", info->late - info->since);
		remedy(doctor, "see what it waits for (echo w >/proc/sysrq-trigger; dmesg), mostly I/O of "
		       "the device's backing; other devices go on");
	}
}

static void check_commands(struct doctor *doctor)
{
	unsigned before = doctor->nr_findings;

	stuck_scan(doctor->root, judge_command, doctor);
	if (doctor->nr_findings == before)
		found(doctor, DOCTOR_OK, "no control command is stuck in the driver");
}

/* ---- nodes and mounts -------------------- */

#define UDEV_CONTROL "/run/udev/control"

static void check_nodes(struct doctor *doctor)
{
	bool udev = there(doctor, UDEV_CONTROL), receives = false;
	char type[64] = "unknown";

	find_mount(doctor, "/dev", type, &receives);
	if (!strcmp(type, "devtmpfs")) {
		found(doctor, DOCTOR_OK, "the kernel makes the nodes in /dev (devtmpfs)%s",
		      udev ? ", and udev runs" : "; no udev runs");
	} else if (udev) {
		found(doctor, DOCTOR_NOTE, "/dev is a file system of type %s; a udev runs, which "
		      "may make the nodes", type);
		expected(doctor, "devtmpfs at /dev");
	} else {
		found(doctor, DOCTOR_WARNING, "/dev is a file system of type %s and no udev runs: "
		      "nobody makes the nodes of devices", type);
		expected(doctor, "devtmpfs at /dev, or a udev (" UDEV_CONTROL ")");
		remedy(doctor, "run ublkd outside of the container, or with its /dev: docker, "
		       "podman: --privileged -v /dev:/dev; else: mount -t devtmpfs devtmpfs /dev");
	}
}

static bool find_rules(const struct doctor *doctor, const char *name, char path[PATH_ROOM])
{
	static const char *const folders[] = {
		"/etc/udev/rules.d", "/run/udev/rules.d", "/usr/local/lib/udev/rules.d",
		"/usr/lib/udev/rules.d", "/lib/udev/rules.d",
	};

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(path, PATH_ROOM, "%s/%s", folders[i], name);
		if (there(doctor, path))
			return true;
	}
	return false;
}

static void check_udev_rules(struct doctor *doctor)
{
	char path[PATH_ROOM];

	if (!there(doctor, UDEV_CONTROL)) {
		found(doctor, DOCTOR_OK, "no udev runs that could use them");
	} else if (find_rules(doctor, "60-ublkd.rules", path)) {
		found(doctor, DOCTOR_OK, "%s", path);
	} else {
		found(doctor, DOCTOR_NOTE, "udev runs without ublkd's rules: no links by UUID and "
		      "label");
		expected(doctor, "60-ublkd.rules in a folder of udev");
		remedy(doctor, "cp contrib/udev/60-ublkd.rules /etc/udev/rules.d/ && "
		       "udevadm control --reload");
	}
}

/* Whom a server of root's hears may have devices of their own of it, if they may open the node. */
static void check_socket_users(struct doctor *doctor, const struct stat *control)
{
	char path[PATH_ROOM];
	struct stat socket;

	if (stat(path_of(doctor, path, DEFAULT_SOCKET), &socket) || !(socket.st_mode & 020) ||
	    control->st_mode & 02 || (control->st_mode & 020 && control->st_gid == socket.st_gid))
		return;
	found(doctor, DOCTOR_NOTE, "members of group %u may use " DEFAULT_SOCKET ", but not open "
	      CONTROL_NODE ": 'ublkctl add --unprivileged' is not for them", (unsigned)socket.st_gid);
	expected(doctor, CONTROL_NODE " with mode 0660 and that group, for devices of users");
	remedy(doctor, "a rule of udev's, see DEVICES OF ORDINARY USERS in ublkd(8)");
}

static void check_users(struct doctor *doctor)
{
	char path[PATH_ROOM];
	struct stat st = { 0 };

	if (stat(path_of(doctor, path, CONTROL_NODE), &st) || !(st.st_mode & 022)) {
		found(doctor, DOCTOR_OK, "only its owner may open " CONTROL_NODE);
	} else if (there(doctor, UDEV_CONTROL) && find_rules(doctor, UDEV_OWNER_RULES, path)) {
		found(doctor, DOCTOR_OK, "%s gives devices to the users who make them", path);
	} else {
		found(doctor, DOCTOR_WARNING, "ordinary users may open " CONTROL_NODE ", but no %s "
		      "gives them their devices: they could neither use nor delete one",
		      there(doctor, UDEV_CONTROL) ? "rule" : "udev");
		expected(doctor, "a udev with " UDEV_OWNER_RULES);
		remedy(doctor, "cp contrib/udev/" UDEV_OWNER_RULES " /etc/udev/rules.d/ && "
		       "udevadm control --reload; to have none of it: chmod 600 " CONTROL_NODE);
	}
	check_socket_users(doctor, &st);
}

static bool read_link(const struct doctor *doctor, const char *name, char target[64])
{
	char path[PATH_ROOM];
	ssize_t length = readlink(path_of(doctor, path, name), target, 63);

	if (length < 0)
		return false;
	target[length] = 0;
	return true;
}

static void check_mount_namespace(struct doctor *doctor)
{
	char ours[64] = "", first[64], type[64];
	bool root_receives = false, dev_receives = false;

	if (!read_link(doctor, "/proc/self/ns/mnt", ours)) {
		found(doctor, DOCTOR_NOTE, "it cannot be seen which one this is");
		expected(doctor, "/proc is mounted");
		remedy(doctor, "mount -t proc proc /proc");
		return;
	}
	if (!read_link(doctor, "/proc/1/ns/mnt", first)) {
		found(doctor, DOCTOR_OK, "%s; that of process 1 may not be seen from here", ours);
		return;
	}
	if (!strcmp(ours, first)) {
		found(doctor, DOCTOR_OK, "that of process 1");
		return;
	}
	find_mount(doctor, "/", type, &root_receives);
	find_mount(doctor, "/dev", type, &dev_receives);
	if (root_receives && dev_receives) {
		found(doctor, DOCTOR_OK, "not that of process 1, and mounts reach it from "
		      "elsewhere");
		return;
	}
	found(doctor, DOCTOR_WARNING, "not that of process 1, and mounts and unmounts of the "
	      "system do not reach its %s%s%s", root_receives ? "" : "/",
	      root_receives || dev_receives ? "" : " and ", dev_receives ? "" : "/dev");
	expected(doctor, "process 1's, or one that follows it: what is mounted at the start of a "
		 "server would stay in use until its end");
	remedy(doctor, "nsenter --target 1 --mount ublkd …; in a unit: PrivateMounts=no, "
	       "PrivateTmp=no and Protect…= off, or MountFlags=slave");
}

/* ---- devices -------------------- */

/* The process that has the character device open, 0: none that we may see. */
static unsigned long holder_of(const struct doctor *doctor, uint32_t id)
{
	unsigned long holder = 0;
	char path[PATH_ROOM], wanted[32];
	struct dirent *process, *file;
	DIR *proc = opendir(path_of(doctor, path, "/proc"));

	snprintf(wanted, sizeof(wanted), "/dev/ublkc%u", id);
	while (proc && !holder && (process = readdir(proc))) {
		unsigned long pid = strtoul(process->d_name, NULL, 10);
		DIR *files;

		snprintf(path, sizeof(path), "%s/proc/%lu/fd", doctor->root, pid);
		files = pid ? opendir(path) : NULL;
		while (files && !holder && (file = readdir(files))) {
			char target[64];
			ssize_t length = readlinkat(dirfd(files), file->d_name, target,
						    sizeof(target) - 1);

			target[MAX(length, 0)] = 0;
			if (!strcmp(target, wanted))
				holder = pid;
		}
		if (files)
			closedir(files);
	}
	if (proc)
		closedir(proc);
	return holder;
}

static bool process_lives(const struct doctor *doctor, int pid)
{
	char name[32];

	snprintf(name, sizeof(name), "/proc/%d", pid);
	return pid > 0 && there(doctor, name);
}

static const char *state_name(unsigned state)
{
	static const char *const names[] = { "dead", "live", "quiesced", "fail-io" };

	return state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

/* Whether its server is gone; says so. */
static bool judge_device(struct doctor *doctor, const struct doctor_device *device)
{
	const struct ublk_dev_info *info = &device->info;
	bool ours = orphan_cookie_ours(info->ublksrv_flags);
	bool lasting = orphan_cookie_lasting(info->ublksrv_flags);
	unsigned long holder;

	if (ours && !orphan_cookie_dead(info->ublksrv_flags))
		return false;
	/* A lasting one's number is that of its first server. */
	if ((!ours || lasting) && info->state == UBLK_S_DEV_LIVE &&
	    process_lives(doctor, info->ublksrv_pid))
		return false;
	holder = holder_of(doctor, device->id);
	if (holder) {
		if (!ours)
			return false;
		found(doctor, DOCTOR_NOTE, "device %u (%s) is an ublkd's that cannot be seen here; "
		      "process %lu has it open", device->id, state_name(info->state), holder);
		return true;
	}
	if (lasting && info->state != UBLK_S_DEV_DEAD) {
		found(doctor, DOCTOR_WARNING, "device %u (%s) waits for the next server: its last, an "
		      "ublkd, is gone", device->id, state_name(info->state));
		expected(doctor, "a process that serves it");
		remedy(doctor, "start 'ublkd serve' with the folder that its --state named; with --drop it "
		       "deletes devices that are not described any more; if that folder is gone, "
		       "'ublkctl fail-io %u' fails its I/O and deletes it", device->id);
		return true;
	}
	if (ours) {
		found(doctor, DOCTOR_WARNING, "device %u (%s) was left by an ublkd that is gone",
		      device->id, state_name(info->state));
		expected(doctor, "a process that serves it");
		remedy(doctor, "none needed to use ublkd: the next start of 'ublkd run' or 'ublkd "
		       "serve' removes it, once nobody has it open");
		return true;
	}
	/* Without the right to look we cannot know. */
	if (!have(doctor, CAP_SYS_PTRACE)) {
		found(doctor, DOCTOR_NOTE, "device %u (%s) is of another program; whether that "
		      "lives may not be seen", device->id, state_name(info->state));
		return true;
	}
	found(doctor, DOCTOR_WARNING, "device %u (%s) is of another program, and no process has it "
	      "open%s", device->id, state_name(info->state),
	      info->state == UBLK_S_DEV_QUIESCED ? ": its I/O waits for a new server" : "");
	expected(doctor, "a process that serves it");
	remedy(doctor, "ublkd leaves it alone: let the program that made it recover or delete it, "
	       "such as: ublk del -n %u (ublksrv), rublk del -n %u", device->id, device->id);
	return true;
}

static void check_devices(struct doctor *doctor)
{
	unsigned before = doctor->nr_findings, served = 0, unknown = 0;

	for (unsigned i = 0; i < doctor->nr_devices; i++) {
		const struct doctor_device *device = &doctor->devices[i];

		/* Deleted since it was listed. */
		if (device->result == -ENODEV)
			continue;
		if (device->result == -ETIMEDOUT) {
			found(doctor, DOCTOR_PROBLEM, "the driver says nothing about device %u",
			      device->id);
			expected(doctor, "an answer within some seconds");
			remedy(doctor, "look for the cause in the kernel log (dmesg) and reboot");
		} else if (device->result) {
			unknown++;
		} else {
			served += !judge_device(doctor, device);
		}
	}
	if (unknown) {
		found(doctor, DOCTOR_NOTE, "%u devices about which the driver could not be "
		      "asked", unknown);
		expected(doctor, "to be allowed to ask");
	}
	if (served)
		found(doctor, DOCTOR_OK, "%u devices have a server", served);
	else if (doctor->nr_findings == before)
		found(doctor, DOCTOR_OK, "there are none");
}

/* ---- files of serve -------------------- */

/* That ublkd.service is given. */
#define DEVICE_FILES SYSCONFDIR "/ublkd/devices"

/* What whoever reads a file would say, with its place. */
static void take_message(void *arg, enum log_level level, const char *about, const char *text)
{
	struct doctor *doctor = arg;
	bool wrong = level == LOG_LEVEL_ERROR;

	found(doctor, wrong ? DOCTOR_WARNING : DOCTOR_NOTE, "%s%s%s", about ? about : "",
	      about ? ": " : "", text);
	if (!wrong)
		return;
	expected(doctor, "files that 'ublkd serve' takes; with a wrong one it does not start, but where "
		 "devices wait for it");
	remedy(doctor, "mend the file, and see what 'ublkd serve --check' with the options and files of "
	       "the server says");
}

/* The server's options; what its command line says beside them is not known. */
static void read_settings(const struct doctor *doctor, struct conf *conf)
{
	char option[PATH_ROOM + 16];
	struct serve serve;

	snprintf(option, sizeof(option), "--config=%s" SERVE_SETTINGS, doctor->root);
	serve_init(&serve);
	if (!serve_flag(&serve, option))
		serve_read_settings(&serve);
	conf->shared = serve.config.reactors;
	serve_free(&serve);
}

/* Where there may be workers and a state, files may name them. */
static void check_device_files(struct doctor *doctor)
{
	bool settings = there(doctor, SERVE_SETTINGS), files = there(doctor, DEVICE_FILES);
	struct conf conf = { .kept = true, .may_be_empty = true };
	unsigned before = doctor->nr_findings;
	char path[PATH_ROOM];

	if (!have(doctor, CAP_SYS_ADMIN)) {
		found(doctor, DOCTOR_NOTE, "what is in " SYSCONFDIR "/ublkd is for a server with "
		      "CAP_SYS_ADMIN, and was not read");
		return;
	}
	log_divert(take_message, doctor);
	if (settings)
		read_settings(doctor, &conf);
	conf.workers = !conf.shared;
	if (files)
		conf_read(&conf, path_of(doctor, path, DEVICE_FILES));
	conf_check(&conf);
	log_divert(NULL, NULL);
	if (doctor->nr_findings == before)
		found(doctor, DOCTOR_OK, "%s " SERVE_SETTINGS "; %u devices are described in "
		      DEVICE_FILES, settings ? "settings are in" : "there is no", conf.count);
	conf_free(&conf);
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

static void check_kernel_log(struct doctor *doctor)
{
	struct log_search search = { 0 };
	char path[PATH_ROOM], record[8192];
	_cleanup_fd_ int fd = open(path_of(doctor, path, "/dev/kmsg"),
				   O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0) {
		found(doctor, DOCTOR_NOTE, "it cannot be read: %s", strerror(errno));
		expected(doctor, "no faults of the driver in it");
		remedy(doctor, "look yourself, as root: dmesg | grep -E 'ublk_|blocked for more "
		       "than'");
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
		found(doctor, DOCTOR_OK, "no fault of the driver is in it");
		return;
	}
	found(doctor, DOCTOR_WARNING, "%u faults in which the driver was, the last: %s",
	      search.count, search.last);
	expected(doctor, "none: after one, commands and devices may hang");
	remedy(doctor, "read it (dmesg), reboot, and try the latest kernel of the series");
}

/* ---- all of them -------------------- */

const struct doctor_check doctor_checks[] = {
	{ "kernel", check_kernel },
	{ "module", check_module },
	{ "parameters", check_parameters },
	{ "control-node", check_control_node },
	{ "features", check_features },
	{ "io-uring", check_io_uring },
	{ "memlock", check_memlock },
	{ "files", check_files },
	{ "privileges", check_privileges },
	{ "liburing", check_liburing },
	{ "helper", check_helper },
	{ "commands", check_commands },
	{ "nodes", check_nodes },
	{ "udev-rules", check_udev_rules },
	{ "users", check_users },
	{ "mount-namespace", check_mount_namespace },
	{ "devices", check_devices },
	{ "device-files", check_device_files },
	{ "kernel-log", check_kernel_log },
	{ 0 },
};

void doctor_run(struct doctor *doctor, const struct doctor_check *check)
{
	unsigned before = doctor->nr_findings;

	doctor->check = check->name;
	check->run(doctor);
	assert(doctor->nr_findings > before || doctor->no_memory);
}

void doctor_free(struct doctor *doctor)
{
	for (unsigned i = 0; i < doctor->nr_findings; i++) {
		free(doctor->findings[i].found);
		free(doctor->findings[i].expected);
		free(doctor->findings[i].remedy);
	}
	free(doctor->findings);
	free(doctor->devices);
	free(doctor->parameters);
}

const char *doctor_level_name(enum doctor_level level)
{
	static const char *const names[] = { "ok", "note", "warning", "problem" };

	return names[level];
}

int doctor_status(const struct doctor *doctor)
{
	enum doctor_level worst = DOCTOR_OK;

	for (unsigned i = 0; i < doctor->nr_findings; i++)
		worst = MAX(worst, doctor->findings[i].level);
	if (doctor->silent)
		return EXIT_TIMEOUT;
	if (worst == DOCTOR_PROBLEM)
		return EXIT_KERNEL;
	return worst == DOCTOR_WARNING || doctor->no_memory ? EXIT_RUNTIME : EXIT_DONE;
}
