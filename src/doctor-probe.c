/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What only system calls, the driver and other programs can tell. The driver
 * is asked by a process of its own: one that has a command in a driver that is
 * stuck cannot end, and this one must.
 */
#define _GNU_SOURCE
#include "doctor.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

#include "ctrl.h"
#include "feature.h"
#include "helper.h"
#include "util/macros.h"

#define ANSWER_SECONDS 5   /* for each question about a device */
#define SILENCE_SECONDS 15 /* from one answer to the next: more than any has */
#define PROGRAM_SECONDS 10

extern char **environ;

/* ---- the process that asks the driver -------------------- */

/* What it writes: about features, each device, and in the end. */
enum subject { ABOUT_FEATURES, ABOUT_DEVICE, ABOUT_END };

struct answer {
	enum subject subject;
	unsigned index; /* of the device in the list */
	int result;
	uint64_t features;
	struct ublk_dev_info info;
};

struct asker {
	const struct doctor *doctor;
	int to;
	struct ctrl ctrl;
	struct features_query features;
	struct ctrl_command command;
	struct ublk_dev_info info;
	unsigned next;
};

static void tell(const struct asker *asker, const struct answer *answer)
{
	/* As one piece: it is shorter than what a pipe keeps together. */
	if (write(asker->to, answer, sizeof(*answer)) != sizeof(*answer))
		_exit(1);
}

static void end(const struct asker *asker)
{
	tell(asker, &(struct answer){ .subject = ABOUT_END });
	_exit(0);
}

static void ask_about_next(struct asker *asker);

static void got_info(struct ctrl_command *command, int result)
{
	struct asker *asker = container_of(command, struct asker, command);

	tell(asker, &(struct answer){ .subject = ABOUT_DEVICE, .index = asker->next++,
				      .result = MIN(result, 0), .info = asker->info });
	ask_about_next(asker);
}

/* No further command for a driver that is stuck. */
static void late(struct ctrl_command *command)
{
	struct asker *asker = container_of(command, struct asker, command);

	tell(asker, &(struct answer){ .subject = ABOUT_DEVICE, .index = asker->next,
				      .result = -ETIMEDOUT });
	end(asker);
}

static void ask_about_next(struct asker *asker)
{
	if (asker->next == asker->doctor->nr_devices)
		end(asker);
	asker->command = (struct ctrl_command){
		.op = UBLK_CMD_GET_DEV_INFO2,
		.dev_id = asker->doctor->devices[asker->next].id,
		.buffer = &asker->info,
		.length = sizeof(asker->info),
		.deadline = ANSWER_SECONDS,
		.done = got_info,
		.late = late,
	};
	ctrl_issue(&asker->ctrl, &asker->command);
}

static void got_features(struct features_query *query, int result)
{
	struct asker *asker = container_of(query, struct asker, features);

	tell(asker, &(struct answer){ .subject = ABOUT_FEATURES, .result = result,
				      .features = query->flags });
	if (result == -ETIMEDOUT)
		end(asker);
	ask_about_next(asker);
}

static void ask(const struct doctor *doctor, int to)
{
	struct asker asker = { .doctor = doctor, .to = to, .features.done = got_features };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct ev_loop *loop;

	/* It may outlive us, and whoever reads from us is not to wait for it. */
	for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	loop = ev_default_loop(EVFLAG_NOENV);
	if (loop && !ctrl_open(&asker.ctrl, loop)) {
		features_ask(&asker.features, &asker.ctrl);
		ev_run(loop, 0);
	}
	_exit(1);
}

static bool readable(int fd, double seconds)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	int ret;

	do
		ret = poll(&poll_fd, 1, (int)(seconds * 1000));
	while (ret < 0 && errno == EINTR);
	return ret > 0;
}

/* Until all answers are there, or none comes any more. */
static void collect(struct doctor *doctor, int from, double seconds)
{
	struct answer answer;

	while (readable(from, seconds)) {
		/* Ended before the end: it could not ask. */
		if (read(from, &answer, sizeof(answer)) != sizeof(answer))
			return;
		if (answer.result == -ETIMEDOUT)
			doctor->silent = true;
		if (answer.subject == ABOUT_END)
			return;
		if (answer.subject == ABOUT_FEATURES) {
			doctor->features_error = answer.result;
			doctor->features = answer.features;
		} else if (answer.index < doctor->nr_devices) {
			doctor->devices[answer.index].result = answer.result;
			doctor->devices[answer.index].info = answer.info;
		}
	}
	doctor->silent = true;
	if (doctor->features_error == 1)
		doctor->features_error = -ETIMEDOUT;
}

/* It ends at once, unless the driver has it. */
static void end_process(pid_t pid)
{
	kill(pid, SIGKILL);
	for (int i = 0; i < 100 && !waitpid(pid, NULL, WNOHANG); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
}

static void ask_driver(struct doctor *doctor)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return;
	pid = fork();
	if (!pid)
		ask(doctor, fds[1]);
	close(fds[1]);
	if (pid > 0) {
		collect(doctor, fds[0], SILENCE_SECONDS);
		end_process(pid);
	}
	close(fds[0]);
}

