/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "table.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "log.h"
#include "orphan.h"
#include "util/json.h"
#include "util/macros.h"
#include "util/parse.h"

#define TABLE_VERSION 1
#define OPTIONS "options"
#define SUFFIX ".json"
#define TEMPORARY ".new"
#define LOCK_FILE ".lock"
#define CLAIM_FILE ".next"
#define LARGEST_FILE 65536
/* A server that was killed a moment ago may still be on its way out. */
#define LOCK_TRIES 100
#define LOCK_PAUSE_NS 50000000 /* 50 ms */

enum kind {
	TEXT,
	NUMBER,
	BITS, /* a text, 0x…: JSON's numbers have 63 bits here */
};

/* In the order in which differences are looked for. */
static const struct field {
	const char *key;
	enum kind kind;
	size_t offset, size;
	const char *about; /* what to look at when it differs; NULL: the key */
	bool optional;     /* entries of version 0.1.0 lack it: 0 or "" */
	bool free;         /* no difference of the device */
} fields[] = {
#define FIELD(key, kind, member, about) \
	{ key, kind, offsetof(struct table_entry, member), \
	  sizeof(((struct table_entry *)0)->member), about, false, false }
	FIELD("name", TEXT, name, NULL),
	FIELD("id", NUMBER, id, NULL),
	FIELD("cookie", BITS, cookie, NULL),
	FIELD("backend", TEXT, backend, NULL),
	FIELD("identity", TEXT, identity, "backing"),
	FIELD("sectors", NUMBER, sectors, "size in sectors of 512 bytes"),
	FIELD("block-size", NUMBER, block_size, NULL),
	FIELD("physical-block-size", NUMBER, physical_block_size, NULL),
	FIELD("attributes", BITS, attributes, "attributes (read-only, rotational, cache)"),
	FIELD("queues", NUMBER, queues, NULL),
	FIELD("depth", NUMBER, depth, NULL),
	FIELD("max-io", NUMBER, max_io, NULL),
	FIELD("features", BITS, features, "features (on-crash, data, memory, batch, reactors)"),
#undef FIELD
	{ "resized", NUMBER, offsetof(struct table_entry, resized), sizeof(uint64_t), NULL, true,
	  false },
	{ "passed", NUMBER, offsetof(struct table_entry, passed), sizeof(uint64_t), NULL, true,
	  false },
	{ "uuid", TEXT, offsetof(struct table_entry, uuid), UUID_SIZE, NULL, true, true },
};

static const char *text_of(const struct table_entry *entry, const struct field *field)
{
	return (const char *)entry + field->offset;
}

static uint64_t number_of(const struct table_entry *entry, const struct field *field)
{
	uint64_t number;

	memcpy(&number, text_of(entry, field), sizeof(number));
	return number;
}

/* ---- an entry and its file -------------------------------------------------------- */

/* The entry has the UUID. An older server that has to go on with the device would refuse it here. */
static json_t *options_json(const struct table_entry *entry)
{
	json_t *options = json_copy(entry->options);

	json_object_del(options, "uuid");
	return options;
}

static json_t *to_json(const struct table_entry *entry)
{
	json_t *object = json_object();

	json_object_set_new(object, "version", json_integer(TABLE_VERSION));
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct field *f = &fields[i];

		json_object_set_new(object, f->key,
				    f->kind == TEXT ? json_string(text_of(entry, f)) :
				    f->kind == BITS ? json_sprintf("%#" PRIx64, number_of(entry, f)) :
						      json_integer((json_int_t)number_of(entry, f)));
	}
	if (entry->options)
		json_object_set_new(object, OPTIONS, options_json(entry));
	return object;
}

