/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "supervisor.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "exit.h"
#include "log.h"
#include "util/macros.h"
#include "util/parse.h"
#include "util/self.h"

/* At once: each takes some processes more while it starts (helper.h). */
#define MOST_STARTING 8
/* A death counts as the first when the worker lived so long before it. Seconds. */
#define LONG_LIFE 60
/* Before the next start: at once after the first death, then 1, 2, 4 … */
#define LONGEST_REST 60
/* In a row; with the rests they take four minutes. */
#define MOST_DEATHS 11
#define MOST_ARGUMENTS 16

static void start(struct worker *worker);

/* ---- what comes of all ---------------------------------------------------------------- */

/* Processes, and devices that are being deleted; a second stop waits for no deletion. */
static bool running(const struct supervisor *supervisor)
{
	for (const struct worker *w = supervisor->workers; w; w = w->next) {
		if (w->pid || (w->state == WORKER_ENDS && !supervisor->hurries))
			return true;
	}
	return false;
}

static bool all_settled(const struct supervisor *supervisor)
{
	for (const struct worker *w = supervisor->workers; w; w = w->next) {
		if (!w->settled)
			return false;
	}
	return true;
}

static struct worker *next_to_start(const struct supervisor *supervisor)
{
	struct worker *worker = supervisor->workers;

	while (worker && (worker->state != WORKER_WAITS || (supervisor->stopped && !worker->last)))
		worker = worker->next;
	return supervisor->starting >= MOST_STARTING ? NULL : worker;
}

static bool is_gone(const struct supervisor *supervisor)
{
	return supervisor->stopped ? !running(supervisor) && !next_to_start(supervisor) :
				     !supervisor->workers && !supervisor->stays;
}

/* Called whenever a worker is one step further. */
void supervisor_go_on(struct supervisor *supervisor)
{
	struct worker *worker;

	if (!supervisor->begun || supervisor->gone)
		return;
	while ((worker = next_to_start(supervisor)))
		start(worker);
	if (is_gone(supervisor)) {
		supervisor->gone = true;
		supervisor->on_gone(supervisor);
	} else if (!supervisor->stopped && !supervisor->settled && all_settled(supervisor)) {
		supervisor->settled = true;
		supervisor->on_settled(supervisor);
	}
}

static void note_status(struct worker *worker, int status)
{
	worker->status = status;
	if (!worker->supervisor->status && !worker->quiet)
		worker->supervisor->status = status;
}

static void set_state(struct worker *worker, enum worker_state state)
{
	struct supervisor *supervisor = worker->supervisor;

	supervisor->starting -= worker->state == WORKER_STARTS;
	supervisor->starting += state == WORKER_STARTS;
	worker->state = state;
}

static void free_worker(struct worker *worker)
{
	json_decref(worker->settings);
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

static void rest(struct worker *worker)
{
	unsigned seconds = worker->deaths < 2 ? 0 : MIN(1u << (worker->deaths - 2), LONGEST_REST);

	if (worker->deaths == MOST_DEATHS) {
		ublkd_error("its process died %u times in a row: its I/O waits until 'ublkctl "
			    "recover' starts another", worker->deaths);
		note_status(worker, worker->status);
		set_state(worker, WORKER_FAILED);
		worker->supervisor->on_failed(worker);
		return;
	}
	if (seconds)
		ublkd_note("another is started in %u s", seconds);
	set_state(worker, WORKER_RESTS);
	ev_timer_init(&worker->timer, rest_is_over, seconds, 0);
	ev_timer_start(worker->supervisor->loop, &worker->timer);
}

static void say_how_it_died(const struct worker *worker, int status)
{
	if (WIFSIGNALED(status))
		ublkd_error("its process %d died of signal %d", (int)worker->pid, WTERMSIG(status));
	else
		ublkd_error("its process %d ended with status %d", (int)worker->pid,
			    WEXITSTATUS(status));
}

/* Whoever added it hears why it failed. */
static bool failed_at_first(const struct worker *worker, int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) && worker->asked;
}

static void close_streams(struct worker *worker)
{
	struct worker_stream *streams[] = { &worker->out, &worker->err };

	for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
		ev_io_stop(worker->supervisor->loop, &streams[i]->readable);
		close(streams[i]->readable.fd);
	}
	close(worker->channel);
	worker->channel = -1;
}

static void read_stream(struct worker_stream *stream);

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

static void died(struct worker *worker, int status)
{
	int exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_RUNTIME;
	bool kept = table_has(worker->supervisor->table, worker->name);

	/* What it said last. */
	read_stream(&worker->err);
	read_stream(&worker->out);
	close_streams(worker);
	if (exit_status && !failed_at_first(worker, status))
		say_how_it_died(worker, status);
	worker->pid = 0;
	worker->settled = true;
	if (worker->pauses && kept) {
		quiesced(worker);
		return;
	}
	if (worker->supervisor->stopped) {
		note_status(worker, exit_status);
		set_state(worker, WORKER_FAILED);
		return;
	}
	/* What is kept waits: somebody told the process to leave it. */
	if (!kept || failed_at_first(worker, status)) {
		end(worker, exit_status);
		return;
	}
	worker->status = exit_status;
	if (ev_now(worker->supervisor->loop) - worker->began >= LONG_LIFE)
		worker->deaths = 0;
	worker->deaths++;
	rest(worker);
}

