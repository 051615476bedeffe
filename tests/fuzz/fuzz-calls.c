/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client of the control socket. A newline stands for the NUL behind a message,
 * 0xfe for a pause. Each answer is one of Varlink, there are no more of them than
 * messages, and nothing of the client's is left when it is gone. The host's
 * devices wait to be started.
 */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../unit/idle-manager.h"
#include "util/macros.h"

#define PAUSE 0xfe

static struct idle_manager idle;
static char *heard; /* not yet a whole message */
static size_t used;
static unsigned said, answered;

/* There is no driver to ask. */
static void on_call(struct service_call *call)
{
	if (!strcmp(call->method, "io.ublkd.Features"))
		service_reply(call, NULL);
	else
		manager_call(call);
}

static void begin(void)
{
	MUST(!idle_manager_begin(&idle, on_call));
	said = answered = 0;
	used = 0;
}

static void check_answer(const char *text)
{
	json_t *answer = json_loads(text, 0, NULL), *error = json_object_get(answer, "error");

	MUST(json_is_object(answer));
	MUST(json_is_object(json_object_get(answer, "parameters")));
	MUST(!error || json_is_string(error));
	json_decref(answer);
	answered++;
}

/* As far as it has come; false: the service hung up. */
static bool hear(void)
{
	char *nul;
	ssize_t got;

	do {
		heard = realloc(heard, used + 65536);
		MUST(heard);
		got = recv(idle.client, heard + used, 65536, 0);
		used += (size_t)MAX(got, 0);
		while ((nul = used ? memchr(heard, 0, used) : NULL)) {
			check_answer(heard);
			used -= (size_t)(nul + 1 - heard);
			memmove(heard, nul + 1, used);
		}
	} while (got > 0);
	return got < 0 && errno == EAGAIN;
}

static bool turn(unsigned times)
{
	bool there = true;

	while (there && times--) {
		ev_run(idle.manager.service.loop, EVRUN_NOWAIT);
		there = hear();
	}
	return there;
}

/* false: the service hung up. */
static bool say(uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (bytes[i] == '\n')
			bytes[i] = 0;
		said += !bytes[i];
	}
	while (size) {
		ssize_t sent = send(idle.client, bytes, size, MSG_NOSIGNAL);

		if (sent < 0 && errno != EAGAIN)
			return false;
		bytes += MAX(sent, 0);
		size -= (size_t)MAX(sent, 0);
		/* One that waits for an answer reads no more. */
		if (!turn(2) || (sent < 0 && idle.manager.jobs))
			return false;
	}
	return true;
}

static void end(void)
{
	idle_manager_stop(&idle);
	turn(4);
	MUST(answered <= said);
	close(idle.client);
	idle.client = -1;
	for (int i = 0; i < 4; i++)
		ev_run(idle.manager.service.loop, EVRUN_NOWAIT);
	MUST(!idle.host.count && !idle.manager.jobs && !idle.manager.service.nr_clients);
	idle_manager_end(&idle);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *bytes = malloc(size + 1), *part = bytes, *pause;
	bool there = true;

	MUST(bytes);
	memcpy(bytes, data, size);
	begin();
	while (there && (pause = memchr(part, PAUSE, size))) {
		there = say(part, (size_t)(pause - part));
		size -= (size_t)(pause + 1 - part);
		part = pause + 1;
	}
	if (there && say(part, size)) {
		shutdown(idle.client, SHUT_WR);
		turn(8);
	}
	end();
	free(bytes);
	return 0;
}
