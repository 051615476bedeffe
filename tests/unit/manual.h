/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether the manual page has what the tables of the program have. */
#ifndef MANUAL_H
#define MANUAL_H

#include <stdbool.h>

#include <ublkd/backend.h>

/* The text of a page, "ublkd.8", to be freed; fails the test without one. */
char *manual_read_page(const char *name);
char *manual_read(void);
/* Whether it has an item for the name, marked up as what is typed. */
bool manual_has(const char *manual, const char *macro, const char *name);
/* How many options of the table the page lacks; prints which. */
unsigned manual_lacks(const char *manual, const char *macro, const struct ublkd_option *table);

#endif
