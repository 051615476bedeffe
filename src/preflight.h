/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether this program could take over all devices of a table, as they are
 * described and as this kernel is, said beforehand: for who installs a new
 * version, and before another server is asked to leave. Nothing is touched.
 * Main thread, while no loop runs.
 */
#ifndef PREFLIGHT_H
#define PREFLIGHT_H

#include "conf.h"

/* state: the table's folder, whoever has it. An exit status; each reason was said. */
int preflight(const struct conf *conf, const char *state);

#endif
