/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices that outlive their server, in a folder: a file NAME.json for
 * each, which says what the next server has to find the same. A file is there
 * before its device has a disk, and goes after the device. One server at a
 * time has the folder. Main thread; -errno after an error text.
 */
#ifndef TABLE_H
#define TABLE_H

#include <jansson.h>

#include <ublkd/backend.h>

#include "util/uuid.h"

enum table_state {
	TABLE_WAITS,   /* as far as is known, its device waits for a server */
	TABLE_DAMAGED, /* the file is no entry: nothing but the name is known */
	TABLE_SERVED,  /* its device has, or may have, a server */
	TABLE_GONE,    /* its device and its file are gone */
	TABLE_GOES,    /* its device waits, and is being deleted */
};

struct table_entry {
	char name[65];
	uint64_t id;
	uint64_t cookie;   /* see orphan.h; tells the device from another of this number */
	char backend[128]; /* [FILTER+…]BACKEND */
	char identity[UBLKD_IDENTITY_SIZE];
	uint64_t sectors;  /* of 512 bytes */
	uint64_t block_size;
	uint64_t physical_block_size;
	uint64_t attributes; /* UBLK_ATTR_* */
	uint64_t queues;   /* asked, of which there may be fewer */
	uint64_t depth;
	uint64_t max_io;
	uint64_t features; /* UBLK_F_* that were asked */
	/*
	 * How it was added at run time: what the next server does by itself, with the
	 * UUID, if it has one. A reference of the table's, or of whoever fills the entry
	 * in. NULL: a file describes the device.
	 */
	json_t *options;
	/*
	 * 0 or 1: the size has been, or may have been, changed since the device
	 * was made. Then it is the driver's, and not that of the description.
	 */
	uint64_t resized;
	/* 0 or 1: a client had opened its files, whose paths may name nothing here, or others. */
	uint64_t passed;
	/*
	 * "": an older server wrote the entry. It says which device is meant, and not how it has to
	 * be, so it is no difference.
	 */
	char uuid[UUID_SIZE];

	/* CLOCK_MONOTONIC, when its last server was asked to leave it; 0: not known. In no file. */
	double left;
	enum table_state state;
	bool wanted; /* a file or options describe it; see recover.h */
};

struct table {
	char *path;
	int folder, lock;
	struct table_entry *entries; /* as they were found when it was opened */
	unsigned count;
};

/*
 * Makes the folder if there is none, and reads it. Files that are no entries
 * are said, and are entries that are damaged; so are those that are of the same
 * device.
 */
int table_open(struct table *table, const char *path);
/* The folder alone, for who serves some of its devices for the one that has it; */
int table_open_folder(struct table *table, const char *path);
/* and, of that, a table with the entry of one device, if there is one. */
int table_open_entry(struct table *table, const struct table *folder, const char *name);
/* The same to look at only, whoever has the folder. Without a folder there is no entry. */
int table_look(struct table *table, const char *path);
void table_close(struct table *table);
/* A number that who has the folder leaves to the next, of its service manager; see notify.h. */
void table_leave_watchdog(const struct table *table, uint64_t microseconds);
uint64_t table_watchdog(const char *path);
/* The process that has the folder; 0: none has. Not for who has it. */
int table_holder(const char *path);
/*
 * Who is to have the folder next says so first, and takes devices over while the one
 * before serves the others. Until the descriptor is closed; -EBUSY: another has said so.
 */
int table_claim(const char *path);
/* The process that has; 0: none. */
int table_claimant(const struct table *table);
/* Another may have the folder from now on. What was read stays. */
void table_release(struct table *table);
/* The folder is ours again, at once or not at all. now: as it is by now, to be closed. */
int table_reclaim(struct table *table, struct table *now);
struct table_entry *table_find(const struct table *table, const char *name);
/* The entry as its file says now; options are a reference of the caller's then. */
void table_read(const struct table *table, const char *name, struct table_entry *entry);
/*
 * A UUID for a device of this name that was given none: that of the device which waits, or
 * else, where a file describes it, the same on this machine each time, or a new one. table
 * NULL: none waits.
 */
void table_choose_uuid(const struct table *table, const char *name, bool described,
		       char uuid[UUID_SIZE]);
/* There is a file of it now. */
bool table_has(const struct table *table, const char *name);
/* Returns when it is on the disk. There is the old entry or the new one at any time. */
int table_write(const struct table *table, const struct table_entry *entry);
/*
 * The same for a device that was just made: those that the table still has of its number are
 * wrong by then, and go.
 */
int table_enter(const struct table *table, const struct table_entry *entry);
int table_remove(const struct table *table, const char *name);

#define TABLE_DIFFERENCE_SIZE 512
/* Whether they are devices that differ; then text says in what: "KEY: expected …, got …". */
bool table_differs(const struct table_entry *was, const struct table_entry *is,
		   char text[TABLE_DIFFERENCE_SIZE]);

#endif
