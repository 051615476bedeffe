/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a user can ask of a device, whatever its backend, and the plan that
 * follows from it and from what the backend found: pure arithmetic, done and
 * checked before the device exists.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <ublkd/backend.h>
#include <ublkd/ublk_abi.h>

#include "buffer.h"
#include "option.h"
#include "queue.h"
#include "ring.h"

enum tristate { TRI_AUTO, TRI_NO, TRI_YES };
enum schedule_mode { SCHEDULE_ADAPT, SCHEDULE_LEAVE };
/* What becomes of a device whose server died. */
enum on_crash {
	ON_CRASH_AUTO,
	ON_CRASH_REISSUE, /* it waits, and what was not done is done by the next server */
	ON_CRASH_FAIL,    /* it waits, but what had begun fails */
	ON_CRASH_ERROR,   /* it fails all until the next server */
	ON_CRASH_NONE,    /* it goes */
};

/* What becomes of a device whose worker has died too often; the supervisor reads it. */
enum give_up {
	GIVE_UP_WAIT, /* it waits until somebody has another started */
	GIVE_UP_FAIL, /* its I/O fails, and it goes */
};

/* Filled in through device_options. */
struct device_config {
	uint64_t id;
	char *uuid;                   /* NULL: chosen, see table_choose_uuid() */
	uint64_t queues;
	uint64_t depth;
	uint64_t reactors;            /* 0: one per queue */
	char *cpus;                   /* NULL: as the kernel spreads the queues */
	uint64_t max_io;
	uint64_t block_size;          /* 0: the backend's */
	uint64_t physical_block_size; /* 0: the backend's */
	bool read_only;
	int rotational;               /* enum tristate */
	int data;                     /* enum data_mode */
	uint64_t memory;              /* 0: chosen from the machine's */
	int huge_pages;               /* enum huge_pages */
	int link;                     /* enum link_mode */
	int ring;                     /* enum ring_mode */
	int schedule;                 /* enum schedule_mode */
	uint64_t poll;                /* microseconds */
	int batch;                    /* enum tristate */
	int on_crash;                 /* enum on_crash */
	int give_up;                  /* enum give_up */
	uint64_t max_deaths;          /* 0: as many as the supervisor chooses */
	bool partscan;
	bool autoclear;
	char *owner;
	char *worker;                 /* NULL: one of its own */
	uint32_t mode;
	int unprivileged;             /* enum tristate */
	bool id_given, mode_given;    /* set by the caller from the option set */
	bool of_user;                 /* by the caller: an ordinary user's */
	bool batch_is_trusted;        /* by the caller: on this kernel, unasked */
};

extern const struct ublkd_option device_options[];

struct device_plan {
	uint64_t sectors;        /* of 512 bytes */
	uint32_t logical_block;
	uint32_t physical_block;
	enum data_mode data;     /* never DATA_AUTO */
	char data_why[160];      /* a reason, for people */
	const char *batch_why;   /* of UBLK_F_BATCH_IO or none, as well */
	uint64_t features;       /* UBLK_F_* that the settings need */
	unsigned pool;           /* pooled: buffers of each queue or share */
	uint64_t buffer_bytes;   /* of all queues */
};

/*
 * Adds to the plan what on-crash= needs; kept: the device is in a table.
 * Returns 0, or an exit status after the error text.
 */
int plan_crash(struct device_plan *plan, const struct device_config *config,
	       const struct ublkd_target *target, uint64_t features, bool kept);
/* Of a device with these UBLK_F_*: I/O waits for the next server. */
bool features_keep_io(uint64_t features);

const char *on_crash_name(int what);
const char *data_mode_name(enum data_mode mode);
/* Those of UBLK_F_* that the driver has for devices of ordinary users. */
uint64_t features_of_users(uint64_t features);
/* A driver with these UBLK_F_* can do it. */
bool data_mode_offered(enum data_mode mode, uint64_t features);

/*
 * features: what the kernel offers, queues: how many there will be at most.
 * Returns 0, or an exit status after the error text.
 */
int plan_device(struct device_plan *plan, const struct device_config *config,
		const struct ublkd_target *target, uint64_t features, unsigned queues);

/*
 * Into how many shares each queue is split: by what was asked, also where the
 * kernel gives fewer queues.
 */
unsigned plan_shares(const struct device_config *config);

/* The driver's parameters for the plan. */
void plan_params(struct ublk_params *params, const struct device_plan *plan,
		 const struct device_config *config, const struct ublkd_target *target);

#endif
