/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "conf.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "exit.h"
#include "lines.h"
#include "log.h"
#include "util/macros.h"

/* ---- a device from them ------------------------------------------------------------ */

/* The line with this key, which nobody else looks at then; NULL: there is none. */
static struct line *take_line(struct lines *lines, const char *key)
{
	struct line *found = NULL;

	for (unsigned i = 0; i < lines->count; i++) {
		struct line *line = &lines->lines[i];

		if (strcmp(line->key, key))
			continue;
		if (found)
			lines_error(lines, line->number, "%s: expected once, given twice", key);
		else
			found = line;
		line->key[0] = 0;
	}
	return found;
}

/* The file's own name if it has none in it. */
static void set_name(struct conf_device *device, struct lines *lines)
{
	const struct line *line = take_line(lines, "name");
	const char *base = basename(lines->path);
	size_t length = strlen(base);

	if (line)
		device->name = strdup(line->value);
	else if (length > strlen(CONF_SUFFIX) && !strcmp(base + length - strlen(CONF_SUFFIX), CONF_SUFFIX))
		device->name = strndup(base, length - strlen(CONF_SUFFIX));
	else
		device->name = strdup(base);
	if (!device->name) {
		lines_fail(lines, EXIT_RUNTIME);
		return;
	}
	if (!spec_name_fits(device->name))
		lines_error(lines, line ? line->number : 0,
			   "name: expected " SPEC_NAME_EXPECTED ", got '%s'%s", device->name,
			   line ? "" : ", the file's name");
}

static void set_from_line(struct conf_device *device, struct lines *lines,
			  const struct line *line)
{
	char where[512];
	const char *before;

	before = log_switch(lines_place(lines, line->number, where, sizeof(where)));
	lines_fail(lines, spec_set(&device->spec, line->key, strlen(line->key), line->value));
	log_switch(before);
}

static void describe(struct conf_device *device, struct lines *lines)
{
	const struct line *backend;
	const char *before;
	char where[512];

	set_name(device, lines);
	backend = take_line(lines, "backend");
	if (!backend) {
		lines_error(lines, 0, "expected backend = [FILTER+]BACKEND, got none; "
			   "'ublkd help' lists them");
		return;
	}
	before = log_switch(lines_place(lines, backend->number, where, sizeof(where)));
	lines_fail(lines, spec_set_backend(&device->spec, backend->value, false));
	log_switch(lines_place(lines, 0, where, sizeof(where)));
	for (unsigned i = 0; device->spec.nr_layers && i < lines->count; i++) {
		if (lines->lines[i].key[0])
			set_from_line(device, lines, &lines->lines[i]);
	}
	if (!lines->status)
		lines_fail(lines, spec_check(&device->spec));
	log_switch(before);
}

/* NULL: no memory. */
static char *from_root(const char *path)
{
	_cleanup_free_ char *here = *path == '/' ? strdup("") : realpath(".", NULL);
	char *whole;

	return here && asprintf(&whole, "%s%s%s", here, *path == '/' ? "" : "/", path) > 0 ? whole :
											     NULL;
}

static void free_device(struct conf_device *device)
{
	struct conf_device *former;

	for (; device; device = former) {
		former = device->former;
		spec_free(&device->spec);
		free(device->name);
		free(device->file);
		free(device->place);
		free(device);
	}
}

static int add(struct conf *conf, struct conf_device *device)
{
	struct conf_device **more = realloc(conf->devices, (conf->count + 1) * sizeof(*more));

	if (!more)
		return EXIT_RUNTIME;
	conf->devices = more;
	conf->devices[conf->count++] = device;
	return EXIT_DONE;
}

static int read_file(struct conf *conf, const char *path)
{
	struct conf_device *device = calloc(1, sizeof(*device));
	struct lines lines = { .path = path, .section = CONF_SECTION };

	if (!device) {
		ublkd_error("no memory");
		return EXIT_RUNTIME;
	}
	spec_init(&device->spec);
	device->file = strdup(path);
	device->place = from_root(path);
	if (!device->file || !device->place)
		lines_fail(&lines, EXIT_RUNTIME);
	device->spec.shared = conf->shared;
	device->spec.workers = conf->workers;
	if (!lines.status)
		lines_read(&lines);
	if (!lines.status)
		describe(device, &lines);
	lines_free(&lines);
	if (!lines.status)
		lines_fail(&lines, add(conf, device));
	if (lines.status == EXIT_RUNTIME)
		ublkd_error("no memory");
	if (lines.status) {
		free_device(device);
		conf->wrong++;
	}
	return lines.status;
}

/* ---- files and folders ----------------------------------------------------------------- */

static int is_ours(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return entry->d_name[0] != '.' && length > strlen(CONF_SUFFIX) &&
	       !strcmp(entry->d_name + length - strlen(CONF_SUFFIX), CONF_SUFFIX);
}