static bool set_field(struct table_entry *entry, const struct field *field, const json_t *value)
{
	char *at = (char *)entry + field->offset;
	const char *text = json_string_value(value);
	uint64_t number;
	char *end;

	if (field->kind == TEXT) {
		if (!text || strlen(text) >= field->size)
			return false;
		strcpy(at, text);
		return true;
	}
	if (field->kind == BITS) {
		if (!text || strncmp(text, "0", 1))
			return false;
		number = strtoull(text, &end, 16);
		if (*end)
			return false;
	} else {
		if (!json_is_integer(value) || json_integer_value(value) < 0)
			return false;
		number = (uint64_t)json_integer_value(value);
	}
	memcpy(at, &number, sizeof(number));
	return true;
}

static bool set_options(struct table_entry *entry, json_t *options)
{
	const char *key;
	json_t *value;

	if (options && !json_is_object(options))
		return false;
	json_object_foreach(options, key, value) {
		if (!json_is_string(value))
			return false;
	}
	if (options && *entry->uuid)
		json_object_set_new(options, "uuid", json_string(entry->uuid));
	entry->options = json_incref(options);
	return true;
}

/* NULL, or what was expected of the file. */
static const char *from_json(struct table_entry *entry, const char *name, const json_t *object)
{
	if (!json_is_object(object))
		return "a JSON object";
	if (json_integer_value(json_object_get(object, "version")) != TABLE_VERSION)
		return "\"version\": 1";
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const json_t *value = json_object_get(object, fields[i].key);

		if (!(fields[i].optional && !value) && !set_field(entry, &fields[i], value))
			return fields[i].key;
	}
	if (strcmp(entry->name, name))
		return "the name of the file as \"name\"";
	if (entry->id > INT32_MAX)
		return "a number of a device as \"id\"";
	if (!orphan_cookie_lasting(entry->cookie))
		return "the number of a device that outlives its server as \"cookie\"";
	if (*entry->uuid && uuid_read(entry->uuid, entry->uuid))
		return "a UUID as \"uuid\"";
	return set_options(entry, json_object_get(object, OPTIONS)) ? NULL : "texts as \"options\"";
}

static json_t *load(const struct table *table, const char *file, json_error_t *error)
{
	_cleanup_fd_ int fd = openat(table->folder, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st)) {
		snprintf(error->text, sizeof(error->text), "%s", strerror(errno));
		return NULL;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > LARGEST_FILE) {
		snprintf(error->text, sizeof(error->text), "no small regular file");
		return NULL;
	}
	return json_read(fd, JSON_REJECT_DUPLICATES, error);
}

static void read_entry(const struct table *table, struct table_entry *entry, const char *file)
{
	char name[sizeof(entry->name)];
	json_error_t error = { 0 };
	const char *lacks = NULL;
	json_t *object;

	snprintf(name, sizeof(name), "%.*s", (int)MIN(strlen(file) - strlen(SUFFIX), sizeof(name) - 1),
		 file);
	object = load(table, file, &error);
	if (object)
		lacks = from_json(entry, name, object);
	if (!object)
		ublkd_error("'%s/%s': expected an entry of the table of devices, got what cannot be "
			    "read: %s", table->path, file, error.text);
	else if (lacks)
		ublkd_error("'%s/%s': expected an entry of the table of devices, got one without %s",
			    table->path, file, lacks);
	json_decref(object);
	if (object && !lacks)
		return;
	*entry = (struct table_entry){ .state = TABLE_DAMAGED };
	strcpy(entry->name, name);
}

/* ---- the folder ---------------------------------------------------------------------- */

static int is_entry(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return length > strlen(SUFFIX) && !strcmp(entry->d_name + length - strlen(SUFFIX), SUFFIX);
}

/*
 * Of two that say the same of the driver's device nobody knows which is right, and one has
 * data that is not the other's.
 */
