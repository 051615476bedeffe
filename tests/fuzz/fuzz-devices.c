/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file that describes a device: it is read to a device with a fitting name, or is refused as wrong. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>

#include "conf.h"
#include "exit.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	MUST(!scratch_make(NULL));
	atexit((void (*)(void))scratch_remove);
	return 0;
}

static void read_it(bool kept)
{
	struct conf conf = { .kept = kept, .shared = !kept };
	int status = conf_read(&conf, scratch_path("disk.conf"));

	if (!status)
		status = conf_check(&conf);
	MUST(status == EXIT_DONE || status == EXIT_USAGE);
	MUST(status || (conf.count == 1 && spec_name_fits(conf.devices[0]->name)));
	conf_free(&conf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FILE *file = fopen(scratch_path("disk.conf"), "w");

	MUST(file && fwrite(data, 1, size, file) == size);
	fclose(file);
	read_it(false);
	read_it(true);
	return 0;
}
