/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "doctor-check.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exit.h"
#include "util/macros.h"
#include "util/parse.h"

/* ---- what is found -------------------- */

void doctor_found(struct doctor *doctor, enum doctor_level level, const char *format, ...)
{
	struct doctor_finding *all = realloc(doctor->findings,
					     (doctor->nr_findings + 1) * sizeof(*all));
	struct doctor_finding *finding;
	va_list args;

	if (!all) {
		doctor->no_memory = true;
		return;
	}
	doctor->findings = all;
	finding = &all[doctor->nr_findings++];
	*finding = (struct doctor_finding){ .check = doctor->check, .level = level };
	va_start(args, format);
	if (vasprintf(&finding->found, format, args) < 0) {
		finding->found = NULL;
		doctor->no_memory = true;
	}
	va_end(args);
}

__attribute__((format(printf, 3, 0)))
static void add(struct doctor *doctor, bool remedy, const char *format, va_list args)
{
	struct doctor_finding *last;
	char *text;

	if (doctor->no_memory)
		return;
	last = &doctor->findings[doctor->nr_findings - 1];
	if (vasprintf(&text, format, args) < 0)
		doctor->no_memory = true;
	else if (remedy)
		last->remedy = text;
	else
		last->expected = text;
}

void doctor_expected(struct doctor *doctor, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add(doctor, false, format, args);
	va_end(args);
}

void doctor_remedy(struct doctor *doctor, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add(doctor, true, format, args);
	va_end(args);
}

/* ---- what the system says of itself -------------------- */

const char *doctor_path(const struct doctor *doctor, char path[PATH_ROOM], const char *name)
{
	snprintf(path, PATH_ROOM, "%s%s", doctor->root, name);
	return path;
}

bool doctor_there(const struct doctor *doctor, const char *name)
{
	char path[PATH_ROOM];

	return !access(doctor_path(doctor, path, name), F_OK);
}

FILE *doctor_open(const struct doctor *doctor, const char *name)
{
	char path[PATH_ROOM];

	return fopen(doctor_path(doctor, path, name), "re");
}

void doctor_first_line(const struct doctor *doctor, const char *name, char *line, size_t size)
{
	_cleanup_file_ FILE *file = doctor_open(doctor, name);

	if (!file || !fgets(line, (int)size, file))
		*line = 0;
	line[strcspn(line, "\n")] = 0;
}

int doctor_number(const struct doctor *doctor, const char *name, uint64_t *number)
{
	char path[PATH_ROOM];

	return read_uint_file(doctor_path(doctor, path, name), number);
}

bool doctor_status_number(const struct doctor *doctor, const char *key, int base, uint64_t *number)
{
	_cleanup_file_ FILE *file = doctor_open(doctor, "/proc/self/status");
	size_t length = strlen(key);
	char line[256];

	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, key, length) && line[length] == ':') {
			*number = strtoull(line + length + 1, NULL, base);
			return true;
		}
	}
	return false;
}

bool doctor_has(const struct doctor *doctor, unsigned capability)
{
	unsigned long long from = 0, to = 0, count = 0;
	uint64_t effective;
	char map[64];

	doctor_first_line(doctor, "/proc/self/uid_map", map, sizeof(map));
	if (sscanf(map, "%llu %llu %llu", &from, &to, &count) == 3 && count < UINT32_MAX)
		return false;
	return doctor_status_number(doctor, "CapEff", 16, &effective) &&
	       effective >> capability & 1;
}

/* ---- all of them -------------------- */

const struct doctor_check doctor_checks[] = {
	{ "kernel", doctor_check_kernel },
	{ "module", doctor_check_module },
	{ "parameters", doctor_check_parameters },
	{ "control-node", doctor_check_control_node },
	{ "features", doctor_check_features },
	{ "io-uring", doctor_check_io_uring },
	{ "memlock", doctor_check_memlock },
	{ "files", doctor_check_files },
	{ "privileges", doctor_check_privileges },
	{ "liburing", doctor_check_liburing },
	{ "helper", doctor_check_helper },
	{ "commands", doctor_check_commands },
	{ "nodes", doctor_check_nodes },
	{ "udev-rules", doctor_check_udev_rules },
	{ "users", doctor_check_users },
	{ "mount-namespace", doctor_check_mount_namespace },
	{ "devices", doctor_check_devices },
	{ "device-files", doctor_check_device_files },
	{ "kernel-log", doctor_check_kernel_log },
	{ 0 },
};

void doctor_run(struct doctor *doctor, const struct doctor_check *check)
{
	unsigned before = doctor->nr_findings;

	doctor->check = check->name;
	check->run(doctor);
	assert(doctor->nr_findings > before || doctor->no_memory);
}

void doctor_free(struct doctor *doctor)
{
	for (unsigned i = 0; i < doctor->nr_findings; i++) {
		free(doctor->findings[i].found);
		free(doctor->findings[i].expected);
		free(doctor->findings[i].remedy);
	}
	free(doctor->findings);
	free(doctor->devices);
	free(doctor->parameters);
}

const char *doctor_level_name(enum doctor_level level)
{
	static const char *const names[] = { "ok", "note", "warning", "problem" };

	return names[level];
}

int doctor_status(const struct doctor *doctor)
{
	enum doctor_level worst = DOCTOR_OK;

	for (unsigned i = 0; i < doctor->nr_findings; i++)
		worst = MAX(worst, doctor->findings[i].level);
	if (doctor->silent)
		return EXIT_TIMEOUT;
	if (worst == DOCTOR_PROBLEM)
		return EXIT_KERNEL;
	return worst == DOCTOR_WARNING || doctor->no_memory ? EXIT_RUNTIME : EXIT_DONE;
}
