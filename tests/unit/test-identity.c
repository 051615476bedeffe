/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "identity.h"
#include "util/macros.h"

static void what_is_written_is_read(void **state)
{
	static const char *const texts[] = {
		"1000:1000:", "1000:100:4", "1000:100:4,24,27", "4294967294:4294967294:4294967294", "0:0:0",
	};
	struct identity identity;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_free_ char *text = NULL;

		assert_int_equal(identity_read(&identity, texts[i]), 0);
		text = identity_text(&identity);
		assert_string_equal(text, texts[i]);
	}
	assert_int_equal(identity_read(&identity, "1000:100:4,24"), 0);
	assert_int_equal(identity.uid, 1000);
	assert_int_equal(identity.gid, 100);
	assert_int_equal(identity.nr_groups, 2);
	assert_true(identity_is_member(&identity, 24));
	assert_true(identity_is_member(&identity, 100));
	assert_false(identity_is_member(&identity, 1000));
}

static void what_is_no_identity_is_none(void **state)
{
	static const char *const texts[] = {
		"", "1000", "1000:", "1000:100", ":100:", "1000::", "-1:100:", "1000:+1:", " 1:2:", "1:2: 3",
		"1:2:3,", "1:2:,3", "1:2:3;4", "4294967295:1:", "1:4294967295:", "1:2:4294967295",
		"99999999999999999999:1:", "alice:1:", "1:2:3:4",
	};
	struct identity identity;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_int_equal(identity_read(&identity, texts[i]), -EINVAL);
}

static void as_many_groups_as_there_is_room_for(void **state)
{
	struct identity most = { .uid = 4294967294, .gid = 4294967294, .nr_groups = IDENTITY_GROUPS }, read;
	_cleanup_free_ char *text = NULL;
	char more[4096];

	(void)state;
	for (unsigned i = 0; i < IDENTITY_GROUPS; i++)
		most.groups[i] = 4294967294 - i;
	text = identity_text(&most);
	assert_int_equal(identity_read(&read, text), 0);
	assert_memory_equal(&read, &most, sizeof(most));
	assert_true(snprintf(more, sizeof(more), "%s,1", text) < (int)sizeof(more));
	assert_int_equal(identity_read(&read, more), -EINVAL);
}

static void the_peer_of_a_pair_is_this_process(void **state)
{
	gid_t groups[IDENTITY_GROUPS];
	int pair[2], count = getgroups(IDENTITY_GROUPS, groups);
	struct identity identity;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(identity_of_peer(&identity, pair[0]), 0);
	assert_int_equal(identity.uid, geteuid());
	assert_int_equal(identity.gid, getegid());
	assert_int_equal(identity.nr_groups, count);
	for (int i = 0; i < count; i++)
		assert_true(identity_is_member(&identity, groups[i]));
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(identity_of_peer(&identity, pair[0]), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(what_is_no_identity_is_none),
		cmocka_unit_test(as_many_groups_as_there_is_room_for),
		cmocka_unit_test(the_peer_of_a_pair_is_this_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
