/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "backend.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "util/macros.h"

#define BACKEND(name) extern const struct ublkd_backend name##_backend;
#include "../backends/list.h"
#undef BACKEND

const struct ublkd_backend *const backends[] = {
#define BACKEND(name) &name##_backend,
#include "../backends/list.h"
#undef BACKEND
	NULL,
};

const struct ublkd_backend *backend_find(const char *name)
{
	for (unsigned i = 0; backends[i]; i++) {
		if (!strcmp(backends[i]->name, name))
			return backends[i];
	}
	return NULL;
}

/* What a backend promises must make sense, whatever it stands on. */
static void check_target(const struct ublkd_target *target)
{
	assert(!target->logical_block_size || is_power_of_two(target->logical_block_size));
	assert(!target->dio_align || is_power_of_two(target->dio_align));
	assert(target->nr_files <= UBLKD_TARGET_FILES);
	assert(target->sqes_per_io <= UBLKD_SQES_PER_IO);
	assert(!target->fua || target->volatile_cache);
}

/*
 * To look whether the time is due costs a direct read of 4 KiB 1 % of its CPU,
 * and to write it makes reads into writes. Only the owner may ask for that; for
 * others all stays as it was.
 */
static void leave_access_times(const struct ublkd_target *target)
{
	for (unsigned i = 0; i < target->nr_files; i++) {
		int flags = fcntl(target->files[i], F_GETFL);

		if (flags >= 0)
			fcntl(target->files[i], F_SETFL, flags | O_NOATIME);
	}
}

int backend_open(struct ublkd_target **target, const struct ublkd_backend *backend,
		 const void *config, const struct ublkd_wish *wish, struct ublkd_target *lower)
{
	struct ublkd_target *t = calloc(1, backend->state_size);
	int ret;

	assert(backend->name && backend->open && backend->submit &&
	       backend->state_size >= sizeof(*t));
	if (!t) {
		ublkd_error("%s: no memory", backend->name);
		return -ENOMEM;
	}
	t->ops = backend;
	t->lower = lower;
	ret = backend->open(t, config, wish);
	if (ret) {
		free(t);
		return ret;
	}
	check_target(t);
	leave_access_times(t);
	*target = t;
	return 0;
}

int backend_sync(const struct ublkd_target *target)
{
	for (; target; target = target->lower) {
		for (unsigned i = 0; i < target->nr_files; i++) {
			if (!fsync(target->files[i]))
				continue;
			ublkd_error("cannot write what is cached of the backing: %s", strerror(errno));
			return -errno;
		}
	}
	return 0;
}

void backend_close(struct ublkd_target *target, bool used)
{
	while (target) {
		struct ublkd_target *lower = target->lower;

		target->unused = !used;
		if (target->ops->close)
			target->ops->close(target);
		free(target);
		target = lower;
	}
}

int backend_measure(struct ublkd_target *target, uint64_t *size)
{
	if (target->ops->measure)
		return target->ops->measure(target, size);
	ublkd_error("size: expected SIZE, as the backend '%s' stands on nothing that has one, got "
		    "none", target->ops->name);
	return -EINVAL;
}

int backend_resize(struct ublkd_target *target, uint64_t size)
{
	if (target->ops->resize)
		return target->ops->resize(target, size);
	ublkd_error("size: expected none, as that of the backend '%s' cannot be changed, got '%"
		    PRIu64 "'", target->ops->name, size);
	return -EOPNOTSUPP;
}

void backend_resized(struct ublkd_target *target, uint64_t size)
{
	target->size = size;
	if (target->ops->resized)
		target->ops->resized(target);
}

uint64_t ublkd_kept_size(const struct ublkd_wish *wish, uint64_t option)
{
	return wish->resized || !option ? wish->size : 0;
}

int ublkd_passed_open(const struct ublkd_wish *wish, const char *option)
{
	const struct ublkd_passed *passed = wish->passed;
	int fd;

	while (passed && passed->option && strcmp(passed->option, option))
		passed++;
	if (!passed || !passed->option)
		return -ENOENT;
	fd = fcntl(passed->fd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0)
		return fd;
	ublkd_error("%s: cannot use the file that was passed: %s", option, strerror(errno));
	return -errno;
}

void ublkd_target_like_lower(struct ublkd_target *target)
{
	const struct ublkd_backend *ops = target->ops;
	struct ublkd_target *lower = target->lower;

	*target = *lower;
	target->ops = ops;
	target->lower = lower;
}

int ublkd_lower_submit(struct ublkd_target *target, struct ublkd_io *io)
{
	return target->lower->ops->submit(target->lower, io);
}

int ublkd_lower_measure(struct ublkd_target *target, uint64_t *size)
{
	return backend_measure(target->lower, size);
}

int ublkd_lower_resize(struct ublkd_target *target, uint64_t size)
{
	return backend_resize(target->lower, size);
}

void ublkd_lower_resized(struct ublkd_target *target)
{
	backend_resized(target->lower, target->size);
}
