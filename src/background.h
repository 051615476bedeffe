/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running behind the terminal: the parent waits until the child says that the
 * device is usable, or until it failed, and passes on either. Main thread,
 * before there are others.
 */
#ifndef BACKGROUND_H
#define BACKGROUND_H

struct background {
	int report_fd; /* child: to the parent; -1: running in the foreground */
};

/*
 * Forks. In the child returns -1 and goes on; in the parent returns the exit
 * status once that is known, or an error's.
 */
int background_start(struct background *background);
/* child: prints the lines on the parent's stdout and lets go of the terminal. */
void background_ready(struct background *background, const char *lines);

/* Writes our pid to the file; -errno after an error text. */
int pid_file_write(const char *path);

#endif
