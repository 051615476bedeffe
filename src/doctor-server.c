/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "doctor-check.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "buffer.h"
#include "conf.h"
#include "config.h"
#include "log.h"
#include "option.h"
#include "process.h"
#include "serve.h"
#include "serve-settings.h"
#include "stuck.h"
#include "util/macros.h"
#include "util/parse.h"

/* ---- what it may, and what it runs with -------------------- */

static void refuse_ring(struct doctor *doctor, int error)
{
	uint64_t disabled = 0, seccomp = 0;

	doctor_number(doctor, "/proc/sys/kernel/io_uring_disabled", &disabled);
	doctor_status_number(doctor, "Seccomp", 10, &seccomp);
	if (disabled > 1) {
		doctor_found(doctor, DOCTOR_PROBLEM,
			     "no io_uring can be made: %s: kernel.io_uring_disabled is %" PRIu64,
			     strerror(-error), disabled);
		doctor_expected(doctor, "0, or 1 for a process with CAP_SYS_ADMIN or of the group "
					"kernel.io_uring_group");
		doctor_remedy(doctor, "sysctl -w kernel.io_uring_disabled=0; at each boot: a line "
				      "'kernel.io_uring_disabled = 0' in /etc/sysctl.d");
	} else if (disabled) {
		char group[32];

		doctor_first_line(doctor, "/proc/sys/kernel/io_uring_group", group, sizeof(group));
		doctor_found(doctor, DOCTOR_PROBLEM,
			     "no io_uring can be made: %s: kernel.io_uring_disabled is 1, "
			     "kernel.io_uring_group is %s",
			     strerror(-error), *group ? group : "unknown");
		doctor_expected(doctor, "CAP_SYS_ADMIN, membership of that group, or "
					"kernel.io_uring_disabled at 0");
		doctor_remedy(doctor, "run ublkd as root, or: sysctl -w kernel.io_uring_group=%u",
			      (unsigned)getgid());
	} else if (error == -EPERM || error == -EACCES || (error == -ENOSYS && seccomp)) {
		doctor_found(doctor, DOCTOR_PROBLEM,
			     "no io_uring can be made: %s, although kernel.io_uring_disabled is 0: "
			     "%s",
			     strerror(-error),
			     seccomp ? "this process has a seccomp filter" : "a security policy");
		doctor_expected(doctor,
				"io_uring_setup, io_uring_enter and io_uring_register are allowed");
		doctor_remedy(doctor, "systemd: SystemCallFilter=io_uring_setup io_uring_enter "
				      "io_uring_register; docker, podman: --security-opt "
				      "seccomp=PROFILE with them, or unconfined; SELinux, "
				      "AppArmor: look for denials in the audit log");
	} else if (error == -ENOSYS) {
		doctor_found(doctor, DOCTOR_PROBLEM, "the kernel has no io_uring");
		doctor_expected(doctor, "a kernel with CONFIG_IO_URING");
		doctor_remedy(doctor, "boot a kernel that has it");
	} else if (error == -EMFILE || error == -ENFILE) {
		doctor_found(doctor, DOCTOR_PROBLEM, "no io_uring can be made: %s",
			     strerror(-error));
		doctor_expected(doctor, "room for more open files");
		doctor_remedy(doctor, "ulimit -n 65536; in a unit: LimitNOFILE=65536");
	} else {
		doctor_found(doctor, DOCTOR_PROBLEM, "no io_uring can be made: %s",
			     strerror(-error));
		doctor_expected(doctor, "one with 128-byte entries (Linux 6.0), and memory for it");
		doctor_remedy(doctor,
			      "look at the free memory and at the limits of this process's cgroup");
	}
}

void doctor_check_io_uring(struct doctor *doctor)
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
		doctor_found(doctor, DOCTOR_WARNING, "ring modes %s; defer: %s", modes,
			     strerror(-doctor->ring_errors[RING_DEFER]));
		doctor_expected(doctor, "ring mode defer, which costs the least (Linux 6.1)");
		doctor_remedy(doctor, "boot a later kernel");
		return;
	}
	doctor_number(doctor, "/proc/sys/kernel/io_uring_disabled", &disabled);
	if (disabled)
		doctor_found(doctor, DOCTOR_OK,
			     "ring modes %s; kernel.io_uring_disabled is %" PRIu64
			     ", and this process is allowed to",
			     modes, disabled);
	else
		doctor_found(doctor, DOCTOR_OK, "ring modes %s", modes);
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

