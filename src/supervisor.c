/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "believe.h"
#include "exit.h"
#include "log.h"
#include "util/macros.h"
#include "util/parse.h"

/* At once: each takes some processes more while it starts (helper.h). */
#define MOST_STARTING 8
/* Fewer where a device's I/O waits for just that: the starts of others slow it down. */
#define MOST_TAKING_OVER 2
/* A death counts as the first when the worker lived so long before it. Seconds. */
#define LONG_LIFE 60
/* Before the next start: at once after the first death, then 1, 2, 4 … */
#define LONGEST_REST 60
/* In a row, without max-deaths=; with the rests they take four minutes. */
#define MOST_DEATHS 11

static void start(struct worker *worker);
static const struct worker_process callbacks;

/* ---- what comes of all ---------------------------------------------------------------- */

bool worker_has_process(const struct worker *worker)
{
	return worker->state == WORKER_STARTS || worker->state == WORKER_LIVE ||
	       worker->state == WORKER_STUCK;
}

pid_t worker_pid(const struct worker *worker)
{
	return worker_has_process(worker) ? worker->group->process.pid : 0;
}

static bool any_ends(const struct supervisor *supervisor)
{
	const struct worker *worker = supervisor->workers;

	while (worker && worker->state != WORKER_ENDS)
		worker = worker->next;
	return worker;
}

/* Processes, and devices that are being deleted; a second stop waits for no deletion. */
static bool running(const struct supervisor *supervisor)
{
	for (const struct worker_group *g = supervisor->groups; g; g = g->next) {
		if (g->process.pid)
			return true;
	}
	return any_ends(supervisor) && !supervisor->hurries;
}

static bool only_those_that_stay(const struct supervisor *supervisor)
{
	for (const struct worker_group *g = supervisor->groups; g; g = g->next) {
		if (g->process.pid && !g->stays)
			return false;
	}
	return !any_ends(supervisor);
}

/* Its first command would wait for one that the driver has had for long. */
static bool is_held_up(const struct worker *worker)
{
	return stuck_has_name(worker->supervisor->stuck, worker->name);
}

/* Where nothing is left, and nothing can be added, it is about to be gone. */
static bool all_settled(const struct supervisor *supervisor)
{
	if (!supervisor->workers && !supervisor->stays)
		return false;
	for (const struct worker *w = supervisor->workers; w; w = w->next) {
		if (!w->settled && !is_held_up(w))
			return false;
	}
	return true;
}

/* Where its process runs, the I/O of all that it is to take over waits by now. */
static unsigned most_starting(const struct worker *worker)
{
	return worker->supervisor->one_by_one && !worker->group->process.pid ? MOST_TAKING_OVER :
									     MOST_STARTING;
}

static bool is_to_start(const struct worker *worker)
{
	const struct supervisor *supervisor = worker->supervisor;

	return worker->state == WORKER_WAITS && (!supervisor->stopped || worker->last) &&
	       worker_group_takes(worker->group) &&
	       supervisor->starting < most_starting(worker) && !is_held_up(worker);
}

static struct worker *next_to_start(const struct supervisor *supervisor)
{
	struct worker *worker = supervisor->workers;

	while (worker && !is_to_start(worker))
		worker = worker->next;
	return worker;
}

static bool is_gone(const struct supervisor *supervisor)
{
	/* Whoever follows us may fail with the last, until it tells us to end. */
	if (supervisor->hands_over && !supervisor->hurries)
		return false;
	return supervisor->stopped ? !running(supervisor) && !next_to_start(supervisor) :
				     !supervisor->groups && !supervisor->stays;
}

static void be_gone(struct supervisor *supervisor)
{
	/* The last process to end is the one that nobody needed, unless something holds it up. */
	if (spare_end(&supervisor->spare) && !supervisor->hurries)
		return;
	supervisor->gone = true;
	supervisor->on_gone(supervisor);
}

/* Called whenever a worker is one step further. */
void supervisor_go_on(struct supervisor *supervisor)
{
	struct worker *worker;

	if (!supervisor->begun || supervisor->gone)
		return;
	while ((worker = next_to_start(supervisor)))
		start(worker);
	if (supervisor->hands_over && !supervisor->handed && only_those_that_stay(supervisor)) {
		supervisor->handed = true;
		supervisor->on_handed(supervisor);
	}
	if (is_gone(supervisor)) {
		be_gone(supervisor);
		return;
	}
	if (!supervisor->stopped && !supervisor->settled && all_settled(supervisor)) {
		supervisor->settled = true;
		supervisor->on_settled(supervisor);
	}
	if (!supervisor->stopped)
		spare_want(&supervisor->spare);
}