static void refuse_twins(struct table *table)
{
	for (unsigned i = 0; i < table->count; i++) {
		struct table_entry *a = &table->entries[i];

		for (unsigned k = i + 1; k < table->count; k++) {
			struct table_entry *b = &table->entries[k];

			if (a->id != b->id || a->cookie != b->cookie || !a->cookie)
				continue;
			ublkd_error("'%s': expected devices of their own, got '%s' and '%s', which both "
				    "say that they are device %u: neither is taken over, until the "
				    "file of the wrong one is removed and the server started again",
				    table->path, a->name, b->name, (unsigned)a->id);
			a->state = b->state = TABLE_DAMAGED;
		}
	}
}

static int read_folder(struct table *table)
{
	struct dirent **files;
	int count = scandirat(table->folder, ".", &files, is_entry, alphasort);

	if (count < 0) {
		ublkd_error("cannot read the folder '%s': %s", table->path, strerror(errno));
		return -errno;
	}
	table->entries = calloc((size_t)count + 1, sizeof(*table->entries));
	for (int i = 0; i < count; i++) {
		if (table->entries)
			read_entry(table, &table->entries[table->count++], files[i]->d_name);
		free(files[i]);
	}
	free(files);
	if (!table->entries) {
		ublkd_error("no memory for the table of devices");
		return -ENOMEM;
	}
	refuse_twins(table);
	return 0;
}

/*
 * A record lock, as the kernel knows the process that has one. It ends when this process
 * closes the file, whatever descriptor that is by: nobody but us opens it.
 */
static struct flock whole_file(void)
{
	return (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET };
}

static int holder_of(int fd)
{
	struct flock lock = whole_file();

	if (fcntl(fd, F_GETLK, &lock))
		return -errno;
	/* 0: of another process namespace */
	return lock.l_type == F_UNLCK ? 0 : lock.l_pid > 0 ? lock.l_pid : -ESRCH;
}

static int lock_folder(struct table *table, int tries)
{
	struct flock lock = whole_file();

	table->lock = openat(table->folder, LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	for (int i = 0; table->lock < 0 || fcntl(table->lock, F_SETLK, &lock); i++) {
		int ret = -errno;

		if (table->lock < 0 || (ret != -EAGAIN && ret != -EACCES)) {
			ublkd_error("state: cannot lock the folder '%s': %s", table->path,
				    strerror(-ret));
			return ret;
		}
		if (i == tries) {
			ublkd_error("state: expected a folder that no other server has, got '%s', "
				    "which process %d has", table->path, holder_of(table->lock));
			return -EBUSY;
		}
		nanosleep(&(struct timespec){ .tv_nsec = LOCK_PAUSE_NS }, NULL);
	}
	return 0;
}

/* path: of the folder, for the message, too. */
static int find_holder(int folder, const char *file, const char *path)
{
	_cleanup_fd_ int fd = openat(folder, file, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	int ret;

	if (fd < 0 && errno == ENOENT)
		return 0;
	ret = fd < 0 ? -errno : holder_of(fd);
	if (ret < 0)
		ublkd_error("state: expected a folder whose server can be found, got '%s': %s", path,
			    strerror(-ret));
	return ret;
}

int table_holder(const char *path)
{
	_cleanup_free_ char *file = NULL;

	if (asprintf(&file, "%s/" LOCK_FILE, path) < 0) {
		file = NULL;
		return -ENOMEM;
	}
	return find_holder(AT_FDCWD, file, path);
}

int table_claimant(const struct table *table)
{
	return find_holder(table->folder, CLAIM_FILE, table->path);
}

int table_claim(const char *path)
{
	struct flock lock = whole_file();
	_cleanup_free_ char *file = NULL;
	_cleanup_fd_ int fd = -1;
	int ret;

	if (asprintf(&file, "%s/" CLAIM_FILE, path) < 0) {
		file = NULL;
		return -ENOMEM;
	}
	fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && !fcntl(fd, F_SETLK, &lock))
		return steal_fd(&fd);
	ret = -errno;
	if (fd >= 0 && (ret == -EAGAIN || ret == -EACCES)) {
		ublkd_error("takeover: expected to be the only one that takes the devices over, got "
			    "process %d, which does so already", holder_of(fd));
		return -EBUSY;
	}
	ublkd_error("takeover: cannot lock '%s': %s", file, strerror(-ret));
	return ret;
}

void table_release(struct table *table)
{
	cleanup_fd(&table->lock);
	table->lock = -1;
}

void table_leave_watchdog(const struct table *table, uint64_t microseconds)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "%" PRIu64 "\n", microseconds);

	if (ftruncate(table->lock, 0) || pwrite(table->lock, text, (size_t)length, 0) != length)
		log_debug("state: the next server is not told of the watchdog: %s", strerror(errno));
}

