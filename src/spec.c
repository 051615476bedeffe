/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "spec.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "exit.h"
#include "log.h"
#include "privilege.h"
#include "util/macros.h"
#include "util/parse.h"

bool spec_name_fits(const char *name)
{
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			       "0123456789._-");

	return length && length <= SPEC_NAME_MOST && !name[length];
}

void spec_init(struct spec *spec)
{
	*spec = (struct spec){ .uid = (uid_t)-1, .gid = (gid_t)-1, .given = json_object(),
			       .lasting = json_object() };
	options_init(&spec->device_set, device_options, &spec->device);
}

void spec_free(struct spec *spec)
{
	options_free(&spec->device_set);
	for (unsigned i = 0; i < spec->nr_layers; i++) {
		for (const struct ublkd_passed *p = spec->layers[i].passed; p->option; p++)
			close(p->fd);
		options_free(&spec->layers[i].set);
		free(spec->layers[i].config);
	}
	spec->nr_layers = 0;
	json_decref(spec->given);
	json_decref(spec->lasting);
	spec->given = spec->lasting = NULL;
}

static int add_layer(struct spec *spec, const char *name, bool last)
{
	struct layer *layer = &spec->layers[spec->nr_layers];

	if (spec->nr_layers == SPEC_MOST_LAYERS) {
		ublkd_error("expected at most %u filters before the backend", SPEC_MOST_LAYERS - 1);
		return EXIT_USAGE;
	}
	layer->backend = backend_find(name);
	if (!layer->backend || layer->backend->filter == last) {
		ublkd_error("expected a %s, got '%s'; 'ublkd help' lists them",
			    last ? "backend" : "filter before '+'", name);
		return EXIT_USAGE;
	}
	layer->config = calloc(1, layer->backend->config_size);
	if (!layer->config) {
		ublkd_error("no memory");
		return EXIT_RUNTIME;
	}
	options_init(&layer->set, layer->backend->options, layer->config);
	spec->nr_layers++;
	return EXIT_DONE;
}

int spec_set_backend(struct spec *spec, const char *names, bool filter_alone)
{
	_cleanup_free_ char *copy = strdup(names);
	char *rest = copy;
	int status = copy ? EXIT_DONE : EXIT_RUNTIME;

	while (rest && !status) {
		const char *name = strsep(&rest, "+");

		status = add_layer(spec, name, !rest && !filter_alone);
	}
	return status;
}

static int unknown_option(const struct spec *spec, const char *name, size_t length)
{
	const char *backend = spec->layers[spec->nr_layers - 1].backend->name;

	ublkd_error("expected an option of 'run' or of the backend '%s', got '%.*s'; "
		    "'ublkd help run' and 'ublkd help %s' list them", backend, (int)length, name,
		    backend);
	return EXIT_USAGE;
}

static bool is_for_reactors(const struct ublkd_option *option)
{
	static const char *const names[] = { "reactors", "cpus", "ring", "schedule", "poll" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(names[i], option->name))
			return true;
	}
	return false;
}

static bool is_for_workers(const struct ublkd_option *option)
{
	static const char *const names[] = { "worker", "give-up", "max-deaths" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(names[i], option->name))
			return true;
	}
	return false;
}

/* *layer is whose it is, and the number of layers for the device. */
static const struct ublkd_option *find_option(const struct spec *spec, const char *name,
					      size_t length, unsigned *layer)
{
	const struct ublkd_option *option = option_find(device_options, name, length);

	*layer = spec->nr_layers;
	for (unsigned i = 0; !option && i < spec->nr_layers; i++) {
		option = option_find(spec->layers[i].set.table, name, length);
		*layer = i;
	}
	return option;
}

bool spec_is_path(const struct spec *spec, const char *name)
{
	unsigned layer;
	const struct ublkd_option *option = find_option(spec, name, strlen(name), &layer);

	return option && option->type == UBLKD_OPT_PATH;
}

/* Most as they were given. */
static json_t *value_json(const struct options *set, const struct ublkd_option *option,
			  const char *value)
{
	bool is_uuid = option->type == UBLKD_OPT_UUID;
	_cleanup_free_ char *uuid = is_uuid ? options_text(set, option) : NULL;

	return json_string(uuid ? uuid : value ? value : "yes");
}

