/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "util/macros.h"

#define MOST_ABOUT 255 /* bytes before a message */

static struct {
	const char *about; /* NULL: the program */
	bool verbose;
	bool syslog;
	struct log_listener *listeners;
} logger;

void log_set_verbose(bool verbose)
{
	logger.verbose = verbose;
}

void log_to_syslog(void)
{
	openlog("ublkd", LOG_PID, LOG_DAEMON);
	logger.syslog = true;
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

static void tell_listeners(const char *text)
{
	for (struct log_listener *l = logger.listeners; l; l = l->next) {
		if (l->about == logger.about && !l->text[0])
			snprintf(l->text, sizeof(l->text), "%s", text);
	}
}

/* There is room for one byte more. */
static void put(int priority, char *line, size_t length)
{
	ssize_t ret;

	if (logger.syslog) {
		syslog(priority, "%s", line);
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
	char line[1024];
	size_t used, prefix;
	int ret, error = errno; /* callers log first and return -errno then */

	if (level == LOG_LEVEL_DEBUG && !logger.verbose)
		return;
	prefix = used = (size_t)snprintf(line, sizeof(line), "%.*s: ", MOST_ABOUT,
					 logger.about ? logger.about : "ublkd");
	ret = vsnprintf(line + used, sizeof(line) - used - 1, format, args);
	if (ret < 0)
		return;
	used = MIN(used + (size_t)ret, sizeof(line) - 2);
	if (level == LOG_LEVEL_ERROR)
		tell_listeners(line + prefix);
	put(priorities[level], line, used);
	errno = error;
}

void log_line(const char *line)
{
	char copy[1024];

	put(LOG_NOTICE, copy, (size_t)snprintf(copy, sizeof(copy) - 1, "%.*s",
					       (int)sizeof(copy) - 2, line));
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
