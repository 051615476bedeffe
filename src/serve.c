/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "exit.h"
#include "log.h"
#include "serve.h"
#include "serve-settings.h"
#include "util/clock.h"
#include "util/macros.h"

#define FIELD(name) offsetof(struct serve_config, name)

const struct ublkd_option serve_options[] = {
	{ .name = "reactors", .type = UBLKD_OPT_UINT, .offset = FIELD(reactors), .min = 1,
	  .max = 128, .arg = "N",
	  .help = "threads that serve all queues of all devices; one per queue if not given" },
	{ .name = "state", .type = UBLKD_OPT_PATH, .offset = FIELD(state), .arg = "FOLDER",
	  .help = "keep a table of the devices here, so that the next server takes them over when "
		  "this one dies" },
	{ .name = "workers", .type = UBLKD_OPT_BOOL, .offset = FIELD(workers), .flag = true,
	  .help = "serve each device by a process of its own, or of those that name the same worker, "
		  "started again when it dies" },
	{ .name = "keep", .type = UBLKD_OPT_BOOL, .offset = FIELD(keep), .flag = true,
	  .help = "leave the devices to the next server when told to stop; SIGINT deletes them" },
	{ .name = "takeover", .type = UBLKD_OPT_BOOL, .offset = FIELD(takeover), .flag = true,
	  .help = "let the server that has the state now leave its devices, and go on with them" },
	{ .name = "preflight", .type = UBLKD_OPT_BOOL, .offset = FIELD(preflight), .flag = true,
	  .help = "only say whether all devices of the state could be taken over" },
	{ .name = "drop", .type = UBLKD_OPT_BOOL, .offset = FIELD(drop), .flag = true,
	  .help = "delete devices that wait for a server and are not described any more" },
	{ .name = "check", .type = UBLKD_OPT_BOOL, .offset = FIELD(check), .flag = true,
	  .help = "only check the files" },
	{ .name = "config", .type = UBLKD_OPT_PATH, .offset = FIELD(config), .arg = "FILE",
	  .help = "settings, as these options; " SERVE_SETTINGS ", if it is there, if not given" },
	{ .name = "socket", .type = UBLKD_OPT_PATH, .offset = FIELD(socket), .arg = "PATH",
	  .help = "let ublkctl add and delete devices at this socket; stay without a device" },
	{ .name = "socket-group", .type = UBLKD_OPT_STRING, .offset = FIELD(socket_group),
	  .arg = "GROUP", .help = "whose members may use the socket too" },
	PROCESS_OPTIONS(struct serve_config, process),
	{ .name = "help", .type = UBLKD_OPT_BOOL, .flag = true,
	  .offset = PROCESS_FIELD(struct serve_config, process, help),
	  .help = "explain this command" },
	{ 0 },
};

int serve_flag(struct serve *serve, const char *arg)
{
	return process_flag(&serve->set, arg, "serve");
}

/* ---- what is said of the devices ---------------------------------------------------- */

static void print_line(FILE *out, const char *name, const char *path)
{
	fprintf(out, "%s %s\n", name, path);
}

void serve_print(struct serve *serve, const char *name, const char *path)
{
	/* From the background, they come when the process lets go of the terminal. */
	if (process_in_background(&serve->process))
		return;
	print_line(stdout, name, path);
	if (fflush(stdout))
		ublkd_error("cannot print '%s': %s", path, strerror(errno));
}

static void add_line(void *out, const char *name, const char *path)
{
	print_line(out, name, path);
}

struct taken {
	const struct table *table;
	unsigned count;
};

/* That was in the table when we came, as one that waited. */
static void count_taken(void *arg, const char *name, const char *path)
{
	struct taken *taken = arg;
	const struct table_entry *entry = table_find(taken->table, name);

	(void)path;
	taken->count += entry && (entry->state == TABLE_WAITS || entry->state == TABLE_SERVED);
}

/* How long their I/O may have waited: from our word to the other server until now. */
static void report_takeover(const struct serve *serve)
{
	struct taken taken = { .table = &serve->table };

	serve->mode->visit_live(serve, count_taken, &taken);
	ublkd_note("%u device(s) taken over from process %d within %.2f s", taken.count,
		   serve->handover.pid, clock_now() - serve->handover.asked);
}

/* ---- what the service manager is told ------------------------------------------------ */

static void count_live(void *arg, const char *name, const char *path)
{
	(void)name, (void)path;
	++*(unsigned *)arg;
}

