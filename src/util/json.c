/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "macros.h"

static size_t read_some(void *buffer, size_t size, void *fd)
{
	ssize_t got;

	do
		got = read(*(int *)fd, buffer, size);
	while (got < 0 && errno == EINTR);
	return got < 0 ? (size_t)-1 : (size_t)got;
}

json_t *json_read(int fd, size_t flags, json_error_t *error)
{
	return json_load_callback(read_some, &fd, flags, error);
}

int json_write(const json_t *json, int fd, size_t flags)
{
	_cleanup_free_ char *text = json_dumps(json, flags);
	size_t length = text ? strlen(text) : 0, done = 0;

	if (!text)
		return -ENOMEM;
	while (done < length) {
		ssize_t put = write(fd, text + done, length - done);

		if (put < 0 && errno != EINTR)
			return -errno;
		done += put > 0 ? (size_t)put : 0;
	}
	return 0;
}
