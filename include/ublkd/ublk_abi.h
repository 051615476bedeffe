/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interface of the Linux ublk driver, up to kernel 7.3, stated as facts:
 * numbers, structure layouts and what they mean. It needs no kernel headers,
 * so a program built on an old distribution can drive a new kernel.
 *
 * Source of every fact: drivers/block/ublk_drv.c and
 * include/uapi/linux/ublk_cmd.h of the kernel named beside it.
 *
 * Units: a "sector" is 512 bytes, whatever the logical block size is.
 */
#ifndef UBLKD_UBLK_ABI_H
#define UBLKD_UBLK_ABI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* ---- command numbers ------------------------------------------------- */

/*
 * The driver takes commands encoded like ioctls: direction, size of the
 * argument, the letter 'u' and a number. Plain numbers work only on kernels
 * built with CONFIG_BLKDEV_UBLK_LEGACY_OPCODES, elsewhere they give
 * -EOPNOTSUPP.
 */
#define UBLK_IOC_READ 2u  /* the driver writes into the caller's memory */
#define UBLK_IOC_WRITE 1u /* the driver reads from the caller's memory */
#define UBLK_IOC(dir, nr, size) \
	(((uint32_t)(dir) << 30) | ((uint32_t)(size) << 16) | ('u' << 8) | (uint32_t)(nr))

#define UBLK_CTRL_R(nr) UBLK_IOC(UBLK_IOC_READ, nr, sizeof(struct ublk_ctrl_cmd))
#define UBLK_CTRL_RW(nr) UBLK_IOC(UBLK_IOC_READ | UBLK_IOC_WRITE, nr, sizeof(struct ublk_ctrl_cmd))
#define UBLK_IO_RW(nr) UBLK_IOC(UBLK_IOC_READ | UBLK_IOC_WRITE, nr, sizeof(struct ublk_io_cmd))

/*
 * Control commands: URING_CMD on /dev/ublk-control, on a ring made with
 * IORING_SETUP_SQE128, struct ublk_ctrl_cmd at byte 48 of the SQE.
 */
#define UBLK_CMD_GET_QUEUE_AFFINITY UBLK_CTRL_R(0x01) /* 6.0: CPU mask of queue data[0] */
#define UBLK_CMD_GET_DEV_INFO UBLK_CTRL_R(0x02)       /* 6.0 */
#define UBLK_CMD_ADD_DEV UBLK_CTRL_RW(0x04)           /* 6.0: queue_id must be 0xffff */
#define UBLK_CMD_DEL_DEV UBLK_CTRL_RW(0x05)           /* 6.0: waits for the last reference */
#define UBLK_CMD_START_DEV UBLK_CTRL_RW(0x06)         /* 6.0: data[0] = pid; waits for all FETCHes */
#define UBLK_CMD_STOP_DEV UBLK_CTRL_RW(0x07)          /* 6.0: write-back, then aborts all FETCHes */
#define UBLK_CMD_SET_PARAMS UBLK_CTRL_RW(0x08)        /* 6.0: before START_DEV */
#define UBLK_CMD_GET_PARAMS UBLK_CTRL_R(0x09)         /* 6.0 */
#define UBLK_CMD_START_USER_RECOVERY UBLK_CTRL_RW(0x10) /* 6.1 */
#define UBLK_CMD_END_USER_RECOVERY UBLK_CTRL_RW(0x11)   /* 6.1: data[0] = pid */
#define UBLK_CMD_GET_DEV_INFO2 UBLK_CTRL_R(0x12)        /* 6.3: with the device's path */
#define UBLK_CMD_GET_FEATURES UBLK_CTRL_R(0x13)         /* 6.5: 64-bit mask of UBLK_F_* */
#define UBLK_CMD_DEL_DEV_ASYNC UBLK_CTRL_R(0x14)        /* 6.7: does not wait */
#define UBLK_CMD_UPDATE_SIZE UBLK_CTRL_RW(0x15)         /* 6.16: data[0] = sectors */
#define UBLK_CMD_QUIESCE_DEV UBLK_CTRL_RW(0x16)         /* 6.16: data[0] = time-out in ms */
#define UBLK_CMD_TRY_STOP_DEV UBLK_CTRL_RW(0x17)        /* 7.0: -EBUSY while it is open */
#define UBLK_CMD_REG_BUF UBLK_CTRL_RW(0x18)             /* 7.1: shared-memory buffer */
#define UBLK_CMD_UNREG_BUF UBLK_CTRL_RW(0x19)           /* 7.1: data[0] = index */

