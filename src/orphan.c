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
 * 16 bits that say "ublkd", and of which kind, 22 of the pid, 14 of the process's start
 * time, 12 of a number that the process counts. What an older ublkd made has no number: 20
 * bits, 22, and 22.
 */
#define NUMBER_BITS 12
#define START_BITS 14
#define PID_BITS 22
#define OLD_START_BITS 22
#define MASK(bits) ((1ull << (bits)) - 1)

static const struct kind {
	uint64_t magic;
	unsigned pid_at, start_at, start_bits;
	bool lasting;
} kinds[] = {
	{ 0xb10e, NUMBER_BITS + START_BITS, NUMBER_BITS, START_BITS, false },
	{ 0xb10f, NUMBER_BITS + START_BITS, NUMBER_BITS, START_BITS, true },
	{ 0xb10cd, OLD_START_BITS, 0, OLD_START_BITS, false },
	{ 0xb10ce, OLD_START_BITS, 0, OLD_START_BITS, true },
};

/* NULL: none of ours. */
static const struct kind *kind_of(uint64_t cookie)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (cookie >> (kinds[i].pid_at + PID_BITS) == kinds[i].magic)
			return &kinds[i];
	}
	return NULL;
}

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

uint64_t orphan_cookie(bool lasting, unsigned number)
{
	const struct kind *kind = &kinds[lasting];
	unsigned pid = (unsigned)getpid();

	return kind->magic << (kind->pid_at + PID_BITS) | (uint64_t)pid << kind->pid_at |
	       (start_time(pid) & MASK(kind->start_bits)) << kind->start_at |
	       (number & MASK(NUMBER_BITS));
}

bool orphan_cookie_lasting(uint64_t cookie)
{
	const struct kind *kind = kind_of(cookie);

	return kind && kind->lasting;
}

bool orphan_cookie_ours(uint64_t cookie)
{
	return kind_of(cookie);
}

bool orphan_cookie_dead(uint64_t cookie)
{
	const struct kind *kind = kind_of(cookie);
	uint64_t start;

	if (!kind)
		return false;
	start = start_time((unsigned)(cookie >> kind->pid_at & MASK(PID_BITS)));
	return !start ||
	       (start & MASK(kind->start_bits)) != (cookie >> kind->start_at & MASK(kind->start_bits));
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

	if (result && result != -ENODEV) {
		ctrl_report(command, result);
	} else {
		hunt->removed = true;
		ublkd_note("removed the %s device %u that an earlier ublkd left",
			   hunt->info.state == UBLK_S_DEV_QUIESCED ? "waiting" : "dead", command->dev_id);
	}
	look_at_next(hunt);
}

/* One that waits for its next server is not for us, unless there never was I/O to wait. */
static bool is_orphan(const struct orphan_hunt *hunt)
{
	const struct ublk_dev_info *info = &hunt->info;
	bool lasting = orphan_cookie_lasting(info->ublksrv_flags);

	if (!orphan_cookie_dead(info->ublksrv_flags))
		return false;
	return info->state <= (lasting ? UBLK_S_DEV_DEAD : UBLK_S_DEV_LIVE) ||
	       (hunt->waits && info->state == UBLK_S_DEV_QUIESCED);
}

static void got_info(struct ctrl_command *command, int result)
{
	struct orphan_hunt *hunt = container_of(command, struct orphan_hunt, command);

	/* A second command for a device that has one in the driver would keep others waiting, too. */
	if (result || !is_orphan(hunt) ||
	    stuck_find(&command->ctrl->stuck, command->dev_id)) {
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
	command->of_user = hunt->info.flags & UBLK_F_UNPRIVILEGED_DEV;
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
	/* One that our own ring has cannot be followed by another in the same place. */
	if (command->op == UBLK_CMD_DEL_DEV && command->helper) {
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
		.op = UBLK_CMD_GET_DEV_INFO2,
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
