/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The contract between ublkd and a backend: the only header a backend sees.
 *
 * Licence: a backend that uses this header as it stands is not thereby a
 * derived work of ublkd; backends may be under any licence.
 *
 * A backend is one file. It declares a struct ublkd_backend last, and that
 * structure says what it is called, which options it takes and what it can
 * do. Its private state embeds struct ublkd_target as the first member.
 *
 * Conventions
 *   Errors    0 or a count, or -errno. Whoever knows the cause logs it, once,
 *             with ublkd_error(), and returns the number upward.
 *   Units     bytes, unless a name says otherwise.
 *   Threads   "main": the thread that runs ublkd; "reactor": the thread of the
 *             queue that the request came from. Several reactors may run
 *             submit() of one target at once.
 *   Blocking  allowed in open(), close(), measure(), resize(); never in submit()
 *             and complete().
 *   Files     what an option names by its path may have been opened by a client
 *             already: ublkd_passed_open() before open(2).
 */
#ifndef UBLKD_BACKEND_H
#define UBLKD_BACKEND_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- options --------------------------------------------------------- */

enum ublkd_option_type {
	UBLKD_OPT_BOOL,   /* bool */
	UBLKD_OPT_UINT,   /* uint64_t, within min…max */
	UBLKD_OPT_INT,    /* int64_t, within min…max, which are signed too */
	UBLKD_OPT_SIZE,   /* uint64_t, bytes with a suffix, within min…max, multiple of step */
	UBLKD_OPT_STRING, /* char *, owned by the configuration */
	UBLKD_OPT_PATH,   /* the same, of a file: clients make it absolute, and open it */
	UBLKD_OPT_ENUM,   /* int, index into values */
	UBLKD_OPT_MODE,   /* uint32_t, octal file mode, 0…0777 */
	UBLKD_OPT_CPUS,   /* char *, a CPU list such as 0-3,8 (checked) */
	UBLKD_OPT_UUID,   /* char *, a UUID, in lower case */
};

/*
 * One option. Tables end with a NULL name. Parsing, error texts, --help and
 * the check of the manual all read the same table.
 */
struct ublkd_option {
	const char *name;
	enum ublkd_option_type type;
	size_t offset;             /* of the value in the configuration structure */
	uint64_t min, max, step;   /* max 0: no limit; step 0: any */
	const char *const *values; /* ENUM: names, NULL at the end */
	const char *preset;        /* value when not given; NULL: zero */
	bool required;
	bool flag;                 /* may be given without a value, meaning yes */
	bool once;                 /* makes what stays: not for who opens it again, see ublkd_wish */
	bool makes;                /* the file that is named: a PATH if there is none; others must not
				      find one */
	bool live;                 /* of a device: may change while it is served */
	const char *arg;           /* what the value is called in help */
	const char *help;
};

/* ---- requests -------------------------------------------------------- */

enum ublkd_op {
	UBLKD_OP_READ,
	UBLKD_OP_WRITE,
	UBLKD_OP_FLUSH,
	UBLKD_OP_DISCARD,
	UBLKD_OP_WRITE_ZEROES,
	UBLKD_OP_COUNT,
};

#define UBLKD_IO_FUA (1u << 0)     /* WRITE, WRITE_ZEROES: on stable storage when completed */
#define UBLKD_IO_NOUNMAP (1u << 1) /* WRITE_ZEROES: keep the space allocated */

/*
 * A request as a backend sees it; valid from submit() until the request is
 * completed. All fields are read-only for the backend, the bytes at data are
 * the backend's to fill (READ) or to read (WRITE).
 *
 * offset and length lie within the target's size and are multiples of the
 * logical block size; length is 0 for FLUSH only.
 */
struct ublkd_io {
	uint8_t op;      /* enum ublkd_op */
	uint8_t flags;   /* UBLKD_IO_* */
	uint16_t tag;
	uint32_t length;
	uint64_t offset;
	/*
	 * READ, WRITE: length bytes, page aligned. NULL where the data stays in
	 * the kernel (zero copy): then only the ring helpers reach it. A target
	 * sees that only if it declared ring_only.
	 */
	void *data;
};

/* ---- targets --------------------------------------------------------- */

#define UBLKD_TARGET_FILES 4
#define UBLKD_IDENTITY_SIZE 128

/*
 * What open() found or made: the base of a backend's private state. open()
 * fills it in, afterwards nobody writes it; but see resized().
 */
