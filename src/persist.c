/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "persist.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "exit.h"
#include "log.h"
#include "util/macros.h"

#define HEADER "# Added by ublkctl add --persist.\n"

static bool is_folder(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

const char *persist_folder(const struct conf *conf)
{
	const char *folder = NULL;
	unsigned count = 0;

	for (unsigned i = 0; conf && i < conf->nr_paths; i++) {
		if (!is_folder(conf->paths[i]))
			continue;
		folder = conf->paths[i];
		count++;
	}
	return count == 1 ? folder : NULL;
}

/* In the folder, and hidden until it is committed; NULL: no memory, or no folder any more. */
static char *path_of(const struct conf *conf, const char *name, bool hidden)
{
	const char *folder = persist_folder(conf);
	char *path;

	return !folder || asprintf(&path, hidden ? "%s/.%s" CONF_SUFFIX ".new" : "%s/%s" CONF_SUFFIX,
				   folder, name) < 0 ? NULL : path;
}

static int no_path(void)
{
	ublkd_error("no memory, or the folder that the server was given is gone");
	return EXIT_RUNTIME;
}

static int sync_folder(const char *folder)
{
	_cleanup_fd_ int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) ? -errno : 0;
}

/* ---- what to write ------------------------------------------------------------------ */

/* Relative to this server's folder, it would be another file for the next one. */
static int check_paths(const struct spec *spec)
{
	const char *name;
	json_t *value;

	json_object_foreach(spec->lasting, name, value) {
		if (!spec_is_path(spec, name) || *json_string_value(value) == '/')
			continue;
		ublkd_error("%s: expected a path from the root with --persist, got '%s'", name,
			    json_string_value(value));
		return EXIT_USAGE;
	}
	return EXIT_DONE;
}