/*
 * I/O commands: URING_CMD on /dev/ublkcN, struct ublk_io_cmd at byte 48 of a
 * plain 64-byte SQE.
 */
#define UBLK_IO_FETCH_REQ UBLK_IO_RW(0x20)            /* completes when an I/O arrives */
#define UBLK_IO_COMMIT_AND_FETCH_REQ UBLK_IO_RW(0x21) /* result of this I/O, fetch of the next */
#define UBLK_IO_NEED_GET_DATA UBLK_IO_RW(0x22)        /* copy a write's data to addr */
#define UBLK_IO_REGISTER_IO_BUF UBLK_IO_RW(0x23)      /* 6.15: addr = index in the ring's table */
#define UBLK_IO_UNREGISTER_IO_BUF UBLK_IO_RW(0x24)    /* 6.15 */
#define UBLK_IO_PREP_IO_CMDS \
	UBLK_IOC(UBLK_IOC_READ | UBLK_IOC_WRITE, 0x25, sizeof(struct ublk_batch_cmd)) /* 7.0 */
#define UBLK_IO_COMMIT_IO_CMDS \
	UBLK_IOC(UBLK_IOC_READ | UBLK_IOC_WRITE, 0x26, sizeof(struct ublk_batch_cmd)) /* 7.0 */
#define UBLK_IO_FETCH_IO_CMDS \
	UBLK_IOC(UBLK_IOC_READ | UBLK_IOC_WRITE, 0x27, sizeof(struct ublk_batch_cmd)) /* 7.0 */

/* What the CQE of FETCH_REQ, COMMIT_AND_FETCH_REQ and NEED_GET_DATA says. */
#define UBLK_IO_RES_OK 0            /* an I/O has arrived, its descriptor is valid */
#define UBLK_IO_RES_NEED_GET_DATA 1 /* a write has arrived, its data was not copied yet */
#define UBLK_IO_RES_ABORT (-19)     /* -ENODEV: the device is going, do not fetch again */

/* ---- limits and offsets ---------------------------------------------- */

#define UBLK_MAX_QUEUE_DEPTH 4096u
#define UBLK_MAX_NR_QUEUES 4096u
#define UBLK_MAX_IO_BYTES (32u << 20)
#define UBLK_MAX_DEVICES (1u << 20)  /* 6.8 and later */
#define UBLK_SECTOR_SHIFT 9
#define UBLK_SECTOR_SIZE 512u
#define UBLK_QUEUE_NONE 0xffffu      /* queue_id of a command that is for no queue */
#define UBLK_DEV_ID_ANY 0xffffffffu  /* ADD_DEV: the driver chooses the number */

/*
 * The descriptors of queue q are mapped, read-only, from /dev/ublkcN at
 * offset q * stride. The stride is that of the largest queue depth, not of
 * the device's; the length of the map must be exactly that of the device's
 * depth rounded up to a page (ublk_ch_mmap).
 */
#define UBLK_DESC_OFFSET 0u
/* Data of (queue, tag) for UBLK_F_USER_COPY: pread/pwrite on /dev/ublkcN. */
#define UBLK_DATA_OFFSET 0x80000000ull
#define UBLK_DATA_BYTE_BITS 25
#define UBLK_DATA_TAG_BITS 16
#define UBLK_DATA_QUEUE_BITS 12

