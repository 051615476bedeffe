/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file of the device table: it is damaged, or an entry that is the same once it was written and read again. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"

static struct table table;

static void end(void)
{
	table_close(&table);
	scratch_remove(NULL);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	MUST(!scratch_make(NULL) && !table_open(&table, scratch_path("state")));
	atexit(end);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FILE *file = fopen(scratch_path("state/disk.json"), "w");
	struct table_entry was, is;
	char text[TABLE_DIFFERENCE_SIZE];

	MUST(file && fwrite(data, 1, size, file) == size);
	fclose(file);
	table_read(&table, "disk", &was);
	MUST(!strcmp(was.name, "disk"));
	MUST(was.state == TABLE_DAMAGED || was.state == TABLE_WAITS || was.state == TABLE_SERVED);
	if (was.state != TABLE_DAMAGED) {
		MUST(!table_write(&table, &was));
		table_read(&table, "disk", &is);
		MUST(is.state == was.state && is.id == was.id && is.cookie == was.cookie);
		MUST(!table_differs(&was, &is, text) && json_equal(was.options, is.options) == !!was.options);
		json_decref(is.options);
	}
	json_decref(was.options);
	return 0;
}
