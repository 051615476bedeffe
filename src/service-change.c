/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "service-calls.h"

#include <stdio.h>
#include <string.h>

#include "exit.h"
#include "service-failed.h"
#include "service-job.h"
#include "service-left.h"
#include "use.h"

/* ---- Delete ------------------------------------------------------------------------- */

/* What is described, but not served, has a file to be removed. */
static bool forget_file(struct service_call *call)
{
	const struct manager *manager = manager_of(call);
	const char *name = service_text(call, "device");

	if (!service_flag(call, "persist") || host_find(manager->host, name) ||
	    left_find(manager, name) || !service_is_described(manager, name))
		return false;
	service_reply(call, deleted_json(call, name, NULL, false));
	return true;
}

/* How it is taken down is its kind. */
static void delete(struct service_call *call, struct hosted *hosted, enum job_kind kind, bool force,
		   const char *holder)
{
	struct job *job = job_new(call, kind);

	if (!job)
		return;
	job->holder = *holder ? strdup(holder) : NULL;
	job_listen(job, hosted->name);
	if (kind == JOB_UNUSED && device_stop_when_unused(&hosted->device)) {
		service_failed(call, EXIT_RUNTIME, job->listener.text);
		job_end(job);
		return;
	}
	job_begin(job, hosted);
	/* One that stops already only has its end to be waited for. */
	if (force)
		device_stop_used(&hosted->device);
	else if (kind == JOB_DELETE)
		device_stop_unused(&hosted->device);
}

void call_delete(struct service_call *call)
{
	bool force = service_flag(call, "force"), later = service_flag(call, "when_unused");
	char holder[USE_TEXT_SIZE] = "";
	struct table_entry *left;
	struct hosted *hosted;

	if (force && later) {
		service_invalid(call, "when_unused");
		return;
	}
	if (service_defer(call) || failed_delete(call) || forget_file(call))
		return;
	hosted = service_device(call, &left);
	if (left)
		left_delete(call, left);
	if (!hosted)
		return;
	if (hosted->state == HOSTED_STUCK) {
		service_failed(call, EXIT_TIMEOUT, "the driver does not let go of it");
		return;
	}
	if (hosted->state == HOSTED_WAITS || hosted->state == HOSTED_STARTS) {
		service_failed(call, EXIT_RUNTIME, "it is not usable yet");
		return;
	}
	if (hosted->state == HOSTED_LIVE && !manager_of(call)->worker &&
	    service_waits_for_programs(call, hosted->device.node.path))
		return;
	if (hosted->state == HOSTED_LIVE && !later &&
	    use_find_node(hosted->device.node.path, holder) && !force)
		service_in_use(call, holder);
	else
		delete(call, hosted, later ? JOB_UNUSED : JOB_DELETE, force, holder);
}

/* Who uses it may have come meanwhile. */
static void answer_in_use(struct job *job, const struct hosted *hosted)
{
	char holder[USE_TEXT_SIZE];

	if (hosted->device.unwritten)
		service_failed(job->call, EXIT_RUNTIME, "it is not deleted, as what is cached for it could "
			       "not be written back; the server's log says why, and with --force what is "
			       "cached is lost then");
	/* A worker sees few programs; who asks it sees them all. */
	else if (use_find_node(hosted->device.node.path, holder) ||
		 (!manager_of(job->call)->worker &&
		  use_find_open_node(hosted->device.node.path, holder)))
		service_in_use(job->call, holder);
	else
		service_in_use(job->call, service_holder(hosted->device.info.flags));
}

void manager_in_use(struct manager *manager, struct hosted *hosted)
{
	jobs_answer(manager, hosted, JOB_DELETE, answer_in_use);
}

/* ---- FailIo ------------------------------------------------------------------------- */

void call_fail_io(struct service_call *call)
{
	const struct manager *manager = manager_of(call);
	const char *device = service_text(call, "device");
	struct table_entry *left;

	if (service_defer(call) || failed_delete(call))
		return;
	left = left_find(manager, device);
	if (host_find(manager->host, device))
		service_failed(call, EXIT_USAGE, SERVICE_IS_SERVED);
	else if (left)
		left_fail(call, left);
	else
		left_fail_lost(call);
}

