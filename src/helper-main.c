/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the helper process does: one thing that may wait for our own I/O. */
#include "helper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/swap.h>
#include <time.h>

#include "ctrl.h"
#include "exit.h"
#include "guard.h"
#include "log.h"
#include "util/macros.h"
#include "util/parse.h"
#include "util/self.h"

#define RESCAN_TRIES 500
#define RESCAN_PAUSE_NS 10000000 /* 10 ms */

static void pause_briefly(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = RESCAN_PAUSE_NS }, NULL);
}

/* EINVAL: the kernel still suppresses scans, as its own is yet to come. */
static int scan_once(int fd)
{
	for (int i = 0; i < RESCAN_TRIES; i++) {
		if (!ioctl(fd, BLKRRPART) || errno == EBUSY)
			return 0;
		if (errno != EINVAL)
			return -errno;
		pause_briefly();
	}
	return -ETIMEDOUT;
}

/*
 * Where the kernel scans in a work item of its own, it allows other scans
 * just before it begins. The second one comes behind it.
 */
static int rescan(int fd)
{
	int ret = scan_once(fd);

	if (ret)
		return ret;
	pause_briefly();
	return scan_once(fd);
}

static int drop_partitions(int fd)
{
	struct blkpg_partition partition = { 0 };
	struct blkpg_ioctl_arg arg = {
		.op = BLKPG_DEL_PARTITION, .datalen = sizeof(partition), .data = &partition,
	};

	rescan(fd);
	for (partition.pno = 1; partition.pno <= 255; partition.pno++) {
		for (int i = 0; ioctl(fd, BLKPG, &arg) && errno == EBUSY && i < RESCAN_TRIES; i++)
			pause_briefly();
	}
	return 0;
}

/*
 * BLKFLSBUF reaches the file system that is mounted, fsync() the cache of the server. An
 * ordinary user may not do the first, nor mount anything.
 */
static int write_back(int fd)
{
	int ret = ioctl(fd, BLKFLSBUF) ? -errno : 0;

	if (fsync(fd))
		return -errno;
	return ret == -EACCES ? -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) : ret;
}

static int write_name_back(const char *name)
{
	_cleanup_fd_ int fd = -1;
	char path[300];

	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : write_back(fd);
}

/*
 * What stands on the device of this folder in sysfs, the topmost first, and swap: once the
 * node is gone, nobody could take it off any more.
 */
static int release(const char *folder, const char *name)
{
	char path[PATH_MAX];
	struct dirent *entry;
	int ret = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/holders", folder);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		int last;

		if (entry->d_name[0] == '.' || snprintf(path, sizeof(path), "%s/holders/%s", folder,
							entry->d_name) >= (int)sizeof(path))
			continue;
		last = release(path, entry->d_name);
		if (!last)
			last = write_name_back(entry->d_name);
		ret = ret ? ret : last;
	}
	if (dir)
		closedir(dir);
	snprintf(path, sizeof(path), "/dev/%s", name);
	if (!swapoff(path))
		ublkd_note("swap is taken off '%s'", path);
	return ret;
}

/* The partitions have caches of their own. */
static int write_all_back(int fd, const char *node, bool released)
{
	const char *disk = node + strlen("/dev/");
	char path[64], part[320];
	struct dirent *entry;
	int ret = 0, last;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/block/%s", disk);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, disk, strlen(disk)))
			continue;
		snprintf(part, sizeof(part), "%s/%s", path, entry->d_name);
		last = released ? release(part, entry->d_name) : 0;
		ret = ret ? ret : last;
		last = write_name_back(entry->d_name);
		ret = ret ? ret : last;
	}
	if (dir)
		closedir(dir);
	last = released ? release(path, disk) : 0;
	ret = ret ? ret : last;
	last = write_back(fd);
	return ret ? ret : last;
}

/*
 * Only the driver knows whose device it is, and where that is not an ordinary user's it looks at
 * no path: but then it would take it for the buffer.
 */
static bool is_of_user(bool known, size_t buffer)
{
	return known || !buffer;
}

