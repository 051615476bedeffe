/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each check of doctor says of a system that is well, and of one that
 * is broken: the files are below a scratch folder, what system calls say is
 * put in by hand. The sources are included for their inner parts.
 */
#define _GNU_SOURCE
#include "support.h"

#include "../../src/cmd-doctor.c"
#include "../../src/doctor-probe.c"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "manual.h"
#include "orphan.h"
#include "util/parse.h"

/* ublkd.c's, which is the one file that is not in the library. */
const struct command *const commands[] = { &doctor_command, NULL };

const struct command *command_find(const char *name)
{
	return strcmp(name, "doctor") ? NULL : &doctor_command;
}

/* ---- a system -------------------- */

#define RELEASE "7.3.0-test"
#define MOUNTS "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
#define DEVTMPFS "23 22 0:6 / /dev rw,nosuid shared:2 - devtmpfs devtmpfs rw\n"
#define ALL_CAPABILITIES "CapEff:\t000001ffffffffff\nSeccomp:\t0\n"
#define DEAD_COOKIE (0xb10cdull << 44 | 4194303ull << 22 | 1)
#define LASTING_COOKIE (0xb10ceull << 44 | 4194303ull << 22 | 1)

static char root[4096];

static const char *place(const char *name)
{
	static char path[4300];

	snprintf(path, sizeof(path), "%s%s", root, name);
	for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		mkdir(path, 0755);
		*p = '/';
	}
	return path;
}

