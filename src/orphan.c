/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "orphan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "util/macros.h"

/*
 * 20 bits that say "ublkd", and of which kind, 22 of the pid, 22 of the process's
 * start time.
 */
#define COOKIE_MAGIC 0xb10cdull
#define COOKIE_LASTING_MAGIC 0xb10ceull
#define COOKIE_BITS 22
#define COOKIE_MASK ((1ull << COOKIE_BITS) - 1)

/* Start time of a process in clock ticks since boot (proc(5)); 0: no such process. */
static uint64_t start_time(unsigned pid)
{
	_cleanup_file_ FILE *file = NULL;
	char path[32], line[512];
	const char *p;
	uint64_t ticks = 0;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	file = fopen(path, "re");
	if (!file || !fgets(line, sizeof(line), file))
		return 0;
	/* Field 22; the name, field 2, may hold anything but ends with ')'. */
	p = strrchr(line, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (p)
		sscanf(p, "%" SCNu64, &ticks);
	return ticks;
}

static uint64_t cookie_of(unsigned pid, uint64_t magic)
{
	return magic << 2 * COOKIE_BITS | (uint64_t)pid << COOKIE_BITS |
	       (start_time(pid) & COOKIE_MASK);
}

uint64_t orphan_cookie(bool lasting)
{
	return cookie_of((unsigned)getpid(), lasting ? COOKIE_LASTING_MAGIC : COOKIE_MAGIC);
}

bool orphan_cookie_lasting(uint64_t cookie)
{
	return cookie >> 2 * COOKIE_BITS == COOKIE_LASTING_MAGIC;
}

bool orphan_cookie_ours(uint64_t cookie)
{
	return cookie >> 2 * COOKIE_BITS == COOKIE_MAGIC || orphan_cookie_lasting(cookie);
}

bool orphan_cookie_dead(uint64_t cookie)
{
	return orphan_cookie_ours(cookie) &&
	       cookie_of((unsigned)(cookie >> COOKIE_BITS & COOKIE_MASK),
			 cookie >> 2 * COOKIE_BITS) != cookie;
}

/*
 * Its process may look dead from here and live in another PID namespace, but
 * then the process has the character device open, which only one can.
 */
static bool is_held(uint32_t id)
{
	char node[32];
	_cleanup_fd_ int fd = -1;

	snprintf(node, sizeof(node), "/dev/ublkc%u", id);
	fd = open(node, O_RDWR | O_CLOEXEC);
	return fd < 0 && errno == EBUSY;
}

/*
 * The kernel may hold it for a moment after the process is gone: until the
 * I/O that its ring had in the backing has ended. Worth waiting for where the
 * caller needs this number; another may be in use in another namespace.
 */
#define LOOKS 100
#define LOOK_SECONDS 0.1

static void look_at_next(struct orphan_hunt *hunt);
static void look_at(struct orphan_hunt *hunt, uint32_t id);

static void look_again(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct orphan_hunt *hunt = container_of(timer, struct orphan_hunt, timer);
	const char *before = log_switch(hunt->command.about);

	(void)loop;
	(void)events;
	look_at(hunt, hunt->wanted);
	log_switch(before);
}

static void deleted(struct ctrl_command *command, int result)
{
	struct orphan_hunt *hunt = container_of(command, struct orphan_hunt, command);

	if (result && result != -ENODEV)
		ctrl_report(command, result);
	else
		ublkd_note("removed the dead device %u that an earlier ublkd left", command->dev_id);
	look_at_next(hunt);
}

/* One that waits for its next server is not for us, unless there never was I/O to wait. */
static bool is_orphan(const struct ublk_dev_info *info)
{
	uint16_t most = orphan_cookie_lasting(info->ublksrv_flags) ? UBLK_S_DEV_DEAD :
								     UBLK_S_DEV_LIVE;

	return info->state <= most && orphan_cookie_dead(info->ublksrv_flags);
}

static void got_info(struct ctrl_command *command, int result)
{
	struct orphan_hunt *hunt = container_of(command, struct orphan_hunt, command);

	if (result || !is_orphan(&hunt->info)) {
		look_at_next(hunt);
		return;
	}
	if (is_held(command->dev_id)) {
		if (command->dev_id != hunt->wanted || ++hunt->looks == LOOKS) {
			look_at_next(hunt);
			return;
		}
		ev_timer_init(&hunt->timer, look_again, LOOK_SECONDS, 0);
		ev_timer_start(command->ctrl->loop, &hunt->timer);
		return;
	}
	command->op = UBLK_CMD_DEL_DEV;
	command->buffer = NULL;
	command->length = 0;
	command->deadline = 10;
	command->done = deleted;
	ctrl_issue(command->ctrl, command);
}

static void late(struct ctrl_command *command)
{
	struct orphan_hunt *hunt = container_of(command, struct orphan_hunt, command);

	if (hunt->given_up)
		return;
	if (command->op == UBLK_CMD_DEL_DEV) {
		ublkd_note("the dead device %u is still open or mounted: it goes with its last user",
			   command->dev_id);
		ctrl_abandon(command);
		look_at_next(hunt);
		return;
	}
	ublkd_error("%s for device %u has not ended within %.0f s: the driver does not answer",
		    ctrl_op_name(command->op), command->dev_id, command->deadline);
	hunt->given_up = true;
	hunt->done(hunt);
}

static void look_at(struct orphan_hunt *hunt, uint32_t id)
{
	struct ctrl *ctrl = hunt->command.ctrl;

	hunt->command = (struct ctrl_command){
		.op = UBLK_CMD_GET_DEV_INFO,
		.dev_id = id,
		.buffer = &hunt->info,
		.length = sizeof(hunt->info),
		.deadline = 10,
		.done = got_info,
		.late = late,
	};
	ctrl_issue(ctrl, &hunt->command);
}

static void look_at_next(struct orphan_hunt *hunt)
{
	if (hunt->given_up)
		return;
	if (hunt->next == hunt->count) {
		free(hunt->ids);
		hunt->ids = NULL;
		hunt->done(hunt);
		return;
	}
	look_at(hunt, hunt->ids[hunt->next++]);
}

static void list_devices(struct orphan_hunt *hunt)
{
	DIR *dir = opendir("/sys/class/ublk-char");
	struct dirent *entry;
	unsigned room = 0;

	while (dir && (entry = readdir(dir))) {
		uint32_t id;

		if (sscanf(entry->d_name, "ublkc%" SCNu32, &id) != 1 ||
		    (hunt->no_others && id != hunt->wanted))
			continue;
		if (hunt->count == room) {
			uint32_t *ids = realloc(hunt->ids, (room += 64) * sizeof(*ids));

			if (!ids)
				break;
			hunt->ids = ids;
		}
		hunt->ids[hunt->count++] = id;
	}
	if (dir)
		closedir(dir);
}

void orphan_hunt(struct orphan_hunt *hunt, struct ctrl *ctrl)
{
	if (!hunt->no_others || hunt->wanted != UBLK_DEV_ID_ANY)
		list_devices(hunt);
	hunt->command.ctrl = ctrl;
	look_at_next(hunt);
}