static void on_death(struct ev_loop *loop, ev_child *child, int events)
{
	struct worker *worker = container_of(child, struct worker, child);
	struct supervisor *supervisor = worker->supervisor;
	const char *before = log_switch(worker->name);

	(void)events;
	ev_child_stop(loop, child);
	died(worker, child->rstatus);
	log_switch(before);
	supervisor_go_on(supervisor);
}

/* ---- what it says ----------------------------------------------------------------------- */

/* "NAME /dev/ublkbN" */
static void on_out(struct worker_stream *stream, const char *line)
{
	struct worker *worker = container_of(stream, struct worker, out);
	const char *path = strchr(line, ' ');

	if (!path || worker->state != WORKER_STARTS)
		return;
	snprintf(worker->path, sizeof(worker->path), "%s", path + 1);
	set_state(worker, WORKER_LIVE);
	worker->settled = true;
	if (worker->was_live)
		ublkd_note("%s: served again, by process %d", worker->name, (int)worker->pid);
	worker->supervisor->on_live(worker);
	worker->was_live = true;
	worker->asked = false;
	if (worker->last)
		kill(worker->pid, worker->supervisor->signal);
	supervisor_go_on(worker->supervisor);
}

/* Passed on as it is: it says which device it is about. */
static void on_err(struct worker_stream *stream, const char *line)
{
	struct worker *worker = container_of(stream, struct worker, err);
	size_t length = strlen(worker->name);

	if (!strncmp(line, worker->name, length) && !strncmp(line + length, ": ", 2))
		snprintf(worker->error, sizeof(worker->error), "%s", line + length + 2);
	log_line(line);
}

static void read_stream(struct worker_stream *stream)
{
	ssize_t got;

	while ((got = read(stream->readable.fd, stream->text + stream->used,
			   sizeof(stream->text) - 1 - stream->used)) > 0) {
		char *line = stream->text, *end;

		stream->used += (size_t)got;
		stream->text[stream->used] = 0;
		while ((end = strchr(line, '\n'))) {
			*end = 0;
			stream->on_line(stream, line);
			line = end + 1;
		}
		stream->used = strlen(line);
		/* A line that is too long is none of ours. */
		if (stream->used == sizeof(stream->text) - 1)
			stream->used = 0;
		memmove(stream->text, line, stream->used);
	}
	/* It has closed its files, and its end will be known soon. */
	if (!got)
		ev_io_stop(stream->loop, &stream->readable);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
	(void)loop;
	(void)events;
	read_stream(container_of(watcher, struct worker_stream, readable));
}

static void watch_stream(struct worker *worker, struct worker_stream *stream, int fd,
			 void (*on_line)(struct worker_stream *stream, const char *line))
{
	stream->loop = worker->supervisor->loop;
	stream->on_line = on_line;
	stream->used = 0;
	ev_io_init(&stream->readable, on_readable, fd, EV_READ);
	ev_io_start(worker->supervisor->loop, &stream->readable);
}

/* ---- birth ------------------------------------------------------------------------------ */

/* Ends of pipes and of the channel: ours and the worker's. */
struct ends {
	int out[2], err[2], channel[2];
};

static int open_ends(struct ends *ends)
{
	*ends = (struct ends){ { -1, -1 }, { -1, -1 }, { -1, -1 } };
	if (pipe2(ends->out, O_CLOEXEC) || pipe2(ends->err, O_CLOEXEC) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends->channel))
		return -errno;
	if (fcntl(ends->out[0], F_SETFL, O_NONBLOCK) || fcntl(ends->err[0], F_SETFL, O_NONBLOCK))
		return -errno;
	return 0;
}

static void close_ends(struct ends *ends, int side)
{
	int *fds[] = { &ends->out[side], &ends->err[side], &ends->channel[!side] };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		cleanup_fd(fds[i]);
		*fds[i] = -1;
	}
}

/* "--worker" CHANNEL OPTION… "--" NAME KIND BACKEND SETTINGS */
static void list_arguments(const struct worker *worker, const char *settings,
			   char *argv[MOST_ARGUMENTS])
{
	const char *const last[] = {
		"--", worker->name, worker->added ? WORKER_ADDED : WORKER_DESCRIBED,
		worker->backend, settings, NULL,
	};
	char *const *options = worker->supervisor->options;
	size_t used = 0;

	argv[used++] = (char *)(uintptr_t)"ublkd";
	argv[used++] = (char *)(uintptr_t)"--worker";
	argv[used++] = (char *)(uintptr_t)WORKER_CHANNEL;
	for (size_t i = 0; options[i]; i++) {
		assert(used < MOST_ARGUMENTS - ARRAY_SIZE(last));
		argv[used++] = options[i];
	}
	for (size_t i = 0; i < ARRAY_SIZE(last); i++)
		argv[used++] = (char *)(uintptr_t)last[i];
}

