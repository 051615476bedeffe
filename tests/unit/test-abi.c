/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Our statement of the driver's interface against numbers written down
 * independently: first those of the kernel's documentation, then the machine's
 * own <linux/ublk_cmd.h> (abi-machine.c), as far as every version has it.
 */
#include "support.h"

#include <inttypes.h>

#include <ublkd/ublk_abi.h>

#include "abi-facts.h"

#define STRUCT_ctrl_cmd ublk_ctrl_cmd
#define STRUCT_dev_info ublk_dev_info
#define STRUCT_io_desc ublk_io_desc
#define STRUCT_io_cmd ublk_io_cmd
#define STRUCT_basic ublk_param_basic
#define STRUCT_discard ublk_param_discard
#define STRUCT_params ublk_params

const struct abi_fact our_facts[] = { ABI_FACTS };

static void control_commands_have_the_kernels_numbers(void **state)
{
	(void)state;
	assert_int_equal(UBLK_CMD_GET_QUEUE_AFFINITY, 0x80207501u);
	assert_int_equal(UBLK_CMD_GET_DEV_INFO, 0x80207502u);
	assert_int_equal(UBLK_CMD_ADD_DEV, 0xc0207504u);
	assert_int_equal(UBLK_CMD_DEL_DEV, 0xc0207505u);
	assert_int_equal(UBLK_CMD_START_DEV, 0xc0207506u);
	assert_int_equal(UBLK_CMD_STOP_DEV, 0xc0207507u);
	assert_int_equal(UBLK_CMD_SET_PARAMS, 0xc0207508u);
	assert_int_equal(UBLK_CMD_GET_PARAMS, 0x80207509u);
	assert_int_equal(UBLK_CMD_START_USER_RECOVERY, 0xc0207510u);
	assert_int_equal(UBLK_CMD_END_USER_RECOVERY, 0xc0207511u);
	assert_int_equal(UBLK_CMD_GET_DEV_INFO2, 0x80207512u);
	assert_int_equal(UBLK_CMD_GET_FEATURES, 0x80207513u);
	assert_int_equal(UBLK_CMD_DEL_DEV_ASYNC, 0x80207514u);
	assert_int_equal(UBLK_CMD_UPDATE_SIZE, 0xc0207515u);
	assert_int_equal(UBLK_CMD_QUIESCE_DEV, 0xc0207516u);
	assert_int_equal(UBLK_CMD_TRY_STOP_DEV, 0xc0207517u);
}

static void io_commands_have_the_kernels_numbers(void **state)
{
	(void)state;
	assert_int_equal(UBLK_IO_FETCH_REQ, 0xc0107520u);
	assert_int_equal(UBLK_IO_COMMIT_AND_FETCH_REQ, 0xc0107521u);
	assert_int_equal(UBLK_IO_NEED_GET_DATA, 0xc0107522u);
	assert_int_equal(UBLK_IO_REGISTER_IO_BUF, 0xc0107523u);
	assert_int_equal(UBLK_IO_UNREGISTER_IO_BUF, 0xc0107524u);
}

static void data_offsets_keep_queue_tag_and_byte_apart(void **state)
{
	(void)state;
	assert_int_equal(ublk_data_offset(0, 0, 0), 0x80000000u);
	assert_int_equal(ublk_data_offset(0, 0, 512), 0x80000200u);
	assert_int_equal(ublk_data_offset(0, 1, 0), 0x82000000u);
	assert_int_equal(ublk_data_offset(1, 0, 0), 0x20080000000ull);
	assert_int_equal(ublk_data_offset(4095, 65535, UBLK_MAX_IO_BYTES - 1),
			 0x80000000ull + (1ull << 53) - 1);
}

static void automatic_registration_packs_index_and_flags(void **state)
{
	(void)state;
	assert_int_equal(ublk_auto_buf_reg(0, 0), 0);
	assert_int_equal(ublk_auto_buf_reg(0xffff, 0), 0xffff);
	assert_int_equal(ublk_auto_buf_reg(5, UBLK_AUTO_BUF_REG_FALLBACK), 0x10005);
}

static void feature_flags_have_the_kernels_bits(void **state)
{
	(void)state;
	assert_int_equal(UBLK_F_SUPPORT_ZERO_COPY, 0x1);
	assert_int_equal(UBLK_F_NEED_GET_DATA, 0x4);
	assert_int_equal(UBLK_F_CMD_IOCTL_ENCODE, 0x40);
	assert_int_equal(UBLK_F_USER_COPY, 0x80);
	assert_int_equal(UBLK_F_ZONED, 0x100);
	assert_int_equal(UBLK_F_AUTO_BUF_REG, 0x800);
	assert_int_equal(UBLK_F_PER_IO_DAEMON, 0x2000);
}

/* Nothing is compared where the machine has no such header. */
static void the_machines_header_agrees(void **state)
{
	(void)state;
	for (unsigned i = 0; machine_facts[i].name; i++) {
		assert_string_equal(machine_facts[i].name, our_facts[i].name);
		if (machine_facts[i].value != our_facts[i].value)
			fail_msg("%s: <linux/ublk_cmd.h> has %#" PRIx64 ", we have %#" PRIx64,
				 our_facts[i].name, machine_facts[i].value, our_facts[i].value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(control_commands_have_the_kernels_numbers),
		cmocka_unit_test(io_commands_have_the_kernels_numbers),
		cmocka_unit_test(data_offsets_keep_queue_tag_and_byte_apart),
		cmocka_unit_test(automatic_registration_packs_index_and_flags),
		cmocka_unit_test(feature_flags_have_the_kernels_bits),
		cmocka_unit_test(the_machines_header_agrees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