void doctor_check_memlock(struct doctor *doctor)
{
	char needed[SIZE_TEXT_MAX], limit[SIZE_TEXT_MAX];
	uint64_t bytes = usual_buffers();

	format_size(needed, bytes);
	if (doctor_has(doctor, CAP_IPC_LOCK) || doctor->memlock.rlim_cur == RLIM_INFINITY) {
		doctor_found(doctor, DOCTOR_OK,
			     "any memory may be locked; a queue with the presets locks %s in copy "
			     "mode",
			     needed);
		return;
	}
	format_size(limit, doctor->memlock.rlim_cur);
	if (doctor->memlock.rlim_cur >= bytes) {
		doctor_found(doctor, DOCTOR_OK,
			     "%s may be locked; a queue with the presets locks %s in copy mode, "
			     "and what else a server has is not locked",
			     limit, needed);
		return;
	}
	doctor_found(doctor, DOCTOR_WARNING,
		     "%s of memory may be locked (RLIMIT_MEMLOCK), and there is no CAP_IPC_LOCK",
		     limit);
	doctor_expected(doctor, "%s for each queue with the presets in copy mode (depth × max-io)",
			needed);
	doctor_remedy(doctor,
		      "run ublkd as root, or: ulimit -l %" PRIu64
		      "; in a unit: LimitMEMLOCK=infinity; or smaller depth=, max-io= or memory=",
		      bytes / 1024);
}

/* Below, it is worth saying. */
#define FEW_DEVICES 64
#define FILES_OF_DEVICES(n) (FILES_PER_PROCESS + (n) * (FILES_PER_DEVICE + FILES_PER_REACTOR))

void doctor_check_files(struct doctor *doctor)
{
	/* run and serve raise the soft limit, and serve the hard one if it may. */
	bool raises = doctor_has(doctor, CAP_SYS_RESOURCE);
	rlim_t soft = doctor->files.rlim_cur, hard = doctor->files.rlim_max;
	rlim_t one = FILES_OF_DEVICES(1), devices;
	enum doctor_level level = DOCTOR_OK;

	if (hard == RLIM_INFINITY) {
		doctor_found(doctor, DOCTOR_OK, "any number of files may be open");
		return;
	}
	devices = hard < one ? 0 :
			       (hard - FILES_PER_PROCESS) / (FILES_PER_DEVICE + FILES_PER_REACTOR);
	if (devices < FEW_DEVICES)
		level = devices ? (raises ? DOCTOR_NOTE : DOCTOR_WARNING) :
				  (raises ? DOCTOR_WARNING : DOCTOR_PROBLEM);
	doctor_found(doctor, level,
		     "%llu files may be open (RLIMIT_NOFILE), %llu once the soft limit is raised "
		     "to the hard one: enough for %llu devices of one queue%s",
		     (unsigned long long)soft, (unsigned long long)hard,
		     (unsigned long long)devices,
		     level && raises ? "; 'ublkd serve' can raise the hard limit" : "");
	if (level) {
		doctor_expected(doctor,
				"%d for a process, %d for a device and %d for each queue, such as "
				"%d for %d devices",
				FILES_PER_PROCESS, (int)FILES_PER_DEVICE, FILES_PER_REACTOR,
				(int)FILES_OF_DEVICES(FEW_DEVICES), FEW_DEVICES);
		doctor_remedy(doctor, "ulimit -n 65536 (as root); in a unit: LimitNOFILE=65536; "
				      "for users: 'nofile' in /etc/security/limits.conf");
	}
}

void doctor_check_privileges(struct doctor *doctor)
{
	bool admin = doctor_has(doctor, CAP_SYS_ADMIN),
	     resource = doctor_has(doctor, CAP_SYS_RESOURCE);
	bool of_user = !doctor->control_error && doctor->features & UBLK_F_UNPRIVILEGED_DEV;
	uint64_t effective = 0;

	doctor_status_number(doctor, "CapEff", 16, &effective);
	of_user &= !(effective >> CAP_SYS_ADMIN & 1);
	if (of_user) {
		doctor_found(doctor, DOCTOR_NOTE,
			     "no CAP_SYS_ADMIN: devices are those of an ordinary user");
		doctor_expected(doctor, "CAP_SYS_ADMIN in the first user namespace, for others");
	} else if (!admin) {
		doctor_found(doctor, DOCTOR_PROBLEM, "no CAP_SYS_ADMIN%s",
			     effective >> CAP_SYS_ADMIN & 1 ? " but that of a user namespace" : "");
		doctor_expected(doctor,
				"CAP_SYS_ADMIN in the first user namespace, to make devices");
		doctor_remedy(doctor,
			      "run ublkd as root, outside of user namespaces: sudo ublkd …");
	}
	if (!resource) {
		doctor_found(doctor, of_user ? DOCTOR_NOTE : DOCTOR_WARNING,
			     "no CAP_SYS_RESOURCE, so no IO_FLUSHER and no OOM score below the "
			     "present one: when memory is short, the server may wait for its own "
			     "device, or be killed");
		doctor_expected(doctor, "CAP_SYS_RESOURCE (prctl(2), PR_SET_IO_FLUSHER)");
		doctor_remedy(doctor, "run ublkd as root; in a unit: CapabilityBoundingSet= with "
				      "CAP_SYS_RESOURCE");
	}
	if (admin && resource)
		doctor_found(doctor, DOCTOR_OK, "CAP_SYS_ADMIN and CAP_SYS_RESOURCE are there");
}

