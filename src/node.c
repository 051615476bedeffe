/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "node.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "log.h"
#include "util/macros.h"
#include "util/parse.h"

#define POLL_SECONDS 0.01
#define NODE_SECONDS 10
#define UDEV_SECONDS 10
#define SCAN_SECONDS 30
#define GONE_SECONDS 10

enum { WAIT_NODE, WAIT_UDEV, WAIT_NAMES, WAIT_SCAN, WAIT_PARTITIONS, WAIT_GONE };

static void look(struct node *node);

/* Most often there is nothing to wait for. */
static void wait_for(struct node *node, int step, double seconds)
{
	node->step = step;
	node->until = ev_now(node->loop) + seconds;
	ev_timer_again(node->loop, &node->timer);
	look(node);
}

static void finish(struct node *node, int error)
{
	ev_timer_stop(node->loop, &node->timer);
	node->ready(node, error);
}

/* The number that sysfs gives for the disk or one of its partitions. */
static int sysfs_device(const char *name, const char *partition, dev_t *device)
{
	char path[256], text[32] = "";
	_cleanup_file_ FILE *file = NULL;
	unsigned major, minor;

	snprintf(path, sizeof(path), "/sys/block/%s/%s%sdev", name, partition,
		 *partition ? "/" : "");
	file = fopen(path, "re");
	if (!file || !fgets(text, sizeof(text), file) ||
	    sscanf(text, "%u:%u", &major, &minor) != 2)
		return -ENOENT;
	*device = makedev(major, minor);
	return 0;
}

static bool is_block_node(const char *path, dev_t device)
{
	struct stat st;

	return !stat(path, &st) && S_ISBLK(st.st_mode) && st.st_rdev == device;
}

static const char *base_name(const struct node *node)
{
	return node->path + strlen("/dev/");
}

int node_sectors(unsigned id, uint64_t *sectors)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/block/ublkb%u/size", id);
	return read_uint_file(path, sectors);
}

static bool node_is_there(struct node *node)
{
	uint64_t sectors;

	return !sysfs_device(base_name(node), "", &node->device) &&
	       is_block_node(node->path, node->device) && !node_sectors(node->id, &sectors) &&
	       sectors == node->sectors;
}

static bool udev_is_through(const struct node *node)
{
	return !udev_is_running() || udev_record(node->device);
}

static bool partition_is_there(const struct node *node, const char *name)
{
	char path[NAME_MAX + 8];
	dev_t device;

	snprintf(path, sizeof(path), "/dev/%s", name);
	/* udev opens it, which is no use of the device by anybody. */
	return !sysfs_device(base_name(node), name, &device) && is_block_node(path, device) &&
	       (!udev_is_running() || udev_record(device));
}

/* Where udev has seen it before the disk had its names. */
static bool partition_is_asked_for(const struct node *node, const char *name)
{
	char folder[NAME_MAX + NODE_NAME_MAX];
	dev_t device;

	snprintf(folder, sizeof(folder), "%s/%s", base_name(node), name);
	if (!sysfs_device(base_name(node), name, &device) && !udev_has_names(device, &node->names))
		udev_look_again(folder);
	return true;
}

/* Of all that sysfs knows, until it is false for one. */
static bool all_partitions(const struct node *node,
			   bool (*holds)(const struct node *node, const char *name))
{
	char path[64];
	bool all = true;
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/block/%s", base_name(node));
	dir = opendir(path);
	while (dir && all && (entry = readdir(dir))) {
		if (!strncmp(entry->d_name, base_name(node), strlen(base_name(node))))
			all = holds(node, entry->d_name);
	}
	if (dir)
		closedir(dir);
	return all;
}

int node_set_permissions(const struct node *node)
{
	if ((node->uid != (uid_t)-1 || node->gid != (gid_t)-1) &&
	    chown(node->path, node->uid, node->gid)) {
		ublkd_error("cannot set the owner of '%s': %s", node->path, strerror(errno));
		return -errno;
	}
	if (node->mode >= 0 && chmod(node->path, (mode_t)node->mode)) {
		ublkd_error("cannot set the mode of '%s': %s", node->path, strerror(errno));
		return -errno;
	}
	return 0;
}

static void scanned(struct helper *helper, int status)
{
	struct node *node = container_of(helper, struct node, helper);

	if (status)
		ublkd_note("the partitions of '%s' could not be %s", node->path,
			   node->partscan ? "scanned" : "dropped");
	wait_for(node, WAIT_PARTITIONS, UDEV_SECONDS);
}

