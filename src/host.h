/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices that a process serves side by side. They are started and stopped
 * a few at a time, and what fails is one device's failure. Main thread.
 */
#ifndef HOST_H
#define HOST_H

#include "device.h"
#include "log.h"
#include "spec.h"

struct host;

enum hosted_state {
	HOSTED_WAITS,    /* to be started */
	HOSTED_STARTS,
	HOSTED_LIVE,
	HOSTED_STOPS,    /* told to, while it was live or started */
	HOSTED_STUCK,    /* the driver did not let go of it: neither do we */
};

struct hosted {
	/* The caller's, who keeps them while the host has it. */
	const char *name;
	struct spec *spec;
	struct table *table; /* with its entry; NULL: the host's */
	bool added;  /* at run time: no file describes it, so the table has to */
	bool syncs;  /* its backing, when it is left */
	bool quiet;  /* its failure is somebody's answer, and not the host's status */
	void *owner;

	struct host *host;
	struct device device;
	struct ublkd_target *target;
	struct table_entry *former; /* of the device that waits for a server; NULL: none */
	enum hosted_state state;
	bool was_live;
	struct log_listener listener; /* until it is usable */
	int status; /* in the end: an exit status */
};

struct host {
	/* Set by the caller. */
	struct ev_loop *loop;
	struct ctrl *ctrl;
	struct pool *pool;
	struct table *table; /* of devices that outlive a server, NULL: none do; see recover.h */
	bool stats; /* log the counters of a device that goes */
	bool no_hunt; /* another process has removed what dead servers left */
	bool stays; /* also without a device, until host_stop() */
	/* A device is usable: device.node.path is its name. */
	void (*on_live)(struct hosted *hosted);
	/* Each device has been usable or is gone. Called once, unless the stop comes first. */
	void (*on_settled)(struct host *host);
	/* A device is gone, or stuck; NULL: nobody asks. What is gone is freed then. */
	void (*on_end)(struct hosted *hosted);
	void (*on_counted)(struct hosted *hosted); /* see device_count() */
	void (*on_in_use)(struct hosted *hosted);  /* see device_stop_unused() */
	void (*on_resized)(struct hosted *hosted); /* see device_resize() */
	/*
	 * All are gone. status: of the first that failed. In the case of
	 * EXIT_TIMEOUT, or where holds is set, all that is left to do is to exit.
	 */
	void (*on_gone)(struct host *host, int status);
	void *owner;

	struct hosted **devices; /* host.c's from here on; others may read them */
	unsigned count;
	struct orphan_hunt hunt;
	unsigned next;               /* to start, and later to stop */
	unsigned starting, stopping, stuck;
	bool begun, hunted, settled, stopped, leaving, left, draining, timed_out;
	bool holds; /* see device.h; of any */
	int status;
};

/*
 * One device more, which is started in its turn: behind host_start(), host_go_on()
 * says that its time may have come. NULL after an error text.
 */
struct hosted *host_add(struct host *host, const char *name, struct spec *spec);
/* The one of this name. NULL: none. */
struct hosted *host_find_name(const struct host *host, const char *name);
/*
 * One that has this UUID and another name: its name; NULL: none. It is the host's, or waits in
 * the table without being wanted by the host.
 */
const char *host_find_uuid(const struct host *host, const char *uuid, const char *name);
/* Says so. An exit status. */
int host_uuid_is_taken(const char *uuid, const char *owner);
/* It waits for a server, and is none of the host's. */
bool host_leaves(const struct host *host, const struct table_entry *entry);
/* The one that is called so: its name, its number or its path. NULL: none. */
struct hosted *host_find(const struct host *host, const char *text);
/* A device that the last server called so waits to be taken over. */
bool host_waits(const struct host *host, const char *name);
void host_start(struct host *host);
void host_go_on(struct host *host);
/* Stops all. drain: see device_stop(); may be asked for later than the stop. */
void host_stop(struct host *host, bool drain);
/*
 * Stops those that cannot wait for another server, see device_can_stay(), and then
 * leaves the others. host_stop() with drain hurries.
 */
void host_leave(struct host *host);
/* Leaves this one, or stops it if it cannot stay; the others go on. */
void host_leave_one(struct hosted *hosted);
/* Logs the counters of all. */
void host_log_stats(struct host *host);
/* When all are gone; in the case of EXIT_TIMEOUT not to be called. */
void host_free(struct host *host);

#endif
