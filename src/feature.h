/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the running kernel's driver offers, and what each feature is called. Main thread. */
#ifndef FEATURE_H
#define FEATURE_H

#include "ctrl.h"

struct feature {
	uint64_t flag;
	const char *name;
	const char *since; /* the kernel that brought it */
	const char *what;
};

/* Name NULL at the end. */
extern const struct feature driver_features[];

struct features_query {
	/* -errno; -ETIMEDOUT: no answer yet, and the command is still out. */
	void (*done)(struct features_query *query, int result);

	uint64_t flags;
	struct ctrl_command command;
};

void features_ask(struct features_query *query, struct ctrl *ctrl);
/* This error of the driver says that it is older than the question (Linux 6.5). */
bool features_unknown(int result);

#endif