static void note_status(struct worker *worker, int status)
{
	worker->status = status;
	/* Who added it may not be there any more to hear what a stop makes of it. */
	if (!worker->supervisor->status && (!worker->quiet || worker->supervisor->stopped))
		worker->supervisor->status = status;
}

static void set_state(struct worker *worker, enum worker_state state)
{
	struct supervisor *supervisor = worker->supervisor;

	supervisor->starting -= worker->state == WORKER_STARTS;
	supervisor->starting += state == WORKER_STARTS;
	worker->state = state;
	supervisor->on_change(supervisor);
}

static void close_files(struct worker *worker)
{
	for (struct ublkd_passed *p = worker->passed; p->option; p++) {
		close(p->fd);
		p->option = NULL;
	}
}

static void free_worker(struct worker *worker)
{
	if (worker->group)
		worker_group_leave(worker);
	close_files(worker);
	json_decref(worker->settings);
	free(worker->user);
	free(worker->backend);
	free(worker->name);
	free(worker);
}

/* Its device is gone, or never came. */
static void end(struct worker *worker, int status)
{
	struct worker **link = &worker->supervisor->workers;

	while (*link != worker)
		link = &(*link)->next;
	*link = worker->next;
	set_state(worker, WORKER_FAILED);
	note_status(worker, status);
	worker->supervisor->on_end(worker);
	free_worker(worker);
}

/* ---- death ------------------------------------------------------------------------------ */

static void rest_is_over(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct worker *worker = container_of(timer, struct worker, timer);

	(void)loop;
	(void)events;
	set_state(worker, WORKER_WAITS);
	supervisor_go_on(worker->supervisor);
}

/* Its process has checked the settings. */
static bool died_too_often(const struct worker *worker)
{
	const char *text = json_string_value(json_object_get(worker->settings, "max-deaths"));
	uint64_t most;

	return worker->deaths >= (text && !parse_uint(text, &most) && most ? most : MOST_DEATHS);
}

static bool gives_up(const struct worker *worker)
{
	const char *text = json_string_value(json_object_get(worker->settings, "give-up"));

	return text && !strcmp(text, "fail");
}

/* For who looks what became of its device, beside why it died. */
static void give_up(struct worker *worker)
{
	char why[sizeof(worker->error)];

	worker->given_up = worker->seen = true;
	snprintf(why, sizeof(why), "%s", worker->error);
	snprintf(worker->error, sizeof(worker->error), "given up (give-up=fail), as its process died %u "
		 "times in a row%s%.400s", worker->deaths, *why ? ": " : "", why);
}

static void rest(struct worker *worker)
{
	unsigned seconds = worker->deaths < 2 ? 0 :
						MIN(1u << MIN(worker->deaths - 2, 6u), LONGEST_REST);
	bool often = died_too_often(worker);
	/* Where another server has the devices still, it is for that to see to it. */
	bool fails = gives_up(worker) && !worker->supervisor->one_by_one;

	if (often)
		ublkd_error("its process died %u times in a row: %s", worker->deaths,
			    fails ? "its I/O fails now, as give-up=fail says" :
				    "its I/O waits until 'ublkctl recover' starts another");
	if (often && fails)
		give_up(worker);
	if (often || worker->supervisor->one_by_one) {
		note_status(worker, worker->status);
		set_state(worker, WORKER_FAILED);
		worker->supervisor->on_failed(worker);
		if (worker->given_up)
			worker->supervisor->on_given_up(worker);
		return;
	}
	if (is_held_up(worker))
		ublkd_note("another is started when the driver has ended its command");
	else if (seconds)
		ublkd_note("another is started in %u s", seconds);
	set_state(worker, WORKER_RESTS);
	ev_timer_init(&worker->timer, rest_is_over, seconds, 0);
	ev_timer_start(worker->supervisor->loop, &worker->timer);
}

