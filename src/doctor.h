/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why ublk devices cannot be served here, or not well. doctor_probe() does
 * the system calls and questions, which may take their time but end, and the
 * checks judge what it brought and the files below a root folder. Nothing is
 * changed, and neither device nodes nor character devices are opened. Main
 * thread, with libev's default loop not yet made.
 */
#ifndef DOCTOR_H
#define DOCTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include <ublkd/ublk_abi.h>

#include "ring.h"

enum doctor_level {
	DOCTOR_OK,
	DOCTOR_NOTE,    /* works, and something is worth knowing */
	DOCTOR_WARNING, /* some devices cannot be served, or not well */
	DOCTOR_PROBLEM, /* no device can be served */
};

struct doctor_finding {
	const char *check;
	enum doctor_level level;
	char *found, *expected, *remedy; /* NULL: there is nothing to say */
};

struct doctor_device {
	uint32_t id;
	int result; /* of the question for it; 1: it was not asked */
	struct ublk_dev_info info;
};

struct doctor {
	const char *root; /* before the path of each file; "" for the system's */

	/* What doctor_probe() sees. Errors are 0 or -errno. */
	char release[65];     /* of the kernel */
	char liburing[32];    /* version at run time, "": it does not say */
	int control_error;    /* of opening the control node */
	int control_ring_error;
	int ring_errors[RING_PLAIN + 1]; /* by mode, but for RING_AUTO */
	int helper_error;     /* of starting ourselves as a helper */
	struct rlimit memlock, files;
	char *parameters;     /* lines NAME:MEANING of the module's; NULL: not known */
	int features_error;   /* 1: not asked */
	uint64_t features;
	struct doctor_device *devices; /* all there are */
	unsigned nr_devices;
	bool silent;          /* the driver has left a question without an answer */

	/* What the checks find. */
	struct doctor_finding *findings;
	unsigned nr_findings;
	const char *check;    /* the one that runs */
	bool no_memory;       /* for a finding */
};

struct doctor_check {
	const char *name;
	void (*run)(struct doctor *doctor);
};

/* Name NULL at the end. */
extern const struct doctor_check doctor_checks[];

void doctor_probe(struct doctor *doctor);
void doctor_run(struct doctor *doctor, const struct doctor_check *check);
void doctor_free(struct doctor *doctor);

const char *doctor_level_name(enum doctor_level level);
/* An exit status for all that was found. */
int doctor_status(const struct doctor *doctor);

#endif
