/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices that a process serves side by side. They are started and stopped
 * a few at a time, and what fails is one device's failure. Main thread.
 */
#ifndef HOST_H
#define HOST_H

#include "device.h"
#include "spec.h"

struct host;

enum hosted_state {
	HOSTED_WAITS,    /* to be started */
	HOSTED_STARTS,
	HOSTED_LIVE,
	HOSTED_STOPS,    /* told to, while it was live or started */
	HOSTED_GONE,
};

struct hosted {
	/* Set by the caller, constant while the host has it. */
	const char *name;
	const struct spec *spec;

	struct host *host;
	struct device device;
	struct ublkd_target *target;
	struct table_entry *former; /* of the device that waits for a server; NULL: none */
	enum hosted_state state;
	int status; /* gone: an exit status */
};

struct host {
	/* Set by the caller. */
	struct ev_loop *loop;
	struct ctrl *ctrl;
	struct pool *pool;
	struct hosted *devices;
	unsigned count;
	const struct table *table; /* of devices that outlive a server, NULL: none do; see recover.h */
	bool stats; /* log the counters of a device that goes */
	/* A device is usable: device.node.path is its name. */
	void (*on_live)(struct hosted *hosted);
	/* Each device has been usable or is gone. Called once, unless the stop comes first. */
	void (*on_settled)(struct host *host);
	/*
	 * All are gone. status: of the first that failed. In the case of
	 * EXIT_TIMEOUT, or where holds is set, all that is left to do is to exit.
	 */
	void (*on_gone)(struct host *host, int status);
	void *owner;

	struct orphan_hunt hunt;
	unsigned next;               /* to start, and later to stop */
	unsigned starting, stopping, gone;
	bool hunted, settled, stopped, draining, timed_out;
	bool holds; /* see device.h; of any */
	int status;
};

void host_start(struct host *host);
/* Stops all. drain: see device_stop(); may be asked for later than the stop. */
void host_stop(struct host *host, bool drain);
/* Logs the counters of all. */
void host_log_stats(struct host *host);

#endif
