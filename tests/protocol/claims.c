/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The claims of PROTOCOL, run on the running kernel's driver, as root:
 *
 *	claims [PATTERN]...           runs them, prints TAP
 *	claims --wedging [PATTERN]... those after which this machine must be restarted
 *	claims --list                 their names
 *	claims --table                what each declares for the series that are tested
 *
 * A claim is right when its case says exactly what the claim declares.
 */
#define _GNU_SOURCE
#include "harness.h"

#include <dirent.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define CASE_MS 40000
#define WEDGING_MS 12000
#define CLEAR_UP_MS 20000

static const struct {
	const char *title;
	const struct claim *claims;
	int turn; /* among those that wedge: what leaves the driver in order goes first */
} groups[] = {
	{ "The SQE", sqe_claims },
	{ "ADD_DEV and SET_PARAMS", add_claims, 1 },
	{ "Descriptors", descriptor_claims },
	{ "FETCH_REQ", fetch_claims, -1 },
	{ "START_DEV", start_claims },
	{ "COMMIT_AND_FETCH_REQ and other commands for a tag", commit_claims },
	{ "Results, and what the block layer makes of them", data_claims },
	{ "Linked commits", link_claims },
	{ "STOP_DEV and DEL_DEV", stop_claims },
	{ "The death of a server, and recovery", death_claims },
	{ "Deaths that need a restart of the machine", zombie_claims, -2 },
};
#define GROUPS (sizeof(groups) / sizeof(groups[0]))

static const struct {
	const char *name;
	unsigned kernel;
} series[] = {
	{ "6.12", KERNEL(6, 12) },
	{ "6.18", KERNEL(6, 18) },
	{ "7.3", KERNEL(7, 3) },
};
#define SERIES 3

static const char *expected(const struct claim *claim, unsigned kernel)
{
	const char *result = NULL;
	unsigned i;

	for (i = 0; i < 4 && claim->expect[i].result; i++)
		if (claim->expect[i].since <= kernel)
			result = claim->expect[i].result;
	return result ? result : "nothing declared";
}

/* ---- the table ----------------------------------------------------------------- */

static void print_row(const struct claim *claim)
{
	const char *results[SERIES];
	bool same = true, fit = true;
	int i;

	for (i = 0; i < SERIES; i++) {
		results[i] = expected(claim, series[i].kernel);
		same &= !strcmp(results[i], results[0]);
		fit &= strlen(results[i]) <= 14;
	}
	if (fit) {
		printf("%-36s %-14s %-14s %-14s %s\n", claim->name, results[0], results[1],
		       results[2], claim->from);
		return;
	}
	printf("%-36s %-44s %s\n", claim->name, "", claim->from);
	if (same)
		printf("    all   %s\n", results[0]);
	else
		for (i = 0; i < SERIES; i++)
			printf("    %-5s %s\n", series[i].name, results[i]);
}

static int print_table(void)
{
	const struct claim *claim;
	unsigned g;

	for (g = 0; g < GROUPS; g++) {
		printf("%s%-36s %-14s %-14s %-14s decided by\n\n", g ? "\n" : "", groups[g].title,
		       series[0].name, series[1].name, series[2].name);
		for (claim = groups[g].claims; claim->name; claim++)
			print_row(claim);
	}
	return 0;
}

static int print_list(void)
{
	const struct claim *claim;
	unsigned g;

	for (g = 0; g < GROUPS; g++)
		for (claim = groups[g].claims; claim->name; claim++)
			printf("%s\n", claim->name);
	return 0;
}

/* ---- running --------------------------------------------------------------------- */

/* What a case left is removed, in a process that may be left waiting. */
static void remove_devices(void)
{
	struct dirent *entry;
	struct device d;
	DIR *dir = opendir("/sys/class/ublk-char");

	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, "ublkc", 5))
			continue;
		device_init(&d);
		d.info.dev_id = (uint32_t)atoi(entry->d_name + 5);
		snprintf(d.path, sizeof(d.path), "/dev/ublkc%u", d.info.dev_id);
		control(&d, UBLK_CMD_STOP_DEV, NULL, 0, 0);
		control(&d, UBLK_CMD_DEL_DEV, NULL, 0, 0);
	}
}

static bool device_left(void)
{
	struct dirent *entry;
	bool left = false;
	DIR *dir = opendir("/sys/class/ublk-char");

	while (dir && (entry = readdir(dir)))
		left |= !strncmp(entry->d_name, "ublkc", 5);
	if (dir)
		closedir(dir);
	return left;
}

