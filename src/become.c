/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "become.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ctrl.h"
#include "exit.h"
#include "guard.h"
#include "identity.h"
#include "log.h"
#include "privilege.h"
#include "worker-process.h"
#include "util/macros.h"

/* That may be open: for some devices of many queues. */
#define FILES 4096

enum { AS_WHO = 2, AS_PROGRAM }; /* of the arguments */

/* What it takes to be root for. The OOM score is the supervisor's by now. */
static void set_limits(void)
{
	struct rlimit memory = { RLIM_INFINITY, RLIM_INFINITY }, files;

	if (setrlimit(RLIMIT_MEMLOCK, &memory))
		log_debug("the limit of locked memory stays: %s", strerror(errno));
	if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_max >= FILES)
		return;
	files.rlim_max = FILES;
	if (setrlimit(RLIMIT_NOFILE, &files))
		log_debug("the limit of open files stays: %s", strerror(errno));
}

/* The namespace that we came from stays open until the end, as in other workers. */
static int set_guards(void)
{
	struct guard guard = { .home = -1 };

	guard_from_reclaim();
	if (guard_from_mounts(&guard))
		return EXIT_KERNEL;
	if (guard.home >= 0 && fcntl(guard.home, F_SETFD, 0))
		close(guard.home);
	return EXIT_DONE;
}

static int become(const struct identity *who)
{
	int ret = privilege_bound_none();

	if (ret)
		log_debug("the bounding set stays: %s", strerror(-ret));
	if (setgroups(who->nr_groups, who->groups) || setresgid(who->gid, who->gid, who->gid) ||
	    setresuid(who->uid, who->uid, who->uid))
		return -errno;
	return privilege_drop();
}

/* Whoever waits for the device hears this, which the worker would say to the log alone. */
static int check_control(const struct identity *who)
{
	if (!access(CONTROL_NODE, R_OK | W_OK) || errno != EACCES)
		return EXIT_DONE;
	ublkd_error("expected that user %u may open '" CONTROL_NODE "': %s: a rule of udev's allows it; "
		    "see DEVICES OF ORDINARY USERS in ublkd(8)", who->uid, strerror(errno));
	return EXIT_KERNEL;
}

/* The user can read it, and it was for root. */
static int clear_environment(void)
{
	static const char *const names[] = { "PATH", GUARD_OOM_SCORE_BEFORE };
	char *values[ARRAY_SIZE(names)] = { NULL };
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (getenv(names[i]))
			values[i] = strdup(getenv(names[i]));
	}
	clearenv();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (values[i] && setenv(names[i], values[i], 1))
			ret = -errno;
		free(values[i]);
	}
	return ret;
}

static int prepare(void)
{
	/* What the server was started with is not for the user. */
	if (close_range(atoi(WORKER_CHANNEL) + 1, UINT_MAX, 0)) {
		ublkd_error("cannot close what is root's: %s", strerror(errno));
		return EXIT_KERNEL;
	}
	set_limits();
	return set_guards();
}

static int begin(int self, const struct identity *who, char **argv)
{
	int ret = clear_environment();

	if (!ret) {
		fexecve(self, argv, environ);
		ret = -errno;
	}
	ublkd_error("cannot start itself as user %u: %s", who->uid, strerror(-ret));
	return EXIT_KERNEL;
}

int become_main(int argc, char **argv)
{
	_cleanup_fd_ int self = -1;
	struct identity who;
	int status, ret;

	if (argc <= AS_PROGRAM || identity_read(&who, argv[AS_WHO]) || !who.uid) {
		ublkd_error("--as: expected an ordinary user's UID:GID:GROUP,… and a program, got '%s'",
			    argc > AS_WHO ? argv[AS_WHO] : "");
		return EXIT_USAGE;
	}
	log_with_levels();
	log_switch(argv[argc - 1]);
	status = prepare();
	if (status)
		return status;
	/* As the user, what the path of the program leads to may be another. */
	self = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	ret = self < 0 ? -errno : become(&who);
	if (ret) {
		ublkd_error("cannot become user %u: %s", who.uid, strerror(-ret));
		return EXIT_KERNEL;
	}
	status = check_control(&who);
	return status ? status : begin(self, &who, argv + AS_PROGRAM);
}