static void describe(struct notify *notify, char text[NOTIFY_TEXT])
{
	const struct serve *serve = container_of(notify, struct serve, process.notify);
	size_t failed = json_object_size(serve->manager.failed) +
			supervisor_failures(&serve->supervisor);
	unsigned live = 0, wrong = serve->conf.wrong;
	char files[48] = "";

	if (serve->waits) {
		snprintf(text, NOTIFY_TEXT, "waiting for process %d to leave its devices",
			 serve->handover.pid);
		return;
	}
	serve->mode->visit_live(serve, count_live, &live);
	if (wrong)
		snprintf(files, sizeof(files), ", %u file(s) wrong", wrong);
	if (serve->process.leaves || serve->process.stops)
		snprintf(text, NOTIFY_TEXT, "%s %u device(s)",
			 serve->process.leaves ? "leaving" : "deleting", live);
	else
		snprintf(text, NOTIFY_TEXT, "%u device(s) usable, %zu failed%s", live, failed, files);
}

/* ---- all are usable or have failed ---------------------------------------------------- */

static void stop(struct serve *serve)
{
	serve->failed = true;
	/* What was just taken over is used. */
	if (serve->handover.asked > 0)
		serve_leave(serve);
	else
		serve->mode->stop(serve, SIGTERM, false);
}

void serve_settled(struct serve *serve)
{
	_cleanup_free_ char *lines = NULL;
	size_t size;
	FILE *out;

	if (serve->handover.asked > 0)
		report_takeover(serve);
	if (process_ready(&serve->process)) {
		stop(serve);
		return;
	}
	if (!process_in_background(&serve->process))
		return;
	out = open_memstream(&lines, &size);
	if (out)
		serve->mode->visit_live(serve, add_line, out);
	if (!out || fclose(out) || !lines) {
		ublkd_error("no memory for the list of devices");
		stop(serve);
		return;
	}
	process_print(&serve->process, lines);
}

/* ---- the devices of this process ----------------------------------------------------- */

static void on_live(struct hosted *hosted)
{
	struct serve *serve = hosted->host->owner;

	manager_live(&serve->manager, hosted);
	notify_changed(&serve->process.notify);
	/* Who added it at run time was told. */
	if (!hosted->quiet)
		serve_print(serve, hosted->name, hosted->device.node.path);
}

static void on_settled(struct host *host)
{
	struct serve *serve = host->owner;

	serve->mode->settled(serve);
}

static void on_end(struct hosted *hosted)
{
	struct serve *serve = hosted->host->owner;

	manager_ended(&serve->manager, hosted);
	notify_changed(&serve->process.notify);
	if (serve->mode->ended)
		serve->mode->ended(serve, hosted);
}

static void on_counted(struct hosted *hosted)
{
	struct serve *serve = hosted->host->owner;

	manager_counted(&serve->manager, hosted);
}

static void on_in_use(struct hosted *hosted)
{
	struct serve *serve = hosted->host->owner;

	manager_in_use(&serve->manager, hosted);
}

static void on_resized(struct hosted *hosted)
{
	struct serve *serve = hosted->host->owner;

	manager_resized(&serve->manager, hosted);
}

static void on_gone(struct host *host, int status)
{
	struct serve *serve = host->owner;

	serve_end_gone(serve, status);
}

void serve_visit_host(const struct serve *serve, serve_visitor *visit, void *arg)
{
	for (unsigned i = 0; i < serve->host.count; i++) {
		const struct hosted *hosted = serve->host.devices[i];

		if (hosted->state == HOSTED_LIVE)
			visit(arg, hosted->name, hosted->device.node.path);
	}
}

void serve_stop_host(struct serve *serve, int signal, bool leaves)
{
	(void)signal;
	if (leaves && serve->process.stops == 1) {
		serve_leave(serve);
	} else {
		recover_hurry(&serve->recover);
		host_stop(&serve->host, serve->process.stops > 1);
	}
}

void serve_leave_host(struct serve *serve)
{
	host_leave(&serve->host);
}

static void make_host(struct serve *serve)
{
	struct host *host = &serve->host;

	host->loop = serve->loop;
	host->ctrl = &serve->ctrl;
	host->pool = &serve->pool;
	host->stats = serve->config.process.stats;
	host->stays = serve->config.socket;
	host->on_end = on_end;
	host->on_counted = on_counted;
	host->on_in_use = on_in_use;
	host->on_resized = on_resized;
	host->on_live = on_live;
	host->on_settled = on_settled;
	host->on_gone = on_gone;
	host->owner = serve;
}