static bool parse_version(const char *text, unsigned *version)
{
	unsigned major, minor;

	if (sscanf(text, "%u.%u", &major, &minor) != 2)
		return false;
	*version = major << 16 | minor;
	return true;
}

void doctor_check_liburing(struct doctor *doctor)
{
	unsigned built, running;

	if (!parse_version(doctor->liburing, &running) || !parse_version(LIBURING_VERSION,
									 &built)) {
		doctor_found(doctor, DOCTOR_OK,
			     "built with " LIBURING_VERSION
			     "; the one that runs does not say its version");
	} else if (running < built) {
		doctor_found(doctor, DOCTOR_WARNING,
			     "%s runs, and ublkd was built with " LIBURING_VERSION,
			     doctor->liburing);
		doctor_expected(doctor, LIBURING_VERSION " or later");
		doctor_remedy(doctor, "install that liburing, or build ublkd with the older one; "
				      "look for an old copy with: ldd $(command -v ublkd)");
	} else {
		doctor_found(doctor, DOCTOR_OK, "%s; built with " LIBURING_VERSION,
			     doctor->liburing);
	}
}

void doctor_check_helper(struct doctor *doctor)
{
	if (!doctor->helper_error) {
		doctor_found(doctor, DOCTOR_OK, "the program can start itself as a helper");
		return;
	}
	doctor_found(doctor, DOCTOR_PROBLEM, "the program cannot start itself by /proc/self/fd: %s",
		     strerror(-doctor->helper_error));
	doctor_expected(doctor, "to start devices and to stop them by a process of its own");
	doctor_remedy(doctor, "mount -t proc proc /proc; look for limits of processes (ulimit -u, "
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
		doctor_found(doctor, DOCTOR_WARNING,
			     "process %d, which runs control commands for process %d, is stopped "
			     "by a signal",
			     (int)info->pid, (int)helper->of);
		doctor_expected(doctor, "one that runs");
		doctor_remedy(doctor, "kill -CONT %d", (int)info->pid);
	} else if (now > info->late) {
		doctor_found(doctor, DOCTOR_WARNING,
			     "the driver has had %s%s%s for %" PRIu64 " s, from process %d",
			     stuck_text(info, text), info->name[0] ? " of " : "", info->name,
			     now - info->since, (int)info->pid);
		doctor_expected(doctor, "an end within %" PRIu64 " s", info->late - info->since);
		doctor_remedy(doctor, "see what it waits for (echo w >/proc/sysrq-trigger; dmesg), "
				      "mostly I/O of the device's backing; other devices go on");
	}
}

void doctor_check_commands(struct doctor *doctor)
{
	unsigned before = doctor->nr_findings;

	stuck_scan(doctor->root, judge_command, doctor);
	if (doctor->nr_findings == before)
		doctor_found(doctor, DOCTOR_OK, "no control command is stuck in the driver");
}

/* ---- files of serve -------------------- */

/* That ublkd.service is given. */
#define DEVICE_FILES SYSCONFDIR "/ublkd/devices"

/* What whoever reads a file would say, with its place. */
static void take_message(void *arg, enum log_level level, const char *about, const char *text)
{
	struct doctor *doctor = arg;
	bool wrong = level == LOG_LEVEL_ERROR;

	doctor_found(doctor, wrong ? DOCTOR_WARNING : DOCTOR_NOTE, "%s%s%s", about ? about : "",
		     about ? ": " : "", text);
	if (!wrong)
		return;
	doctor_expected(doctor, "files that 'ublkd serve' takes; with a wrong one it does not "
				"start, but where devices wait for it");
	doctor_remedy(doctor, "mend the file, and see what 'ublkd serve --check' with the options "
			      "and files of the server says");
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
void doctor_check_device_files(struct doctor *doctor)
{
	bool settings = doctor_there(doctor, SERVE_SETTINGS),
	     files = doctor_there(doctor, DEVICE_FILES);
	struct conf conf = { .kept = true, .may_be_empty = true };
	unsigned before = doctor->nr_findings;
	char path[PATH_ROOM];

	if (!doctor_has(doctor, CAP_SYS_ADMIN)) {
		doctor_found(doctor, DOCTOR_NOTE,
			     "what is in " SYSCONFDIR
			     "/ublkd is for a server with CAP_SYS_ADMIN, and was not read");
		return;
	}
	log_divert(take_message, doctor);
	if (settings)
		read_settings(doctor, &conf);
	conf.workers = !conf.shared;
	if (files)
		conf_read(&conf, doctor_path(doctor, path, DEVICE_FILES));
	conf_check(&conf);
	log_divert(NULL, NULL);
	if (doctor->nr_findings == before)
		doctor_found(doctor, DOCTOR_OK,
			     "%s " SERVE_SETTINGS "; %u devices are described in " DEVICE_FILES,
			     settings ? "settings are in" : "there is no", conf.count);
	conf_free(&conf);
}