/* ---- Recover ------------------------------------------------------------------------ */

void call_recover(struct service_call *call)
{
	struct table_entry *left;

	if (service_defer(call))
		return;
	if (failed_error(manager_of(call), service_text(call, "device")))
		call_start_again(call);
	else if (service_device(call, &left) || left)
		service_failed(call, EXIT_USAGE, SERVICE_NOT_DEAD);
}

/* ---- Quiesce, Resume ---------------------------------------------------------------- */

/* NULL, or why not, and then *status too. */
static const char *cannot_quiesce(const struct manager *manager, const struct hosted *hosted,
				  int *status)
{
	*status = EXIT_USAGE;
	if (!manager->worker)
		return "expected a server with --workers, where the process of a device can leave it";
	if (!device_can_stay(&hosted->device) || !features_keep_io(hosted->device.info.flags))
		return "expected a device that is live and whose I/O can wait for another process, see "
		       "on-crash";
	*status = EXIT_KERNEL;
	return hosted->device.info.flags & UBLK_F_QUIESCE ? NULL :
	       "expected a device that the driver can quiesce, which needs Linux 6.16, and batch=no";
}

/* Our end is that of the device's I/O; who told us starts the next process when that is wanted. */
void call_quiesce(struct service_call *call)
{
	struct manager *manager = manager_of(call);
	struct table_entry *left;
	struct hosted *hosted = service_device(call, &left);
	const char *wrong;
	struct job *job;
	int status;

	if (left)
		service_failed(call, EXIT_USAGE, "expected a device that is live");
	if (!hosted)
		return;
	wrong = cannot_quiesce(manager, hosted, &status);
	if (wrong) {
		service_failed(call, status, wrong);
		return;
	}
	job = job_new(call, JOB_QUIESCE);
	if (!job)
		return;
	job_listen(job, hosted->name);
	job_begin(job, hosted);
	hosted->syncs = true;
	host_leave_one(hosted);
}

static void answer_quiesced(struct service_call *call, const struct hosted *hosted,
			    const char *text)
{
	if (hosted->device.holds)
		service_failed(call, EXIT_TIMEOUT, "not all that had begun was done in time; it goes on");
	else if (hosted->status || !hosted->device.leaving)
		service_failed(call, hosted->status ? hosted->status : EXIT_RUNTIME,
			       *text ? text : LOG_SAYS_WHY);
	else
		service_reply(call, NULL);
}

void call_resume(struct service_call *call)
{
	struct table_entry *left;

	if (service_device(call, &left) || left)
		service_failed(call, EXIT_USAGE, SERVICE_NOT_QUIESCED);
}

/* ---- Resize ------------------------------------------------------------------------- */

/* Somebody who would lose the end of the device. */
static bool is_needed(const struct hosted *hosted, uint64_t size, char holder[USE_TEXT_SIZE])
{
	const struct device *device = &hosted->device;

	return size >> UBLK_SECTOR_SHIFT < device->plan.sectors &&
	       use_find_node(device->node.path, holder);
}

static void resize(struct job *job, struct hosted *hosted, uint64_t size)
{
	bool shrink = service_flag(job->call, "shrink");
	int status = device_find_size(&hosted->device, &size, shrink);
	char holder[USE_TEXT_SIZE];

	if (status) {
		service_failed(job->call, status, job->listener.text);
		job_end(job);
	} else if (is_needed(hosted, size, holder)) {
		service_in_use(job->call, holder);
		job_end(job);
	} else {
		job_begin(job, hosted);
		device_resize(&hosted->device, size);
	}
}

