/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The exit statuses of ublkd(8). */
#ifndef EXIT_H
#define EXIT_H

enum exit_status {
	EXIT_DONE = 0,
	EXIT_RUNTIME = 1,  /* something failed while running */
	EXIT_USAGE = 2,    /* wrong command line */
	EXIT_BACKING = 3,  /* the backing cannot be used */
	EXIT_KERNEL = 4,   /* the kernel, or our rights, do not allow it */
	EXIT_TAKEN = 5,    /* the device's number, name or UUID is taken, or it is in use */
	EXIT_TIMEOUT = 6,  /* the driver did not answer */
	/* run -- COMMAND: as shells do */
	EXIT_NOT_EXECUTABLE = 126,
	EXIT_NOT_FOUND = 127,
	EXIT_SIGNAL = 128, /* + the signal's number */
};

#endif