int spec_set(struct spec *spec, const char *name, size_t length, const char *value)
{
	unsigned layer;
	const struct ublkd_option *option = find_option(spec, name, length, &layer);
	struct options *set = layer == spec->nr_layers ? &spec->device_set : &spec->layers[layer].set;

	if (option && set == &spec->device_set && spec->shared && is_for_reactors(option)) {
		ublkd_error("%s: expected none with --reactors, as the threads are not the "
			    "device's own, got '%s'", option->name, value);
		return EXIT_USAGE;
	}
	if (option && set == &spec->device_set && !spec->workers && is_for_workers(option)) {
		ublkd_error("%s: expected none without --workers, got '%s'", option->name,
			    value ? value : "");
		return EXIT_USAGE;
	}
	if (!option)
		return unknown_option(spec, name, length);
	if (options_set(set, option, value))
		return EXIT_USAGE;
	if (json_object_set_new(spec->given, option->name, value_json(set, option, value)))
		spec->untold = true;
	else if (!option->once)
		json_object_set(spec->lasting, option->name,
				json_object_get(spec->given, option->name));
	return EXIT_DONE;
}

int spec_change(struct spec *spec, const char *name, const char *value)
{
	options_forget(&spec->device_set, option_find(device_options, name, strlen(name)));
	return spec_set(spec, name, strlen(name), value);
}

/* ---- what a client has opened ------------------------------------------------------- */

/* NULL, or what is wrong with it. */
static const char *wrong_file(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	if (flags < 0 || fstat(fd, &st))
		return strerror(errno);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return S_ISDIR(st.st_mode)  ? "a directory" :
		       S_ISFIFO(st.st_mode) ? "a pipe" :
		       S_ISSOCK(st.st_mode) ? "a socket" :
		       S_ISCHR(st.st_mode)  ? "a character device" :
					      "something else";
	if (flags & O_PATH)
		return "one that is not open";
	if ((flags & O_ACCMODE) == O_WRONLY)
		return "one that is open to be written only";
	/* What the client's own I/O was to be like. */
	flags &= ~(O_APPEND | O_ASYNC | O_DIRECT | O_NONBLOCK);
	return fcntl(fd, F_SETFL, flags) ? "one that can only be appended to" : NULL;
}

static struct ublkd_passed *free_place(struct layer *layer, const char *option)
{
	struct ublkd_passed *place = layer->passed;

	while (place->option && strcmp(place->option, option))
		place++;
	return place->option || place == layer->passed + SPEC_MOST_FILES ? NULL : place;
}

int spec_pass(struct spec *spec, const char *name, int fd)
{
	_cleanup_fd_ int own = fd;
	unsigned layer;
	const struct ublkd_option *option = find_option(spec, name, strlen(name), &layer);
	struct ublkd_passed *place;
	const char *wrong;

	if (!option || option->type != UBLKD_OPT_PATH || layer == spec->nr_layers ||
	    !options_given(&spec->layers[layer].set, name)) {
		ublkd_error("files: expected a setting that is given and is the path of a file, got '%s'",
			    name);
		return EXIT_USAGE;
	}
	place = free_place(&spec->layers[layer], option->name);
	if (!place) {
		ublkd_error("files: expected at most %u, one for each setting", SPEC_MOST_FILES);
		return EXIT_USAGE;
	}
	wrong = wrong_file(fd);
	if (wrong) {
		ublkd_error("%s: expected a regular file or block device that is open to be read, got %s",
			    name, wrong);
		return EXIT_BACKING;
	}
	*place = (struct ublkd_passed){ option->name, steal_fd(&own) };
	return EXIT_DONE;
}

bool spec_is_passed(const struct spec *spec)
{
	unsigned i = 0;

	while (i < spec->nr_layers && !spec->layers[i].passed[0].option)
		i++;
	return i < spec->nr_layers;
}

void spec_visit_passed(const struct spec *spec,
		       void (*visit)(void *arg, const struct ublkd_passed *passed), void *arg)
{
	for (unsigned i = 0; i < spec->nr_layers; i++) {
		for (const struct ublkd_passed *p = spec->layers[i].passed; p->option; p++)
			visit(arg, p);
	}
}

/* ---- looking ------------------------------------------------------------------------ */

static void visit_set(const struct spec *spec, const struct options *set,
		      void (*visit)(void *arg, const char *name, const char *value), void *arg)
{
	for (const struct ublkd_option *o = set->table; o->name; o++) {
		_cleanup_free_ char *text = NULL;

		if (spec->shared && set == &spec->device_set && is_for_reactors(o))
			continue;
		text = options_text(set, o);
		if (text)
			visit(arg, o->name, text);
	}
}

/* The lowest layer first: a name is that of the topmost layer that has it. */
void spec_visit(const struct spec *spec,
		void (*visit)(void *arg, const char *name, const char *value), void *arg)
{
	for (unsigned i = spec->nr_layers; i-- > 0;)
		visit_set(spec, &spec->layers[i].set, visit, arg);
	visit_set(spec, &spec->device_set, visit, arg);
}

