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

/* Names first, as they are the likeliest. The last one is ours. */
static int compare(const struct conf *all, const char *name)
{
	for (unsigned i = 0; i < all->count - 1; i++) {
		if (strcmp(all->devices[i]->name, name))
			continue;
		ublkd_error("name: expected one that no file has with --persist, got '%s', which '%s' "
			    "describes", name, all->devices[i]->place);
		return EXIT_TAKEN;
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
	struct conf all = { .shared = conf->shared, .kept = conf->kept, .may_be_empty = true };
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
static bool describes(const char *path, const char *name)
{
	struct conf one = { 0 };
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

		if (!strcmp(device->name, name) && describes(device->place, name))
			return strdup(device->place);
	}
	return file && describes(file, name) ? strdup(file) : NULL;
}

static bool is_below(const char *path, const char *folder)
{
	size_t length = strlen(folder);

	return !strncmp(path, folder, length) && path[length] == '/';
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
