/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ublkd serve: serves the devices that files describe, until it is told to stop. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "exit.h"
#include "log.h"
#include "preflight.h"
#include "serve.h"
#include "util/macros.h"
#include "util/parse.h"

#define FIELD(name) offsetof(struct serve_config, name)

static const struct ublkd_option serve_options[] = {
	{ .name = "reactors", .type = UBLKD_OPT_UINT, .offset = FIELD(reactors), .min = 1,
	  .max = 128, .arg = "N",
	  .help = "threads that serve all queues of all devices; one per queue if not given" },
	{ .name = "state", .type = UBLKD_OPT_PATH, .offset = FIELD(state), .arg = "FOLDER",
	  .help = "keep a table of the devices here, so that the next server takes them over when "
		  "this one dies" },
	{ .name = "workers", .type = UBLKD_OPT_BOOL, .offset = FIELD(workers), .flag = true,
	  .help = "serve each device by a process of its own, started again when it dies" },
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

/* ---- command line -------------------------------------------------------------- */

/* All files are read, so that all that is wrong is said at once. */
static int read_files(struct serve *serve, int argc, char **argv)
{
	int status = EXIT_DONE;
	bool any = false;

	serve->conf.kept = serve->config.state;
	serve->conf.shared = serve->config.reactors > 0;
	for (int i = 1; i < argc; i++) {
		int ret;

		if (!strncmp(argv[i], "--", 2))
			continue;
		any = true;
		ret = conf_read(&serve->conf, argv[i]);
		if (!status)
			status = ret;
	}
	if (!any && !serve->config.socket) {
		ublkd_error("serve: expected files or folders that describe devices, or --socket, "
			    "got none");
		return EXIT_USAGE;
	}
	if (conf_check(&serve->conf))
		return EXIT_USAGE;
	return status;
}

static int check_state(const struct serve_config *config)
{
	const char *given = config->workers   ? "workers" :
			    config->keep      ? "keep" :
			    config->takeover  ? "takeover" :
			    config->preflight ? "preflight" :
			    config->drop      ? "drop" :
						NULL;

	if (config->workers && config->reactors) {
		ublkd_error("workers: expected without --reactors, as no device has its threads in "
			    "common with others then");
		return EXIT_USAGE;
	}
	if (!given || config->state)
		return EXIT_DONE;
	ublkd_error("%s: expected only with --state, which says what waits", given);
	return EXIT_USAGE;
}

int serve_flag(struct serve *serve, const char *arg)
{
	return process_flag(&serve->set, arg, "serve");
}

static int parse_flags(struct serve *serve, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		serve->config.process.help |= !strcmp(argv[i], "--help");
	for (int i = 1; i < argc && !serve->config.process.help; i++) {
		int status;

		if (strncmp(argv[i], "--", 2))
			continue;
		status = serve_flag(serve, argv[i]);
		if (status)
			return status;
	}
	return check_state(&serve->config);
}

/* ---- the devices ------------------------------------------------------------------ */

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

static void on_live(struct hosted *hosted)
{
	struct serve *serve = hosted->host->owner;

	manager_live(&serve->manager, hosted);
	/* Who added it at run time was told. */
	if (!hosted->quiet)
		serve_print(serve, hosted->name, hosted->device.node.path);
}

/* Calls visit for each device that is usable. */
static void visit_live(const struct serve *serve,
		       void (*visit)(void *arg, const char *name, const char *path), void *arg)
{
	for (unsigned i = 0; i < serve->host.count; i++) {
		const struct hosted *hosted = serve->host.devices[i];

		if (hosted->state == HOSTED_LIVE)
			visit(arg, hosted->name, hosted->device.node.path);
	}
	for (const struct worker *w = serve->supervisor.workers; w; w = w->next) {
		if (w->state == WORKER_LIVE)
			visit(arg, w->name, w->path);
	}
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

	visit_live(serve, count_taken, &taken);
	ublkd_note("%u device(s) taken over from process %d within %.2f s", taken.count,
		   serve->handover.pid, ev_now(serve->loop) - serve->handover.asked);
}

static void stop(struct serve *serve)
{
	serve->failed = true;
	if (serve->supervisor.begun)
		workers_stop(serve, SIGTERM);
	else
		host_stop(&serve->host, false);
}

void serve_settled(struct serve *serve)
{
	_cleanup_free_ char *lines = NULL;
	size_t size;
	FILE *out;

	if (serve->handover.asked > 0)
		report_takeover(serve);
	if (process_leave_pid_file(&serve->process)) {
		stop(serve);
		return;
	}
	if (!process_in_background(&serve->process))
		return;
	out = open_memstream(&lines, &size);
	if (out)
		visit_live(serve, add_line, out);
	if (!out || fclose(out) || !lines) {
		ublkd_error("no memory for the list of devices");
		stop(serve);
		return;
	}
	process_print(&serve->process, lines);
}

static void on_settled(struct host *host)
{
	struct serve *serve = host->owner;

	if (serve->config.workers)
		workers_start(serve);
	else
		serve_settled(serve);
}

static void on_end(struct hosted *hosted)
{
	struct serve *serve = hosted->host->owner;

	manager_ended(&serve->manager, hosted);
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

void serve_end(struct serve *serve, int status)
{
	serve->status = status;
	ev_break(serve->loop, EVBREAK_ALL);
}

static void on_resized(struct hosted *hosted)
{
	struct serve *serve = hosted->host->owner;

	manager_resized(&serve->manager, hosted);
}

static void on_gone(struct host *host, int status)
{
	struct serve *serve = host->owner;

	serve_end(serve, status ? status : serve->failed ? EXIT_RUNTIME : EXIT_DONE);
}

void serve_leave(struct serve *serve)
{
	serve->process.leaves = true;
	recover_hurry(&serve->recover);
	if (serve->supervisor.begun)
		workers_stop(serve, SIGNAL_LEAVE);
	else
		host_leave(&serve->host);
}

static void on_stop(struct process *process, int signal)
{
	struct serve *serve = container_of(process, struct serve, process);

	if (serve->waits) {
		handover_abandon(&serve->handover);
		serve_end(serve, EXIT_DONE);
	} else if (serve->supervisor.begun) {
		process->leaves = serve->config.keep && signal != SIGINT;
		workers_stop(serve, signal);
	} else if (serve->config.keep && signal != SIGINT && process->stops == 1) {
		serve_leave(serve);
	} else {
		recover_hurry(&serve->recover);
		host_stop(&serve->host, process->stops > 1);
	}
}

static void on_leave(struct process *process)
{
	struct serve *serve = container_of(process, struct serve, process);

	if (serve->waits) {
		handover_abandon(&serve->handover);
		serve_end(serve, EXIT_DONE);
	} else if (serve->host.table) {
		serve_leave(serve);
	} else {
		ublkd_note("the signal to leave devices to another server is of no use without --state");
	}
}

static void on_stats(struct process *process)
{
	struct serve *serve = container_of(process, struct serve, process);

	host_log_stats(&serve->host);
	supervisor_signal(&serve->supervisor, SIGUSR1);
}

static int make_host(struct serve *serve)
{
	struct host *host = &serve->host;

	host->loop = serve->loop;
	host->ctrl = &serve->ctrl;
	host->pool = &serve->pool;
	host->stats = serve->config.process.stats;
	host->stays = serve->config.socket || serve->config.workers;
	host->on_end = on_end;
	host->on_counted = on_counted;
	host->on_in_use = on_in_use;
	host->on_resized = on_resized;
	host->on_live = on_live;
	host->on_settled = on_settled;
	host->on_gone = on_gone;
	host->owner = serve;
	if (serve->config.workers)
		return workers_open(serve);
	for (unsigned i = 0; i < serve->conf.count; i++) {
		const struct conf_device *device = serve->conf.devices[i];

		if (!host_add(host, device->name, &device->spec))
			return EXIT_RUNTIME;
	}
	return EXIT_DONE;
}

/* ---- what the last server left -------------------------------------------------------- */

static bool wanted(struct recover *recover, const char *name)
{
	const struct serve *serve = container_of(recover, struct serve, recover);
	unsigned i;

	for (i = 0; i < serve->conf.count && strcmp(serve->conf.devices[i]->name, name); i++)
		;
	return i < serve->conf.count || serve->only.name;
}

static void recovered(struct recover *recover)
{
	struct serve *serve = container_of(recover, struct serve, recover);
	const char *before = log_switch(NULL);

	if (serve->config.workers)
		workers_take_over(serve);
	else if (!serve->only.name)
		manager_take_over(&serve->manager, &serve->table);
	manager_knows(&serve->manager);
	host_start(&serve->host);
	log_switch(before);
}

static rlim_t files_needed(const struct serve *serve)
{
	rlim_t files = FILES_PER_PROCESS + serve->config.reactors * FILES_PER_REACTOR +
		       (serve->config.socket ? SERVICE_CLIENTS : 0);

	for (unsigned i = 0; i < serve->host.count; i++) {
		const struct device_config *device = &serve->host.devices[i]->spec->device;

		files += FILES_PER_DEVICE;
		if (!serve->config.reactors)
			files += FILES_PER_REACTOR *
				 (device->reactors ? device->reactors : device->queues);
	}
	return files;
}

/* ---- the socket -------------------------------------------------------------------- */

static void on_more(struct manager *manager)
{
	process_need_files(files_needed(container_of(manager, struct serve, manager)));
}

static int find_group(const char *text, gid_t *gid)
{
	const struct group *group = text ? getgrnam(text) : NULL;
	uint64_t number = 0;

	if (text && !group && (parse_uint(text, &number) || number >= UINT32_MAX)) {
		ublkd_error("socket-group: expected a group that exists, or its number, got '%s'",
			    text);
		return EXIT_USAGE;
	}
	*gid = !text ? (gid_t)-1 : group ? group->gr_gid : (gid_t)number;
	return EXIT_DONE;
}

static int open_socket(struct serve *serve)
{
	struct service *service = &serve->manager.service;

	/* A device may be one of the last server's clients, without a socket of ours too. */
	serve->manager.host = &serve->host;
	serve->manager.on_more = on_more;
	if (!serve->config.socket)
		return EXIT_DONE;
	service->loop = serve->loop;
	service->most_clients = SERVICE_CLIENTS;
	service->patience = SERVICE_PATIENCE;
	if (serve->config.workers)
		return router_open(&serve->router, serve->config.socket) ? EXIT_RUNTIME : EXIT_DONE;
	return manager_open(&serve->manager, serve->config.socket) ? EXIT_RUNTIME : EXIT_DONE;
}

static int open_state(struct serve *serve)
{
	int status = serve->only.name ? worker_open(serve) : open_socket(serve);

	if (status)
		return status;
	if (!serve->only.name && table_open(&serve->table, serve->config.state))
		return EXIT_RUNTIME;
	serve->host.table = &serve->table;
	serve->recover.table = &serve->table;
	serve->recover.ctrl = &serve->ctrl;
	serve->recover.drop = serve->config.drop;
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
		int status = open_socket(serve);

		if (!status)
			host_start(&serve->host);
		return status;
	}
	if (!serve->config.takeover)
		return open_state(serve);
	serve->handover.loop = serve->loop;
	serve->handover.done = left_to_us;
	ret = handover_start(&serve->handover, serve->config.state);
	serve->waits = ret > 0;
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
	status = make_host(serve);
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
	if (serve->config.workers)
		workers_close(serve);
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
	*serve = (struct serve){ .supervisor.folder = -1 };
	options_init(&serve->set, serve_options, &serve->config);
	serve->process.config = &serve->config.process;
	serve->process.on_stop = on_stop;
	serve->process.on_stats = on_stats;
	serve->process.on_leave = on_leave;
}

void serve_free(struct serve *serve)
{
	options_free(&serve->set);
	conf_free(&serve->conf);
}

static int serve_main(int argc, char **argv)
{
	struct serve serve;
	int status;

	serve_init(&serve);
	status = parse_flags(&serve, argc, argv);
	if (!status && serve.config.process.help) {
		command_print_help(&serve_command);
	} else if (!status) {
		status = read_files(&serve, argc, argv);
		if (!status)
			status = find_group(serve.config.socket_group,
					    &serve.manager.service.group);
		/* Before the other server is asked to leave, as it would go on otherwise. */
		if (!status && (serve.config.preflight || serve.config.takeover))
			status = preflight(&serve.conf, serve.config.state);
		if (!status && !serve.config.check && !serve.config.preflight) {
			serve.process.serves_elsewhere = serve.config.workers;
			status = process_begin(&serve.process);
			if (status < 0)
				status = serve_all(&serve);
		}
	}
	serve_free(&serve);
	return status;
}

static void serve_help(void)
{
	printf("\nOptions:\n");
	options_print(stdout, serve_options, "--");
	printf("\nA FILE describes one device, a FOLDER holds such files, *.conf:\n\n"
	       "  [device]\n"
	       "  name = web                 before its messages; the file's name if not given\n"
	       "  backend = file             or FILTER+BACKEND\n"
	       "  path = /srv/web.img        and any other KEY = VALUE that 'run' takes\n"
	       "  depth = 32\n"
	       "\nFor each device that is usable, a line NAME PATH is printed. 'ublkd help run' and\n"
	       "'ublkd help BACKEND' list the keys.\n");
}

const struct command serve_command = {
	.name = "serve",
	.usage = "[--OPTION…] [FILE|FOLDER]…",
	.summary = "Serve all devices that files describe, until it is told to stop.",
	.run = serve_main,
	.help = serve_help,
};