/* What a process has said that a signal ended is not why it did. */
static void say_how_it_died(struct worker *worker, pid_t pid, int status)
{
	char text[80];

	if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "its process %d died of signal %d", (int)pid,
			 WTERMSIG(status));
	else
		snprintf(text, sizeof(text), "its process %d ended with status %d", (int)pid,
			 WEXITSTATUS(status));
	ublkd_error("%s", text);
	if (WIFSIGNALED(status) || !worker->error[0])
		snprintf(worker->error, sizeof(worker->error), "%s", text);
}

/* Only a process can write back what is cached for its device, and delete it. */
static void stop_quiesced(struct worker *worker)
{
	if (worker->supervisor->leaves)
		return;
	worker->last = true;
	set_state(worker, WORKER_WAITS);
}

static void quiesced(struct worker *worker)
{
	worker->pauses = false;
	worker->deaths = 0;
	worker->status = EXIT_DONE;
	set_state(worker, WORKER_QUIESCED);
	if (worker->supervisor->stopped)
		stop_quiesced(worker);
	else
		worker->supervisor->on_failed(worker);
}

/* A lock is that of all who have the file open, so also of a process that did not give it back. */
static void unlock_files(const struct worker *worker)
{
	for (const struct ublkd_passed *p = worker->passed; p->option; p++)
		fcntl(p->fd, F_OFD_SETLK, &(struct flock){ .l_type = F_UNLCK, .l_whence = SEEK_SET });
}

/* Its process has it no more. refused: whoever added it hears why. */
static void over(struct worker *worker, int status, bool refused)
{
	bool kept = table_has(worker->supervisor->table, worker->name);

	/* For who takes its device over. */
	if (worker->supervisor->hands_over)
		unlock_files(worker);
	worker->ended = ev_now(worker->supervisor->loop);
	worker->settled = true;
	if (worker->pauses && kept) {
		quiesced(worker);
		return;
	}
	if (worker->supervisor->stopped) {
		/* Whoever takes its device over finds out what is wrong with it. */
		if (!worker->supervisor->hands_over)
			note_status(worker, status);
		set_state(worker, WORKER_FAILED);
		return;
	}
	/* What is kept waits: somebody told the process to leave it. */
	if (!kept || refused) {
		end(worker, status);
		return;
	}
	worker->status = status;
	if (worker->killed || ev_now(worker->supervisor->loop) - worker->began >= LONG_LIFE)
		worker->deaths = 0;
	worker->deaths += !worker->killed;
	rest(worker);
}

/* What was given to a process that was about to end is given to the next. */
static bool never_came(const struct worker *worker, bool expected)
{
	return expected && worker->state == WORKER_STARTS && !worker->supervisor->stopped;
}

/* With its process. expected: that was about to end. */
static void died(struct worker *worker, pid_t pid, int status, bool expected)
{
	int exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_RUNTIME;
	bool refused = WIFEXITED(status) && exit_status && worker->asked;

	if (never_came(worker, expected)) {
		set_state(worker, WORKER_WAITS);
		return;
	}
	if (exit_status && !refused)
		say_how_it_died(worker, pid, status);
	over(worker, exit_status, refused);
}

static struct worker *member_with_process(const struct worker_group *group)
{
	struct worker *worker = group->members;

	while (worker && !worker_has_process(worker))
		worker = worker->next_member;
	return worker;
}

/* Until all have heard of it, none is given to another process of the group. */
static void on_death(struct worker_process *process, int status)
{
	struct worker_group *group = container_of(process, struct worker_group, process);
	struct supervisor *supervisor = group->supervisor;
	bool expected = group->ends;
	pid_t pid = process->pid;
	struct worker *worker;

	process->pid = 0;
	ev_timer_stop(supervisor->loop, &group->late);
	group->ends = true;
	while ((worker = member_with_process(group))) {
		const char *before = log_switch(worker->name);

		worker_group_change(worker, &callbacks);
		died(worker, pid, status, expected);
		log_switch(before);
	}
	if (group->remains && supervisor->on_remains)
		supervisor->on_remains(supervisor);
	group->ends = group->remains = false;
	worker_group_free_unused(group);
	supervisor->on_process_end(supervisor, pid);
	supervisor_go_on(supervisor);
}

/* ---- what its process says -------------------------------------------------------------- */

