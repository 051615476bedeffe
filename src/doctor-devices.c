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

/* The process that has the character device open, 0: none that we may see. */
static unsigned long holder_of(const struct doctor *doctor, uint32_t id)
{
	unsigned long holder = 0;
	char path[PATH_ROOM], wanted[32];
	struct dirent *process, *file;
	DIR *proc = opendir(doctor_path(doctor, path, "/proc"));

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
	return pid > 0 && doctor_there(doctor, name);
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
		doctor_found(doctor, DOCTOR_NOTE,
			     "device %u (%s) is an ublkd's that cannot be seen here; process %lu "
			     "has it open",
			     device->id, state_name(info->state), holder);
		return true;
	}
	if (lasting && info->state != UBLK_S_DEV_DEAD) {
		doctor_found(doctor, DOCTOR_WARNING,
			     "device %u (%s) waits for the next server: its last, an ublkd, is "
			     "gone",
			     device->id, state_name(info->state));
		doctor_expected(doctor, "a process that serves it");
		doctor_remedy(doctor,
			      "start 'ublkd serve' with the folder that its --state named; with "
			      "--drop it deletes devices that are not described any more; if that "
			      "folder is gone, 'ublkctl fail-io %u' fails its I/O and deletes it",
			      device->id);
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