static int spawn(struct worker *worker, const struct ends *ends)
{
	_cleanup_free_ char *settings = json_dumps(worker->settings, JSON_COMPACT);
	posix_spawn_file_actions_t actions;
	char *argv[MOST_ARGUMENTS];
	int ret;

	if (!settings)
		return -ENOMEM;
	list_arguments(worker, settings, argv);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addfchdir_np(&actions, worker->supervisor->folder);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, ends->out[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, ends->err[1], STDERR_FILENO);
	posix_spawn_file_actions_adddup2(&actions, ends->channel[0], atoi(WORKER_CHANNEL));
	ret = self_spawn(&worker->pid, argv, &actions);
	posix_spawn_file_actions_destroy(&actions);
	return ret;
}

static int try_to_start(struct worker *worker)
{
	struct ends ends;
	int ret = open_ends(&ends);

	if (!ret)
		ret = spawn(worker, &ends);
	close_ends(&ends, 1);
	if (ret) {
		close_ends(&ends, 0);
		return ret;
	}
	worker->channel = ends.channel[1];
	watch_stream(worker, &worker->out, ends.out[0], on_out);
	watch_stream(worker, &worker->err, ends.err[0], on_err);
	ev_child_init(&worker->child, on_death, worker->pid, 0);
	ev_child_start(worker->supervisor->loop, &worker->child);
	return 0;
}

/* Where no process can be made, it is as if it had died at once. */
static void start(struct worker *worker)
{
	const char *before = log_switch(worker->name);
	int ret;

	worker->error[0] = 0;
	worker->began = ev_now(worker->supervisor->loop);
	set_state(worker, WORKER_STARTS);
	ret = try_to_start(worker);
	if (ret) {
		ublkd_error("cannot start a process: %s", strerror(-ret));
		worker->pid = 0;
		worker->settled = true;
		worker->status = EXIT_RUNTIME;
		worker->deaths++;
		if (table_has(worker->supervisor->table, worker->name))
			rest(worker);
		else
			end(worker, EXIT_RUNTIME);
	}
	log_switch(before);
}

/* ---- the whole ---------------------------------------------------------------------------- */

int supervisor_open(struct supervisor *supervisor)
{
	supervisor->folder = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (supervisor->folder >= 0)
		return 0;
	ublkd_error("cannot open the current folder: %s", strerror(errno));
	return -errno;
}

void supervisor_close(struct supervisor *supervisor)
{
	struct worker *next;

	for (struct worker *w = supervisor->workers; w; w = next) {
		next = w->next;
		if (w->pid) {
			ev_child_stop(supervisor->loop, &w->child);
			close_streams(w);
		}
		ev_timer_stop(supervisor->loop, &w->timer);
		free_worker(w);
	}
	supervisor->workers = NULL;
	cleanup_fd(&supervisor->folder);
}

struct worker *supervisor_add(struct supervisor *supervisor, const char *name, const char *backend,
			      json_t *settings, bool added)
{
	struct worker *worker = calloc(1, sizeof(*worker)), **link = &supervisor->workers;

	if (!worker)
		return NULL;
	*worker = (struct worker){
		.name = strdup(name),
		.backend = strdup(backend),
		.settings = json_incref(settings),
		.added = added,
		.supervisor = supervisor,
		.channel = -1,
	};
	if (!worker->name || !worker->backend) {
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

void supervisor_signal(const struct supervisor *supervisor, int signal)
{
	for (const struct worker *w = supervisor->workers; w; w = w->next) {
		if (w->pid)
			kill(w->pid, signal);
	}
}

/* Nobody is there to delete it. */
static void leave_behind(struct worker *worker)
{
	if (!table_has(worker->supervisor->table, worker->name))
		return;
	ublkd_error("%s: its process has died, so it is left waiting for the next server",
		    worker->name);
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
		else if (again == (w->state == WORKER_ENDS) && !leaves && !w->pid)
			leave_behind(w);
	}
	supervisor_signal(supervisor, signal);
	supervisor->begun = true;
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
	set_state(worker, WORKER_WAITS);
	supervisor_go_on(worker->supervisor);
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

	if (gone) {
		end(worker, EXIT_DONE);
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

int worker_connect(struct worker *worker)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int pair[2], ret;

	if (worker->state != WORKER_LIVE)
		return -ENOTCONN;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return -errno;
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &pair[1], sizeof(int));
	ret = sendmsg(worker->channel, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? pair[0] : -errno;
	close(pair[1]);
	if (ret < 0)
		close(pair[0]);
	return ret;
}