struct ublkd_target {
	const struct ublkd_backend *ops; /* set by the core */
	struct ublkd_target *lower;      /* of a filter: what it stands on; set by the core */
	uint64_t size;                /* any; the core rounds down to the logical block size; main */
	uint32_t logical_block_size;  /* 512, 1024, 2048 or 4096: the least it can serve; 0: 512 */
	uint32_t physical_block_size; /* hints, powers of two; 0: no hint */
	uint32_t io_min;
	uint32_t io_opt;
	uint32_t dio_align;           /* ring I/O must start and end at a multiple; 0: any */
	uint32_t dma_align;           /* and its memory at a multiple, up to 4096; 0: any */
	bool ring_only;               /* data moves through the ring helpers alone */
	bool leaves_reads;            /* a READ may be done without its bytes: what was there stays */
	bool read_only;
	bool rotational;
	bool volatile_cache;          /* a completed write may be lost until FLUSH */
	bool fua;                     /* UBLKD_IO_FUA is honoured; else the kernel sends a FLUSH */
	uint32_t discard_granularity; /* 0: no DISCARD */
	bool write_zeroes;            /* WRITE_ZEROES is served; else the kernel writes zeros */
	/*
	 * Bytes per request, 0: as much as the driver can say, 1 GiB. What submit() does itself
	 * keeps all other requests of the reactor waiting, so it sets what takes some milliseconds.
	 */
	uint32_t max_discard;
	uint32_t max_write_zeroes;
	/*
	 * Files for the ring helpers below, owned by the backend and open from
	 * open() to close(). Each reactor registers them with its ring.
	 */
	int files[UBLKD_TARGET_FILES];
	unsigned nr_files;
	bool write_through;           /* every ring write is on stable storage when completed */
	/*
	 * Says which data it is, to compare with what another process opens
	 * later: the same text for the same bytes, whatever they are called.
	 * "": there is nothing that could be another.
	 */
	char identity[UBLKD_IDENTITY_SIZE];
	bool volatile_data;           /* the data ends with this process */
	unsigned sqes_per_io;         /* most that submit() queues; 0: UBLKD_SQES_PER_IO */
	bool no_effort;               /* a request takes next to nothing; unasked, no batch mode */
	bool unused;                  /* core, before close(): nobody could use the device */
};

/* What submit() returns besides -errno and the number of queued SQEs. */
#define UBLKD_DONE 0             /* the whole request is done */
#define UBLKD_KEPT 0x7fffffff    /* ublkd_complete() will be called */

/* A file that a client has opened, for the option of this name, which is a path. */
struct ublkd_passed {
	const char *option;
	int fd;
};

/* What the user asked of the device, as far as it matters to open(). */
struct ublkd_wish {
	bool read_only;
	uint32_t block_size; /* logical block size, 0: whatever the target can do */
	/*
	 * Of a device that is taken over, in bytes, 0: there is none. See
	 * ublkd_kept_size().
	 */
	uint64_t size;
	bool resized; /* it was, and its options may say another */
	/*
	 * The device is there, as another process has made it, and has its data: nothing is
	 * made, whatever the options say, and what they name must be there.
	 */
	bool again;
	/* Also, another server has the target now, and this one will not serve it: nothing is locked. */
	bool look;
	const struct ublkd_passed *passed; /* for ublkd_passed_open() */
};

struct ublkd_backend {
	const char *name;
	const char *summary;                /* one line */
	bool filter;                        /* stands on another: FILTER+BACKEND */
	const struct ublkd_option *options; /* of the structure that open() gets */
	size_t config_size;
	size_t state_size;                  /* private state, struct ublkd_target first */

	/*
	 * main; may block. Opens or makes what the target stands on. state is
	 * zeroed, state_size bytes; config is valid during the call only.
	 * Returns 0, or -errno after ublkd_error(), everything undone; then
	 * close() is not called. -EINVAL: the options do not fit together;
	 * other errors: what they name cannot be used.
	 */
	int (*open)(struct ublkd_target *target, const void *config,
		    const struct ublkd_wish *wish);

	/*
	 * main, after the last reactor ended; may block. May be NULL. What
	 * open() made for good goes again if target->unused is set.
	 */
	void (*close)(struct ublkd_target *target);

	/*
	 * reactor; must not block. Starts one request. Returns
	 *   > 0         SQEs queued by the helpers below; the core waits for them,
	 *               continues short ones and completes the request,
	 *   UBLKD_DONE  everything is done (READ: every byte of data is set,
	 *               but see leaves_reads),
	 *   UBLKD_KEPT  the backend calls ublkd_complete() later, once,
	 *   -errno      nothing was started; the core fails the request.
	 * Is asked only for what the target's fields promise.
	 */
	int (*submit)(struct ublkd_target *target, struct ublkd_io *io);