static void put(const char *name, const char *text)
{
	_cleanup_file_ FILE *file = fopen(place(name), "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
}

static void put_bytes(const char *name, const void *bytes, size_t length)
{
	_cleanup_file_ FILE *file = fopen(place(name), "we");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
}

static void put_link(const char *name, const char *target)
{
	const char *path = place(name);

	unlink(path);
	assert_int_equal(symlink(target, path), 0);
}

static void drop(const char *name)
{
	assert_int_equal(unlink(place(name)), 0);
}

static struct doctor doctor;

/* A system on which all is well, in the scratch folder. */
static int well(void **state)
{
	if (scratch_make(state))
		return -1;
	snprintf(root, sizeof(root), "%s", scratch_path(""));
	root[strlen(root) - 1] = 0;
	put("/proc/self/status", ALL_CAPABILITIES);
	put("/proc/self/uid_map", "         0          0 4294967295\n");
	put("/proc/self/mountinfo", MOUNTS DEVTMPFS);
	put_link("/proc/self/ns/mnt", "mnt:[1]");
	put_link("/proc/1/ns/mnt", "mnt:[1]");
	put("/proc/sys/kernel/io_uring_disabled", "0\n");
	put("/proc/sys/kernel/io_uring_group", "-1\n");
	put("/sys/module/ublk_drv/initstate", "live\n");
	put("/sys/module/ublk_drv/parameters/ublks_max", "64\n");
	put("/lib/modules/" RELEASE "/modules.dep", "kernel/drivers/block/ublk_drv.ko.xz:\n");
	put("/run/udev/control", "");
	put("/lib/udev/rules.d/60-ublkd.rules", "");
	put("/dev/ublk-control", "");
	put("/dev/kmsg", "6,1,2,-;ublk: all is well\n");
	doctor = (struct doctor){
		.root = root, .release = RELEASE, .liburing = LIBURING_VERSION,
		.memlock = { RLIM_INFINITY, RLIM_INFINITY },
		.files = { 1024, 524288 },
		.parameters = strdup("other:what\nublks_max:max number of unprivileged devices\n"),
		.features = UBLK_F_CMD_IOCTL_ENCODE | UBLK_F_SUPPORT_ZERO_COPY |
			    UBLK_F_AUTO_BUF_REG | UBLK_F_USER_COPY,
	};
	return 0;
}

static int end_well(void **state)
{
	doctor_free(&doctor);
	return scratch_remove(state);
}

static void use_parameters(const char *text)
{
	free(doctor.parameters);
	doctor.parameters = text ? strdup(text) : NULL;
}

static struct doctor_device *use_devices(unsigned count)
{
	doctor.devices = realloc(doctor.devices, count * sizeof(*doctor.devices));
	assert_non_null(doctor.devices);
	doctor.nr_devices = count;
	for (unsigned i = 0; i < count; i++)
		doctor.devices[i] = (struct doctor_device){
			.id = i, .info = { .state = UBLK_S_DEV_LIVE, .ublksrv_pid = 1 },
		};
	return doctor.devices;
}

/* Runs one check, which has to find just this many things; the last is returned. */
static const struct doctor_finding *examine_by(const char *name, unsigned count)
{
	unsigned before = doctor.nr_findings;

	for (const struct doctor_check *check = doctor_checks; check->name; check++) {
		if (!strcmp(check->name, name)) {
			doctor_run(&doctor, check);
			assert_int_equal(doctor.nr_findings, before + count);
			return &doctor.findings[doctor.nr_findings - 1];
		}
	}
	fail_msg("no check '%s'", name);
	return NULL;
}

/* The check finds just this; part NULL: there is none. */
static void finds(const char *name, enum doctor_level level, const char *found_part,
		  const char *remedy_part)
{
	const struct doctor_finding *finding = examine_by(name, 1);

	if (finding->level != level)
		fail_msg("%s: expected %s, got %s: %s", name, doctor_level_name(level),
			 doctor_level_name(finding->level), finding->found);
	assert_string_equal(finding->check, name);
	assert_contains(finding->found, found_part);
	/* What is wrong says what would be right, and what to do. */
	if (level >= DOCTOR_WARNING) {
		assert_non_null(finding->expected);
		assert_non_null(finding->remedy);
		assert_non_null(remedy_part);
	}
	if (remedy_part)
		assert_contains(finding->remedy ? finding->remedy : "none", remedy_part);
	else
		assert_null(finding->remedy);
}

/* ---- all is well -------------------- */

static void a_good_system_has_no_findings(void **state)
{
	(void)state;
	use_devices(1);
	for (const struct doctor_check *check = doctor_checks; check->name; check++) {
		doctor_run(&doctor, check);
		if (doctor.findings[doctor.nr_findings - 1].level != DOCTOR_OK)
			fail_msg("%s: "
				 "%s", check->name, doctor.findings[doctor.nr_findings - 1].found);
	}
	assert_int_equal(doctor_status(&doctor), EXIT_DONE);
}

static void the_worst_decides_about_the_status(void **state)
{
	(void)state;
	snprintf(doctor.release, sizeof(doctor.release), "6.16.1");
	finds("kernel", DOCTOR_NOTE, "not tested on", NULL);
	assert_int_equal(doctor_status(&doctor), EXIT_DONE);
	doctor.ring_errors[RING_DEFER] = -EINVAL;
	finds("io-uring", DOCTOR_WARNING, "ring modes coop, plain; defer: Invalid", "later kernel");
	assert_int_equal(doctor_status(&doctor), EXIT_RUNTIME);
	snprintf(doctor.release, sizeof(doctor.release), "6.1.0-9-amd64");
	finds("kernel", DOCTOR_PROBLEM, "Linux 6.1.0", "later kernel");
	assert_int_equal(doctor_status(&doctor), EXIT_KERNEL);
	doctor.silent = true;
	assert_int_equal(doctor_status(&doctor), EXIT_TIMEOUT);
}

/* ---- kernel and driver -------------------- */

static void a_missing_driver_is_told_from_one_not_loaded(void **state)
{
	(void)state;
	drop("/sys/module/ublk_drv/initstate");
	finds("module", DOCTOR_OK, "built into", NULL);
	drop("/sys/module/ublk_drv/parameters/ublks_max");
	rmdir(place("/sys/module/ublk_drv/parameters"));
	rmdir(place("/sys/module/ublk_drv"));
	finds("module", DOCTOR_PROBLEM, "not loaded", "modprobe ublk_drv");
	finds("parameters", DOCTOR_OK, "not loaded", NULL);
	drop("/dev/ublk-control");
	doctor.control_error = -ENOENT;
	finds("control-node", DOCTOR_PROBLEM, "not there", "modprobe ublk_drv");
	put("/lib/modules/" RELEASE "/modules.dep", "kernel/drivers/block/loop.ko:\n");
	finds("module", DOCTOR_PROBLEM, "has no driver", "boot a kernel");
	finds("control-node", DOCTOR_PROBLEM, "not there", "check 'module'");
	put("/usr/lib/modules/" RELEASE "/modules.builtin", "kernel/drivers/block/ublk_drv.ko\n");
	finds("module", DOCTOR_OK, "built into", NULL);
}

static void the_module_says_what_its_limit_means(void **state)
{
	struct doctor_device *devices = use_devices(2);

	(void)state;
	put("/sys/module/ublk_drv/parameters/ublks_max", "2\n");
	finds("parameters", DOCTOR_OK, "ublks_max is 2 (max number of unprivileged devices); "
	      "there are 2 devices, 0 of them", NULL);
	devices[0].info.flags = devices[1].info.flags = UBLK_F_UNPRIVILEGED_DEV;
	finds("parameters", DOCTOR_NOTE, "they can make no more",
	      "echo 64 >/sys/module/ublk_drv/parameters/ublks_max");
	use_parameters("ublks_max:max number of ublk devices allowed to add\n");
	finds("parameters", DOCTOR_PROBLEM, "ublks_max is 2 (max number of ublk devices",
	      "echo 64 >/sys/module/ublk_drv/parameters/ublks_max");
	use_parameters(NULL);
	finds("parameters", DOCTOR_WARNING, "meaning not known", "echo 64");
	put("/sys/module/ublk_drv/parameters/ublks_max", "3\n");
	finds("parameters", DOCTOR_OK, "meaning not known", NULL);
	put("/sys/module/ublk_drv/parameters/other", "Y\n");
	use_parameters("other:some switch (bool)\n");
	examine_by("parameters", 2);
}

static void a_control_node_that_cannot_be_opened(void **state)
{
	(void)state;
	doctor.control_error = -EACCES;
	finds("control-node", DOCTOR_PROBLEM, "cannot be opened: Permission denied", "as root");
	doctor.control_error = -ENXIO;
	finds("control-node", DOCTOR_PROBLEM, "cannot be opened: No such device", "modprobe");
	doctor.control_error = -ENOTTY;
	finds("control-node", DOCTOR_PROBLEM, "cannot be opened", "rm /dev/ublk-control");
	drop("/dev/ublk-control");
	finds("control-node", DOCTOR_PROBLEM, "not there", "devtmpfs");
}

static void features_give_the_data_modes(void **state)
{
	(void)state;
	finds("features", DOCTOR_OK, "4 of 21 known features (ublkd features lists them); data "
	      "modes "
	      "zero-copy, register, copy, user-copy", NULL);
	doctor.features = UBLK_F_CMD_IOCTL_ENCODE | UBLK_F_NEED_GET_DATA;
	finds("features", DOCTOR_NOTE, "data modes copy, get-data", NULL);
	doctor.features = UBLK_F_NEED_GET_DATA;
	finds("features", DOCTOR_PROBLEM, "encoded", "later kernel");
	doctor.features_error = 1;
	finds("features", DOCTOR_NOTE, "could not be asked", NULL);
	doctor.features_error = -EOPNOTSUPP;
	finds("features", DOCTOR_NOTE, "cannot say", NULL);
	doctor.features_error = -EPERM;
	finds("features", DOCTOR_PROBLEM, "refuses", "as root");
	doctor.features_error = -ETIMEDOUT;
	finds("features", DOCTOR_PROBLEM, "does not say", "reboot");
}

/* ---- what the server needs -------------------- */

static void each_reason_for_no_io_uring_is_told(void **state)
{
	(void)state;
	doctor.control_ring_error = -EPERM;
	put("/proc/sys/kernel/io_uring_disabled", "2\n");
	finds("io-uring", DOCTOR_PROBLEM, "io_uring_disabled is 2",
	      "sysctl -w kernel.io_uring_disabled=0");
	put("/proc/sys/kernel/io_uring_disabled", "1\n");
	finds("io-uring", DOCTOR_PROBLEM, "io_uring_disabled is 1, kernel.io_uring_group is -1",
	      "kernel.io_uring_group=");
	doctor.control_ring_error = 0;
	finds("io-uring", DOCTOR_OK, "this process is allowed to", NULL);
	doctor.control_ring_error = -EPERM;
	put("/proc/sys/kernel/io_uring_disabled", "0\n");
	finds("io-uring", DOCTOR_PROBLEM, "a security policy", "SELinux");
	put("/proc/self/status", "CapEff:\t0\nSeccomp:\t2\n");
	finds("io-uring", DOCTOR_PROBLEM, "seccomp filter", "SystemCallFilter=io_uring_setup");
	doctor.control_ring_error = -ENOSYS;
	finds("io-uring", DOCTOR_PROBLEM, "seccomp filter", "SystemCallFilter=io_uring_setup");
	put("/proc/self/status", ALL_CAPABILITIES);
	finds("io-uring", DOCTOR_PROBLEM, "has no io_uring", "boot");
	doctor.control_ring_error = -EMFILE;
	finds("io-uring", DOCTOR_PROBLEM, "open files", "ulimit -n");
	doctor.control_ring_error = -ENOMEM;
	finds("io-uring", DOCTOR_PROBLEM, "Cannot allocate memory", "memory");
	doctor.control_ring_error = 0;
	for (enum ring_mode mode = RING_DEFER; mode <= RING_PLAIN; mode++)
		doctor.ring_errors[mode] = -EPERM;
	finds("io-uring", DOCTOR_PROBLEM, "a security policy", "SELinux");
}

static void what_may_be_locked_is_held_against_the_presets(void **state)
{
	(void)state;
	put("/proc/self/status", "CapEff:\t0\n");
	finds("memlock", DOCTOR_OK, "any memory", NULL);
	/* depth 128 × max-io 512K */
	doctor.memlock = (struct rlimit){ 64 << 20, 64 << 20 };
	finds("memlock", DOCTOR_OK, "64M may be locked; a queue with the presets locks 64M", NULL);
	doctor.memlock.rlim_cur = (64 << 20) - 4096;
	finds("memlock", DOCTOR_WARNING, "65532K of memory may be locked", "ulimit -l 65536");
	put("/proc/self/status", "CapEff:\t0000000000004000\n"); /* IPC_LOCK */
	finds("memlock", DOCTOR_OK, "any memory", NULL);
}

static void files_are_counted_in_devices(void **state)
{
	(void)state;
	finds("files", DOCTOR_OK, "1024 files may be open (RLIMIT_NOFILE), 524288 once", NULL);
	doctor.files = (struct rlimit){ 100, 64 + 64 * 13 };
	finds("files", DOCTOR_OK, "enough for 64 devices", NULL);
	doctor.files.rlim_max--;
	finds("files", DOCTOR_NOTE, "enough for 63 devices of one queue; 'ublkd serve' can",
	      "ulimit -n");
	put("/proc/self/status", "CapEff:\t0\n");
	finds("files", DOCTOR_WARNING, "enough for 63 devices of one queue", "LimitNOFILE");
	doctor.files.rlim_max = 74;
	finds("files", DOCTOR_PROBLEM, "enough for 0 devices", "LimitNOFILE");
	put("/proc/self/status", ALL_CAPABILITIES);
	finds("files", DOCTOR_WARNING, "enough for 0 devices", "LimitNOFILE");
	doctor.files.rlim_max = RLIM_INFINITY;
	finds("files", DOCTOR_OK, "any number", NULL);
}

static void capabilities_count_outside_of_user_namespaces(void **state)
{
	const struct doctor_finding *finding;

	(void)state;
	put("/proc/self/status", "CapEff:\t0000000000200000\n"); /* SYS_ADMIN */
	finds("privileges", DOCTOR_WARNING, "no IO_FLUSHER", "as root");
	put("/proc/self/status", "CapEff:\t0000000001000000\n"); /* SYS_RESOURCE */
	finds("privileges", DOCTOR_PROBLEM, "no CAP_SYS_ADMIN", "as root");
	doctor.features = UBLK_F_UNPRIVILEGED_DEV;
	finds("privileges", DOCTOR_NOTE, "those of an ordinary user", NULL);
	put("/proc/self/status", "CapEff:\t0\n");
	finding = examine_by("privileges", 2);
	assert_int_equal(finding->level, DOCTOR_NOTE);
	put("/proc/self/status", "CapEff:\t0000000001000000\n");
	doctor.control_error = -EACCES;
	finds("privileges", DOCTOR_PROBLEM, "no CAP_SYS_ADMIN", "as root");
	put("/proc/self/status", ALL_CAPABILITIES);
	put("/proc/self/uid_map", "0 1000 1\n");
	finding = examine_by("privileges", 2) - 1;
	assert_contains(finding->found, "no CAP_SYS_ADMIN but that of a user namespace");
	assert_int_equal(finding->level, DOCTOR_PROBLEM);
}

static void an_older_liburing_than_at_the_build(void **state)
{
	(void)state;
	snprintf(doctor.liburing, sizeof(doctor.liburing), "2.1");
	finds("liburing", DOCTOR_WARNING, "2.1 runs", "install that liburing");
	snprintf(doctor.liburing, sizeof(doctor.liburing), "2.100");
	finds("liburing", DOCTOR_OK, "2.100; built with", NULL);
	*doctor.liburing = 0;
	finds("liburing", DOCTOR_OK, "does not say", NULL);
}

static void a_program_that_cannot_start_itself(void **state)
{
	(void)state;
	doctor.helper_error = -ENOENT;
	finds("helper", DOCTOR_PROBLEM, "/proc/self/fd: No such file", "mount -t proc");
}

/* The arguments of a process, with a line's end instead of NULs, and its state. */
static void put_helper(const char *title, const char *state)
{
	char text[256];
	int length = snprintf(text, sizeof(text), "ublkd\n--helper\nof\n70\nublkd\ncontrol\n%s\n",
			      title);

	put("/proc/77/stat", state);
	for (char *c = text; (c = strchr(c, '\n')); c++)
		*c = 0;
	put_bytes("/proc/77/cmdline", text, (size_t)length);
}

static void a_command_is_given_its_time(void **state)
{
	char title[HELPER_TITLE_SIZE];
	struct stuck_info info = { .command = "STOP_DEV", .name = "disk", .number = 3,
				   .since = (uint64_t)time(NULL) - 100, .late = (uint64_t)time(NULL) + 60 };

	(void)state;
	finds("commands", DOCTOR_OK, "no control command is stuck", NULL);
	stuck_title(title, sizeof(title), &info);
	put_helper(title, "77 (ublkd) D 70 77 77 0");
	finds("commands", DOCTOR_OK, "no control command is stuck", NULL);
	info.late = info.since + 30;
	stuck_title(title, sizeof(title), &info);
	put_helper(title, "77 (ublkd) D 70 77 77 0");
	finds("commands", DOCTOR_WARNING, "had STOP_DEV for device 3 of disk for 10", "sysrq-trigger");
	put_helper("", "77 (ublkd) T 70 77 77 0");
	finds("commands", DOCTOR_WARNING, "process 77, which runs control commands for process 70",
	      "kill -CONT 77");
}

/* ---- nodes and mounts -------------------- */

static void somebody_has_to_make_the_nodes(void **state)
{
	(void)state;
	finds("nodes", DOCTOR_OK, "devtmpfs), and udev runs", NULL);
	put("/proc/self/mountinfo", MOUNTS "23 22 0:6 / /dev rw - tmpfs tmpfs rw\n");
	finds("nodes", DOCTOR_NOTE, "type tmpfs; a udev runs", NULL);
	drop("/run/udev/control");
	finds("nodes", DOCTOR_WARNING, "type tmpfs and no udev runs", "-v /dev:/dev");
	finds("udev-rules", DOCTOR_OK, "no udev runs", NULL);
	put("/proc/self/mountinfo", MOUNTS);
	finds("nodes", DOCTOR_WARNING, "type ext4 and no udev runs", "-v /dev:/dev");
	put("/proc/self/mountinfo", MOUNTS "23 22 0:6 / /dev rw - tmpfs tmpfs rw\n" DEVTMPFS);
	finds("nodes", DOCTOR_OK, "devtmpfs); no udev runs", NULL);
}

static void udev_has_our_rules_or_not(void **state)
{
	(void)state;
	finds("udev-rules", DOCTOR_OK, "/lib/udev/rules.d/60-ublkd.rules", NULL);
	drop("/lib/udev/rules.d/60-ublkd.rules");
	finds("udev-rules", DOCTOR_NOTE, "without ublkd's rules", "udevadm control --reload");
	put("/etc/udev/rules.d/60-ublkd.rules", "");
	finds("udev-rules", DOCTOR_OK, "/etc/udev/rules.d/60-ublkd.rules", NULL);
}

static void users_who_may_make_devices_need_a_rule(void **state)
{
	(void)state;
	put(CONTROL_NODE, "");
	assert_int_equal(chmod(place(CONTROL_NODE), 0600), 0);
	finds("users", DOCTOR_OK, "only its owner", NULL);
	assert_int_equal(chmod(place(CONTROL_NODE), 0660), 0);
	finds("users", DOCTOR_WARNING, "no rule gives them", "59-ublkd-owner.rules /etc");
	put("/etc/udev/rules.d/59-ublkd-owner.rules", "");
	finds("users", DOCTOR_OK, "/etc/udev/rules.d/59-ublkd-owner.rules gives", NULL);
	drop("/run/udev/control");
	finds("users", DOCTOR_WARNING, "no udev gives", "chmod 600");
}

static void who_may_use_the_socket_may_need_the_node(void **state)
{
	const struct doctor_finding *finding;

	(void)state;
	put(CONTROL_NODE, "");
	put("/run/ublkd/socket", "");
	assert_int_equal(chmod(place(CONTROL_NODE), 0600), 0);
	assert_int_equal(chmod(place("/run/ublkd/socket"), 0600), 0);
	finds("users", DOCTOR_OK, "only its owner", NULL);
	assert_int_equal(chmod(place("/run/ublkd/socket"), 0660), 0);
	finding = examine_by("users", 2);
	assert_int_equal(finding->level, DOCTOR_NOTE);
	assert_contains(finding->found, "'ublkctl add --unprivileged' is not for them");
	assert_contains(finding->remedy, "DEVICES OF ORDINARY USERS");
	put("/run/udev/control", "");
	put("/etc/udev/rules.d/59-ublkd-owner.rules", "");
	assert_int_equal(chmod(place(CONTROL_NODE), 0660), 0);
	finds("users", DOCTOR_OK, "gives devices", NULL);
	assert_int_equal(chmod(place(CONTROL_NODE), 0666), 0);
	finds("users", DOCTOR_OK, "gives devices", NULL);
}

static void a_mount_namespace_that_hides_mounts(void **state)
{
	(void)state;
	put_link("/proc/self/ns/mnt", "mnt:[2]");
	finds("mount-namespace", DOCTOR_OK, "mounts reach it", NULL);
	put("/proc/self/mountinfo", "22 1 8:1 / / rw master:1 - ext4 /dev/sda1 rw\n" DEVTMPFS);
	finds("mount-namespace", DOCTOR_OK, "mounts reach it", NULL);
	put("/proc/self/mountinfo", MOUNTS "23 22 0:6 / /dev rw - devtmpfs devtmpfs rw\n");
	finds("mount-namespace", DOCTOR_WARNING, "do not reach its /dev", "nsenter --target 1");
	put("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" DEVTMPFS);
	finds("mount-namespace", DOCTOR_WARNING, "do not reach its /", "PrivateMounts=no");
	drop("/proc/1/ns/mnt");
	finds("mount-namespace", DOCTOR_OK, "may not be seen", NULL);
	drop("/proc/self/ns/mnt");
	finds("mount-namespace", DOCTOR_NOTE, "cannot be seen", "mount -t proc");
}

/* ---- devices -------------------- */

/* As the kernel shows it: a string with each of its ends. */
#define LINE(text) text, sizeof(text)

static void a_device_without_a_server_is_told_by_whose_it_was(void **state)
{
	struct doctor_device *device = use_devices(1);

	(void)state;
	finds("devices", DOCTOR_OK, "1 devices have a server", NULL);
	device->info.ublksrv_pid = 4711;
	finds("devices", DOCTOR_WARNING, "device 0 (live) is of another program, and no process",
	      "leaves it alone");
	device->info.state = UBLK_S_DEV_QUIESCED;
	finds("devices", DOCTOR_WARNING, "device 0 (quiesced) is of another program, and no "
	      "process "
	      "has it open: its I/O waits", "recover");
	put("/proc/self/status", "CapEff:\t0\n");
	finds("devices", DOCTOR_NOTE, "may not be seen", NULL);
	put("/proc/self/status", ALL_CAPABILITIES);
	put_link("/proc/4712/fd/5", "/dev/ublkc0");
	finds("devices", DOCTOR_OK, "1 devices have a server", NULL);

	device->info.ublksrv_flags = DEAD_COOKIE;
	device->info.state = UBLK_S_DEV_DEAD;
	finds("devices", DOCTOR_NOTE, "process 4712 has it open", NULL);
	put_link("/proc/4712/fd/5", "/dev/ublkc01");
	finds("devices", DOCTOR_WARNING, "device 0 (dead) was left by an ublkd", "next start");
	device->info.ublksrv_flags = LASTING_COOKIE;
	finds("devices", DOCTOR_WARNING, "device 0 (dead) was left by an ublkd", "next start");
	device->info.state = UBLK_S_DEV_QUIESCED;
	finds("devices", DOCTOR_WARNING, "device 0 (quiesced) waits for the next server: its last, an ublkd, is "
	      "gone", "start 'ublkd serve' with the folder that its --state named");
	put_bytes("/proc/4713/cmdline", LINE("ublkd\0--worker\0003\0--\0serve"));
	put_bytes("/proc/4714/cmdline", LINE("/usr/bin/ublkd"));
	finds("devices", DOCTOR_WARNING, "its last, an ublkd, is gone", "--state");
	put_bytes("/proc/4715/cmdline", LINE("/usr/sbin/ublkd\0serve\0--workers"));
	finds("devices", DOCTOR_WARNING, "or process 4715, 'ublkd serve', has put it aside",
	      "'ublkctl resume' goes on with it, and if its process died too often, 'ublkctl recover'");
	device->info.ublksrv_flags = orphan_cookie(false, 0);
	finds("devices", DOCTOR_OK, "1 devices have a server", NULL);
}

#define FILES SYSCONFDIR "/ublkd/devices/"

static void files_of_the_server_are_read(void **state)
{
	(void)state;
	finds("device-files", DOCTOR_OK, "there is no " SYSCONFDIR "/ublkd/ublkd.conf; 0 devices", NULL);
	put(FILES "web.conf", "[device]\nbackend = null\nsize = 1M\nworker = one\n"
	    "on-crash = reissue\nid = 7\n");
	put(SYSCONFDIR "/ublkd/ublkd.conf", "[serve]\nkeep = yes\n");
	finds("device-files", DOCTOR_OK, "settings are in " SYSCONFDIR "/ublkd/ublkd.conf; 1 devices", NULL);
	put(FILES "bad.conf", "[device]\nbackend = null\nsize = 1M\n\ndepth = 0\n");
	finds("device-files", DOCTOR_WARNING, FILES "bad.conf:5: depth: expected 1…4096, got '0'",
	      "'ublkd serve --check'");
	put(FILES "bad.conf", "[device]\nbackend = null\nsize = 1M\nid = 7\n");
	finds("device-files", DOCTOR_WARNING, FILES "web.conf: id: expected another than that of '", "mend");
	drop(FILES "bad.conf");
	put(SYSCONFDIR "/ublkd/ublkd.conf", "[serve]\nreactors = 2\nkeep = maybe\nspeed = high\n");
	assert_contains(examine_by("device-files", 3)->found, FILES "web.conf");
	assert_contains(doctor.findings[doctor.nr_findings - 2].found,
			"ublkd.conf:4: expected an option of 'serve'");
	assert_contains(doctor.findings[doctor.nr_findings - 3].found, "ublkd.conf:3: keep: expected yes");
	put("/proc/self/status", "CapEff:\t0\n");
	finds("device-files", DOCTOR_NOTE, "was not read", NULL);
}

static void devices_that_cannot_be_asked_about(void **state)
{
	struct doctor_device *devices = use_devices(3);

	(void)state;
	devices[0].result = 1;
	devices[1].result = -EACCES;
	devices[2].result = -ENODEV;
	finds("devices", DOCTOR_NOTE, "2 devices about which", NULL);
	devices[0].result = devices[1].result = -ENODEV;
	finds("devices", DOCTOR_OK, "there are none", NULL);
	devices[1].result = -ETIMEDOUT;
	finds("devices", DOCTOR_PROBLEM, "says nothing about device 1", "reboot");
}

/* ---- the kernel's log -------------------- */

static void faults_are_the_drivers_if_it_is_in_their_trace(void **state)
{
	(void)state;
	put("/dev/kmsg", "3,1,2,-;INFO: task other:12 blocked for more than 120 seconds.\n"
	    "6,2,3,-;Modules linked in: ublk_drv loop\n"
	    "6,3,4,-; nfs_wait+0x10/0x20 [nfs]\n"
	    "3,4,5,-;I/O error, dev ublkb0, sector 0\n");
	finds("kernel-log", DOCTOR_OK, "no fault", NULL);
	put("/dev/kmsg", "3,1,2,-;INFO: task iou-wrk-12:13 blocked for more than 120 seconds.\n"
	    "6,3,4,-; __schedule+0x10/0x20\n"
	    "6,3,4,-; ublk_ctrl_del_dev+0x10/0x20 [ublk_drv]\n"
	    "6,3,4,-; ublk_ctrl_uring_cmd+0x10/0x20 [ublk_drv]\n");
	finds("kernel-log", DOCTOR_WARNING, "1 faults in which the driver was, the last: INFO: "
	      "task "
	      "iou-wrk-12:13 blocked", "reboot");
	put("/dev/kmsg", "4,1,2,-;WARNING: CPU: 1 PID: 2 at drivers/block/ublk_drv.c:763 x\n");
	finds("kernel-log", DOCTOR_WARNING, "WARNING: CPU: 1", "reboot");
	drop("/dev/kmsg");
	finds("kernel-log", DOCTOR_NOTE, "cannot be read: No such file", "dmesg");
}

/* ---- the process that asks, JSON,
the manual ------------------------------------------------------------ */

static void a_driver_that_does_not_answer_is_not_waited_for(void **state)
{
	const struct answer offered = { .subject = ABOUT_FEATURES, .features = 5 };
	const struct answer first = { .subject = ABOUT_DEVICE, .index = 0, .info.queue_depth = 7 };
	const struct answer no_second = { .subject = ABOUT_DEVICE, .index = 1,
					 .result = -ETIMEDOUT };
	const struct answer last = { .subject = ABOUT_END };
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	use_devices(2)[0].result = 1;
	doctor.features_error = 1;
	/* Nothing at all: the process is stuck in its first command. */
	collect(&doctor, fds[0], 0.01);
	assert_true(doctor.silent);
	assert_int_equal(doctor.features_error, -ETIMEDOUT);

	doctor.silent = false;
	assert_int_equal(write(fds[1], &offered, sizeof(offered)), sizeof(offered));
	assert_int_equal(write(fds[1], &first, sizeof(first)), sizeof(first));
	assert_int_equal(write(fds[1], &no_second, sizeof(no_second)), sizeof(no_second));
	assert_int_equal(write(fds[1], &last, sizeof(last)), sizeof(last));
	collect(&doctor, fds[0], 10);
	assert_true(doctor.silent);
	assert_int_equal(doctor.features_error, 0);
	assert_int_equal(doctor.features, 5);
	assert_int_equal(doctor.devices[0].result, 0);
	assert_int_equal(doctor.devices[0].info.queue_depth, 7);
	assert_int_equal(doctor.devices[1].result, -ETIMEDOUT);

	/* Its end without all answers is none of the driver's. */
	doctor.silent = false;
	close(fds[1]);
	collect(&doctor, fds[0], 10);
	assert_false(doctor.silent);
	close(fds[0]);
}

static void a_program_is_read_and_not_waited_for(void **state)
{
	char *echo[] = { (char *)(uintptr_t)"/bin/sh", (char *)(uintptr_t)"-c",
			 (char *)(uintptr_t)"echo ublks_max:what", NULL };
	char *fails[] = { echo[0], echo[1], (char *)(uintptr_t)"echo x; exit 1", NULL };
	char *hangs[] = { echo[0], echo[1], (char *)(uintptr_t)"exec sleep 1000", NULL };
	_cleanup_free_ char *text = output_of(echo, 10);

	(void)state;
	assert_string_equal(text, "ublks_max:what\n");
	assert_null(output_of(fails, 10));
	assert_null(output_of(hangs, 0.05));
}

/* In a process of its own: a filter that forbids rings is told from a setting that does. */
static void a_seccomp_filter_is_seen(void **state)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog filter = { .len = ARRAY_SIZE(code), .filter = code };
	uint64_t disabled = 0;
	int status;
	pid_t pid;

	(void)state;
	read_uint_file("/proc/sys/kernel/io_uring_disabled", &disabled);
	if (disabled)
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
			_exit(2);
		doctor.root = "";
		doctor.control_ring_error = try_ring(RING_PLAIN, IORING_SETUP_SQE128);
		finds("io-uring", DOCTOR_PROBLEM, "this process has a seccomp filter",
		      "SystemCallFilter");
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void json_can_be_read_back(void **state)
{
	_cleanup_free_ char *text = NULL;
	const char *check, *level, *said, *remedied;
	json_t *all, *wanted;
	size_t size = 0;
	FILE *out;

	(void)state;
	finds("helper", DOCTOR_OK, "start itself", NULL);
	doctor.control_error = -EACCES;
	finds("control-node", DOCTOR_PROBLEM, "cannot be opened", "as root");
	/* Quotes, and what is no UTF-8. */
	put("/dev/kmsg", "4,1,2,-;WARNING: \"q\" at drivers/block/ublk_drv.c:763\n");
	finds("kernel-log", DOCTOR_WARNING, "\"q\"", "reboot");
	put("/dev/kmsg", "4,1,2,-;WARNING: \xff at drivers/block/ublk_drv.c:763\n");
	finds("kernel-log", DOCTOR_WARNING, "WARNING", "reboot");

	out = open_memstream(&text, &size);
	assert_non_null(out);
	assert_int_equal(print_json(&doctor, out), 0);
	fclose(out);
	all = json_loads(text, 0, NULL);
	assert_non_null(all);
	assert_int_equal(json_array_size(all), 4);
	assert_int_equal(json_unpack(json_array_get(all, 0), "{s:s, s:s, s:s, s:n, s:n !}", "check",
				     &check, "level", &level, "found", &said, "expected", "remedy"),
				     0);
	assert_string_equal(check, "helper");
	assert_string_equal(level, "ok");
	assert_int_equal(json_unpack(json_array_get(all, 1), "{s:s, s:s, s:s, s:o, s:s !}", "check",
				     &check, "level", &level, "found", &said, "expected", &wanted,
				     "remedy", &remedied), 0);
	assert_string_equal(level, "problem");
	assert_contains(remedied, "as root");
	assert_true(json_is_string(wanted));
	assert_contains(json_string_value(json_object_get(json_array_get(all, 2), "found")),
			"\"q\"");
	assert_true(json_is_null(json_object_get(json_array_get(all, 3), "found")));
	json_decref(all);
}

static int doctor_with(const char *argument)
{
	char *argv[] = { (char *)(uintptr_t)"doctor", (char *)(uintptr_t)argument, NULL };
	int status;

	capture_begin();
	status = doctor_command.run(2, argv);
	return capture_end() ? status : -1;
}

static void the_command_line_is_checked(void **state)
{
	(void)state;
	assert_int_equal(doctor_with("x"), EXIT_USAGE);
	assert_int_equal(doctor_with("--fast"), EXIT_USAGE);
	assert_int_equal(doctor_with("--json=maybe"), EXIT_USAGE);
}

static void the_manual_has_every_option_and_check(void **state)
{
	_cleanup_free_ char *manual = manual_read();

	(void)state;
	assert_int_equal(manual_lacks(manual, "Fl Fl", doctor_options), 0);
	for (const struct doctor_check *check = doctor_checks; check->name; check++) {
		if (!manual_has(manual, "Li", check->name))
			fail_msg("man/ublkd.8 has no '.It Li %s'", check->name);
	}
}

#define ON_A_SYSTEM(test) cmocka_unit_test_setup_teardown(test, well, end_well)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_A_SYSTEM(a_good_system_has_no_findings),
		ON_A_SYSTEM(the_worst_decides_about_the_status),
		ON_A_SYSTEM(a_missing_driver_is_told_from_one_not_loaded),
		ON_A_SYSTEM(the_module_says_what_its_limit_means),
		ON_A_SYSTEM(a_control_node_that_cannot_be_opened),
		ON_A_SYSTEM(features_give_the_data_modes),
		ON_A_SYSTEM(each_reason_for_no_io_uring_is_told),
		ON_A_SYSTEM(what_may_be_locked_is_held_against_the_presets),
		ON_A_SYSTEM(files_are_counted_in_devices),
		ON_A_SYSTEM(capabilities_count_outside_of_user_namespaces),
		ON_A_SYSTEM(an_older_liburing_than_at_the_build),
		ON_A_SYSTEM(a_program_that_cannot_start_itself),
		ON_A_SYSTEM(a_command_is_given_its_time),
		ON_A_SYSTEM(somebody_has_to_make_the_nodes),
		ON_A_SYSTEM(udev_has_our_rules_or_not),
		ON_A_SYSTEM(users_who_may_make_devices_need_a_rule),
		ON_A_SYSTEM(who_may_use_the_socket_may_need_the_node),
		ON_A_SYSTEM(a_mount_namespace_that_hides_mounts),
		ON_A_SYSTEM(a_device_without_a_server_is_told_by_whose_it_was),
		ON_A_SYSTEM(files_of_the_server_are_read),
		ON_A_SYSTEM(devices_that_cannot_be_asked_about),
		ON_A_SYSTEM(faults_are_the_drivers_if_it_is_in_their_trace),
		ON_A_SYSTEM(a_driver_that_does_not_answer_is_not_waited_for),
		ON_A_SYSTEM(a_program_is_read_and_not_waited_for),
		ON_A_SYSTEM(a_seccomp_filter_is_seen),
		ON_A_SYSTEM(json_can_be_read_back),
		cmocka_unit_test(the_command_line_is_checked),
		cmocka_unit_test(the_manual_has_every_option_and_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
