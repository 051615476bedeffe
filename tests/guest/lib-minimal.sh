# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What the tests of contrib/minimal share.

# start_minimal PROGRAM ARG…: sets DEV, ID, PID, OUT
start_minimal() {
	local program=${abs_top_builddir:-}/contrib/minimal/$1
	[ -x "$program" ] || skip "no $program: 'make check' builds it"
	shift
	OUT=$PWD/minimal.out
	LOGS+=("$OUT")
	: >"$OUT"
	"$program" "$@" >"$OUT" 2>&1 &
	PID=$!
	defer kill_ublkd "$PID"
	wait_until "$START_SECONDS" path_of_minimal || fail "no path: $(<"$OUT")"
	DEV=$(sed -n '/^\/dev\/ublkb/p' "$OUT")
	ID=${DEV#/dev/ublkb}
	[ -b "$DEV" ] || fail "$DEV is printed and is no block device"
}

path_of_minimal() {
	grep -q '^/dev/ublkb' "$OUT" || process_is_gone "$PID"
}

# stop_minimal SIGNAL
stop_minimal() {
	kill "-$1" "$PID"
	end_status "$PID" "$STOP_SECONDS"
	[ "$STATUS" = 0 ] || fail "exit status $STATUS after SIG$1: $(<"$OUT")"
	device_is_gone "$ID" || fail "$DEV or its char device is still there"
}

partitions_come_up() {
	sfdisk -q "$DEV" <<<'2048,4096'
	wait_until 20 test -b "${DEV}p1" || fail "no partition after sfdisk"
	sfdisk -q --delete "$DEV"
}

files_survive() {
	mkfs.ext4 -q -F "$DEV"
	mount_at m "$DEV"
	cp -r /usr/include/linux m/tree
	umount m
	mount "$DEV" m
	diff -r /usr/include/linux m/tree || fail "the files have changed"
	umount m
	fsck.ext4 -fn "$DEV" >fsck.out 2>&1 || fail "fsck: $(<fsck.out)"
}
