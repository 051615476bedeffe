/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "supervisor-recover.h"

#include <errno.h>
#include <string.h>

#include "exit.h"
#include "forward.h"
#include "log.h"
#include "service-calls.h"
#include "service-failed.h"
#include "service-job.h"
#include "util/macros.h"
#include "worker-group.h"

/* For one to say anything of a device, its reactors too. */
#define PROBE_PATIENCE 2
/* For one that was killed to end. */
#define KILL_PATIENCE 5

/* ---- calls that wait for a process to end ------------------------------------------------- */

struct killing {
	struct killing *next;
	struct router *router;
	struct service_call *call;
	pid_t pid;
	ev_timer late;
};

/* Off the list: an answer may bring the next call. */
static void end_killing(struct killing *killing, int status, const char *message)
{
	struct killing **link = &killing->router->killings;
	struct service_call *call = killing->call;

	while (*link != killing)
		link = &(*link)->next;
	*link = killing->next;
	ev_timer_stop(killing->router->supervisor->loop, &killing->late);
	free(killing);
	if (status)
		service_failed(call, status, message);
	else
		service_reply(call, NULL);
}

static struct killing *find_killing(const struct router *router, pid_t pid)
{
	struct killing *killing = router->killings;

	while (killing && killing->pid != pid)
		killing = killing->next;
	return killing;
}

void router_process_ended(struct router *router, pid_t pid)
{
	struct killing *killing;

	while ((killing = find_killing(router, pid)))
		end_killing(killing, EXIT_DONE, NULL);
}

/* The kernel ends it when that is over for which it waits there. */
static void kill_late(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct killing *killing = container_of(timer, struct killing, late);
	char text[200];

	(void)loop;
	(void)events;
	snprintf(text, sizeof(text), "its process %d was killed, and has not ended within %d s, as it waits in "
		 "the kernel; another follows when it ends", (int)killing->pid, KILL_PATIENCE);
	end_killing(killing, EXIT_TIMEOUT, text);
}

static void wait_for_process(struct service_call *call, pid_t pid)
{
	struct router *router = router_of(call);
	struct killing *killing = calloc(1, sizeof(*killing));

	if (!killing) {
		service_failed(call, EXIT_RUNTIME, "no memory to say how it went");
		return;
	}
	*killing = (struct killing){ .next = router->killings, .router = router, .call = call,
				     .pid = pid };
	ev_timer_init(&killing->late, kill_late, KILL_PATIENCE, 0);
	ev_timer_start(router->supervisor->loop, &killing->late);
	router->killings = killing;
}

void recover_stop(struct router *router)
{
	while (router->killings)
		end_killing(router->killings, EXIT_RUNTIME, "the server is stopping");
}

/* ---- Recover ------------------------------------------------------------------------------ */

/* false: it cannot be so, and the call was told. */
static bool describe_again(struct service_call *call, const struct conf_device *device,
			   struct worker **worker)
{
	struct router *router = router_of(call);
	struct log_listener listener = { .any = true };
	int status;

	log_listen(&listener);
	status = router->on_described(router, device, worker);
	log_stop_listening(&listener);
	if (status)
		service_failed(call, status, listener.text);
	return !status;
}

/* One that was not usable yet may have a description that is mended by now. */
static bool read_again(struct service_call *call, struct worker *worker)
{
	const struct conf_device *device;

	if (worker->was_live || worker->added)
		return true;
	device = failed_read(call);
	return device && describe_again(call, device, &worker);
}

static void recover_dead(struct service_call *call, struct worker *worker)
{
	if (router_is_stuck(call, worker->name) || !read_again(call, worker))
		return;
	worker_again(worker);
	service_reply(call, NULL);
}

static void kill_process(struct service_call *call, struct worker *worker)
{
	const char *before = log_switch(worker->name);
	pid_t pid = worker_pid(worker);
	int ret = worker_kill(worker);

	if (ret) {
		service_failed(call, EXIT_RUNTIME, strerror(-ret));
	} else {
		ublkd_note("its process %d is killed, as 'ublkctl recover --force' asks", (int)pid);
		wait_for_process(call, pid);
	}
	log_switch(before);
}

/* Whether the process of a device that is not dead says anything of it. */
struct probe {
	struct forward forward;
	struct service_call *call;
};

#define KILLS_IT ", and 'ublkctl recover --force' kills it, with all devices that it serves"

static void fail_alive(struct service_call *call, bool answers)
{
	service_failed(call, EXIT_USAGE, answers ? SERVICE_NOT_DEAD :
		       SERVICE_NOT_DEAD "; its process does not answer" KILLS_IT);
}

static void probed(struct forward *forward, json_t *answer)
{
	struct probe *probe = container_of(forward, struct probe, forward);

	fail_alive(probe->call, answer);
	free(probe);
}

static void refuse_alive(struct service_call *call, const struct worker *worker)
{
	struct probe *probe = calloc(1, sizeof(*probe));
	int ret = probe ? worker_connect(worker) : -ENOMEM;
	json_t *parameters;

	if (ret >= 0) {
		*probe = (struct probe){ .forward.done = probed, .call = call };
		parameters = json_pack("{s:s}", "device", worker->name);
		ret = forward_start(&probe->forward, &router_of(call)->forwards,
				    worker->supervisor->loop, ret, "io.ublkd.Show", parameters,
				    PROBE_PATIENCE);
		json_decref(parameters);
	}
	if (!ret)
		return;
	free(probe);
	fail_alive(call, !worker_has_process(worker));
}

void recover_call(struct service_call *call, struct worker *worker)
{
	if (worker->supervisor->stopped)
		service_failed(call, EXIT_RUNTIME, "the server is stopping");
	else if (worker->state == WORKER_RESTS || worker->state == WORKER_FAILED)
		recover_dead(call, worker);
	else if (service_flag(call, "force") && worker_has_process(worker))
		kill_process(call, worker);
	else if (worker->state == WORKER_STUCK)
		service_failed(call, EXIT_USAGE, SERVICE_NOT_DEAD "; its process has what the driver did not "
			       "let go of" KILLS_IT);
	else
		refuse_alive(call, worker);
}

/* NULL: the call was told why not. */
static struct worker *describe_anew(struct service_call *call)
{
	const struct conf_device *device = failed_read(call);
	struct worker *worker = NULL;

	return device && describe_again(call, device, &worker) ? worker : NULL;
}

/* As a client had added it that was given up. NULL: the call was told why not. */
static struct worker *add_anew(struct service_call *call, const char *name)
{
	struct router *router = router_of(call);
	const char *backend = failed_backend(router->manager, name);
	json_t *settings = failed_config(router->manager, name);
	struct log_listener listener = { .about = name };
	struct worker *worker;
	int status;

	log_listen(&listener);
	status = service_check_uuid(call, name, settings);
	log_stop_listening(&listener);
	worker = status ? NULL : supervisor_add(router->supervisor, name, backend, settings, true,
							NULL, NULL);
	if (worker)
		worker->seen = true;
	else
		service_failed(call, status ? status : EXIT_RUNTIME, status ? listener.text : "no memory");
	return worker;
}

void recover_failed(struct service_call *call, const char *name)
{
	struct router *router = router_of(call);
	struct worker *worker;

	if (router->supervisor->stopped) {
		service_failed(call, EXIT_RUNTIME, "the server is stopping");
		return;
	}
	if (router_is_stuck(call, name))
		return;
	worker = conf_find(router->manager->conf, name) ? describe_anew(call) : add_anew(call, name);
	if (!worker)
		return;
	router_wait_in_silence(call, worker);
	router->on_more(router);
	supervisor_go_on(router->supervisor);
}
