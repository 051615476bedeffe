/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "node.h"

#include <dirent.h>
#include <errno.h>
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

enum { WAIT_NODE, WAIT_UDEV, WAIT_SCAN, WAIT_PARTITIONS, WAIT_GONE };

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
	char path[64];

	snprintf(path, sizeof(path), "/run/udev/data/b%u:%u", major(node->device),
		 minor(node->device));
	return access("/run/udev/control", F_OK) || !access(path, F_OK);
}

/* Every partition that sysfs knows has its node. */
static bool partitions_are_there(const struct node *node)
{
	char path[64];
	bool there = true;
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/block/%s", base_name(node));
	dir = opendir(path);
	while (dir && there && (entry = readdir(dir))) {
		char partition[sizeof(entry->d_name) + 8];
		dev_t device;

		if (strncmp(entry->d_name, base_name(node), strlen(base_name(node))))
			continue;
		snprintf(partition, sizeof(partition), "/dev/%s", entry->d_name);
		there = !sysfs_device(base_name(node), entry->d_name, &device) &&
			is_block_node(partition, device);
	}
	if (dir)
		closedir(dir);
	return there;
}

static int set_permissions(const struct node *node)
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
	int ret = set_permissions(node);

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

static void look(struct node *node)
{
	bool late = ev_now(node->loop) > node->until, there;

	switch (node->step) {
	case WAIT_NODE:
		if (node_is_there(node)) {
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
		if (late || udev_is_through(node))
			scan(node);
		break;
	case WAIT_SCAN:
		break;
	case WAIT_PARTITIONS:
		if (late)
			ublkd_note("not every partition of '%s' has a node", node->path);
		if (late || partitions_are_there(node))
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

void node_await_end(struct node *node)
{
	start(node, WAIT_GONE, GONE_SECONDS);
}
