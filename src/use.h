/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who uses a block device, as far as the kernel's text files tell: mounts of
 * our mount namespace, our parent's and that of process 1, swap, and devices that
 * stand on it, loop devices among them; or programs that have it open. Partitions
 * count. Main thread.
 */
#ifndef USE_H
#define USE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * "mounted at /mnt" and the like of the device /dev/NAME in text; false: no
 * use was found. root: before all paths, "" but for tests. What stands on it is named as the
 * kernel does, and with its name in device mapper.
 */
bool use_find(const char *root, const char *name, char *text, size_t size);
/* The same of a node "/dev/NAME". */
#define USE_TEXT_SIZE 1100
bool use_find_node(const char *node, char text[USE_TEXT_SIZE]);
/*
 * Unmounts what is mounted of the node "/dev/NAME" in our mount namespace, and switches swap on it
 * off. 0: it has no such use there any more; -errno, and the first place that could not be given up.
 * It may take as long as all that is dirty takes to be written, and goes to the folder "/".
 */
#define USE_PLACE_SIZE 4096
int use_end_node(const char *node, char place[USE_PLACE_SIZE]);
/*
 * "open by process 123 (dd)", by the paths that the kernel has for open files; udev is not told of,
 * which looks at each device that comes or changes. Of other users' processes, and of those that may
 * do more than we, only who has CAP_SYS_PTRACE sees what they have open.
 */
struct use_open {
	struct use_open *next;
	char name[32]; /* of the device /dev/NAME */
	bool found;    /* and then text says by whom */
	char text[80];
};

/* Each process is looked at once, however many devices there are; found is false before. */
void use_find_open(const char *root, struct use_open *devices);
bool use_find_open_node(const char *node, char text[USE_TEXT_SIZE]);

#endif