static inline uint64_t ublk_data_offset(uint16_t queue, uint16_t tag, uint32_t byte)
{
	return UBLK_DATA_OFFSET +
	       (((uint64_t)queue << (UBLK_DATA_TAG_BITS + UBLK_DATA_BYTE_BITS)) |
		((uint64_t)tag << UBLK_DATA_BYTE_BITS) | byte);
}

/* ---- feature flags (ublk_dev_info.flags, GET_FEATURES) ---------------- */

#define UBLK_F_SUPPORT_ZERO_COPY (1ull << 0)       /* 6.15: REGISTER_IO_BUF */
#define UBLK_F_URING_CMD_COMP_IN_TASK (1ull << 1)  /* 6.0 */
#define UBLK_F_NEED_GET_DATA (1ull << 2)           /* 6.0 */
#define UBLK_F_USER_RECOVERY (1ull << 3)           /* 6.1 */
#define UBLK_F_USER_RECOVERY_REISSUE (1ull << 4)   /* 6.1 */
#define UBLK_F_UNPRIVILEGED_DEV (1ull << 5)        /* 6.3 */
#define UBLK_F_CMD_IOCTL_ENCODE (1ull << 6)        /* 6.4 */
#define UBLK_F_USER_COPY (1ull << 7)               /* 6.5 */
#define UBLK_F_ZONED (1ull << 8)                   /* 6.6 */
#define UBLK_F_USER_RECOVERY_FAIL_IO (1ull << 9)   /* 6.13 */
#define UBLK_F_UPDATE_SIZE (1ull << 10)            /* 6.16 */
#define UBLK_F_AUTO_BUF_REG (1ull << 11)           /* 6.16 */
#define UBLK_F_QUIESCE (1ull << 12)                /* 6.16 */
#define UBLK_F_PER_IO_DAEMON (1ull << 13)          /* 6.16 */
#define UBLK_F_BUF_REG_OFF_DAEMON (1ull << 14)     /* 6.18 */
#define UBLK_F_BATCH_IO (1ull << 15)               /* 7.0 */
#define UBLK_F_INTEGRITY (1ull << 16)              /* 7.0 */
#define UBLK_F_SAFE_STOP_DEV (1ull << 17)          /* 7.0: TRY_STOP_DEV */
#define UBLK_F_NO_AUTO_PART_SCAN (1ull << 18)      /* 7.0 */
#define UBLK_F_SHMEM_ZC (1ull << 19)               /* 7.1 */
#define UBLK_F_IO_DESC_SIZE (1ull << 20)           /* 7.2 */

/* ---- control structures ---------------------------------------------- */

/* State of a device (ublk_dev_info.state). */
enum ublk_dev_state {
	UBLK_S_DEV_DEAD = 0,     /* added and not started, or stopped */
	UBLK_S_DEV_LIVE = 1,
	UBLK_S_DEV_QUIESCED = 2, /* its server is gone, I/O waits */
	UBLK_S_DEV_FAIL_IO = 3,  /* its server is gone, I/O fails */
};

struct ublk_ctrl_cmd {
	uint32_t dev_id;
	uint16_t queue_id;     /* UBLK_QUEUE_NONE unless the command is for a queue */
	uint16_t len;          /* bytes at addr */
	uint64_t addr;         /* the command's buffer, in or out */
	uint64_t data;         /* the command's inline argument */
	uint16_t dev_path_len; /* unprivileged devices only: path before the buffer */
	uint16_t pad;
	uint32_t reserved;
};
static_assert(sizeof(struct ublk_ctrl_cmd) == 32, "control command is 32 bytes");
static_assert(offsetof(struct ublk_ctrl_cmd, addr) == 8, "layout");
static_assert(offsetof(struct ublk_ctrl_cmd, data) == 16, "layout");
static_assert(offsetof(struct ublk_ctrl_cmd, dev_path_len) == 24, "layout");

