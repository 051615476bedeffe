/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For udev, which gives the nodes of an ordinary user's device to that user. */
#ifndef OWNER_H
#define OWNER_H

/*
 * "ublkd --owner-of NAME" of a device's node, such as ublkc3: prints the numbers of its user and
 * group. EXIT_RUNTIME, silently, for a privileged device, whose nodes stay as they are.
 */
int owner_main(int argc, char **argv);

#endif