static rlim_t files_needed(const struct serve *serve)
{
	rlim_t files = FILES_PER_PROCESS + serve->config.reactors * FILES_PER_REACTOR +
		       (serve->config.socket ? SERVICE_CLIENTS + SERVICE_ALL_FILES : 0);

	for (unsigned i = 0; i < serve->host.count; i++) {
		const struct hosted *hosted = serve->host.devices[i];
		const struct device_config *device = &hosted->spec->device;

		/* A table of its own has the folder open. */
		files += FILES_PER_DEVICE + (hosted->table ? 1 : 0);
		if (!serve->config.reactors)
			files += FILES_PER_REACTOR *
				 (device->reactors ? device->reactors : device->queues);
	}
	return files;
}

static void on_more(struct manager *manager)
{
	process_need_files(files_needed(container_of(manager, struct serve, manager)));
}

static void on_forgotten(struct manager *manager)
{
	notify_changed(&container_of(manager, struct serve, manager)->process.notify);
}

/* Also without a socket: a device may be one of the last server's clients. */
static void make_manager(struct serve *serve)
{
	struct service *service = &serve->manager.service;

	serve->manager.host = &serve->host;
	serve->manager.on_more = on_more;
	serve->manager.on_forgotten = on_forgotten;
	serve->manager.conf = &serve->conf;
	service->loop = serve->loop;
	service->most_clients = SERVICE_CLIENTS;
	service->patience = SERVICE_PATIENCE;
}

static void got_features(struct features_query *query, int result)
{
	struct serve *serve = container_of(query, struct serve, features);

	serve->manager.driver_refuses = !result && query->flags & UBLK_F_SAFE_STOP_DEV;
}

static void ask_features(struct serve *serve)
{
	serve->features.done = got_features;
	if (serve->config.socket)
		features_ask(&serve->features, &serve->ctrl);
}

/* ---- the end ------------------------------------------------------------------------- */

void serve_end(struct serve *serve, int status)
{
	serve->status = status;
	ev_break(serve->loop, EVBREAK_ALL);
}

void serve_end_gone(struct serve *serve, int status)
{
	/* It was said, and the next server finds out whether it is so still. */
	bool wrong = serve->conf.wrong && !serve->process.leaves;

	serve_end(serve, status ? status : serve->failed ? EXIT_RUNTIME : wrong ? EXIT_USAGE :
			 EXIT_DONE);
}

void serve_leave(struct serve *serve)
{
	serve->process.leaves = true;
	recover_hurry(&serve->recover);
	serve->mode->leave(serve);
}

static void on_stop(struct process *process, int signal)
{
	struct serve *serve = container_of(process, struct serve, process);

	if (serve->waits) {
		handover_abandon(&serve->handover);
		serve_end(serve, EXIT_DONE);
	} else {
		/* Where the other goes on, the service does. */
		if (!handover_is_on(&serve->handover))
			notify_state(&process->notify, NOTIFY_STOPPING);
		serve->mode->stop(serve, signal, serve->config.keep && signal != SIGINT);
	}
}

/*
 * What failed before was said then, and the next server tries it again. It is not what
 * became of the leaving: systemd would take the whole service for one that failed, and end
 * the server that goes on.
 */
static void forget_failures(struct serve *serve)
{
	if (!serve->process.leaves)
		serve->host.status = serve->supervisor.status = EXIT_DONE;
}

static void on_leave(struct process *process)
{
	struct serve *serve = container_of(process, struct serve, process);

	if (serve->waits) {
		handover_abandon(&serve->handover);
		serve_end(serve, EXIT_DONE);
	} else if (serve->host.table) {
		forget_failures(serve);
		/* It may turn out at once that nobody takes them over, and then we are ready again. */
		notify_state(&process->notify, NOTIFY_RELOADING);
		serve_leave(serve);
	} else {
		ublkd_note("the signal to leave devices to another server is of no use without --state");
	}
}

/* Who sends it wants files to be read again, or has closed a terminal: nothing is to be deleted. */
static void on_hang_up(struct process *process)
{
	(void)process;
	ublkd_note("SIGHUP changes nothing: another 'ublkd serve --takeover' goes on with other settings, "
		   "SIGTERM stops");
}

static void on_stats(struct process *process)
{
	struct serve *serve = container_of(process, struct serve, process);

	host_log_stats(&serve->host);
	supervisor_signal(&serve->supervisor, SIGUSR1);
}

/* ---- what the last server left -------------------------------------------------------- */

static bool wanted(struct recover *recover, const char *name)
{
	const struct serve *serve = container_of(recover, struct serve, recover);

	return serve->mode->wants(serve, name);
}