struct ublk_dev_info {
	uint16_t nr_hw_queues;     /* asked; granted: at most the number of CPUs */
	uint16_t queue_depth;
	uint16_t state;            /* enum ublk_dev_state */
	uint16_t io_desc_size;     /* 7.2 with UBLK_F_IO_DESC_SIZE, else 24 or 0 */
	uint32_t max_io_buf_bytes; /* rounded down to a page by the driver */
	uint32_t dev_id;
	int32_t ublksrv_pid;       /* -1 unless started */
	uint32_t pad1;
	uint64_t flags;            /* UBLK_F_*: asked; granted: what the driver kept */
	uint64_t ublksrv_flags;    /* the server's own; the driver keeps and returns it */
	uint32_t owner_uid;
	uint32_t owner_gid;
	uint64_t reserved1;
	uint64_t reserved2;
};
static_assert(sizeof(struct ublk_dev_info) == 64, "device information is 64 bytes");
static_assert(offsetof(struct ublk_dev_info, max_io_buf_bytes) == 8, "layout");
static_assert(offsetof(struct ublk_dev_info, ublksrv_pid) == 16, "layout");
static_assert(offsetof(struct ublk_dev_info, flags) == 24, "layout");
static_assert(offsetof(struct ublk_dev_info, ublksrv_flags) == 32, "layout");
static_assert(offsetof(struct ublk_dev_info, owner_uid) == 40, "layout");

/* ---- parameters (SET_PARAMS, GET_PARAMS) ------------------------------ */

#define UBLK_ATTR_READ_ONLY (1u << 0)
#define UBLK_ATTR_ROTATIONAL (1u << 1)
#define UBLK_ATTR_VOLATILE_CACHE (1u << 2) /* FLUSH is sent */
#define UBLK_ATTR_FUA (1u << 3)            /* FUA is sent; needs VOLATILE_CACHE */

struct ublk_param_basic {
	uint32_t attrs;
	uint8_t logical_bs_shift;  /* 9…12, not above physical */
	uint8_t physical_bs_shift; /* …28 */
	uint8_t io_opt_shift;      /* …28; 0 is 1 byte: no hint */
	uint8_t io_min_shift;
	uint32_t max_sectors;      /* 8…max_io_buf_bytes / 512 */
	uint32_t chunk_sectors;    /* requests do not cross a multiple of it; 0: none */
	uint64_t dev_sectors;
	uint64_t virt_boundary_mask;
};
static_assert(sizeof(struct ublk_param_basic) == 32, "layout");

struct ublk_param_discard {
	uint32_t discard_alignment;
	uint32_t discard_granularity;  /* bytes, not 0 */
	uint32_t max_discard_sectors;  /* below 2 GiB: results are signed 32 bits */
	uint32_t max_write_zeroes_sectors;
	uint16_t max_discard_segments; /* 1 where max_discard_sectors is not 0 */
	uint16_t reserved0;
};
static_assert(sizeof(struct ublk_param_discard) == 20, "layout");

struct ublk_param_devt { /* GET_PARAMS only, disk_* once started */
	uint32_t char_major;
	uint32_t char_minor;
	uint32_t disk_major;
	uint32_t disk_minor;
};
static_assert(sizeof(struct ublk_param_devt) == 16, "layout");

struct ublk_param_zoned {
	uint32_t max_open_zones;
	uint32_t max_active_zones;
	uint32_t max_zone_append_sectors;
	uint8_t reserved[20];
};
static_assert(sizeof(struct ublk_param_zoned) == 32, "layout");

struct ublk_param_dma_align { /* 6.15 */
	uint32_t alignment; /* mask: required alignment of a user's buffer - 1 */
	uint8_t pad[4];
};
static_assert(sizeof(struct ublk_param_dma_align) == 8, "layout");