/* ---- settings that go together --------------------------------------------------- */

static int parse_owner(const char *text, uid_t *uid, gid_t *gid)
{
	_cleanup_free_ char *user = strdup(text);
	char *group = user ? strchr(user, ':') : NULL;
	uint64_t number;

	if (group)
		*group++ = 0;
	if (user && *user) {
		const struct passwd *entry = getpwnam(user);

		if (!entry && (parse_uint(user, &number) || number >= UINT32_MAX))
			goto unknown;
		*uid = entry ? entry->pw_uid : (uid_t)number;
	}
	if (group && *group) {
		const struct group *entry = getgrnam(group);

		if (!entry && (parse_uint(group, &number) || number >= UINT32_MAX))
			goto unknown;
		*gid = entry ? entry->gr_gid : (gid_t)number;
	}
	return EXIT_DONE;
unknown:
	ublkd_error("owner: expected USER[:GROUP] that exists, or numbers, got '%s'", text);
	return EXIT_USAGE;
}

static int check_cpus(const char *list)
{
	cpu_set_t asked, allowed;

	cpu_list_to_set(list, &asked);
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return EXIT_DONE;
	CPU_AND(&asked, &asked, &allowed);
	if (CPU_COUNT(&asked))
		return EXIT_DONE;
	ublkd_error("cpus: expected CPUs that this process may use, got '%s'", list);
	return EXIT_USAGE;
}

/* What the driver does not have in batch mode. */
static int check_batch(const struct device_config *config)
{
	if (config->data == DATA_GET_DATA) {
		ublkd_error("batch: expected no with data=get-data, which the driver does not have "
			    "in batch mode, got 'yes'; data=user-copy shares buffers as well");
		return EXIT_USAGE;
	}
	if (config->depth < 2) {
		ublkd_error("batch: expected no with depth=1, as the driver needs a depth of 2, "
			    "got 'yes'");
		return EXIT_USAGE;
	}
	return EXIT_DONE;
}

/* Looking for requests takes a CPU, and whoever makes them needs another. */
static void check_poll(uint64_t poll)
{
	cpu_set_t allowed;

	if (poll && !sched_getaffinity(0, sizeof(allowed), &allowed) && CPU_COUNT(&allowed) == 1)
		ublkd_note("poll: this process may run on one CPU only: requests that are made on "
			   "it come later, not sooner");
}

/* The driver decides it by what the process that makes the device may do. */
static int check_rights(struct device_config *config)
{
	bool admin = privilege_have(CAP_SYS_ADMIN);

	config->of_user = config->unprivileged == TRI_AUTO ? !admin :
							     config->unprivileged == TRI_YES;
	if (!config->of_user || !admin)
		return EXIT_DONE;
	ublkd_error("unprivileged: expected auto or no with CAP_SYS_ADMIN, whose devices the driver "
		    "always makes privileged ones, got 'yes'; start ublkd as the user");
	return EXIT_USAGE;
}

/*
 * Linux 7.3.4 is the earliest whose batch mode was tested. It takes care that a fetch is not used
 * any more once a cancel has freed it (ublk_batch_attach() of ublk_drv.c); whether earlier ones
 * do is not known.
 */
static bool trusts_batch(void)
{
	static const unsigned first[] = { 7, 3, 4 };
	unsigned is[ARRAY_SIZE(first)] = { 0 };
	struct utsname system;

	if (uname(&system) || sscanf(system.release, "%u.%u.%u", &is[0], &is[1], &is[2]) < 2)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(first); i++) {
		if (is[i] != first[i])
			return is[i] > first[i];
	}
	return true;
}

/* What the driver, or the kernel, does not have for the device of an ordinary user's. */
static int check_user(const struct spec *spec)
{
	const struct device_config *config = &spec->device;

	if (!data_mode_offered((enum data_mode)config->data, features_of_users(UINT64_MAX))) {
		ublkd_error("data: expected auto, copy or get-data for a device of an ordinary "
			    "user's, as the driver has no other, got '%s'",
			    data_mode_name((enum data_mode)config->data));
		return EXIT_USAGE;
	}
	if (config->on_crash != ON_CRASH_AUTO && config->on_crash != ON_CRASH_NONE) {
		ublkd_error("on-crash: expected none for a device of an ordinary user's, as the "
			    "driver keeps none for another server, got '%s'",
			    on_crash_name(config->on_crash));
		return EXIT_USAGE;
	}
	if (config->partscan && options_given(&spec->device_set, "partscan")) {
		ublkd_error("partscan: expected no for a device of an ordinary user's, as the "
			    "kernel looks for no partitions there, got 'yes'");
		return EXIT_USAGE;
	}
	if (config->owner) {
		ublkd_error("owner: expected none for a device of an ordinary user's, who is the "
			    "only one to open it, got '%s'", config->owner);
		return EXIT_USAGE;
	}
	return EXIT_DONE;
}

