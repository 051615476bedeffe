/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "log-socket.h"
#include "util/macros.h"

#define MOST_ABOUT 255 /* bytes before a message */
#define LEVELS "UBLKD_LOG_LEVELS"

static struct {
	const char *about; /* NULL: the program */
	bool verbose;
	bool levels;
	bool syslog;
	struct log_socket socket;
	struct log_listener *listeners;
	log_taker *taker; /* NULL: messages are written */
	void *taker_arg;
} logger;

void log_set_verbose(bool verbose)
{
	logger.verbose = verbose;
}

void log_to_syslog(void)
{
	if (!logger.syslog)
		log_socket_init(&logger.socket, _PATH_LOG);
	logger.syslog = true;
}

bool log_is_syslog(void)
{
	return logger.syslog;
}

void log_with_levels(void)
{
	logger.levels = true;
	setenv(LEVELS, "yes", 1);
}

void log_inherit_levels(void)
{
	logger.levels = getenv(LEVELS);
}

const char *log_about(void)
{
	return logger.about;
}

const char *log_switch(const char *about)
{
	const char *before = logger.about;

	logger.about = about;
	return before;
}

void log_listen(struct log_listener *listener)
{
	listener->text[0] = 0;
	listener->next = logger.listeners;
	logger.listeners = listener;
}

void log_stop_listening(struct log_listener *listener)
{
	struct log_listener **link = &logger.listeners;

	while (*link && *link != listener)
		link = &(*link)->next;
	if (*link)
		*link = listener->next;
}

void log_divert(log_taker *taker, void *arg)
{
	logger.taker = taker;
	logger.taker_arg = arg;
}

static void tell_listeners(const char *text)
{
	for (struct log_listener *l = logger.listeners; l; l = l->next) {
		if ((l->any || l->about == logger.about) && !l->text[0])
			snprintf(l->text, sizeof(l->text), "%s", text);
	}
}

/* There is room for one byte more. */
static void put(int priority, char *line, size_t length)
{
	ssize_t ret;

	if (logger.syslog) {
		log_socket_send(&logger.socket, priority, line);
		return;
	}
	line[length++] = '\n';
	/* A log that cannot be written has nowhere to be reported. */
	ret = write(STDERR_FILENO, line, length);
	(void)ret;
}

static void log_write(enum log_level level, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));

static void log_write(enum log_level level, const char *format, va_list args)
{
	static const int priorities[] = { LOG_ERR, LOG_NOTICE, LOG_DEBUG };
	char line[1024] = "";
	size_t used, prefix;
	int ret, error = errno; /* callers log first and return -errno then */

	if (level == LOG_LEVEL_DEBUG && !logger.verbose)
		return;
	if (logger.levels)
		snprintf(line, sizeof(line), "<%d>", priorities[level]);
	used = strlen(line);
	used += (size_t)snprintf(line + used, sizeof(line) - used, "%.*s: ", MOST_ABOUT,
				 logger.about ? logger.about : "ublkd");
	prefix = used;
	ret = vsnprintf(line + used, sizeof(line) - used - 1, format, args);
	if (ret < 0)
		return;
	used = MIN(used + (size_t)ret, sizeof(line) - 2);
	if (level == LOG_LEVEL_ERROR)
		tell_listeners(line + prefix);
	if (logger.taker)
		logger.taker(logger.taker_arg, level, logger.about, line + prefix);
	else
		put(priorities[level], line, used);
	errno = error;
}

static bool is_leveled(const char *line)
{
	return line[0] == '<' && line[1] >= '0' && line[1] <= '7' && line[2] == '>';
}

bool log_line_is_error(const char *line)
{
	return is_leveled(line) && line[1] - '0' <= LOG_ERR;
}

const char *log_line_text(const char *line)
{
	return is_leveled(line) ? line + strlen("<N>") : line;
}

void log_line(const char *line)
{
	const char *text = log_line_text(line);
	char copy[1024];

	put(text > line ? line[1] - '0' : LOG_NOTICE, copy,
	    (size_t)snprintf(copy, sizeof(copy) - 1, "%.*s", (int)sizeof(copy) - 2, text));
}

void log_message(enum log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_write(level, format, args);
	va_end(args);
}

void ublkd_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_write(LOG_LEVEL_ERROR, format, args);
	va_end(args);
}

void ublkd_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_write(LOG_LEVEL_NOTE, format, args);
	va_end(args);
}
