/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What Linux 6.1's <linux/ublk_cmd.h> says, as a list that is compiled twice:
 * with our header and with the machine's. The two cannot meet in one file, as
 * they use the same names. STRUCT_x is what a structure is called in each.
 */
#ifndef ABI_FACTS_H
#define ABI_FACTS_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

struct abi_fact {
	const char *name;
	uint64_t value;
};

/* NULL name at the end; the machine's are empty where it has no such header. */
extern const struct abi_fact our_facts[], machine_facts[];

#define NUMBER(n) { #n, (uint64_t)(n) }
#define COMMAND(n) { #n, (n) & 0xffu } /* the header has plain numbers */
#define SIZE(s) { "size of " #s, sizeof(struct STRUCT_##s) }
#define FIELD(s, f) { #s "." #f, offsetof(struct STRUCT_##s, f) }

#define ABI_FACTS \
	COMMAND(UBLK_CMD_GET_QUEUE_AFFINITY), COMMAND(UBLK_CMD_GET_DEV_INFO), \
	COMMAND(UBLK_CMD_ADD_DEV), COMMAND(UBLK_CMD_DEL_DEV), COMMAND(UBLK_CMD_START_DEV), \
	COMMAND(UBLK_CMD_STOP_DEV), COMMAND(UBLK_CMD_SET_PARAMS), COMMAND(UBLK_CMD_GET_PARAMS), \
	COMMAND(UBLK_CMD_START_USER_RECOVERY), COMMAND(UBLK_CMD_END_USER_RECOVERY), \
	COMMAND(UBLK_IO_FETCH_REQ), COMMAND(UBLK_IO_COMMIT_AND_FETCH_REQ), \
	COMMAND(UBLK_IO_NEED_GET_DATA), \
	NUMBER(UBLK_IO_RES_OK), NUMBER(UBLK_IO_RES_NEED_GET_DATA), NUMBER(UBLK_IO_RES_ABORT), \
	NUMBER(UBLK_MAX_QUEUE_DEPTH), \
	NUMBER(UBLK_F_SUPPORT_ZERO_COPY), NUMBER(UBLK_F_URING_CMD_COMP_IN_TASK), \
	NUMBER(UBLK_F_NEED_GET_DATA), NUMBER(UBLK_F_USER_RECOVERY), \
	NUMBER(UBLK_F_USER_RECOVERY_REISSUE), \
	NUMBER(UBLK_S_DEV_DEAD), NUMBER(UBLK_S_DEV_LIVE), NUMBER(UBLK_S_DEV_QUIESCED), \
	NUMBER(UBLK_IO_OP_READ), NUMBER(UBLK_IO_OP_WRITE), NUMBER(UBLK_IO_OP_FLUSH), \
	NUMBER(UBLK_IO_OP_DISCARD), NUMBER(UBLK_IO_OP_WRITE_SAME), \
	NUMBER(UBLK_IO_OP_WRITE_ZEROES), \
	NUMBER(UBLK_IO_F_FAILFAST_DEV), NUMBER(UBLK_IO_F_FAILFAST_TRANSPORT), \
	NUMBER(UBLK_IO_F_FAILFAST_DRIVER), NUMBER(UBLK_IO_F_META), NUMBER(UBLK_IO_F_FUA), \
	NUMBER(UBLK_IO_F_NOUNMAP), NUMBER(UBLK_IO_F_SWAP), \
	NUMBER(UBLK_ATTR_READ_ONLY), NUMBER(UBLK_ATTR_ROTATIONAL), \
	NUMBER(UBLK_ATTR_VOLATILE_CACHE), NUMBER(UBLK_ATTR_FUA), \
	NUMBER(UBLK_PARAM_TYPE_BASIC), NUMBER(UBLK_PARAM_TYPE_DISCARD), \
	SIZE(ctrl_cmd), FIELD(ctrl_cmd, dev_id), FIELD(ctrl_cmd, queue_id), FIELD(ctrl_cmd, len), \
	FIELD(ctrl_cmd, addr), FIELD(ctrl_cmd, data), \
	SIZE(dev_info), FIELD(dev_info, nr_hw_queues), FIELD(dev_info, queue_depth), \
	FIELD(dev_info, state), FIELD(dev_info, max_io_buf_bytes), FIELD(dev_info, dev_id), \
	FIELD(dev_info, ublksrv_pid), FIELD(dev_info, flags), FIELD(dev_info, ublksrv_flags), \
	SIZE(io_desc), FIELD(io_desc, op_flags), FIELD(io_desc, nr_sectors), \
	FIELD(io_desc, start_sector), FIELD(io_desc, addr), \
	SIZE(io_cmd), FIELD(io_cmd, q_id), FIELD(io_cmd, tag), FIELD(io_cmd, result), \
	FIELD(io_cmd, addr), \
	SIZE(basic), FIELD(basic, attrs), FIELD(basic, logical_bs_shift), \
	FIELD(basic, physical_bs_shift), FIELD(basic, io_opt_shift), FIELD(basic, io_min_shift), \
	FIELD(basic, max_sectors), FIELD(basic, chunk_sectors), FIELD(basic, dev_sectors), \
	FIELD(basic, virt_boundary_mask), \
	SIZE(discard), FIELD(discard, discard_alignment), FIELD(discard, discard_granularity), \
	FIELD(discard, max_discard_sectors), FIELD(discard, max_write_zeroes_sectors), \
	FIELD(discard, max_discard_segments), \
	FIELD(params, len), FIELD(params, types), FIELD(params, basic), FIELD(params, discard), \
	{ NULL }

#endif
