/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "doctor-check.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <unistd.h>

#include "orphan.h"
#include "util/macros.h"

/* Of a process, below the root. */
typedef bool process_test(const struct doctor *doctor, unsigned long pid, const char *wanted);

/* The first that it is true of, 0: none that we may see. */
static unsigned long find_process(const struct doctor *doctor, process_test *test, const char *wanted)
{
	unsigned long found = 0;
	char path[PATH_ROOM];
	struct dirent *process;
	DIR *proc = opendir(doctor_path(doctor, path, "/proc"));

	while (proc && !found && (process = readdir(proc))) {
		unsigned long pid = strtoul(process->d_name, NULL, 10);

		if (pid && test(doctor, pid, wanted))
			found = pid;
	}
	if (proc)
		closedir(proc);
	return found;
}

static bool has_open(const struct doctor *doctor, unsigned long pid, const char *node)
{
	bool has = false;
	char path[PATH_ROOM];
	struct dirent *file;
	DIR *files;

	snprintf(path, sizeof(path), "%s/proc/%lu/fd", doctor->root, pid);
	files = opendir(path);
	while (files && !has && (file = readdir(files))) {
		char target[64];
		ssize_t length = readlinkat(dirfd(files), file->d_name, target, sizeof(target) - 1);

		target[MAX(length, 0)] = 0;
		has = !strcmp(target, node);
	}
	if (files)
		closedir(files);
	return has;
}

/* The process that has the character device open. */
static unsigned long holder_of(const struct doctor *doctor, uint32_t id)
{
	char node[32];

	snprintf(node, sizeof(node), "/dev/ublkc%u", id);
	return find_process(doctor, has_open, node);
}

/* By its command line: "[…/]ublkd serve …". */
static bool is_server(const struct doctor *doctor, unsigned long pid, const char *program)
{
	char name[32], line[256] = "";
	const char *slash, *command;
	_cleanup_file_ FILE *file = NULL;

	snprintf(name, sizeof(name), "/proc/%lu/cmdline", pid);
	file = doctor_open(doctor, name);
	if (!file || !fread(line, 1, sizeof(line) - 1, file))
		return false;
	slash = strrchr(line, '/');
	command = line + strlen(line) + 1;
	return !strcmp(slash ? slash + 1 : line, program) &&
	       !strcmp(command < line + sizeof(line) ? command : "", "serve");
}

static bool process_lives(const struct doctor *doctor, int pid)
{
	char name[32];

	snprintf(name, sizeof(name), "/proc/%d", pid);
	return pid > 0 && doctor_there(doctor, name);
}

static const char *state_name(unsigned state)
{
	static const char *const names[] = { "dead", "live", "quiesced", "fail-io" };

	return state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

/* A server that lives may have put it aside, or given it up for now. */
static void say_it_waits(struct doctor *doctor, const struct doctor_device *device)
{
	unsigned long server = find_process(doctor, is_server, "ublkd");
	char who[128] = "its last, an ublkd, is gone";

	if (server)
		snprintf(who, sizeof(who), "its last is gone, or process %lu, 'ublkd serve', has put it aside",
			 server);
	doctor_found(doctor, DOCTOR_WARNING, "device %u (%s) waits for the next server: %s", device->id,
		     state_name(device->info.state), who);
	doctor_expected(doctor, "a process that serves it");
	doctor_remedy(doctor,
		      "%sstart 'ublkd serve' with the folder that its --state named; with --drop it "
		      "deletes devices that are not described any more; if that folder is gone, "
		      "'ublkctl fail-io %u' fails its I/O and deletes it",
		      server ? "if 'ublkctl list' shows it as quiesced, 'ublkctl resume' goes on with "
			       "it, and if its process died too often, 'ublkctl recover'; otherwise, " :
			       "",
		      device->id);
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
		doctor_found(doctor, DOCTOR_NOTE,
			     "device %u (%s) is an ublkd's that cannot be seen here; process %lu "
			     "has it open",
			     device->id, state_name(info->state), holder);
		return true;
	}
	if (lasting && info->state != UBLK_S_DEV_DEAD) {
		say_it_waits(doctor, device);
		return true;
	}
	if (ours) {
		doctor_found(doctor, DOCTOR_WARNING,
			     "device %u (%s) was left by an ublkd that is gone", device->id,
			     state_name(info->state));
		doctor_expected(doctor, "a process that serves it");
		doctor_remedy(doctor, "none needed to use ublkd: the next start of 'ublkd run' or "
				      "'ublkd serve' removes it, once nobody has it open");
		return true;
	}
	/* Without the right to look we cannot know. */
	if (!doctor_has(doctor, CAP_SYS_PTRACE)) {
		doctor_found(doctor, DOCTOR_NOTE,
			     "device %u (%s) is of another program; whether that lives may not be "
			     "seen",
			     device->id, state_name(info->state));
		return true;
	}
	doctor_found(doctor, DOCTOR_WARNING,
		     "device %u (%s) is of another program, and no process has it open%s",
		     device->id, state_name(info->state),
		     info->state == UBLK_S_DEV_QUIESCED ? ": its I/O waits for a new server" : "");
	doctor_expected(doctor, "a process that serves it");
	doctor_remedy(doctor,
		      "ublkd leaves it alone: let the program that made it recover or delete it, "
		      "such as: ublk del -n %u (ublksrv), rublk del -n %u",
		      device->id, device->id);
	return true;
}

void doctor_check_devices(struct doctor *doctor)
{
	unsigned before = doctor->nr_findings, served = 0, unknown = 0;

	for (unsigned i = 0; i < doctor->nr_devices; i++) {
		const struct doctor_device *device = &doctor->devices[i];

		/* Deleted since it was listed. */
		if (device->result == -ENODEV)
			continue;
		if (device->result == -ETIMEDOUT) {
			doctor_found(doctor, DOCTOR_PROBLEM,
				     "the driver says nothing about device %u", device->id);
			doctor_expected(doctor, "an answer within some seconds");
			doctor_remedy(doctor,
				      "look for the cause in the kernel log (dmesg) and reboot");
		} else if (device->result) {
			unknown++;
		} else {
			served += !judge_device(doctor, device);
		}
	}
	if (unknown) {
		doctor_found(doctor, DOCTOR_NOTE,
			     "%u devices about which the driver could not be asked", unknown);
		doctor_expected(doctor, "to be allowed to ask");
	}
	if (served)
		doctor_found(doctor, DOCTOR_OK, "%u devices have a server", served);
	else if (doctor->nr_findings == before)
		doctor_found(doctor, DOCTOR_OK, "there are none");
}