struct ublk_param_segment { /* 6.15 */
	uint64_t seg_boundary_mask; /* + 1 is a power of two, at least 4096 */
	uint32_t max_segment_size;  /* at least 4096 */
	uint16_t max_segments;
	uint8_t pad[2];
};
static_assert(sizeof(struct ublk_param_segment) == 16, "layout");

struct ublk_param_integrity { /* 7.0 */
	uint32_t flags;
	uint16_t max_integrity_segments;
	uint8_t interval_exp;
	uint8_t metadata_size;
	uint8_t pi_offset;
	uint8_t csum_type;
	uint8_t tag_size;
	uint8_t pad[5];
};
static_assert(sizeof(struct ublk_param_integrity) == 16, "layout");

#define UBLK_PARAM_TYPE_BASIC (1u << 0)
#define UBLK_PARAM_TYPE_DISCARD (1u << 1)
#define UBLK_PARAM_TYPE_DEVT (1u << 2)
#define UBLK_PARAM_TYPE_ZONED (1u << 3)
#define UBLK_PARAM_TYPE_DMA_ALIGN (1u << 4)
#define UBLK_PARAM_TYPE_SEGMENT (1u << 5)
#define UBLK_PARAM_TYPE_INTEGRITY (1u << 6)

/*
 * An older driver takes the first bytes it knows and drops the types it does
 * not (ublk_ctrl_set_params), so one structure serves all kernels.
 */
struct ublk_params {
	uint32_t len;   /* bytes of this structure that are meant */
	uint32_t types; /* UBLK_PARAM_TYPE_* that are set */
	struct ublk_param_basic basic;
	struct ublk_param_discard discard;
	struct ublk_param_devt devt;
	struct ublk_param_zoned zoned;
	struct ublk_param_dma_align dma;
	struct ublk_param_segment seg;
	struct ublk_param_integrity integrity;
};
static_assert(offsetof(struct ublk_params, basic) == 8, "layout");
static_assert(offsetof(struct ublk_params, discard) == 40, "layout");
static_assert(offsetof(struct ublk_params, devt) == 60, "layout");
static_assert(offsetof(struct ublk_params, zoned) == 76, "layout");
static_assert(offsetof(struct ublk_params, dma) == 108, "layout");
static_assert(offsetof(struct ublk_params, seg) == 120, "layout");
static_assert(offsetof(struct ublk_params, integrity) == 136, "layout");
static_assert(sizeof(struct ublk_params) == 152, "layout");

/* ---- I/O structures -------------------------------------------------- */

/* ublk_io_desc.op_flags, bits 0 to 7. */
enum ublk_io_op {
	UBLK_IO_OP_READ = 0,
	UBLK_IO_OP_WRITE = 1,
	UBLK_IO_OP_FLUSH = 2,
	UBLK_IO_OP_DISCARD = 3,
	UBLK_IO_OP_WRITE_SAME = 4, /* never sent */
	UBLK_IO_OP_WRITE_ZEROES = 5,
	UBLK_IO_OP_ZONE_OPEN = 10, /* 6.6, this one to ZONE_RESET */
	UBLK_IO_OP_ZONE_CLOSE = 11,
	UBLK_IO_OP_ZONE_FINISH = 12,
	UBLK_IO_OP_ZONE_APPEND = 13,
	UBLK_IO_OP_ZONE_RESET_ALL = 14,
	UBLK_IO_OP_ZONE_RESET = 15,
	UBLK_IO_OP_REPORT_ZONES = 18, /* 6.6: nr_sectors is a number of zones */
};
#define UBLK_IO_OP_MASK 0xffu