void call_resize(struct service_call *call)
{
	const json_t *size = json_object_get(call->parameters, "size");
	struct table_entry *left;
	struct hosted *hosted = service_device(call, &left);
	struct job *job;

	if (!hosted && !left)
		return;
	if (left || hosted->state != HOSTED_LIVE) {
		service_failed(call, EXIT_RUNTIME, "it is not usable yet, or not any more");
		return;
	}
	if (json_is_integer(size) && json_integer_value(size) <= 0) {
		service_failed(call, EXIT_USAGE, "size: expected a block or more, got none");
		return;
	}
	job = job_new(call, JOB_RESIZE);
	if (!job)
		return;
	job_listen(job, hosted->name);
	resize(job, hosted, (uint64_t)json_integer_value(size));
}

static void answer_resized(struct job *job, const struct hosted *hosted)
{
	const struct device *device = &hosted->device;
	int status = device->resize.status;

	if (!status)
		service_reply(job->call, json_pack("{s:I}", "size", (json_int_t)device->plan.sectors <<
						   UBLK_SECTOR_SHIFT));
	else if (status == EXIT_TAKEN)
		service_in_use(job->call, "claimed");
	else
		service_failed(job->call, status, job->listener.text);
}

void manager_resized(struct manager *manager, struct hosted *hosted)
{
	jobs_answer(manager, hosted, JOB_RESIZE, answer_resized);
}

/* ---- Collect ------------------------------------------------------------------------ */

void call_collect(struct service_call *call)
{
	if (!service_defer(call))
		left_collect(call);
}

/* ---- the end of a device ------------------------------------------------------------ */

/* It is gone, and the first error that was heard may be of a single request. */
static void answer_lost(struct service_call *call, const struct hosted *hosted)
{
	char text[256];

	snprintf(text, sizeof(text), "'%s' is deleted, but what was cached for it could not be written "
		 "back, and is lost%s", hosted->name,
		 hosted->device.lingers ? "; its number is free when its last user is gone" : "");
	service_failed(call, hosted->status, text);
}

static void answer_ended(struct job *job, const struct hosted *hosted)
{
	int status = hosted->status;
	const char *text = job->listener.text;
	bool deletes = job->kind == JOB_DELETE || job->kind == JOB_UNUSED;

	/* Somebody who waits until it is unused did not ask for that, nor that its file goes. */
	if (job->kind == JOB_QUIESCE)
		answer_quiesced(job->call, hosted, text);
	else if (job->kind == JOB_UNUSED && hosted->host->stopped)
		service_failed(job->call, EXIT_RUNTIME, "the server was stopped meanwhile, and the device with it");
	else if (deletes && hosted->device.leaving)
		service_failed(job->call, EXIT_RUNTIME, "it is left to the next server");
	else if (deletes && !status)
		service_reply(job->call, deleted_json(job->call, hosted->name, job->holder,
						      hosted->device.lingers));
	else if (job->kind == JOB_DELETE && hosted->device.lost && hosted->state != HOSTED_STUCK)
		answer_lost(job->call, hosted);
	else if (job->kind == JOB_SHOW)
		service_not_found(job->call, service_text(job->call, "device"));
	else
		service_failed(job->call, status ? status : EXIT_RUNTIME,
		     *text  ? text :
		     status ? LOG_SAYS_WHY : "it was stopped before it was usable");
}

/* A worker's device is its supervisor's to be seen; what was added is described by no file. */
static void note_failure(struct manager *manager, const struct hosted *hosted)
{
	bool shows = !manager->worker && !hosted->added && !hosted->was_live &&
		     hosted->state != HOSTED_STUCK;
	char backend[256];

	spec_name(hosted->spec, backend, sizeof(backend));
	failed_note(manager, hosted->name, &(struct failure){
		.status = hosted->status,
		.error = hosted->listener.text,
		.uuid = hosted->device.entry.uuid[0] ? hosted->device.entry.uuid : NULL,
		.backend = backend,
		.config = shows ? hosted->spec->given : NULL,
	});
}

void manager_ended(struct manager *manager, struct hosted *hosted)
{
	added_forget(manager, hosted);
	jobs_answer(manager, hosted, -1, answer_ended);
	if (hosted->status && !hosted->quiet)
		note_failure(manager, hosted);
	if (hosted->state != HOSTED_STUCK)
		added_free(hosted);
}
