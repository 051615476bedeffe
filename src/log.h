/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages: one line each, by one write, on stderr or to syslog. They are the
 * one thing here with state of its own, as a process has one stderr; it is
 * set by the main thread while it is the only one, and what messages are about
 * by log_switch(), which is the main thread's too.
 *
 * ublkd_error() and ublkd_note() are declared in ublkd/backend.h. Reactors do
 * not log: they tell the main thread (reactor.h).
 */
#ifndef LOG_H
#define LOG_H

#include <ublkd/backend.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_NOTE, LOG_LEVEL_DEBUG };

void log_set_verbose(bool verbose);
void log_to_syslog(void);
/*
 * What stands before each message: "ublkd", or the device that it is about.
 * What goes on in a callback keeps log_about() when it begins, and switches to
 * it for the callback. log_switch() returns what was to be switched back to.
 * The text is the caller's, and stays as long as somebody keeps it; NULL is
 * the program.
 */
const char *log_about(void);
const char *log_switch(const char *about);
/*
 * Who began something also hears which error it ended with: keeps the first
 * error about it. about is compared as a pointer.
 */
struct log_listener {
	const char *about;
	char text[512];
	struct log_listener *next;
};

void log_listen(struct log_listener *listener);
void log_stop_listening(struct log_listener *listener);
void log_message(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A whole message of another process of ours. */
void log_line(const char *line);

#define log_debug(...) log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
