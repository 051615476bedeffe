/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a case about the protocol is made of: a device, one ring for all its
 * queues, and a client that uses the device from a process of its own. Nothing
 * of src/ is used here: the commands are laid out by hand, right or wrong, and
 * what the driver answers is written down with say().
 *
 * A case runs in a process of its own and may leave it anywhere by give_up();
 * the program (claims.c) removes what it left and judges what it said.
 */
#ifndef PROTOCOL_HARNESS_H
#define PROTOCOL_HARNESS_H

#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <ublkd/ublk_abi.h>

#define KERNEL(major, minor) ((major) << 8 | (minor))

/*
 * One claim. What it expects is declared for the kernel it begins with, the
 * oldest first; a case that needs what a kernel does not offer says NOT_OFFERED.
 */
struct claim {
	const char *name;   /* [name] in PROTOCOL */
	const char *from;   /* the function that decides it; of the driver, or io_uring's */
	void (*run)(void);
	struct {
		unsigned since; /* KERNEL(), 0: the first */
		const char *result;
	} expect[4];
	/* Kernels [from, before) that it leaves unusable: there the machine is restarted after it. */
	unsigned wedges_from, wedges_before;
};
#define ALWAYS(result) { { 0, result } }
#define NOT_OFFERED "not offered"
#define WEDGES_ALL 1, ~0u

/* The groups, each ended by a claim without a name. */
extern const struct claim sqe_claims[], fetch_claims[], start_claims[], add_claims[],
	descriptor_claims[], commit_claims[], data_claims[], link_claims[], stop_claims[],
	death_claims[], zombie_claims[];

