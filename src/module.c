/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "module.h"

#include <string.h>

#include "util/macros.h"

static bool listed(const char *root, const char *release, const char *list_name)
{
	static const char *const roots[] = { "/lib/modules", "/usr/lib/modules" };

	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		_cleanup_free_ char *line = NULL;
		_cleanup_file_ FILE *list = NULL;
		size_t size = 0;
		char path[4096];

		snprintf(path, sizeof(path), "%s%s/%s/%s", root, roots[i], release, list_name);
		list = fopen(path, "re");
		while (list && getline(&line, &size, list) > 0) {
			if (strstr(line, "/ublk_drv.ko"))
				return true;
		}
	}
	return false;
}

bool module_known(const char *root, const char *release)
{
	return listed(root, release, "modules.dep");
}

bool module_built_in(const char *root, const char *release)
{
	return listed(root, release, "modules.builtin");
}
