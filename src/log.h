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
bool log_is_syslog(void);
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
 * error about it, or about anything. about is compared as a pointer.
 */
struct log_listener {
	const char *about;
	bool any;
	char text[512];
	struct log_listener *next;
};

void log_listen(struct log_listener *listener);
void log_stop_listening(struct log_listener *listener);
void log_message(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Messages go there instead, with what they are about, NULL for the program, until this is called
 * with NULL: for who says in another way what is wrong.
 */
typedef void log_taker(void *arg, enum log_level level, const char *about, const char *text);
void log_divert(log_taker *taker, void *arg);

/*
 * Each line begins with its level, "<3>" for an error, as systemd has it too, for log_line() of
 * another process. What this one starts may do so as well: log_inherit_levels().
 */
void log_with_levels(void);
void log_inherit_levels(void);
/* A whole message of another process of ours, with or without its level; and that without it. */
void log_line(const char *line);
const char *log_line_text(const char *line);
/* Its level is that of an error. */
bool log_line_is_error(const char *line);

#define log_debug(...) log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
