/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages of a kind that may come faster than anybody reads them, such as those
 * of a backing that fails each request: so many of them in a period are logged,
 * and at its end one says how many were left out. Main thread.
 */
#ifndef LOG_LIMIT_H
#define LOG_LIMIT_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#define LOG_LIMIT_MESSAGES 10
#define LOG_LIMIT_SECONDS 5

struct log_limit {
	struct ev_loop *loop; /* the caller's; the rest begins as zeros */
	const char *what;     /* the caller's: of what messages are left out */

	const char *about;    /* see log_about() */
	ev_timer period;
	unsigned logged;      /* in this period */
	uint64_t left_out;
};

/* Whether one more may be logged, which stands for so many; else they are counted. */
bool log_limit_passes(struct log_limit *limit, unsigned count);
/* Says at once what was left out; no period goes on. */
void log_limit_end(struct log_limit *limit);

#endif
