/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "spare.h"

#include <string.h>

#include "log.h"
#include "supervisor.h"
#include "util/macros.h"

/* Before one is started: who has just got a device has the CPU first. Seconds. */
#define PAUSE 0.1
/* So often, while others are being started, which have it even more. */
#define MOST_PAUSES 10
/* When one has ended by itself. */
#define LONG_PAUSE 60

static void on_line(struct worker_process *process, const char *line)
{
	struct spare *spare = container_of(process, struct spare, process);

	spare->ends |= !strcmp(line, WORKER_SAYS_ENDING);
}

static void on_log(struct worker_process *process, const char *line)
{
	(void)process;
	log_line(line);
}

static void start_in(struct spare *spare, double seconds)
{
	ev_timer_set(&spare->timer, seconds, 0);
	ev_timer_start(spare->supervisor->loop, &spare->timer);
}

static void on_death(struct worker_process *process, int status)
{
	struct spare *spare = container_of(process, struct spare, process);

	log_debug("the spare process %d has ended (%d)", (int)process->pid, status);
	process->pid = 0;
	spare->ends = false;
	start_in(spare, LONG_PAUSE);
	supervisor_go_on(spare->supervisor);
}

static void on_time(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct spare *spare = container_of(timer, struct spare, timer);
	const struct supervisor *supervisor = spare->supervisor;

	(void)events;
	/* Between its end and this it may have been started once more, and there is to be one only. */
	ev_timer_stop(loop, timer);
	if (supervisor->stopped || supervisor->gone)
		return;
	if (supervisor->starting && spare->pauses++ < MOST_PAUSES) {
		start_in(spare, PAUSE);
		return;
	}
	spare->pauses = 0;
	if (worker_process_start(&spare->process, supervisor->options, NULL, NULL,
				 supervisor->folder))
		start_in(spare, LONG_PAUSE);
}

void spare_init(struct spare *spare, struct supervisor *supervisor)
{
	*spare = (struct spare){
		.supervisor = supervisor,
		.process = {
			.loop = supervisor->loop, .channel = -1, .pidfd = -1,
			.on_line = on_line, .on_log = on_log, .on_death = on_death,
		},
	};
	ev_timer_init(&spare->timer, on_time, 0, 0);
}

void spare_want(struct spare *spare)
{
	if (!spare->process.pid && !ev_is_active(&spare->timer))
		start_in(spare, PAUSE);
}

bool spare_take(struct spare *spare, struct worker_process *process)
{
	/* Its death is known, and for us to hear. */
	if (!spare->process.pid || spare->ends || ev_is_pending(&spare->process.child))
		return false;
	worker_process_move(process, &spare->process);
	return true;
}

bool spare_end(struct spare *spare)
{
	if (!spare->process.pid)
		return false;
	/* It has nothing to lose; where it cannot be killed, it finds its channel closed. */
	spare->ends = true;
	worker_process_signal(&spare->process, SIGKILL);
	worker_process_shut(&spare->process);
	return true;
}

void spare_close(struct spare *spare)
{
	ev_timer_stop(spare->supervisor->loop, &spare->timer);
	worker_process_close(&spare->process);
}
