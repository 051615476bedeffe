/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "conf.h"

#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "exit.h"
#include "log.h"
#include "util/macros.h"

struct line {
	unsigned number;
	char *key, *value;
};

/* A file while it is read. */
struct reading {
	const char *path;
	FILE *file;
	unsigned number; /* of the line that was read last */
	struct line *lines;
	unsigned count;
	int status;
};

/* ---- lines ------------------------------------------------------------------------ */

static void fail(struct reading *reading, int status)
{
	if (!reading->status)
		reading->status = status;
}

/* "FILE:LINE", or "FILE" for line 0. */
static const char *place(char text[], size_t size, const char *path, unsigned number)
{
	if (number)
		snprintf(text, size, "%s:%u", path, number);
	else
		snprintf(text, size, "%s", path);
	return text;
}

static void line_error(struct reading *reading, unsigned number, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void line_error(struct reading *reading, unsigned number, const char *format, ...)
{
	char where[512], text[512];
	const char *before;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	before = log_switch(place(where, sizeof(where), reading->path, number));
	ublkd_error("%s", text);
	log_switch(before);
	fail(reading, EXIT_USAGE);
}

/* The parser's fgets(); it would take the rest of a long line for another one. */
static char *read_line(char *buffer, int size, void *stream)
{
	struct reading *reading = stream;
	int c;

	if (!fgets(buffer, size, reading->file))
		return NULL;
	reading->number++;
	if (strchr(buffer, '\n') || strlen(buffer) < (size_t)size - 1) {
		/* It would take an indented line for more of the last value. */
		size_t blanks = strspn(buffer, " \t");

		memmove(buffer, buffer + blanks, strlen(buffer + blanks) + 1);
		return buffer;
	}
	line_error(reading, reading->number, "expected a line of at most %d characters", size - 2);
	do
		c = fgetc(reading->file);
	while (c != '\n' && c != EOF);
	strcpy(buffer, "\n");
	return buffer;
}

static int on_line(void *user, const char *section, const char *key, const char *value)
{
	struct reading *reading = user;
	struct line *more, *line;

	if (strcmp(section, CONF_SECTION)) {
		if (!reading->status)
			line_error(reading, reading->number,
				   *section ? "expected settings in the section [" CONF_SECTION
					      "] alone, got '%s' in [%s]" :
					      "expected [" CONF_SECTION "] before the settings, got '%s'",
				   key, section);
		return 1;
	}
	more = realloc(reading->lines, (reading->count + 1) * sizeof(*more));
	if (!more) {
		fail(reading, EXIT_RUNTIME);
		return 1;
	}
	reading->lines = more;
	line = &more[reading->count++];
	*line = (struct line){ reading->number, strdup(key), strdup(value) };
	if (!line->key || !line->value)
		fail(reading, EXIT_RUNTIME);
	return 1;
}

static void read_lines(struct reading *reading)
{
	int number;

	reading->file = fopen(reading->path, "re");
	if (!reading->file) {
		ublkd_error("cannot open '%s': %s", reading->path, strerror(errno));
		fail(reading, EXIT_USAGE);
		return;
	}
	number = ini_parse_stream(read_line, reading, on_line, reading);
	if (ferror(reading->file)) {
		ublkd_error("cannot read '%s': %s", reading->path, strerror(errno));
		fail(reading, EXIT_USAGE);
	} else if (number) {
		line_error(reading, (unsigned)number, "expected KEY = VALUE, [" CONF_SECTION
			   "] or a comment, which begins with '#' or ';'");
	}
	fclose(reading->file);
}

static void free_lines(struct reading *reading)
{
	for (unsigned i = 0; i < reading->count; i++) {
		free(reading->lines[i].key);
		free(reading->lines[i].value);
	}
	free(reading->lines);
}

/* ---- a device from them ------------------------------------------------------------ */

/* The line with this key, which nobody else looks at then; NULL: there is none. */
static struct line *take_line(struct reading *reading, const char *key)
{
	struct line *found = NULL;

	for (unsigned i = 0; i < reading->count; i++) {
		struct line *line = &reading->lines[i];

		if (strcmp(line->key, key))
			continue;
		if (found)
			line_error(reading, line->number, "%s: expected once, given twice", key);
		else
			found = line;
		line->key[0] = 0;
	}
	return found;
}

/* The file's own name if it has none in it. */
static void set_name(struct conf_device *device, struct reading *reading)
{
	const struct line *line = take_line(reading, "name");
	const char *base = basename(reading->path);
	size_t length = strlen(base);

	if (line)
		device->name = strdup(line->value);
	else if (length > strlen(CONF_SUFFIX) && !strcmp(base + length - strlen(CONF_SUFFIX), CONF_SUFFIX))
		device->name = strndup(base, length - strlen(CONF_SUFFIX));
	else
		device->name = strdup(base);
	if (!device->name) {
		fail(reading, EXIT_RUNTIME);
		return;
	}
	if (!spec_name_fits(device->name))
		line_error(reading, line ? line->number : 0,
			   "name: expected " SPEC_NAME_EXPECTED ", got '%s'%s", device->name,
			   line ? "" : ", the file's name");
}

static void set_from_line(struct conf_device *device, struct reading *reading,
			  const struct line *line)
{
	char where[512];
	const char *before;

	before = log_switch(place(where, sizeof(where), reading->path, line->number));
	fail(reading, spec_set(&device->spec, line->key, strlen(line->key), line->value));
	log_switch(before);
}

static void describe(struct conf_device *device, struct reading *reading)
{
	const struct line *backend;
	const char *before;
	char where[512];

	set_name(device, reading);
	backend = take_line(reading, "backend");
	if (!backend) {
		line_error(reading, 0, "expected backend = [FILTER+]BACKEND, got none; "
			   "'ublkd help' lists them");
		return;
	}
	before = log_switch(place(where, sizeof(where), reading->path, backend->number));
	fail(reading, spec_set_backend(&device->spec, backend->value, false));
	log_switch(place(where, sizeof(where), reading->path, 0));
	for (unsigned i = 0; device->spec.nr_layers && i < reading->count; i++) {
		if (reading->lines[i].key[0])
			set_from_line(device, reading, &reading->lines[i]);
	}
	if (!reading->status)
		fail(reading, spec_check(&device->spec));
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
	spec_free(&device->spec);
	free(device->name);
	free(device->file);
	free(device->place);
	free(device);
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
	struct reading reading = { .path = path };

	if (!device) {
		ublkd_error("no memory");
		return EXIT_RUNTIME;
	}
	spec_init(&device->spec);
	device->file = strdup(path);
	device->place = from_root(path);
	if (!device->file || !device->place)
		fail(&reading, EXIT_RUNTIME);
	device->spec.shared = conf->shared;
	if (!reading.status)
		read_lines(&reading);
	if (!reading.status)
		describe(device, &reading);
	free_lines(&reading);
	if (!reading.status)
		fail(&reading, add(conf, device));
	if (reading.status == EXIT_RUNTIME)
		ublkd_error("no memory");
	if (reading.status)
		free_device(device);
	return reading.status;
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
		return EXIT_USAGE;
	}
	if (keep_path(conf, path)) {
		ublkd_error("no memory");
		return EXIT_RUNTIME;
	}
	return S_ISDIR(st.st_mode) ? read_folder(conf, path) : read_file(conf, path);
}

/* Of two, the error is the later one's. */
static int compare(const struct conf_device *a, const struct conf_device *b)
{
	int status = EXIT_DONE;
	const char *before = log_switch(b->file);

	if (!strcmp(a->name, b->name)) {
		ublkd_error("name: expected another than that of '%s', got '%s'", a->file, b->name);
		status = EXIT_USAGE;
	}
	if (a->spec.device.id_given && b->spec.device.id_given &&
	    a->spec.device.id == b->spec.device.id) {
		ublkd_error("id: expected another than that of '%s', got '%" PRIu64 "'", a->file,
			    b->spec.device.id);
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
	conf->count = conf->nr_paths = 0;
}