/* One command after another, until nobody orders any more. The title is ours to write to. */
static int control(char *title)
{
	size_t size = strlen(title) + 1;
	struct ctrl_outcome outcome;
	struct ctrl_order order;
	struct ctrl ctrl;
	int error = ctrl_open_alone(&ctrl);
	ssize_t got;

	/* What has not run for days would be swapped out, maybe to a device that waits for it. */
	if (!strncmp(title, HELPER_SPARE, strlen(HELPER_SPARE)))
		guard_memory();
	for (;;) {
		memset(title, 0, size);
		got = recv(STDIN_FILENO, &order, sizeof(order), 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < (ssize_t)ctrl_order_size(0) || (size_t)got != ctrl_order_size(order.length))
			return got ? EXIT_USAGE : EXIT_DONE;
		stuck_title(title, size, &order.info);
		outcome.result = error ? error : ctrl_run(&ctrl, &(struct ctrl_command){
			.op = order.op,
			.dev_id = order.dev_id,
			.buffer = order.length ? order.buffer : NULL,
			.length = order.length,
			.data = order.data,
			.of_user = is_of_user(order.of_user, order.length),
		});
		memcpy(outcome.buffer, order.buffer, order.length);
		if (send(STDIN_FILENO, &outcome, ctrl_outcome_size(order.length), MSG_NOSIGNAL) < 0)
			return EXIT_RUNTIME;
	}
}

static int on_node(const char *verb, const char *node)
{
	bool probe = !strcmp(verb, HELPER_PROBE);
	_cleanup_fd_ int fd = open(node, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (probe ? O_EXCL : 0));
	int ret = 0;

	if (fd < 0 && !probe)
		ublkd_error("%s: cannot open '%s': %s", verb, node, strerror(errno));
	if (fd < 0)
		return EXIT_RUNTIME;
	if (!strcmp(verb, HELPER_RESCAN))
		ret = rescan(fd);
	else if (!strcmp(verb, HELPER_DROP))
		ret = drop_partitions(fd);
	else if (!strcmp(verb, HELPER_WRITE_BACK))
		ret = write_all_back(fd, node, false);
	else if (!strcmp(verb, HELPER_RELEASE))
		ret = write_all_back(fd, node, true);
	else if (!probe)
		return EXIT_USAGE;
	if (ret)
		ublkd_error("%s of '%s': %s", verb, node, strerror(-ret));
	return !ret ? EXIT_DONE : ret == -EIO || ret == -ENOSPC ? EXIT_BACKING : EXIT_RUNTIME;
}

static int set_size(uint32_t id, uint64_t sectors)
{
	return ctrl_run_one(&(struct ctrl_command){
		.op = UBLK_CMD_UPDATE_SIZE, .dev_id = id, .data = sectors,
		.of_user = is_of_user(false, 0),
	});
}

/*
 * Claimed, it cannot be mounted meanwhile. What is cached is written back while
 * there is room for it, and forgotten, as it would show again if it grew.
 */
static int shrink(const char *node, const char *id, const char *sectors)
{
	_cleanup_fd_ int fd = open(node, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_EXCL);
	uint64_t number, size;
	int ret;

	if (parse_uint(id, &number) || parse_uint(sectors, &size))
		return EINVAL;
	if (fd < 0)
		return errno;
	ret = write_all_back(fd, node, false);
	return -(ret ? ret : set_size((uint32_t)number, size));
}

/* What it waits for may come never, once nobody serves the device. */
static bool ends_with(const char *parent)
{
	return !prctl(PR_SET_PDEATHSIG, SIGKILL) && getppid() == (pid_t)atoi(parent);
}

int helper_main(int argc, char **argv)
{
	self_set_name("ublkd-helper", NULL);
	log_inherit_levels();
	if (argc > 2 && !strcmp(argv[2], HELPER_LOGS)) {
		log_to_syslog();
		argc--;
		argv++;
	}
	if (argc > 5 && !strcmp(argv[2], HELPER_OF)) {
		if (!ends_with(argv[3]))
			return EXIT_RUNTIME;
		log_switch(argv[4]);
		argc -= 3;
		argv += 3;
	}
	/* What a control command frees, or lets go on, memory may wait for; the rest uses devices. */
	if (argc > 2 && strcmp(argv[2], HELPER_CONTROL))
		guard_give_back();
	if (argc == 4 && !strcmp(argv[2], HELPER_CONTROL))
		return control(argv[3]);
	if (argc == 6 && !strcmp(argv[2], HELPER_SHRINK))
		return shrink(argv[3], argv[4], argv[5]);
	if (argc == 3 && !strcmp(argv[2], HELPER_NOTHING))
		return EXIT_DONE;
	return argc == 4 ? on_node(argv[2], argv[3]) : EXIT_USAGE;
}