static int read_folder(struct conf *conf, const char *path)
{
	struct dirent **entries;
	int count = scandir(path, &entries, is_ours, alphasort), status = EXIT_DONE;

	if (count < 0) {
		ublkd_error("cannot read the folder '%s': %s", path, strerror(errno));
		conf->wrong++;
		return EXIT_USAGE;
	}
	if (!count && !conf->may_be_empty) {
		ublkd_error("expected files *" CONF_SUFFIX " in the folder '%s', got none", path);
		status = EXIT_USAGE;
	}
	for (int i = 0; i < count; i++) {
		_cleanup_free_ char *file = NULL;
		int ret = EXIT_RUNTIME;

		if (asprintf(&file, "%s/%s", path, entries[i]->d_name) < 0)
			file = NULL;
		if (file)
			ret = read_file(conf, file);
		if (!status)
			status = ret;
		free(entries[i]);
	}
	free(entries);
	return status;
}

static int keep_path(struct conf *conf, const char *path)
{
	char **more = realloc(conf->paths, (conf->nr_paths + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	conf->paths = more;
	more[conf->nr_paths] = from_root(path);
	return more[conf->nr_paths++] ? 0 : -ENOMEM;
}

int conf_read(struct conf *conf, const char *path)
{
	struct stat st;

	if (stat(path, &st)) {
		ublkd_error("cannot open '%s': %s", path, strerror(errno));
		conf->wrong++;
		return EXIT_USAGE;
	}
	if (keep_path(conf, path)) {
		ublkd_error("no memory");
		return EXIT_RUNTIME;
	}
	return S_ISDIR(st.st_mode) ? read_folder(conf, path) : read_file(conf, path);
}

static bool have_one_name(const struct conf_device *a, const struct conf_device *b)
{
	return !strcmp(a->name, b->name);
}

static bool have_one_id(const struct conf_device *a, const struct conf_device *b)
{
	return a->spec.device.id_given && b->spec.device.id_given &&
	       a->spec.device.id == b->spec.device.id;
}

/* Of two, the error is the later one's. */
static int compare(const struct conf_device *a, const struct conf_device *b)
{
	int status = EXIT_DONE;
	const char *before = log_switch(b->file);

	if (have_one_name(a, b)) {
		ublkd_error("name: expected another than that of '%s', got '%s'", a->file, b->name);
		status = EXIT_USAGE;
	}
	if (have_one_id(a, b)) {
		ublkd_error("id: expected another than that of '%s', got '%" PRIu64 "'", a->file,
			    b->spec.device.id);
		status = EXIT_USAGE;
	}
	if (a->spec.device.uuid && b->spec.device.uuid &&
	    !strcmp(a->spec.device.uuid, b->spec.device.uuid)) {
		ublkd_error("uuid: expected another than that of '%s', got '%s'", a->file,
			    b->spec.device.uuid);
		status = EXIT_USAGE;
	}
	log_switch(before);
	return status;
}

static int check_unkept(const struct conf_device *device)
{
	const char *before = log_switch(device->file);
	int status = spec_check_unkept(&device->spec, "without --state");

	log_switch(before);
	return status;
}

int conf_check(const struct conf *conf)
{
	int status = EXIT_DONE;

	for (unsigned b = 0; b < conf->count; b++) {
		if (!conf->kept)
			status |= check_unkept(conf->devices[b]);
		for (unsigned a = 0; a < b; a++)
			status |= compare(conf->devices[a], conf->devices[b]);
	}
	return status;
}

struct conf_device **conf_find(const struct conf *conf, const char *name)
{
	for (unsigned i = 0; i < conf->count; i++) {
		if (!strcmp(conf->devices[i]->name, name))
			return &conf->devices[i];
	}
	return NULL;
}

/* It takes the place of the old one among the others. */
static int check_instead(const struct conf *conf, const struct conf_device *old,
			 const struct conf_device *device)
{
	int status = conf->kept ? EXIT_DONE : check_unkept(device);
	const char *before;

	if (strcmp(device->name, old->name)) {
		before = log_switch(device->file);
		ublkd_error("name: expected '%s', got '%s'", old->name, device->name);
		log_switch(before);
		return EXIT_USAGE;
	}
	for (unsigned i = 0; i < conf->count; i++) {
		if (conf->devices[i] != old)
			status |= compare(conf->devices[i], device);
	}
	return status;
}

int conf_renew(struct conf *conf, struct conf_device **device)
{
	struct conf one = { .shared = conf->shared, .workers = conf->workers };
	struct conf_device *old = *device;
	int status = read_file(&one, old->place);

	if (!status)
		status = check_instead(conf, old, one.devices[0]);
	if (!status) {
		*device = one.devices[0];
		(*device)->former = old;
		one.count = 0;
	}
	conf_free(&one);
	return status;
}

void conf_drop_same(struct conf *conf)
{
	unsigned kept = 0;

	for (unsigned b = 0; b < conf->count; b++) {
		struct conf_device *device = conf->devices[b];
		unsigned a = 0;

		while (a < kept && !have_one_name(conf->devices[a], device) &&
		       !have_one_id(conf->devices[a], device))
			a++;
		if (a == kept) {
			conf->devices[kept++] = device;
		} else {
			free_device(device);
			conf->wrong++;
		}
	}
	conf->count = kept;
}

void conf_free(struct conf *conf)
{
	for (unsigned i = 0; i < conf->count; i++)
		free_device(conf->devices[i]);
	for (unsigned i = 0; i < conf->nr_paths; i++)
		free(conf->paths[i]);
	free(conf->devices);
	free(conf->paths);
	conf->devices = NULL;
	conf->paths = NULL;
	conf->count = conf->nr_paths = conf->wrong = 0;
}