int spec_check(struct spec *spec)
{
	struct device_config *config = &spec->device;

	for (unsigned i = 0; i < spec->nr_layers; i++) {
		if (options_check(&spec->layers[i].set, spec->layers[i].backend->name))
			return EXIT_USAGE;
	}
	if (config->reactors > config->queues &&
	    (config->reactors % config->queues || config->reactors / config->queues > config->depth)) {
		ublkd_error("reactors: expected at most queues=%" PRIu64 ", or a multiple of it up to "
			    "depth=%" PRIu64 " for each, got '%" PRIu64 "'", config->queues,
			    config->depth, config->reactors);
		return EXIT_USAGE;
	}
	if (config->reactors > config->queues && config->batch == TRI_YES) {
		ublkd_error("reactors: expected at most queues=%" PRIu64 " with batch=yes, which "
			    "fetches for a whole queue, got '%" PRIu64 "'", config->queues,
			    config->reactors);
		return EXIT_USAGE;
	}
	if (config->batch == TRI_YES && check_batch(config))
		return EXIT_USAGE;
	config->batch_is_trusted = trusts_batch();
	if (check_rights(config) || (config->of_user && check_user(spec)))
		return EXIT_USAGE;
	config->id_given = options_given(&spec->device_set, "id");
	config->mode_given = options_given(&spec->device_set, "mode");
	if (config->worker && !spec_name_fits(config->worker)) {
		ublkd_error("worker: expected " SPEC_NAME_EXPECTED ", got '%s'", config->worker);
		return EXIT_USAGE;
	}
	if (config->cpus && check_cpus(config->cpus))
		return EXIT_USAGE;
	check_poll(config->poll);
	return config->owner ? parse_owner(config->owner, &spec->uid, &spec->gid) : EXIT_DONE;
}

int spec_fill(struct spec *spec, const char *backend, json_t *settings)
{
	int status = spec_set_backend(spec, backend, false);
	const char *name;
	json_t *value;

	json_object_foreach(settings, name, value) {
		if (!status)
			status = spec_set(spec, name, strlen(name), json_string_value(value));
	}
	return status ? status : spec_check(spec);
}

int spec_check_unkept(const struct spec *spec, const char *without)
{
	if (spec->device.on_crash == ON_CRASH_AUTO || spec->device.on_crash == ON_CRASH_NONE)
		return EXIT_DONE;
	ublkd_error("on-crash: expected none %s, as nothing would say which device the next server "
		    "takes over, got '%s'", without, on_crash_name(spec->device.on_crash));
	return EXIT_USAGE;
}

void spec_name(const struct spec *spec, char text[], size_t size)
{
	size_t used = 0;

	text[0] = 0;
	for (unsigned i = 0; i < spec->nr_layers && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%s", i ? "+" : "",
					 spec->layers[i].backend->name);
}

/* ---- the target ---------------------------------------------------------------------- */

static int open_layers(const struct spec *spec, struct ublkd_wish wish, struct ublkd_target **target)
{
	int ret = 0;

	wish.read_only = spec->device.read_only;
	wish.block_size = (uint32_t)spec->device.block_size;
	*target = NULL;
	for (unsigned i = spec->nr_layers; !ret && i-- > 0;) {
		wish.passed = spec->layers[i].passed;
		ret = backend_open(target, spec->layers[i].backend, spec->layers[i].config, &wish,
				   *target);
	}
	if (!ret)
		return EXIT_DONE;
	backend_close(*target, false);
	*target = NULL;
	return ret == -EINVAL ? EXIT_USAGE : EXIT_BACKING;
}

int spec_open(const struct spec *spec, struct ublkd_target **target)
{
	return open_layers(spec, (struct ublkd_wish){ .again = false }, target);
}

int spec_open_again(const struct spec *spec, uint64_t size, bool resized, struct ublkd_target **target)
{
	return open_layers(spec, (struct ublkd_wish){ .again = true, .size = size, .resized = resized },
			   target);
}

int spec_look(const struct spec *spec, uint64_t size, bool resized, struct ublkd_target **target)
{
	return open_layers(spec, (struct ublkd_wish){ .again = true, .look = true, .size = size,
						      .resized = resized },
			   target);
}
