/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the service manager that started us, such as systemd, is told of us: the protocol of
 * sd_notify(3). Main thread. The library's function waits where the manager does not read,
 * and a manager that waits for I/O of our devices would never read; so this is ours, and
 * never waits.
 */
#ifndef NOTIFY_H
#define NOTIFY_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#define NOTIFY_TEXT 160

#define NOTIFY_READY "READY=1"
#define NOTIFY_STOPPING "STOPPING=1"
#define NOTIFY_RELOADING "RELOADING=1" /* another process of the service goes on */

struct notify {
	/* Set by the caller: what there is to say of us now, in one line. */
	void (*describe)(struct notify *notify, char text[NOTIFY_TEXT]);

	struct ev_loop *loop; /* notify.c's from here on */
	int fd;               /* -1: nobody wants to hear anything */
	struct sockaddr_un address;
	socklen_t address_size;
	uint64_t watchdog;    /* microseconds in which the manager wants to hear of us; 0: any time */
	ev_timer ping, soon;
	const char *state;    /* to be said; NULL: nothing */
	bool pings;           /* to be said */
	char said[NOTIFY_TEXT]; /* of us, last */
};

/*
 * Takes what the manager left in the environment for us, which is for no process that we
 * start. In the process that was started, before that forks.
 */
void notify_take(struct notify *notify);
/* From now on it hears that the loop goes round, where it wants to. */
void notify_start(struct notify *notify, struct ev_loop *loop);
/*
 * The same for who goes on for another process of the service, which knows the time:
 * systemd tells it to the process that it starts first, and not to the one of a reload.
 */
void notify_watchdog(struct notify *notify, uint64_t microseconds);
/*
 * state: one of the above. Never which process is the service's now: as long as our parent is
 * there systemd would take us for a stranger, and not wait for our end when it stops us.
 */
void notify_state(struct notify *notify, const char *state);
/* What describe() says may be another by now. */
void notify_changed(struct notify *notify);
void notify_end(struct notify *notify);

#endif