/* ---- what a case says ---------------------------------------------------- */

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void say_result(int result);           /* a number, -EINVAL, "in flight" */
const char *result_name(int result);   /* valid until the next eight calls */
void give_up(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void expect_zero(int result, const char *what);
void need(uint64_t features);          /* or says NOT_OFFERED and ends the case */
bool offered(uint64_t features);

#define IN_FLIGHT 0x7fffffff /* no CQE: the driver keeps the command */

/* ---- a device -------------------------------------------------------------- */

#define MAX_QUEUES 2
#define IO_BYTES (64u << 10)
#define DISK_BYTES (8u << 20)

enum kind { IO = 1, PROBE, HEAD, LINKED, OTHER };

struct event {
	enum kind kind;
	unsigned queue, tag, question;
	int res;
};

struct device {
	int ctrl_fd, char_fd, disk; /* disk: a memfd with the data */
	struct io_uring ctrl;       /* SQE128 */
	struct io_uring ring;       /* all I/O commands, unless a case brings its own */
	struct ublk_dev_info info;
	char path[24];              /* where commands have to name it; they return no data then */
	const struct ublk_io_desc *descs[MAX_QUEUES];
	size_t descs_bytes;
	char *buffers;
	unsigned aborted;           /* fetches that came back with -ENODEV */
	bool silent;                /* CQEs are not served */
	bool scanned;               /* the kernel looks for partitions after START_DEV */
	uint32_t seen[MAX_QUEUES];  /* bit for each tag below 32 that brought an I/O */
	struct event stash[256];
	unsigned stashed;
};

/* The steps up to a device that can be fetched from; each ends the case when it fails. */
void device_new(struct device *d, uint64_t flags, unsigned queues, unsigned depth);
void device_init(struct device *d);                /* rings and control device only */
int device_add(struct device *d, uint64_t flags, unsigned queues, unsigned depth);
int device_params(struct device *d);
void device_open(struct device *d);                /* char device, descriptors, buffers */
void device_close(struct device *d);               /* the reverse; the ring too */
void device_delete(struct device *d);              /* STOP_DEV, all of it, DEL_DEV */
/* All tags fetched, started and quiet: in these terms a device is live. */
void device_live(struct device *d, uint64_t flags, unsigned queues, unsigned depth);
void fetch_all(struct device *d);
int start(struct device *d);                       /* START_DEV while requests are served */
unsigned state_of(struct device *d);               /* as GET_DEV_INFO says */
uint64_t buffer_of(struct device *d, unsigned queue, unsigned tag);
bool copies(const struct device *d);               /* the driver copies into buffer_of() */

/* ---- control commands -------------------------------------------------------- */

struct ublk_ctrl_cmd *control_sqe(struct device *d, uint32_t op, void *buffer, uint16_t len,
				  uint64_t data);
void control_begin(struct device *d, uint32_t op, void *buffer, uint16_t len, uint64_t data);
/* Serves while it waits; IN_FLIGHT when the time is up first. */
int control_end(struct device *d, int ms);
int control(struct device *d, uint32_t op, void *buffer, uint16_t len, uint64_t data);

/* ---- I/O commands ------------------------------------------------------------ */

struct io_uring_sqe *raw_sqe(struct io_uring *ring, enum kind kind, unsigned queue, unsigned tag);
struct ublk_io_cmd *command_of(struct io_uring_sqe *sqe);
struct io_uring_sqe *command(struct device *d, uint32_t op, unsigned queue, unsigned tag,
			     int32_t result);     /* queued as an IO, right in all its fields */
int ask(struct device *d, struct io_uring_sqe *sqe); /* submits; its result or IN_FLIGHT */
int ask_on(struct io_uring *ring, struct io_uring_sqe *sqe, int ms);
int ask_command(struct device *d, uint32_t op, unsigned queue, unsigned tag, int32_t result);
void submit(struct device *d);
void submit_quietly(struct io_uring *ring); /* what it fetches is not scanned for partitions */
bool next(struct device *d, struct event *event, int ms);
void serve(struct device *d, const struct event *event); /* as a RAM disk, and commits */
int serve_data(struct device *d, const struct event *event, uint32_t bytes);
void commit(struct device *d, const struct event *event, int32_t result);
void serve_for(struct device *d, int ms);
/* The request with this operation at this sector; all others are served. */
struct event wait_io(struct device *d, unsigned op, uint64_t sector);
const struct ublk_io_desc *desc_of(struct device *d, const struct event *event);

/* ---- the client -------------------------------------------------------------- */

enum job_op { JOB_READ, JOB_WRITE, JOB_BUFFERED_WRITE, JOB_FSYNC, JOB_HOLD, JOB_RELEASE };

void client_new(void); /* before the first device, so that it holds none of its files */
/* Begins direct I/O on the block device; the CPU decides the queue. */
int client_begin(struct device *d, enum job_op op, uint64_t offset, uint32_t len, int cpu);
int client_end(struct device *d, int job, int ms); /* serves while it waits */
bool client_ended(int job, int *result);
char *client_buffer(int job);

/* ---- other processes and threads ---------------------------------------------- */

struct worker;
struct worker *worker_new(void);
int worker_call(struct worker *w, int (*call)(void *), void *argument);

/* A server in a process of its own: `body` makes the device and calls server_ready(). */
struct server {
	int pid;
	volatile int *id;
};
struct server server_new(void (*body)(void *), void *argument);
void server_ready(const struct device *d);
void server_hold(struct device *d, bool serve); /* never returns */
void server_kill(struct server *s);
bool server_ended(struct server *s, int ms);
void device_adopt(struct device *d, int id);     /* to command it from here */
bool wait_gone(int id, int ms);
bool wait_state(struct device *d, unsigned state, int ms);

/* ---- time ------------------------------------------------------------------------ */

int64_t now_ms(void);
/*
 * What all limits are of: of the time between two calls it counts 10 ms at most. A guest may be left without time by its
 * host for seconds, or be slow for minutes: then it waits the longer, as long as it looks often.
 */
int64_t patient_ms(void);
void doze(int ms);

/* waiting.c: the tasks that wait in the kernel, and where, as comments on stdout. */
void show_waiting_tasks(void);

/* claims.c */
int harness_cleanup(void);
extern char *harness_said;
#define SAID_BYTES 400

#endif