static void list_devices(struct doctor *doctor)
{
	char path[256];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/sys/class/ublk-char", doctor->root);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		struct doctor_device *all;
		uint32_t id;

		if (sscanf(entry->d_name, "ublkc%" SCNu32, &id) != 1)
			continue;
		all = realloc(doctor->devices, (doctor->nr_devices + 1) * sizeof(*all));
		if (!all) {
			doctor->no_memory = true;
			break;
		}
		doctor->devices = all;
		all[doctor->nr_devices++] = (struct doctor_device){ .id = id, .result = 1 };
	}
	if (dir)
		closedir(dir);
}

/* ---- programs -------------------- */

/* What it prints on stdout, or NULL if it does not end well. */
static char *output_of(char *const *argv, double seconds)
{
	posix_spawn_file_actions_t actions;
	size_t used = 0, room = 16384;
	char *text = malloc(room);
	int fds[2], status = 0, ret;
	ssize_t got = -1;
	pid_t pid;

	if (!text || pipe2(fds, O_CLOEXEC)) {
		free(text);
		return NULL;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	ret = posix_spawn(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	while (!ret && used < room - 1 && readable(fds[0], seconds)) {
		got = read(fds[0], text + used, room - 1 - used);
		if (got <= 0)
			break;
		used += (size_t)got;
	}
	close(fds[0]);
	text[used] = 0;
	if (!ret && got) {
		end_process(pid);
		ret = -1;
	} else if (!ret) {
		ret = waitpid(pid, &status, 0) != pid || status;
	}
	if (ret) {
		free(text);
		return NULL;
	}
	return text;
}

/* The module's own words, as what a parameter means is not the same in all kernels. */
static char *parameters(void)
{
	static const char *const places[] = { "/sbin/modinfo", "/usr/sbin/modinfo",
					     "/bin/modinfo" };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		char *argv[] = { (char *)(uintptr_t)places[i], (char *)(uintptr_t)"-p",
				 (char *)(uintptr_t)"ublk_drv", NULL };

		if (!access(places[i], X_OK))
			return output_of(argv, PROGRAM_SECONDS);
	}
	return NULL;
}

struct try {
	struct helper helper;
	int status;
};

static void helper_ended(struct helper *helper, int status)
{
	struct try *try = container_of(helper, struct try, helper);

	try->status = status;
	ev_break(helper->loop, EVBREAK_ALL);
}

static int try_helper(void)
{
	struct ev_loop *loop = ev_default_loop(EVFLAG_NOENV);
	struct try try = { .helper.done = helper_ended };
	int ret = loop ? helper_start(&try.helper, loop, (const char *const[]){ HELPER_NOTHING,
									       NULL },
				      PROGRAM_SECONDS) : -ENOMEM;

	if (ret)
		return ret;
	ev_run(loop, 0);
	return try.status ? -ENOEXEC : 0;
}

/* ---- this process -------------------- */

static int open_control(void)
{
	_cleanup_fd_ int fd = open(CONTROL_NODE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return -errno;
	return fstat(fd, &st) ? -errno : S_ISCHR(st.st_mode) ? 0 : -ENOTTY;
}

static int try_ring(enum ring_mode mode, unsigned extra_flags)
{
	struct ring ring;
	int ret = ring_open(&ring, 8, 0, mode, extra_flags);

	if (!ret)
		ring_close(&ring);
	return ret;
}

/* Newer ones say it; the name of an older one's file does. */
static void find_liburing(char *version, size_t size)
{
	union {
		void *symbol;
		int (*number)(void);
	} major = { dlsym(RTLD_DEFAULT, "io_uring_major_version") },
	  minor = { dlsym(RTLD_DEFAULT, "io_uring_minor_version") };
	void *used = dlsym(RTLD_DEFAULT, "io_uring_queue_mmap");
	_cleanup_free_ char *path = NULL;
	const char *name;
	Dl_info info;

	if (major.symbol && minor.symbol) {
		snprintf(version, size, "%d.%d", major.number(), minor.number());
		return;
	}
	path = used && dladdr(used, &info) ? realpath(info.dli_fname, NULL) : NULL;
	name = path ? strstr(path, "liburing.so.") : NULL;
	if (name)
		snprintf(version, size, "%s", name + strlen("liburing.so."));
}

void doctor_probe(struct doctor *doctor)
{
	struct utsname system;

	if (!uname(&system))
		snprintf(doctor->release, sizeof(doctor->release), "%s", system.release);
	find_liburing(doctor->liburing, sizeof(doctor->liburing));
	getrlimit(RLIMIT_MEMLOCK, &doctor->memlock);
	getrlimit(RLIMIT_NOFILE, &doctor->files);
	doctor->control_error = open_control();
	doctor->control_ring_error = try_ring(RING_PLAIN, IORING_SETUP_SQE128);
	for (enum ring_mode mode = RING_DEFER; mode <= RING_PLAIN; mode++)
		doctor->ring_errors[mode] = try_ring(mode, 0);
	doctor->parameters = parameters();
	doctor->features_error = 1;
	list_devices(doctor);
	if (!doctor->control_error && !doctor->control_ring_error)
		ask_driver(doctor);
	/* Last: its loop takes the ends of all our children. */
	doctor->helper_error = try_helper();
}