	/*
	 * main; may block, while submit() goes on. Sets *size to what the target
	 * would have if it were opened now, in bytes: its file may have grown.
	 * Changes nothing. Returns 0, or -errno after ublkd_error(). NULL: it
	 * stands on nothing that could have grown.
	 */
	int (*measure)(struct ublkd_target *target, uint64_t *size);

	/*
	 * main; may block, while submit() goes on. Makes room for requests up to
	 * size bytes, a multiple of the logical block size, where that is more
	 * than target->size. Where it is less, nothing may go yet, as requests
	 * still come. Returns 0, and resized() follows, or -errno after
	 * ublkd_error(), as open() does. NULL: the size cannot be changed.
	 */
	int (*resize)(struct ublkd_target *target, uint64_t size);

	/*
	 * main; may block, while submit() goes on. target->size is the device's
	 * size by now, and the old one if resize() came to nothing. Every submit()
	 * that began before resize() did has returned; no request goes beyond
	 * target->size any more, though SQEs of earlier ones may. What only those
	 * needed goes now. May be NULL.
	 */
	void (*resized)(struct ublkd_target *target);
};

/*
 * reactor. Ends a request that submit() kept: result is 0 for "all of it", or
 * -errno. The io is the core's again when the call returns.
 */
void ublkd_complete(struct ublkd_io *io, int result);

/*
 * Ring helpers, for use in submit() only. file is an index into
 * target->files. Each queues one SQE and returns 1; room for
 * UBLKD_SQES_PER_IO of them is reserved before submit() is called, so they
 * cannot fail. Short reads and writes are continued by the core; a read past
 * the end of the file gives zeros, as it does with the kernel's loop device.
 */
#define UBLKD_SQES_PER_IO 4

/* READ or WRITE of the whole request at the given byte of the file. */
int ublkd_ring_rw(struct ublkd_io *io, unsigned file, uint64_t file_offset);
/* fdatasync of the file. */
int ublkd_ring_sync(struct ublkd_io *io, unsigned file);
/*
 * fallocate(2) of the request's range at file_offset. Where a file cannot do
 * that for a WRITE_ZEROES, zeros are written instead.
 */
int ublkd_ring_fallocate(struct ublkd_io *io, unsigned file, int mode, uint64_t file_offset);
/* BLKDISCARD of the request's range, file being a block device (kernel 6.12). */
int ublkd_ring_discard(struct ublkd_io *io, unsigned file, uint64_t file_offset);
/* Writes zeros over the request's range. */
int ublkd_ring_write_zeros(struct ublkd_io *io, unsigned file, uint64_t file_offset);

/*
 * main, for open(). What a client has opened for this option, which is a path: a
 * regular file or a block device, open to be read, or to be read and written. The
 * descriptor is the backend's own; what it refers to may be open elsewhere too, so a lock is
 * given back by close(). The path is for messages then: here it may name nothing, or another
 * file. -ENOENT: nothing, and the path is to be opened; another -errno after
 * ublkd_error().
 */
int ublkd_passed_open(const struct ublkd_wish *wish, const char *option);

/*
 * main, for open(). A device that is taken over keeps this size in bytes, however large what it
 * stands on is by now, as long as that has as much; 0: the options say it. option: the size that
 * they give, 0: none.
 */
uint64_t ublkd_kept_size(const struct ublkd_wish *wish, uint64_t option);

/* For a filter's open(): takes over all that the lower target declares. */
void ublkd_target_like_lower(struct ublkd_target *target);
/* For a filter's submit(): passes the request on; to be returned as it is. */
int ublkd_lower_submit(struct ublkd_target *target, struct ublkd_io *io);
/* The members of these names of a filter that has nothing to add. */
int ublkd_lower_measure(struct ublkd_target *target, uint64_t *size);
int ublkd_lower_resize(struct ublkd_target *target, uint64_t size);
void ublkd_lower_resized(struct ublkd_target *target);

/*
 * For filters that play a faulty disk: what the next SQE that the helpers
 * queue for this request does besides, once. delay_ns: the ring waits that
 * long before it; result: it ends with this error, or with this count of
 * bytes, less than it was asked, after moving just so many. 0: nothing.
 */
void ublkd_ring_inject(struct ublkd_io *io, uint64_t delay_ns, int32_t result);

/* ---- messages -------------------------------------------------------- */

/* main. One line, without a newline; the program's or device's name is put before it. */
void ublkd_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void ublkd_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