#define HANGS (-1)

/* Runs `call` in a process group of its own, which is gone when this returns. 0, or it gave up (or crashed), or HANGS. */
static int run_apart(void (*call)(void), int ms)
{
	int64_t end = patient_ms() + ms;
	bool hangs = false;
	int status = 0;
	pid_t pid;

	/* The other may write, too. */
	fflush(stdout);
	pid = fork();
	if (!pid) {
		setpgid(0, 0);
		call();
		_exit(0);
	}
	setpgid(pid, pid);
	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (patient_ms() > end) {
			hangs = true;
			show_waiting_tasks();
			break;
		}
		doze(2);
	}
	kill(-pid, SIGKILL);
	for (end = patient_ms() + 2000; hangs && patient_ms() < end; doze(2))
		if (waitpid(pid, NULL, WNOHANG) == pid)
			break;
	return hangs ? HANGS : status;
}

/* Sets what the case says; whether it was carried out, and left nothing. */
static bool try_claim(const struct claim *claim)
{
	int status;

	harness_said[0] = '\0';
	status = run_apart(claim->run, CASE_MS);
	if (status == HANGS)
		say(" (it hangs)");
	/* What was killed a moment ago takes its device along. */
	if (device_left() && (run_apart(remove_devices, CLEAR_UP_MS) || device_left())) {
		say(" (its device cannot be removed)");
		return false;
	}
	return !status;
}

static bool run_claim(const struct claim *claim, unsigned number, unsigned kernel, bool wedging)
{
	const char *want = expected(claim, kernel);
	int64_t began = now_ms();
	bool right;

	if (wedging) {
		/* It has said all before it wedges. */
		harness_said[0] = '\0';
		run_apart(claim->run, WEDGING_MS);
	} else if (!try_claim(claim) && strcmp(harness_said, want)) {
		/* An emulated machine that stood still is no answer of its driver. */
		printf("# %s is tried again: %s\n", claim->name, harness_said);
		try_claim(claim);
	}
	right = !strcmp(harness_said, want);
	printf("%sok %u - %s: %s\n", right ? "" : "not ", number, claim->name, harness_said);
	if (!right)
		printf("# %s: expected: %s (%s)\n", claim->name, want, claim->from);
	printf("# %lld ms\n", (long long)(now_ms() - began));
	fflush(stdout);
	return right;
}

static bool chosen(const char *name, char **patterns)
{
	if (!*patterns)
		return true;
	for (; *patterns; patterns++)
		if (!fnmatch(*patterns, name, 0))
			return true;
	return false;
}

static unsigned run_group(const struct claim *claim, char **patterns, unsigned kernel, bool wedging,
			  unsigned *number)
{
	unsigned wrong = 0;
	bool wedges;

	for (; claim->name; claim++) {
		wedges = kernel >= claim->wedges_from && kernel < claim->wedges_before;
		if (wedges == wedging && chosen(claim->name, patterns))
			wrong += !run_claim(claim, ++*number, kernel, wedging);
	}
	return wrong;
}

static int run(char **patterns, bool wedging)
{
	unsigned g, number = 0, wrong = 0, major, minor;
	struct utsname name;
	struct stat control;
	int turn;

	uname(&name);
	if (stat("/dev/ublk-control", &control)) {
		perror("claims: /dev/ublk-control");
		return 2;
	}
	if (sscanf(name.release, "%u.%u", &major, &minor) != 2)
		return 2;
	harness_said = mmap(NULL, SAID_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			    -1, 0);
	for (turn = wedging ? -2 : 0; turn <= (wedging ? 1 : 0); turn++)
		for (g = 0; g < GROUPS; g++)
			if (!wedging || groups[g].turn == turn)
				wrong += run_group(groups[g].claims, patterns, KERNEL(major, minor),
						   wedging, &number);
	/* A case may have opened it to everybody. */
	if (chmod("/dev/ublk-control", control.st_mode & 07777))
		perror("claims: /dev/ublk-control");
	printf("1..%u\n", number);
	return wrong || !number;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--table"))
		return print_table();
	if (argc == 2 && !strcmp(argv[1], "--list"))
		return print_list();
	if (argc > 1 && !strcmp(argv[1], "--wedging"))
		return run(argv + 2, true);
	return run(argv + 1, false);
}
