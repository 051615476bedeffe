/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who uses a block device, as far as the kernel's text files tell: mounts of
 * our mount namespace, our parent's and that of process 1, swap, and devices that
 * stand on it, loop devices among them; partitions count. Programs that have it open
 * are not looked for. Main thread.
 */
#ifndef USE_H
#define USE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * "mounted at /mnt" and the like of the device /dev/NAME in text; false: no
 * use was found. root: before all paths, "" but for tests.
 */
bool use_find(const char *root, const char *name, char *text, size_t size);
/* The same of a node "/dev/NAME". */
#define USE_TEXT_SIZE 1100
bool use_find_node(const char *node, char text[USE_TEXT_SIZE]);

#endif
