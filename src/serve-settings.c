/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "serve-settings.h"

#include <string.h>
#include <unistd.h>

#include "exit.h"
#include "lines.h"
#include "log.h"
#include "serve.h"
#include "util/macros.h"

bool serve_option_once(const struct ublkd_option *option)
{
	static const char *const names[] = { "config", "check", "preflight", "help" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(names[i], option->name))
			return true;
	}
	return false;
}

/* inside: what the file says, also where the command line says something else. */
static void set(struct serve *serve, struct options *inside, struct lines *lines,
		const struct line *line)
{
	const struct ublkd_option *option = option_find(serve_options, line->key, strlen(line->key));
	const char *before;
	char where[512];
	int ret;

	if (!option) {
		lines_error(lines, line->number, "expected an option of 'serve' without its dashes, got '%s'; "
			    "'ublkd help serve' lists them", line->key);
		return;
	}
	if (serve_option_once(option)) {
		lines_error(lines, line->number, "%s: expected on the command line alone", line->key);
		return;
	}
	before = log_switch(lines_place(lines, line->number, where, sizeof(where)));
	ret = options_set(inside, option, line->value);
	if (!ret && !options_given(&serve->set, option->name))
		ret = options_set(&serve->set, option, line->value);
	log_switch(before);
	if (ret)
		lines_fail(lines, EXIT_USAGE);
}

int serve_read_settings(struct serve *serve)
{
	const char *given = serve->config.config;
	struct lines lines = { .path = given ? given : SERVE_SETTINGS, .section = SERVE_SECTION };
	struct serve_config config = { 0 };
	struct options inside;

	if (!given && access(lines.path, F_OK))
		return EXIT_DONE;
	options_init(&inside, serve_options, &config);
	lines_read(&lines);
	for (unsigned i = 0; i < lines.count; i++)
		set(serve, &inside, &lines, &lines.lines[i]);
	serve->settings = lines.count ? lines.path : NULL;
	lines_free(&lines);
	options_free(&inside);
	if (lines.status == EXIT_RUNTIME)
		ublkd_error("no memory");
	return lines.status;
}
