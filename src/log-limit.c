/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "log-limit.h"

#include <inttypes.h>

#include "log.h"
#include "util/macros.h"

static void say_what_was_left_out(struct log_limit *limit)
{
	const char *before = log_switch(limit->about);

	if (limit->left_out)
		ublkd_error("%" PRIu64 " messages more were left out: %s", limit->left_out, limit->what);
	log_switch(before);
	limit->left_out = 0;
}

/* Where there were more, the next ones are of the next period, as many again. */
static void on_period_over(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct log_limit *limit = container_of(timer, struct log_limit, period);

	(void)events;
	if (!limit->left_out)
		ev_timer_stop(loop, timer);
	say_what_was_left_out(limit);
	limit->logged = 0;
}

bool log_limit_passes(struct log_limit *limit, unsigned count)
{
	if (!ev_is_active(&limit->period)) {
		limit->about = log_about();
		limit->logged = 0;
		ev_timer_init(&limit->period, on_period_over, LOG_LIMIT_SECONDS, LOG_LIMIT_SECONDS);
		ev_timer_start(limit->loop, &limit->period);
	}
	if (limit->logged < LOG_LIMIT_MESSAGES) {
		limit->logged++;
		return true;
	}
	limit->left_out += count;
	return false;
}

void log_limit_end(struct log_limit *limit)
{
	if (!ev_is_active(&limit->period))
		return;
	ev_timer_stop(limit->loop, &limit->period);
	say_what_was_left_out(limit);
}
