/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Settings of "ublkd serve" in a file, which its command line overrides. Main thread. */
#ifndef SERVE_SETTINGS_H
#define SERVE_SETTINGS_H

#include <stdbool.h>

#include <ublkd/backend.h>

#define SERVE_SETTINGS SYSCONFDIR "/ublkd/ublkd.conf"
#define SERVE_SECTION "serve"

struct serve;

/* One that says what is done this once, and so is no setting. */
bool serve_option_once(const struct ublkd_option *option);
/*
 * Reads the file that --config names, or the one above if it is there. Behind the command
 * line, of which every option is left as it is. An exit status.
 */
int serve_read_settings(struct serve *serve);

#endif
