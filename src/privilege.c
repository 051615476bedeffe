/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "privilege.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/macros.h"

/* Only the first one maps all users. */
static bool in_user_namespace(void)
{
	_cleanup_file_ FILE *map = fopen("/proc/self/uid_map", "re");
	unsigned long long from, to, count;

	return map && fscanf(map, "%llu %llu %llu", &from, &to, &count) == 3 && count < UINT32_MAX;
}

bool privilege_have(unsigned capability)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return !syscall(SYS_capget, &header, data) &&
	       data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability) &&
	       !in_user_namespace();
}

static const unsigned char needed[] = {
	CAP_SYS_ADMIN,    /* commands to the driver; helpers take swap off and scan partitions */
	CAP_IPC_LOCK,     /* what is mapped later is locked as well */
	CAP_DAC_OVERRIDE, /* backings, and nodes, of other users */
	CAP_FOWNER,       /* reads leave their access time alone; mode= */
	CAP_CHOWN,        /* owner= */
	CAP_SYS_RESOURCE, /* what root may fill a file system to; helpers are no IO_FLUSHER */
};

/* Those that a process keeps. */
struct kept {
	const unsigned char *list;
	size_t count;
};

static bool is_kept(const struct kept *kept, unsigned capability)
{
	for (size_t i = 0; i < kept->count; i++) {
		if (kept->list[i] == capability)
			return true;
	}
	return false;
}

/* A program of root's would have all that is not taken from this set. */
static int bound(const struct kept *kept)
{
	int ret = 0, there;

	for (unsigned c = 0; (there = prctl(PR_CAPBSET_READ, c, 0, 0, 0)) >= 0; c++) {
		if (there && !is_kept(kept, c) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0))
			ret = -errno;
	}
	return ret;
}

static int keep(const struct kept *kept)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	uint32_t mask[_LINUX_CAPABILITY_U32S_3] = { 0 };

	for (size_t i = 0; i < kept->count; i++)
		mask[CAP_TO_INDEX(kept->list[i])] |= CAP_TO_MASK(kept->list[i]);
	if (syscall(SYS_capget, &header, data))
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(data); i++) {
		data[i].permitted &= mask[i];
		data[i].effective &= mask[i];
		data[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &header, data) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return 0;
}

int privilege_reduce(void)
{
	const struct kept kept = { needed, ARRAY_SIZE(needed) };
	int bounded = bound(&kept), ret = keep(&kept);

	return ret ? ret : bounded;
}

int privilege_bound_none(void)
{
	return bound(&(struct kept){ 0 });
}

int privilege_drop(void)
{
	return keep(&(struct kept){ 0 });
}