/* Of a command. The process that is left with it may outlive who says so. */
static bool note_stuck(const struct worker_group *group, const char *line)
{
	struct stuck_info info = { 0 };
	size_t length = strcspn(line, " ");
	int pid;

	if (sscanf(line + length, " " WORKER_SAYS_STUCK " %d %23s %" SCNu32 " %" SCNu64, &pid,
		   info.command, &info.number, &info.since) < 4)
		return false;
	info.pid = pid;
	snprintf(info.name, sizeof(info.name), "%.*s", (int)length, line);
	if (believe_stuck(group, &info))
		stuck_add(group->supervisor->stuck, &info, true);
	return true;
}

/*
 * What was quiesced is started only to be stopped. It is with the others of its process, as
 * that ends then.
 */
static void stop_last(struct worker_group *group)
{
	bool any = false;

	if (!group->supervisor->stopped)
		return;
	for (const struct worker *w = group->members; w; w = w->next_member) {
		if (w->state == WORKER_STARTS ||
		    (w->state == WORKER_WAITS && w->last && !is_held_up(w)))
			return;
		any |= w->state == WORKER_LIVE && w->last;
	}
	if (any && !group->ends)
		worker_group_end(group, group->supervisor->signal);
}

/* The driver gave its number away, so another that had it has no device any more. */
static void forget_path(struct supervisor *supervisor, const char *path)
{
	for (struct worker *w = supervisor->workers; w; w = w->next) {
		if (!strcmp(w->path, path))
			w->path[0] = 0;
	}
}

static void became_live(struct worker *worker, const char *path)
{
	forget_path(worker->supervisor, path);
	snprintf(worker->path, sizeof(worker->path), "%s", path);
	set_state(worker, WORKER_LIVE);
	worker->settled = true;
	if (worker->was_live)
		ublkd_note("served again, by process %d, %.2f s after the last one's end",
			   (int)worker_pid(worker),
			   ev_now(worker->supervisor->loop) - worker->ended);
	worker->supervisor->on_live(worker);
	worker->was_live = true;
	worker->asked = false;
}

/* Not by the driver, which has not let go of it; its process may have others. */
static void is_not_served(struct worker *worker, int status)
{
	worker->status = status;
	worker->settled = true;
	set_state(worker, WORKER_STUCK);
	worker->supervisor->on_failed(worker);
}

static void is_given_back(struct worker *worker, int status)
{
	bool refused = status && worker->asked;

	/* One that the user was not given cannot be deleted by the user's process. */
	worker->group->remains |= worker->user && status == EXIT_KERNEL;
	if (status && !refused)
		ublkd_error("its process %d gave it up with status %d", (int)worker_pid(worker),
			    status);
	over(worker, status, refused);
}

static void says_it_is_live(struct worker *worker, const char *path)
{
	if (believe_path(worker, path)) {
		became_live(worker, path);
		return;
	}
	ublkd_error("its process %d has a device that is not the user's: it is killed",
		    (int)worker_pid(worker));
	worker_group_end(worker->group, SIGKILL);
}

static void heard(struct worker *worker, const char *text)
{
	struct worker_group *group = worker->group;
	const char *before = log_switch(worker->name);
	int status;

	if (sscanf(text, WORKER_SAYS_GONE " %d", &status) == 1)
		is_given_back(worker, status);
	else if (sscanf(text, WORKER_SAYS_HELD " %d", &status) == 1)
		is_not_served(worker, status);
	else if (worker->state == WORKER_STARTS)
		says_it_is_live(worker, text);
	log_switch(before);
	stop_last(group);
	worker_group_release(group);
	worker_group_split(group, &callbacks);
	supervisor_go_on(group->supervisor);
}

/* Whose name a line begins with, and this behind it; *text is what follows. */
static struct worker *find_member(const struct worker_group *group, const char *line,
				  const char *behind, const char **text)
{
	for (struct worker *w = group->members; w; w = w->next_member) {
		size_t length = strlen(w->name);

		*text = line + length + strlen(behind);
		if (!strncmp(line, w->name, length) && !strncmp(line + length, behind, strlen(behind)))
			return w;
	}
	return NULL;
}

static void on_line(struct worker_process *process, const char *line)
{
	struct worker_group *group = container_of(process, struct worker_group, process);
	struct worker *worker;
	const char *text;

	if (!strcmp(line, WORKER_SAYS_ENDING)) {
		group->ends = true;
		return;
	}
	if (note_stuck(group, line))
		return;
	worker = find_member(group, line, " ", &text);
	if (worker && worker_has_process(worker))
		heard(worker, text);
}

