/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "support.h"

#include "manual.h"

#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/macros.h"

char *manual_read_page(const char *name)
{
	const char *top = getenv("abs_top_srcdir");
	char path[4096], *text = NULL;
	_cleanup_file_ FILE *file = NULL;
	size_t size = 0;

	snprintf(path, sizeof(path), "%s/man/%s", top ? top : ".", name);
	file = fopen(path, "re");
	if (!file)
		fail_msg("cannot open '%s': %s", path, strerror(errno));
	if (getdelim(&text, &size, 0, file) < 0)
		fail_msg("'%s' is empty", path);
	return text;
}

char *manual_read(void)
{
	return manual_read_page("ublkd.8");
}

bool manual_has(const char *manual, const char *macro, const char *name)
{
	char pattern[128];
	regex_t regex;
	bool found;

	snprintf(pattern, sizeof(pattern), "^\\.It %s %s( |$)", macro, name);
	assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NEWLINE | REG_NOSUB), 0);
	found = !regexec(&regex, manual, 0, NULL, 0);
	regfree(&regex);
	return found;
}

unsigned manual_lacks(const char *manual, const char *macro, const struct ublkd_option *table)
{
	unsigned missing = 0;

	for (const struct ublkd_option *o = table; o->name; o++) {
		if (!manual_has(manual, macro, o->name)) {
			print_error("the manual has no '.It %s %s'\n", macro, o->name);
			missing++;
		}
	}
	return missing;
}