static void scan(struct node *node)
{
	int ret = node_set_permissions(node);

	if (ret) {
		finish(node, ret);
		return;
	}
	if (!node->partscan && node->never_scanned) {
		wait_for(node, WAIT_PARTITIONS, UDEV_SECONDS);
		return;
	}
	ev_timer_stop(node->loop, &node->timer);
	node->step = WAIT_SCAN;
	node->helper.done = scanned;
	ret = helper_start(&node->helper, node->loop,
			   (const char *const[]){ node->partscan ? HELPER_RESCAN : HELPER_DROP,
						  node->path, NULL }, SCAN_SECONDS);
	if (ret)
		scanned(&node->helper, -1);
}

/* The first event of the disk is from before it had names, or a moment later. */
static void await_names(struct node *node)
{
	if (!udev_is_running() || udev_has_names(node->device, &node->names)) {
		scan(node);
		return;
	}
	node->record = udev_record(node->device);
	node->asked = true;
	udev_look_again(base_name(node));
	wait_for(node, WAIT_NAMES, UDEV_SECONDS);
}

/* Without our rules it never has them, and that it has looked again is all there is to wait for. */
static bool udev_has_looked_again(const struct node *node)
{
	return udev_has_names(node->device, &node->names) ||
	       udev_record(node->device) != node->record;
}

static bool is_given(const struct node *node)
{
	return !node->of_user || !access(node->path, R_OK | W_OK);
}

static void look_for_udev(struct node *node, bool late)
{
	if (is_given(node) && late) {
		scan(node);
	} else if (is_given(node) && udev_is_through(node)) {
		await_names(node);
	} else if (late) {
		ublkd_error("'%s' may not be read and written: expected udev to give it to user %u, "
			    "by " UDEV_OWNER_RULES, node->path, (unsigned)geteuid());
		finish(node, -EACCES);
	}
}

static bool has_names(const struct node *node)
{
	return node->names.name || node->names.uuid;
}

static void look(struct node *node)
{
	bool late = ev_now(node->loop) > node->until, there;

	switch (node->step) {
	case WAIT_NODE:
		if (node_is_there(node)) {
			if (has_names(node))
				udev_name(node->id, &node->names);
			wait_for(node, WAIT_UDEV, UDEV_SECONDS);
		} else if (late) {
			ublkd_error("'%s' did not appear as a block device of %llu sectors within "
				    "%d s; expected devtmpfs or udev to make the node", node->path,
				    (unsigned long long)node->sectors, NODE_SECONDS);
			finish(node, -ETIMEDOUT);
		}
		break;
	case WAIT_UDEV:
		if (late)
			ublkd_note("udev has not handled '%s' within %d s", node->path,
				   UDEV_SECONDS);
		look_for_udev(node, late);
		break;
	case WAIT_NAMES:
		if (late || udev_has_looked_again(node))
			scan(node);
		break;
	case WAIT_SCAN:
		break;
	case WAIT_PARTITIONS:
		if (late)
			ublkd_note("not every partition of '%s' has a node", node->path);
		if (!late && !all_partitions(node, partition_is_there))
			break;
		if (node->asked)
			all_partitions(node, partition_is_asked_for);
		finish(node, 0);
		break;
	case WAIT_GONE:
		there = is_block_node(node->path, node->device);
		if (!there || late) {
			ev_timer_stop(node->loop, &node->timer);
			node->gone(node, !there);
		}
		break;
	}
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct node *node = container_of(timer, struct node, timer);
	const char *before = log_switch(node->about);

	(void)loop;
	(void)events;
	look(node);
	log_switch(before);
}

static void start(struct node *node, int step, double seconds)
{
	/* The first look is at once. */
	ev_timer_init(&node->timer, on_timer, 0, POLL_SECONDS);
	ev_timer_start(node->loop, &node->timer);
	node->step = step;
	node->until = ev_now(node->loop) + seconds;
	node->about = log_about();
}

void node_publish(struct node *node)
{
	snprintf(node->path, sizeof(node->path), "/dev/ublkb%u", node->id);
	ev_now_update(node->loop);
	start(node, WAIT_NODE, NODE_SECONDS);
}

void node_abandon(struct node *node)
{
	ev_timer_stop(node->loop, &node->timer);
	if (node->step == WAIT_SCAN)
		helper_abandon(&node->helper);
	node->step = WAIT_NODE;
}

ino_t node_in_driver(unsigned id)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/sys/class/ublk-char/ublkc%u", id);
	return stat(path, &st) ? 0 : st.st_ino;
}

void node_await_end(struct node *node)
{
	start(node, WAIT_GONE, GONE_SECONDS);
}