/* Not while we have the folder: closing the file would give up its lock. */
uint64_t table_watchdog(const char *path)
{
	_cleanup_free_ char *file = NULL;
	uint64_t microseconds = 0;

	if (asprintf(&file, "%s/" LOCK_FILE, path) < 0)
		file = NULL;
	return file && !read_uint_file(file, &microseconds) ? microseconds : 0;
}

int table_open_folder(struct table *table, const char *path)
{
	*table = (struct table){ .path = strdup(path), .folder = -1, .lock = -1 };
	if (table->path && (!mkdir(path, 0700) || errno == EEXIST))
		table->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (table->folder >= 0)
		return 0;
	ublkd_error("state: expected a folder that can be made or read, got '%s': %s", path,
		    strerror(errno));
	return -errno;
}

int table_open(struct table *table, const char *path)
{
	int ret = table_open_folder(table, path);

	if (!ret)
		ret = lock_folder(table, LOCK_TRIES);
	if (!ret)
		ret = read_folder(table);
	if (ret)
		table_close(table);
	return ret;
}

/* By now we may be in another folder than the path is from. */
static void open_again(struct table *table, const struct table *folder)
{
	*table = (struct table){ .path = strdup(folder->path), .lock = -1 };
	table->folder = openat(folder->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int table_reclaim(struct table *table, struct table *now)
{
	int ret = table->lock < 0 ? lock_folder(table, 0) : 0;

	open_again(now, table);
	if (!ret)
		ret = read_folder(now);
	if (ret) {
		table_release(table);
		table_close(now);
	}
	return ret;
}

void table_read(const struct table *table, const char *name, struct table_entry *entry)
{
	char file[128];

	snprintf(file, sizeof(file), "%s" SUFFIX, name);
	*entry = (struct table_entry){ 0 };
	read_entry(table, entry, file);
}

int table_open_entry(struct table *table, const struct table *folder, const char *name)
{
	open_again(table, folder);
	table->entries = calloc(1, sizeof(*table->entries));
	if (table->folder < 0 || !table->path || !table->entries) {
		ublkd_error("no memory, or no file descriptor, for the table of devices");
		table_close(table);
		return -ENOMEM;
	}
	if (table_has(table, name))
		table_read(table, name, &table->entries[table->count++]);
	return 0;
}

int table_look(struct table *table, const char *path)
{
	int ret = 0;

	*table = (struct table){ .path = strdup(path), .folder = -1, .lock = -1 };
	if (table->path)
		table->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (table->folder >= 0) {
		ret = read_folder(table);
	} else if (errno != ENOENT) {
		ret = -errno;
		ublkd_error("state: expected a folder that can be read, got '%s': %s", path,
			    strerror(errno));
	}
	if (ret)
		table_close(table);
	return ret;
}

bool table_has(const struct table *table, const char *name)
{
	char file[128];

	snprintf(file, sizeof(file), "%s" SUFFIX, name);
	return !faccessat(table->folder, file, F_OK, 0);
}

void table_close(struct table *table)
{
	cleanup_fd(&table->folder);
	for (unsigned i = 0; i < table->count; i++)
		json_decref(table->entries[i].options);
	free(table->entries);
	free(table->path);
	cleanup_fd(&table->lock);
	*table = (struct table){ .folder = -1, .lock = -1 };
}

struct table_entry *table_find(const struct table *table, const char *name)
{
	for (unsigned i = 0; i < table->count; i++) {
		if (!strcmp(table->entries[i].name, name))
			return &table->entries[i];
	}
	return NULL;
}

/* By its name, which is what users know of it, and may follow from it with uuidgen(1), too. */
static bool derive_uuid(const char *name, char uuid[UUID_SIZE])
{
	char whole[128];

	snprintf(whole, sizeof(whole), "ublkd/%s", name);
	return !uuid_of_name("/etc/machine-id", whole, uuid);
}

void table_choose_uuid(const struct table *table, const char *name, bool described,
		       char uuid[UUID_SIZE])
{
	const struct table_entry *former = table ? table_find(table, name) : NULL;

	if (former && former->state != TABLE_GONE && *former->uuid)
		memcpy(uuid, former->uuid, UUID_SIZE);
	else if (!described || !derive_uuid(name, uuid))
		uuid_make(uuid);
}

/* ---- changes ----------------------------------------------------------------------------- */

static int write_file(const struct table *table, const struct table_entry *entry, const char *file)
{
	_cleanup_fd_ int fd = openat(table->folder, file,
				     O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	json_t *object;
	int ret;

	if (fd < 0)
		return -errno;
	object = to_json(entry);
	ret = json_write(object, fd, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
	json_decref(object);
	if (!ret && fsync(fd))
		ret = -errno;
	return ret;
}

int table_write(const struct table *table, const struct table_entry *entry)
{
	char file[128], temporary[sizeof(file) + sizeof(TEMPORARY)];
	int ret;

	snprintf(file, sizeof(file), "%s" SUFFIX, entry->name);
	snprintf(temporary, sizeof(temporary), "%s" TEMPORARY, file);
	ret = write_file(table, entry, temporary);
	if (!ret && (renameat(table->folder, temporary, table->folder, file) || fsync(table->folder)))
		ret = -errno;
	if (ret) {
		ublkd_error("cannot write '%s/%s': %s", table->path, file, strerror(-ret));
		unlinkat(table->folder, temporary, 0);
	}
	return ret;
}

int table_remove(const struct table *table, const char *name)
{
	char file[128];

	snprintf(file, sizeof(file), "%s" SUFFIX, name);
	if ((!unlinkat(table->folder, file, 0) && !fsync(table->folder)) || errno == ENOENT)
		return 0;
	ublkd_error("cannot remove '%s/%s': %s", table->path, file, strerror(errno));
	return -errno;
}

int table_enter(const struct table *table, const struct table_entry *entry)
{
	for (unsigned i = 0; i < table->count; i++) {
		struct table_entry *other = &table->entries[i];

		if (other->state != TABLE_WAITS || other->id != entry->id ||
		    !strcmp(other->name, entry->name))
			continue;
		ublkd_note("'%s' had the number %u before: its device is not there any more",
			   other->name, (unsigned)entry->id);
		if (!table_remove(table, other->name))
			other->state = TABLE_GONE;
	}
	return table_write(table, entry);
}

bool table_differs(const struct table_entry *was, const struct table_entry *is,
		   char text[TABLE_DIFFERENCE_SIZE])
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct field *f = &fields[i];
		const char *about = f->about ? f->about : f->key;
		size_t size = TABLE_DIFFERENCE_SIZE;

		if (f->free || (f->kind == TEXT ? !strcmp(text_of(was, f), text_of(is, f)) :
						  number_of(was, f) == number_of(is, f)))
			continue;
		if (f->kind == TEXT)
			snprintf(text, size, "%s: expected '%s', got '%s'", about, text_of(was, f),
				 text_of(is, f));
		else
			snprintf(text, size, f->kind == BITS ? "%s: expected %#" PRIx64 ", got %#" PRIx64 :
							       "%s: expected %" PRIu64 ", got %" PRIu64,
				 about, number_of(was, f), number_of(is, f));
		return true;
	}
	return false;
}