/* ublk_io_desc.op_flags, the other bits. */
#define UBLK_IO_F_FAILFAST_DEV (1u << 8)
#define UBLK_IO_F_FAILFAST_TRANSPORT (1u << 9)
#define UBLK_IO_F_FAILFAST_DRIVER (1u << 10)
#define UBLK_IO_F_META (1u << 11)
#define UBLK_IO_F_FUA (1u << 13)
#define UBLK_IO_F_NOUNMAP (1u << 15)      /* WRITE_ZEROES: keep the blocks allocated */
#define UBLK_IO_F_SWAP (1u << 16)
#define UBLK_IO_F_NEED_REG_BUF (1u << 17) /* 6.16: auto registration failed, fall-back asked */
#define UBLK_IO_F_INTEGRITY (1u << 18)    /* 7.0 */
#define UBLK_IO_F_SHMEM_ZC (1u << 19)     /* 7.1 */

struct ublk_io_desc {
	uint32_t op_flags;
	uint32_t nr_sectors;
	uint64_t start_sector;
	uint64_t addr; /* the buffer given with the fetch */
};
static_assert(sizeof(struct ublk_io_desc) == 24, "a descriptor is 24 bytes");
static_assert(offsetof(struct ublk_io_desc, start_sector) == 8, "layout");
static_assert(offsetof(struct ublk_io_desc, addr) == 16, "layout");

struct ublk_io_cmd {
	uint16_t q_id;
	uint16_t tag;
	int32_t result; /* COMMIT: bytes done, or -errno */
	uint64_t addr;  /* buffer; buffer index for (UN)REGISTER; LBA for zone append */
};
static_assert(sizeof(struct ublk_io_cmd) == 16, "an I/O command is 16 bytes");
static_assert(offsetof(struct ublk_io_cmd, result) == 4, "layout");
static_assert(offsetof(struct ublk_io_cmd, addr) == 8, "layout");

/*
 * UBLK_F_AUTO_BUF_REG: sqe->addr of FETCH and COMMIT carries the index in the
 * ring's buffer table (bits 0 to 15) and flags (bits 16 to 23); the rest is 0.
 */
#define UBLK_AUTO_BUF_REG_FALLBACK (1u << 0)

static inline uint64_t ublk_auto_buf_reg(uint16_t index, uint8_t flags)
{
	return index | (uint64_t)flags << 16;
}

/* Batch commands (7.0) and the elements they carry. */
struct ublk_batch_cmd {
	uint16_t q_id;
	uint16_t flags; /* UBLK_BATCH_F_* */
	uint16_t nr_elem;
	uint8_t elem_bytes;
	uint8_t reserved;
	uint64_t reserved2;
};
static_assert(sizeof(struct ublk_batch_cmd) == 16, "layout");
#define UBLK_BATCH_F_HAS_ZONE_LBA (1u << 0)
#define UBLK_BATCH_F_HAS_BUF_ADDR (1u << 1)
#define UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK (1u << 2)

struct ublk_batch_elem {
	uint16_t tag;
	uint16_t buf_index; /* UBLK_F_AUTO_BUF_REG */
	int32_t result;
};
static_assert(sizeof(struct ublk_batch_elem) == 8, "layout");

/* Shared-memory buffers (7.1), pointed to by ublk_ctrl_cmd.addr of REG_BUF. */
struct ublk_shmem_buf_reg {
	uint64_t addr;
	uint64_t len; /* page aligned */
	uint32_t flags;
	uint32_t reserved;
};
static_assert(sizeof(struct ublk_shmem_buf_reg) == 24, "layout");
#define UBLK_SHMEM_BUF_READ_ONLY (1u << 0)

/* The numbers that the encoding above must give (the driver's own). */
static_assert(UBLK_CMD_ADD_DEV == 0xc0207504u, "ADD_DEV");
static_assert(UBLK_CMD_GET_FEATURES == 0x80207513u, "GET_FEATURES");
static_assert(UBLK_IO_FETCH_REQ == 0xc0107520u, "FETCH_REQ");
static_assert(UBLK_IO_COMMIT_AND_FETCH_REQ == 0xc0107521u, "COMMIT_AND_FETCH_REQ");

#endif