/* Passed on as it is: it says which device it is about, which for a user's is its own. */
static void on_log(struct worker_process *process, const char *line)
{
	struct worker_group *group = container_of(process, struct worker_group, process);
	const char *text, *whole = log_line_text(line), *before;
	struct worker *worker = find_member(group, whole, ": ", &text);
	bool passes;

	if (worker && log_line_is_error(line))
		snprintf(worker->error, sizeof(worker->error), "%s", text);
	if (!group->user) {
		log_line(line);
		return;
	}
	/* A user may have it say anything, and any number of times. */
	before = log_switch(group->name);
	passes = log_limit_passes(&group->lines, 1);
	if (passes && worker)
		log_line(line);
	else if (passes)
		ublkd_note("%s", whole);
	log_switch(before);
}

static const struct worker_process callbacks = {
	.on_line = on_line, .on_log = on_log, .on_death = on_death,
};

/* ---- birth ------------------------------------------------------------------------------ */

/* A worker reads its own entry only, and does not see that another says the same. */
static int check_entry(const struct worker *worker)
{
	const struct table *table = worker->supervisor->table;
	const struct table_entry *entry = table_find(table, worker->name);

	if (!entry || entry->state != TABLE_DAMAGED || !table_has(table, worker->name))
		return EXIT_DONE;
	ublkd_error("expected a device that waits for a server, or none, got one that cannot be known");
	return EXIT_TAKEN;
}

/* As if a process for it had died at once. */
static void cannot_start(struct worker *worker, int status)
{
	struct worker_group *group = worker->group;
	bool runs = group->process.pid;

	over(worker, status, false);
	if (runs)
		worker_group_release(group);
}

static void start(struct worker *worker)
{
	const char *before = log_switch(worker->name);
	struct worker_group *group = worker->group;
	int status = check_entry(worker), ret;
	bool runs = group->process.pid;

	worker->error[0] = 0;
	worker->killed = false;
	worker->began = ev_now(worker->supervisor->loop);
	set_state(worker, WORKER_STARTS);
	/* A user's process is started as that user. */
	if (!status && !runs && !group->user)
		runs = spare_take(&worker->supervisor->spare, &group->process);
	ret = status ? 0 : worker_group_give(group, worker);
	if (ret == -EPIPE && runs) {
		/* It has died, of which we are to hear. */
		worker_process_shut(&group->process);
		set_state(worker, WORKER_WAITS);
	} else if (ret) {
		ublkd_error("cannot be given to a process: %s", strerror(-ret));
		status = EXIT_RUNTIME;
	}
	if (status)
		cannot_start(worker, status);
	log_switch(before);
}

/* ---- the whole ---------------------------------------------------------------------------- */

int supervisor_open(struct supervisor *supervisor)
{
	spare_init(&supervisor->spare, supervisor);
	supervisor->folder = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (supervisor->folder >= 0)
		return 0;
	ublkd_error("cannot open the current folder: %s", strerror(errno));
	return -errno;
}

void supervisor_close(struct supervisor *supervisor)
{
	struct worker *next;

	spare_close(&supervisor->spare);
	for (struct worker *w = supervisor->workers; w; w = next) {
		next = w->next;
		worker_process_close(&w->group->process);
		ev_timer_stop(supervisor->loop, &w->timer);
		free_worker(w);
	}
	supervisor->workers = NULL;
	while (supervisor->groups) {
		struct worker_group *group = supervisor->groups;

		worker_process_close(&group->process);
		group->ends = false;
		worker_group_free_unused(group);
	}
	cleanup_fd(&supervisor->folder);
}

struct keeping {
	struct worker *worker;
	unsigned used;
	bool failed;
};