static void recovered(struct recover *recover)
{
	struct serve *serve = container_of(recover, struct serve, recover);
	const char *before = log_switch(NULL);

	if (serve->mode->take_over)
		serve->mode->take_over(serve);
	/* Each has its UUID then, by which a call may name it that has waited for this. */
	host_start(&serve->host);
	manager_knows(&serve->manager);
	log_switch(before);
}

bool serve_describes(const struct serve *serve, const char *name)
{
	return conf_find(&serve->conf, name);
}

int serve_open_table(struct serve *serve)
{
	stuck_add_left(&serve->ctrl.stuck);
	return table_open(&serve->table, serve->config.state);
}

static int open_state(struct serve *serve)
{
	int status = serve->mode->listen(serve);

	if (status)
		return status;
	if (serve->mode->open_table(serve))
		return EXIT_RUNTIME;
	/* Not a worker's: it has no folder, only an entry. */
	if (serve->table.lock >= 0)
		table_leave_watchdog(&serve->table, serve->process.notify.watchdog);
	serve->host.table = &serve->table;
	for (unsigned i = 0; i < serve->table.count; i++)
		serve->table.entries[i].left = serve->handover.asked;
	serve->recover.table = &serve->table;
	serve->recover.ctrl = &serve->ctrl;
	serve->recover.drop = serve->config.drop;
	serve->recover.unsure = serve->conf.wrong;
	/* A worker whose device has its last process still waits for that, and keeps no other waiting. */
	serve->recover.handed = serve->config.workers || handover_is_on(&serve->handover);
	serve->recover.wanted = wanted;
	serve->recover.done = recovered;
	recover_start(&serve->recover);
	return EXIT_DONE;
}

static void left_to_us(struct handover *handover)
{
	struct serve *serve = container_of(handover, struct serve, handover);
	int status = open_state(serve);

	serve->waits = false;
	if (status)
		serve_end(serve, status);
}

static int start(struct serve *serve)
{
	int ret;

	if (!serve->config.state) {
		int status = serve->mode->listen(serve);

		if (!status)
			host_start(&serve->host);
		return status;
	}
	if (!serve->config.takeover)
		return open_state(serve);
	serve->handover.loop = serve->loop;
	/* What is to be deleted has no server by then. */
	serve->handover.one_by_one = serve->config.workers && !serve->config.drop;
	serve->handover.done = left_to_us;
	ret = handover_start(&serve->handover, serve->config.state);
	serve->waits = ret > 0;
	if (serve->waits)
		notify_watchdog(&serve->process.notify, table_watchdog(serve->config.state));
	notify_changed(&serve->process.notify);
	return ret < 0 ? EXIT_RUNTIME : ret ? EXIT_DONE : open_state(serve);
}

/* ---- the whole --------------------------------------------------------------------- */

int serve_all(struct serve *serve)
{
	int status;

	serve->loop = process_loop(&serve->process, &serve->far);
	if (!serve->loop)
		return EXIT_RUNTIME;
	if (ctrl_open(&serve->ctrl, serve->loop))
		return EXIT_KERNEL;
	if (pool_open(&serve->pool, serve->loop, (unsigned)serve->config.reactors)) {
		ctrl_close(&serve->ctrl);
		return EXIT_RUNTIME;
	}
	make_host(serve);
	make_manager(serve);
	ask_features(serve);
	status = serve->mode->open(serve);
	if (!status) {
		process_need_files(files_needed(serve));
		process_watch_signals(&serve->process, serve->loop);
		status = start(serve);
	}
	if (!status) {
		if (serve->host.on_gone)
			ev_run(serve->loop, 0);
		process_end(&serve->process);
		status = serve->status;
	}
	manager_close(&serve->manager);
	if (serve->mode->close)
		serve->mode->close(serve);
	if (status == EXIT_TIMEOUT || serve->host.holds)
		_exit(status);
	if (serve->host.table)
		table_close(&serve->table);
	pool_close(&serve->pool);
	host_free(&serve->host);
	ctrl_close(&serve->ctrl);
	return status;
}

void serve_init(struct serve *serve)
{
	*serve = (struct serve){ .supervisor.folder = -1, .successor_fd = -1 };
	handover_init(&serve->handover);
	options_init(&serve->set, serve_options, &serve->config);
	serve->process.config = &serve->config.process;
	serve->process.on_stop = on_stop;
	serve->process.on_hang_up = on_hang_up;
	serve->process.on_stats = on_stats;
	serve->process.on_leave = on_leave;
	serve->process.notify.describe = describe;
}

void serve_free(struct serve *serve)
{
	options_free(&serve->set);
	conf_free(&serve->conf);
}

