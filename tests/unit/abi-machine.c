/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "abi-facts.h"

#if __has_include(<linux/ublk_cmd.h>)
#include <linux/ublk_cmd.h>
#endif

#define STRUCT_ctrl_cmd ublksrv_ctrl_cmd
#define STRUCT_dev_info ublksrv_ctrl_dev_info
#define STRUCT_io_desc ublksrv_io_desc
#define STRUCT_io_cmd ublksrv_io_cmd
#define STRUCT_basic ublk_param_basic
#define STRUCT_discard ublk_param_discard
#define STRUCT_params ublk_params

const struct abi_fact machine_facts[] = {
#ifdef UBLK_F_USER_RECOVERY /* 6.1 or later */
	ABI_FACTS
#else
	{ NULL }
#endif
};
