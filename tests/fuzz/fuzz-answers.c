/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server that answers anything; a newline stands for the NUL behind a message.
 * A call gives what client.h promises, or a status.
 */
#define _GNU_SOURCE
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"
#include "exit.h"
#include "util/macros.h"

static int server;

/* All of it is on its way before anything is read. The client's end. */
static int begin(const uint8_t *data, size_t size)
{
	uint8_t *bytes = malloc(size + 1);
	int fds[2], room = 4 * (int)size + 65536;

	MUST(bytes && !socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
	for (size_t i = 0; i < size; i++)
		bytes[i] = data[i] == '\n' ? 0 : data[i];
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	MUST(send(fds[1], bytes, size, MSG_NOSIGNAL) >= 0);
	free(bytes);
	shutdown(fds[1], SHUT_WR);
	server = fds[1];
	return fds[0];
}

/* What it was asked. */
static void drain(void)
{
	char bytes[4096];

	while (recv(server, bytes, sizeof(bytes), 0) > 0)
		;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct connection connection = { .timeout = 1, .fd = begin(data, size) };
	int status = EXIT_DONE;

	while (!status) {
		json_t *answer = client_call(&connection, "io.ublkd.List", NULL, NULL, 0, &status);
		json_t *error = json_object_get(answer, "error");

		MUST(!answer == !!status);
		MUST(!answer || json_is_object(json_object_get(answer, "parameters")));
		MUST(!error || json_is_string(error));
		json_decref(answer);
		drain();
	}
	MUST(status == EXIT_RUNTIME);
	client_close(&connection);
	close(server);
	return 0;
}