/* A device node says which one it is by its number. */
static bool is_same_file(const struct stat *a, const struct stat *b)
{
	if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
		return a->st_rdev == b->st_rdev;
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* NULL, or why the path is of no use. What is another file is not opened. */
static const char *cannot_open(const char *path, int fd)
{
	struct stat passed, named;
	_cleanup_fd_ int own = -1;

	if (fstat(fd, &passed))
		return strerror(errno);
	if (stat(path, &named))
		return strerror(errno);
	if (!is_same_file(&passed, &named))
		return "another file for the server";
	own = open(path, (fcntl(fd, F_GETFL) & O_ACCMODE) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return own < 0 ? strerror(errno) : NULL;
}

struct passed_check {
	const struct spec *spec;
	int status;
};

static void check_passed(void *arg, const struct ublkd_passed *passed)
{
	struct passed_check *check = arg;
	const char *path = json_string_value(json_object_get(check->spec->given, passed->option));
	const char *wrong = cannot_open(path, passed->fd);

	if (!wrong)
		return;
	ublkd_error("%s: expected a path by which the server opens the same file with --persist, got "
		    "'%s': %s", passed->option, path, wrong);
	check->status = EXIT_BACKING;
}

int persist_check_passed(const struct spec *spec)
{
	struct passed_check check = { spec, EXIT_DONE };

	spec_visit_passed(spec, check_passed, &check);
	return check.status;
}

/* ---- writing ------------------------------------------------------------------------- */

static bool put(FILE *file, const char *name, const char *backend, json_t *options)
{
	const char *key;
	json_t *value;

	fprintf(file, HEADER "[" CONF_SECTION "]\nname = %s\nbackend = %s\n", name, backend);
	json_object_foreach(options, key, value)
		fprintf(file, "%s = %s\n", key, json_string_value(value));
	return !fflush(file) && !fsync(fileno(file));
}

static int write_file(const char *path, const char *name, const char *backend, json_t *options)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	_cleanup_file_ FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	if (!file && fd >= 0)
		close(fd);
	if (file && put(file, name, backend, options))
		return EXIT_DONE;
	ublkd_error("cannot write '%s': %s", path, strerror(errno));
	return EXIT_RUNTIME;
}

/* Values are written as they are: what the reader would not take so cannot be written. */
static bool is_same(const struct conf_device *device, const char *name, const char *backend,
		    json_t *options)
{
	char layers[256];

	spec_name(&device->spec, layers, sizeof(layers));
	return !strcmp(device->name, name) && !strcmp(layers, backend) &&
	       json_equal(device->spec.given, options);
}

static int is_described(const char *key, const char *value, const struct conf_device *device)
{
	ublkd_error("%s: expected one that no file has with --persist, got '%s', which '%s' "
		    "describes", key, value, device->place);
	return EXIT_TAKEN;
}

/* Names first, as they are the likeliest. The last one is ours. */
static int compare(const struct conf *all, const char *name)
{
	const char *uuid = all->devices[all->count - 1]->spec.device.uuid;

	for (unsigned i = 0; i < all->count - 1; i++) {
		const struct conf_device *device = all->devices[i];

		if (!strcmp(device->name, name))
			return is_described("name", name, device);
		if (uuid && device->spec.device.uuid && !strcmp(device->spec.device.uuid, uuid))
			return is_described("uuid", uuid, device);
	}
	if (!conf_check(all))
		return EXIT_DONE;
	ublkd_error("id: expected one that no file has with --persist; the server's log says which does");
	return EXIT_TAKEN;
}

static int read_again(struct conf *all, const struct conf *conf, const char *path, const char *name,
		      const char *backend, json_t *options)
{
	for (unsigned i = 0; i < conf->nr_paths; i++) {
		if (!conf_read(all, conf->paths[i]))
			continue;
		ublkd_error("expected files that describe devices with --persist, got one that does "
			    "not; the server's log says which");
		return EXIT_USAGE;
	}
	if (conf_read(all, path) || !is_same(all->devices[all->count - 1], name, backend, options)) {
		ublkd_error("expected settings that a file can hold with --persist: of one short line, "
			    "without a ';' behind a space, or spaces at an end");
		return EXIT_USAGE;
	}
	return compare(all, name);
}

static int check_name(const char *path, const char *name)
{
	if (*name == '.') {
		ublkd_error("name: expected one that does not begin with '.' with --persist, got '%s'",
			    name);
		return EXIT_USAGE;
	}
	if (access(path, F_OK))
		return EXIT_DONE;
	ublkd_error("name: expected one that no file has with --persist, got '%s': there is '%s'", name,
		    path);
	return EXIT_TAKEN;
}

static int prepare(const struct conf *conf, const char *name, const char *backend, json_t *options)
{
	_cleanup_free_ char *file = path_of(conf, name, false), *hidden = path_of(conf, name, true);
	struct conf all = { .shared = conf->shared, .workers = conf->workers, .kept = conf->kept,
			    .may_be_empty = true };
	int status = file && hidden ? check_name(file, name) : no_path();

	if (!status)
		status = write_file(hidden, name, backend, options);
	if (!status)
		status = read_again(&all, conf, hidden, name, backend, options);
	if (status && hidden)
		unlink(hidden);
	conf_free(&all);
	return status;
}

int persist_prepare(const struct conf *conf, const char *name, const char *backend, json_t *options)
{
	const char *before = log_switch(name);
	struct spec spec;
	int status;

	spec_init(&spec);
	spec.shared = conf->shared;
	spec.workers = conf->workers;
	status = spec_fill(&spec, backend, options);
	if (!status && !conf->kept)
		status = spec_check_unkept(&spec, "without --state");
	if (!status)
		status = check_paths(&spec);
	if (!status)
		status = prepare(conf, name, backend, spec.lasting);
	spec_free(&spec);
	log_switch(before);
	return status;
}

/* Replaces nothing. Some file systems know no such renaming. */
static int give_name(const char *hidden, const char *file)
{
	int ret = renameat2(AT_FDCWD, hidden, AT_FDCWD, file, RENAME_NOREPLACE) ? -errno : 0;

	if (ret == -EINVAL && !(ret = link(hidden, file) ? -errno : 0))
		unlink(hidden);
	return ret;
}

static int commit(const struct conf *conf, const char *name)
{
	_cleanup_free_ char *file = path_of(conf, name, false), *hidden = path_of(conf, name, true);
	int ret;

	if (!file || !hidden)
		return no_path();
	ret = give_name(hidden, file);
	if (ret) {
		unlink(hidden);
	} else {
		ret = sync_folder(persist_folder(conf));
		if (ret)
			unlink(file);
	}
	if (!ret)
		return EXIT_DONE;
	ublkd_error("cannot write '%s': %s", file, strerror(-ret));
	return ret == -EEXIST ? EXIT_TAKEN : EXIT_RUNTIME;
}

int persist_commit(const struct conf *conf, const char *name)
{
	const char *before = log_switch(name);
	int status = commit(conf, name);

	log_switch(before);
	return status;
}

void persist_abandon(const struct conf *conf, const char *name)
{
	_cleanup_free_ char *hidden = path_of(conf, name, true);

	if (hidden)
		unlink(hidden);
}

/* ---- finding and removing --------------------------------------------------------------- */

/* It may have changed since it was read. */
static bool describes(const struct conf *conf, const char *path, const char *name)
{
	struct conf one = { .shared = conf->shared, .workers = conf->workers };
	bool same = !access(path, F_OK) && !conf_read(&one, path) && one.count == 1 &&
		    !strcmp(one.devices[0]->name, name);

	conf_free(&one);
	return same;
}

char *persist_find(const struct conf *conf, const char *name)
{
	_cleanup_free_ char *file = spec_name_fits(name) && persist_folder(conf) ?
					    path_of(conf, name, false) : NULL;

	for (unsigned i = 0; conf && i < conf->count; i++) {
		const struct conf_device *device = conf->devices[i];

		if (!strcmp(device->name, name) && describes(conf, device->place, name))
			return strdup(device->place);
	}
	return file && describes(conf, file, name) ? strdup(file) : NULL;
}

static bool is_below(const char *path, const char *folder)
{
	size_t length = strlen(folder);

	return !strncmp(path, folder, length) && path[length] == '/';
}

/* ---- changing --------------------------------------------------------------------------- */

int persist_may_change(const struct conf *conf, const char *name)
{
	_cleanup_free_ char *file = persist_find(conf, name);
	const char *folder = persist_folder(conf), *before = log_switch(name);
	int status = file && folder && is_below(file, folder) ? EXIT_DONE : EXIT_USAGE;

	if (status)
		ublkd_error("expected a device that a file in the folder of the server describes with "
			    "--persist, got one that %s does", file ? file : "none");
	log_switch(before);
	return status;
}

/* It sets this option, as the parser reads lines. */
static bool sets(const char *line, const char *key)
{
	const char *at = line + strspn(line, " \t");
	size_t length = strlen(key);

	if (strncmp(at, key, length))
		return false;
	at += length;
	at += strspn(at, " \t");
	return *at == '=' || *at == ':';
}

/* Puts the option in the place of the line that sets it; NULL: there is none. */
static const char *put_instead(FILE *to, const char *line, json_t *options)
{
	const char *key;
	json_t *value;

	json_object_foreach(options, key, value) {
		if (!sets(line, key))
			continue;
		fprintf(to, "%s = %s\n", key, json_string_value(value));
		return key;
	}
	return NULL;
}

/* All other lines stay as they are; what no line sets comes behind them. */
static bool put_changed(FILE *to, FILE *from, json_t *options)
{
	_cleanup_free_ char *line = NULL;
	json_t *left = json_copy(options), *value;
	size_t size = 0;
	const char *key;

	while (getline(&line, &size, from) > 0) {
		key = put_instead(to, line, options);
		if (key)
			json_object_del(left, key);
		else
			fprintf(to, "%s%s", line, strchr(line, '\n') ? "" : "\n");
	}
	json_object_foreach(left, key, value)
		fprintf(to, "%s = %s\n", key, json_string_value(value));
	json_decref(left);
	return !ferror(from) && !fflush(to) && !fsync(fileno(to));
}

static int write_changed(const char *file, const char *hidden, json_t *options)
{
	_cleanup_file_ FILE *from = fopen(file, "re"), *to = NULL;
	int fd = open(hidden, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	struct stat st;

	if (fd >= 0)
		to = fdopen(fd, "w");
	if (!to && fd >= 0)
		close(fd);
	if (from && to && !fstat(fileno(from), &st) && !fchmod(fileno(to), st.st_mode & 0777) &&
	    put_changed(to, from, options))
		return EXIT_DONE;
	ublkd_error("cannot write '%s': %s", hidden, strerror(errno));
	return EXIT_RUNTIME;
}

/* What was written is what the next start reads. */
static bool is_changed(const struct conf *conf, const char *hidden, json_t *options)
{
	struct conf one = { .shared = conf->shared, .workers = conf->workers };
	bool same = !conf_read(&one, hidden) && one.count == 1;
	const char *key;
	json_t *value;

	json_object_foreach(options, key, value)
		same = same && json_equal(json_object_get(one.devices[0]->spec.given, key), value);
	conf_free(&one);
	return same;
}

static int change(const struct conf *conf, const char *file, const char *hidden, json_t *options)
{
	int status = write_changed(file, hidden, options);

	if (!status && !is_changed(conf, hidden, options)) {
		ublkd_error("expected settings that a file can hold with --persist");
		status = EXIT_USAGE;
	}
	if (!status && (rename(hidden, file) || sync_folder(persist_folder(conf)))) {
		ublkd_error("cannot write '%s': %s", file, strerror(errno));
		status = EXIT_RUNTIME;
	}
	if (status)
		unlink(hidden);
	return status;
}

int persist_change(const struct conf *conf, const char *name, json_t *options)
{
	_cleanup_free_ char *file = NULL, *hidden = NULL;
	const char *before;
	int status = persist_may_change(conf, name);

	if (status)
		return status;
	before = log_switch(name);
	file = persist_find(conf, name);
	hidden = path_of(conf, name, true);
	status = file && hidden ? change(conf, file, hidden, options) : no_path();
	log_switch(before);
	return status;
}

static int remove_file(const char *path, const char *folder)
{
	int ret;

	if (!is_below(path, folder)) {
		ublkd_error("expected a file in '%s', got '%s', which is left", folder, path);
		return EXIT_USAGE;
	}
	ret = unlink(path) ? -errno : sync_folder(folder);
	if (!ret)
		return EXIT_DONE;
	ublkd_error("cannot remove '%s': %s", path, strerror(-ret));
	return EXIT_RUNTIME;
}

int persist_remove(const struct conf *conf, const char *name)
{
	_cleanup_free_ char *file = persist_find(conf, name);
	const char *folder = persist_folder(conf), *before = log_switch(name);
	int status = file && folder ? remove_file(file, folder) : EXIT_DONE;

	log_switch(before);
	return status;
}
