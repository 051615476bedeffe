/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "doctor-check.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"
#include "node.h"
#include "ctrl.h"
#include "util/macros.h"

/*
 * What is mounted at the folder or, if nothing is, above it: the type and
 * whether mounts reach us from elsewhere.
 */
static bool find_mount(const struct doctor *doctor, const char *folder, char type[64],
		       bool *receives)
{
	_cleanup_file_ FILE *file = doctor_open(doctor, "/proc/self/mountinfo");
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

#define UDEV_CONTROL "/run/udev/control"

void doctor_check_nodes(struct doctor *doctor)
{
	bool udev = doctor_there(doctor, UDEV_CONTROL), receives = false;
	char type[64] = "unknown";

	find_mount(doctor, "/dev", type, &receives);
	if (!strcmp(type, "devtmpfs")) {
		doctor_found(doctor, DOCTOR_OK, "the kernel makes the nodes in /dev (devtmpfs)%s",
			     udev ? ", and udev runs" : "; no udev runs");
	} else if (udev) {
		doctor_found(doctor, DOCTOR_NOTE,
			     "/dev is a file system of type %s; a udev runs, which may make the "
			     "nodes",
			     type);
		doctor_expected(doctor, "devtmpfs at /dev");
	} else {
		doctor_found(doctor, DOCTOR_WARNING,
			     "/dev is a file system of type %s and no udev runs: nobody makes the "
			     "nodes of devices",
			     type);
		doctor_expected(doctor, "devtmpfs at /dev, or a udev (" UDEV_CONTROL ")");
		doctor_remedy(doctor, "run ublkd outside of the container, or with its /dev: "
				      "docker, podman: --privileged -v /dev:/dev; else: mount -t "
				      "devtmpfs devtmpfs /dev");
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
		if (doctor_there(doctor, path))
			return true;
	}
	return false;
}

void doctor_check_udev_rules(struct doctor *doctor)
{
	char path[PATH_ROOM];

	if (!doctor_there(doctor, UDEV_CONTROL)) {
		doctor_found(doctor, DOCTOR_OK, "no udev runs that could use them");
	} else if (find_rules(doctor, "60-ublkd.rules", path)) {
		doctor_found(doctor, DOCTOR_OK, "%s", path);
	} else {
		doctor_found(doctor, DOCTOR_NOTE,
			     "udev runs without ublkd's rules: no links by UUID and label");
		doctor_expected(doctor, "60-ublkd.rules in a folder of udev");
		doctor_remedy(doctor, "cp contrib/udev/60-ublkd.rules /etc/udev/rules.d/ && "
				      "udevadm control --reload");
	}
}

/* Whom a server of root's hears may have devices of their own of it, if they may open the node. */
static void check_socket_users(struct doctor *doctor, const struct stat *control)
{
	char path[PATH_ROOM];
	struct stat socket;

	if (stat(doctor_path(doctor, path, DEFAULT_SOCKET), &socket) || !(socket.st_mode & 020) ||
	    control->st_mode & 02 || (control->st_mode & 020 && control->st_gid == socket.st_gid))
		return;
	doctor_found(doctor, DOCTOR_NOTE,
		     "members of group %u may use " DEFAULT_SOCKET ", but not open " CONTROL_NODE
		     ": 'ublkctl add --unprivileged' is not for them",
		     (unsigned)socket.st_gid);
	doctor_expected(doctor,
			CONTROL_NODE " with mode 0660 and that group, for devices of users");
	doctor_remedy(doctor, "a rule of udev's, see DEVICES OF ORDINARY USERS in ublkd(8)");
}

void doctor_check_users(struct doctor *doctor)
{
	char path[PATH_ROOM];
	struct stat st = { 0 };

	if (stat(doctor_path(doctor, path, CONTROL_NODE), &st) || !(st.st_mode & 022)) {
		doctor_found(doctor, DOCTOR_OK, "only its owner may open " CONTROL_NODE);
	} else if (doctor_there(doctor, UDEV_CONTROL) &&
		   find_rules(doctor, UDEV_OWNER_RULES, path)) {
		doctor_found(doctor, DOCTOR_OK, "%s gives devices to the users who make them",
			     path);
	} else {
		doctor_found(doctor, DOCTOR_WARNING,
			     "ordinary users may open " CONTROL_NODE
			     ", but no %s gives them their devices: they could neither use nor "
			     "delete one",
			     doctor_there(doctor, UDEV_CONTROL) ? "rule" : "udev");
		doctor_expected(doctor, "a udev with " UDEV_OWNER_RULES);
		doctor_remedy(doctor, "cp contrib/udev/" UDEV_OWNER_RULES
				      " /etc/udev/rules.d/ && udevadm control --reload; to have "
				      "none of it: chmod 600 " CONTROL_NODE);
	}
	check_socket_users(doctor, &st);
}

static bool read_link(const struct doctor *doctor, const char *name, char target[64])
{
	char path[PATH_ROOM];
	ssize_t length = readlink(doctor_path(doctor, path, name), target, 63);

	if (length < 0)
		return false;
	target[length] = 0;
	return true;
}

void doctor_check_mount_namespace(struct doctor *doctor)
{
	char ours[64] = "", first[64], type[64];
	bool root_receives = false, dev_receives = false;

	if (!read_link(doctor, "/proc/self/ns/mnt", ours)) {
		doctor_found(doctor, DOCTOR_NOTE, "it cannot be seen which one this is");
		doctor_expected(doctor, "/proc is mounted");
		doctor_remedy(doctor, "mount -t proc proc /proc");
		return;
	}
	if (!read_link(doctor, "/proc/1/ns/mnt", first)) {
		doctor_found(doctor, DOCTOR_OK, "%s; that of process 1 may not be seen from here",
			     ours);
		return;
	}
	if (!strcmp(ours, first)) {
		doctor_found(doctor, DOCTOR_OK, "that of process 1");
		return;
	}
	find_mount(doctor, "/", type, &root_receives);
	find_mount(doctor, "/dev", type, &dev_receives);
	if (root_receives && dev_receives) {
		doctor_found(doctor, DOCTOR_OK,
			     "not that of process 1, and mounts reach it from elsewhere");
		return;
	}
	doctor_found(doctor, DOCTOR_WARNING,
		     "not that of process 1, and mounts and unmounts of the system do not reach "
		     "its %s%s%s",
		     root_receives ? "" : "/", root_receives || dev_receives ? "" : " and ",
		     dev_receives ? "" : "/dev");
	doctor_expected(doctor, "process 1's, or one that follows it: what is mounted at the start "
				"of a server would stay in use until its end");
	doctor_remedy(doctor, "nsenter --target 1 --mount ublkd …; in a unit: PrivateMounts=no, "
			      "PrivateTmp=no and Protect…= off, or MountFlags=slave");
}
