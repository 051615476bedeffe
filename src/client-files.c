/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "client-files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "exit.h"
#include "log.h"
#include "util/macros.h"

/* What is no file, such as a pipe, is not waited for: the server says what it expects. */
#define FLAGS (O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

static int open_with(const char *path, int flags, mode_t mode)
{
	int fd = open(path, flags | FLAGS, mode);

	return fd < 0 ? -errno : fd;
}

static int open_there(const char *path, bool read_only)
{
	int fd = open_with(path, read_only ? O_RDONLY : O_RDWR, 0), ro_fd;

	if (read_only || (fd != -EACCES && fd != -EROFS && fd != -EPERM))
		return fd;
	ro_fd = open_with(path, O_RDONLY, 0);
	if (ro_fd < 0)
		return fd;
	ublkd_note("'%s' cannot be written (%s): the device is read-only", path, strerror(-fd));
	return ro_fd;
}

static int make(const char *path, mode_t mode, char **made)
{
	int fd = open_with(path, O_RDWR | O_CREAT | O_EXCL, mode);

	if (fd >= 0)
		*made = strdup(path);
	return fd;
}

int client_files_open(struct client_files *files, const char *path, bool read_only,
		      enum client_makes makes)
{
	char **made = &files->made[files->count];
	int fd;

	if (files->count == CLIENT_FILES) {
		ublkd_error("expected at most %u files, got '%s' as one more", CLIENT_FILES, path);
		return EXIT_USAGE;
	}
	fd = makes == MAKES_NEW ? make(path, 0666, made) : open_there(path, read_only);
	/* What is in memory alone is nobody else's. */
	if (fd == -ENOENT && makes == MAKES_MISSING)
		fd = make(path, 0600, made);
	if (fd < 0) {
		ublkd_error("cannot %s '%s': %s", makes == MAKES_NEW ? "create" : "open", path,
			    strerror(-fd));
		return EXIT_BACKING;
	}
	files->fds[files->count++] = fd;
	return EXIT_DONE;
}

void client_files_close(struct client_files *files, bool unused)
{
	for (unsigned i = 0; i < files->count; i++) {
		if (files->made[i] && unused)
			unlink(files->made[i]);
		free(files->made[i]);
		close(files->fds[i]);
	}
	*files = (struct client_files){ 0 };
}
