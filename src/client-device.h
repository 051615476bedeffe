/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that a client names by a path, as it is the client who knows what its paths lead
 * to, and a path may take any time.
 */
#ifndef CLIENT_DEVICE_H
#define CLIENT_DEVICE_H

#define CLIENT_DEVICE_SIZE 64

/*
 * What the server is to be told instead of text: of a path that leads to a ublk device the path
 * that the kernel has for that, in buffer; of a link by name or UUID that is not there that name
 * or UUID; of all else text itself. NULL after an error text. root: before the kernel's own paths,
 * "" but for tests.
 */
const char *client_device_name(const char *root, const char *text, char buffer[CLIENT_DEVICE_SIZE]);

#endif