static void keep_file(void *arg, const struct ublkd_passed *passed)
{
	struct keeping *keeping = arg;
	int fd = keeping->used == WORKER_FILES ? -1 : fcntl(passed->fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		keeping->failed = true;
	else
		keeping->worker->passed[keeping->used++] = (struct ublkd_passed){ passed->option, fd };
}

static bool keep_files(struct worker *worker, const struct spec *passed)
{
	struct keeping keeping = { .worker = worker };

	spec_visit_passed(passed, keep_file, &keeping);
	return !keeping.failed;
}

struct worker *supervisor_add(struct supervisor *supervisor, const char *name, const char *backend,
			      json_t *settings, bool added, const struct spec *passed,
			      const char *user)
{
	struct worker *worker = calloc(1, sizeof(*worker)), **link = &supervisor->workers;

	if (!worker)
		return NULL;
	*worker = (struct worker){
		.name = strdup(name),
		.backend = strdup(backend),
		.settings = json_incref(settings),
		.added = added,
		.user = user ? strdup(user) : NULL,
		.supervisor = supervisor,
	};
	if (!worker->name || !worker->backend || (user && !worker->user) ||
	    (passed && !keep_files(worker, passed)) || !worker_group_join(worker, &callbacks)) {
		free_worker(worker);
		return NULL;
	}
	ev_timer_init(&worker->timer, rest_is_over, 0, 0);
	while (*link)
		link = &(*link)->next;
	*link = worker;
	return worker;
}

struct worker *supervisor_find(const struct supervisor *supervisor, const char *text)
{
	char path[64] = "";
	uint64_t number;

	for (struct worker *w = supervisor->workers; w; w = w->next) {
		if (!strcmp(w->name, text))
			return w;
	}
	if (!parse_uint(text, &number))
		snprintf(path, sizeof(path), "/dev/ublkb%" PRIu64, number);
	for (struct worker *w = supervisor->workers; w; w = w->next) {
		if (w->path[0] && (!strcmp(w->path, text) || !strcmp(w->path, path)))
			return w;
	}
	return NULL;
}

void supervisor_start(struct supervisor *supervisor)
{
	supervisor->begun = true;
	supervisor_go_on(supervisor);
}

size_t supervisor_failures(const struct supervisor *supervisor)
{
	size_t failures = 0;

	for (const struct worker *w = supervisor->workers; w; w = w->next)
		failures += w->state == WORKER_FAILED || w->state == WORKER_STUCK;
	return failures;
}

void supervisor_signal(const struct supervisor *supervisor, int signal)
{
	for (const struct worker_group *g = supervisor->groups; g; g = g->next) {
		if (g->process.pid)
			worker_process_signal(&g->process, signal);
	}
}

/* Nobody is there to delete it. */
static void leave_behind(struct worker *worker)
{
	const char *before;

	if (!table_has(worker->supervisor->table, worker->name))
		return;
	before = log_switch(worker->name);
	ublkd_error("its process has died, so it is left waiting for the next server");
	log_switch(before);
	note_status(worker, worker->status ? worker->status : EXIT_RUNTIME);
}

void supervisor_stop(struct supervisor *supervisor, int signal, bool leaves)
{
	bool again = supervisor->stopped;

	supervisor->stopped = true;
	supervisor->hurries = again;
	supervisor->signal = signal;
	supervisor->leaves = leaves;
	for (struct worker *w = supervisor->workers; w; w = w->next) {
		ev_timer_stop(supervisor->loop, &w->timer);
		if (w->state == WORKER_QUIESCED)
			stop_quiesced(w);
		else if (again == (w->state == WORKER_ENDS) && !leaves && !worker_has_process(w))
			leave_behind(w);
	}
	for (struct worker_group *g = supervisor->groups; g; g = g->next)
		worker_group_end(g, signal);
	supervisor->begun = true;
	supervisor_go_on(supervisor);
}

/* Each of those that its process has, as they are left together. */
static bool can_stay(const struct worker_group *group,
		     bool (*is_asked)(const struct worker *worker))
{
	const struct worker *w = group->members;

	while (w && (!worker_has_process(w) ||
		     (w->state == WORKER_LIVE && !w->pauses && !is_asked(w) &&
		      table_has(group->supervisor->table, w->name))))
		w = w->next_member;
	return !w;
}

void supervisor_hand_over(struct supervisor *supervisor, int signal,
			  bool (*is_asked)(const struct worker *worker))
{
	supervisor->stopped = supervisor->leaves = supervisor->hands_over = true;
	supervisor->signal = signal;
	for (struct worker *w = supervisor->workers; w; w = w->next) {
		ev_timer_stop(supervisor->loop, &w->timer);
		if (!worker_has_process(w))
			unlock_files(w);
	}
	for (struct worker_group *g = supervisor->groups; g; g = g->next) {
		g->stays = can_stay(g, is_asked);
		if (!g->stays)
			worker_group_end(g, signal);
	}
	supervisor_go_on(supervisor);
}

void worker_refuse(struct worker *worker, int status)
{
	end(worker, status);
}

/* A client has opened what some of them name. */
static bool names_other_files(const struct worker *worker, json_t *settings)
{
	for (const struct ublkd_passed *p = worker->passed; p->option; p++) {
		if (!json_equal(json_object_get(worker->settings, p->option),
				json_object_get(settings, p->option)))
			return true;
	}
	return false;
}

void worker_renew(struct worker *worker, const char *backend, json_t *settings, bool added)
{
	char *copy;

	if (worker_has_process(worker) ||
	    (json_equal(worker->settings, settings) && !strcmp(worker->backend, backend)))
		return;
	copy = strdup(backend);
	if (!copy)
		return;
	if (names_other_files(worker, settings))
		close_files(worker);
	free(worker->backend);
	worker->backend = copy;
	json_decref(worker->settings);
	worker->settings = json_incref(settings);
	worker->added = added;
	worker_group_change(worker, &callbacks);
}

/* What did not outlive its process, and nothing describes, is gone. */
static void serve_again(struct worker *worker)
{
	worker->group->stays = false;
	if (worker_has_process(worker) || worker->state == WORKER_QUIESCED)
		return;
	if (worker->added && !table_has(worker->supervisor->table, worker->name)) {
		end(worker, EXIT_DONE);
		return;
	}
	worker->deaths = 0;
	set_state(worker, WORKER_WAITS);
}

void supervisor_take_back(struct supervisor *supervisor)
{
	struct worker *next;

	supervisor->stopped = supervisor->hurries = supervisor->leaves = false;
	supervisor->hands_over = supervisor->handed = false;
	for (struct worker *w = supervisor->workers; w; w = next) {
		next = w->next;
		serve_again(w);
	}
	supervisor_go_on(supervisor);
}

void worker_pause(struct worker *worker)
{
	worker->pauses = true;
}

static bool has_no_process(const struct worker *worker)
{
	return worker->state == WORKER_RESTS || worker->state == WORKER_FAILED ||
	       worker->state == WORKER_QUIESCED;
}

void worker_again(struct worker *worker)
{
	/* A process that leaves its device instead of deleting it, as we stop, is followed by one more. */
	worker->pauses &= worker->supervisor->stopped;
	if (!has_no_process(worker))
		return;
	ev_timer_stop(worker->supervisor->loop, &worker->timer);
	worker->deaths = 0;
	worker->given_up = false;
	set_state(worker, WORKER_WAITS);
	supervisor_go_on(worker->supervisor);
}

int worker_kill(struct worker *worker)
{
	struct worker_group *group = worker->group;
	int ret = worker_has_process(worker) ? worker_process_signal(&group->process, SIGKILL) : -ESRCH;

	for (struct worker *w = group->members; !ret && w; w = w->next_member) {
		w->killed = worker_has_process(w);
		w->pauses &= !w->killed;
	}
	return ret;
}

bool worker_hold(struct worker *worker)
{
	if (!has_no_process(worker))
		return false;
	ev_timer_stop(worker->supervisor->loop, &worker->timer);
	worker->held = worker->state;
	set_state(worker, WORKER_ENDS);
	return true;
}

void worker_let_go(struct worker *worker, bool gone)
{
	struct supervisor *supervisor = worker->supervisor;

	worker->given_up &= gone;
	if (gone) {
		end(worker, worker->given_up ? EXIT_RUNTIME : EXIT_DONE);
	} else if (worker->held == WORKER_QUIESCED) {
		quiesced(worker);
	} else if (worker->held == WORKER_RESTS && !supervisor->stopped) {
		rest(worker);
	} else {
		set_state(worker, WORKER_FAILED);
		if (!supervisor->stopped)
			supervisor->on_failed(worker);
		else if (!supervisor->leaves)
			leave_behind(worker);
	}
	supervisor_go_on(supervisor);
}

int worker_connect(const struct worker *worker)
{
	return worker_has_process(worker) ? worker_process_connect(&worker->group->process) : -ENOTCONN;
}
