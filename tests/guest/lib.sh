# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What every guest test shares. A test sources this file first, runs as root in an empty scratch directory on tmpfs,
# and takes from its environment:
#   UBLKD       the program under test
#   SERIES      the kernel's series, "6.12" (default: the running one)
#   LONG        1 for the large counts of check-long
#   KMSG_ALLOW  file that takes the kernel log lines this test expects; the runner reads it and checks the log.
#               Unset (a test started by hand): the log is checked here.
# It exits 0 for pass, 77 for skip (after a line "skip: reason"), anything else for failure.

set -eEuo pipefail
export LC_ALL=C DM_DISABLE_UDEV=1

# Its fio starts much faster, see tests/vm/light-fio.
TOOLS=${abs_top_builddir:-none}/tests/tools
[ ! -x "$TOOLS/fio" ] || PATH=$TOOLS:$PATH

TEST=${0##*/}
UBLKD=${UBLKD:?"the path of the ublkd to test"}
UBLKCTL=${UBLKD%/*}/ublkctl
LONG=${LONG:-0}
SERIES=${SERIES:-$(uname -r | cut -d. -f1,2)}
# A guest is slow, and the slower the more the program watches itself (tests/sanitized).
START_SECONDS=$((20 * ${UBLKD_PATIENCE:-2})) # from start to a printed path
STOP_SECONDS=$START_SECONDS                  # from SIGTERM to the end of the process
KILL_SECONDS=20  # from the end of a killed process to that of its node and of the requests
# A driver that finds the death only by the time-out of the requests, 30 s, when every tag has one (ublk_timeout())
[ "$SERIES" != 6.12 ] || KILL_SECONDS=75

DEFERRED=()
LOGS=()
STARTED=0

fail() {
	echo "$TEST: $*" >&2
	exit 1
}

skip() {
	echo "skip: $*"
	exit 77
}

# long BIG SMALL: the count for check-long or for check
long() {
	if [ "$LONG" = 1 ]; then echo "$1"; else echo "$2"; fi
}

# defer COMMAND ARG…: run it when the test ends, last deferred first
defer() {
	DEFERRED+=("$(printf '%q ' "$@")")
}

where_it_failed() {
	local frame=0 line
	echo "$TEST: failed: $BASH_COMMAND" >&2
	while line=$(caller $((frame + 1))); do
		echo "$TEST:   at $line" >&2
		frame=$((frame + 1))
	done
}

finish() {
	local status=$? i
	trap - EXIT ERR
	set +e
	if ((status != 0 && status != 77)); then
		for i in "${LOGS[@]}"; do
			echo "--- $i"
			tail -n 30 "$i"
		done >&2
	fi
	for ((i = ${#DEFERRED[@]} - 1; i >= 0; i--)); do
		eval "${DEFERRED[i]}" >/dev/null 2>&1 </dev/null
	done
	if [ -n "${OWN_KMSG:-}" ] && ! kmsg_is_clean && ((status == 0)); then
		status=1
	fi
	exit "$status"
}
trap finish EXIT
trap where_it_failed ERR

# The kernel log -----------------------------------------------------------------------------------------------------

KMSG_BAD='WARNING:|BUG:|kernel BUG|Oops|hung task|blocked for more than|error, dev|I/O error|UBSAN|KASAN|KCSAN'
KMSG_BAD+='|(circular|recursive) locking|lock state|suspicious RCU|general protection|segfault|page allocation failure|Out of memory|rcu.*stall|soft lockup'

if [ -z "${KMSG_ALLOW:-}" ]; then
	OWN_KMSG="ublkd-test: $TEST $$"
	KMSG_ALLOW=$PWD/kmsg-allow
	: >"$KMSG_ALLOW"
	echo "$OWN_KMSG" >/dev/kmsg
fi

# allow_kmsg REGEX: this test expects such lines in the kernel log
allow_kmsg() {
	echo "$1" >>"$KMSG_ALLOW"
}

kmsg_is_clean() {
	local bad
	bad=$(dmesg | sed -n "\\|$OWN_KMSG|,\$p" | grep -E "$KMSG_BAD" | grep -vE -f <(cat "$KMSG_ALLOW"; echo 'a^'))
	[ -z "$bad" ] && return 0
	echo "$TEST: unexpected in the kernel log:" >&2
	echo "$bad" >&2
	return 1
}

# What a test needs --------------------------------------------------------------------------------------------------

require() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null || skip "$tool is not installed"
	done
}

# load_module NAME [PARAMETER=VALUE…]
load_module() {
	[ -d "/sys/module/${1//-/_}" ] && return 0
	modprobe -q "$@" || skip "no kernel module $1"
}

# ram_block_device MIB: a brd of its own; sets BACKING
ram_block_device() {
	[ ! -d /sys/module/brd ] || modprobe -r brd
	modprobe -q brd rd_nr=1 rd_size=$(($1 * 1024)) max_part=0 || skip "no kernel module brd"
	defer modprobe -r brd
	BACKING=/dev/ram0
}

# null_block_device NAME KEY=VALUE…: a null_blk of its own, asynchronous (timer completions); sets BACKING and NULLB,
# the directory of its attributes
null_block_device() {
	local name=$1 pair
	shift
	load_module null_blk nr_devices=0
	mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
	NULLB=/sys/kernel/config/nullb/$name
	mkdir "$NULLB"
	defer rmdir "$NULLB"
	for pair in memory_backed=1 irqmode=2 completion_nsec=50000 "$@"; do
		echo "${pair#*=}" >"$NULLB/${pair%%=*}"
	done
	echo 1 >"$NULLB/power"
	defer sh -c "echo 0 >$NULLB/power"
	BACKING=/dev/$name
	[ -b "$BACKING" ] || BACKING=/dev/nullb$(<"$NULLB/index")
	[ -b "$BACKING" ]
}

# loop_device FILE [OPTION…]: sets LOOP
loop_device() {
	local file=$1
	shift
	load_module loop
	LOOP=$(losetup -f --show "$@" "$file")
	defer losetup -d "$LOOP"
}

# real_file_system DIR MIB: an ext4 with asynchronous direct I/O (tmpfs has none), on a null_blk
real_file_system() {
	require mkfs.ext4
	load_module ext4
	null_block_device nullfs "size=$2"
	mkfs.ext4 -q -E lazy_itable_init=1,nodiscard "$BACKING"
	mount_at "$1" "$BACKING"
}

# mapper_device NAME TABLE: a device-mapper device; sets BACKING
mapper_device() {
	load_module dm-mod
	dmsetup create --noudevsync "$1" --table "$2" 2>dmsetup.err || skip "dmsetup: $(<dmsetup.err)"
	defer dmsetup remove --noudevsync --retry "$1"
	BACKING=/dev/mapper/$1
	[ -b "$BACKING" ]
}

# raid_device NAME DEVICE: a RAID 1 that has lost all but this device; sets BACKING
raid_device() {
	local md=/sys/block/md_$1/md disk=${2#/dev/}
	load_module raid1
	# By the kernel's files, as mdadm does it for a metadata format that it keeps itself.
	echo "md_$1" >/sys/module/md_mod/parameters/new_array
	defer sh -c "echo clear >$md/array_state"
	echo raid1 >"$md/level"
	echo 2 >"$md/raid_disks"
	echo $(($(<"/sys/block/$disk/size") / 2)) >"$md/component_size"
	cat "/sys/block/$disk/dev" >"$md/new_dev"
	echo 0 >"$md/dev-$disk/slot"
	echo active >"$md/array_state"
	BACKING=/dev/md_$1
	[ -b "$BACKING" ]
}

# small_tmpfs DIR SIZE
small_tmpfs() {
	mkdir -p "$1"
	mount -t tmpfs -o "size=$2" small "$1"
	defer umount -l "$1"
}

# mount_at DIR ARG…: mount and unmount at the end
mount_at() {
	local dir=$1
	shift
	mkdir -p "$dir"
	mount "$@" "$dir"
	defer umount -l "$dir"
}

# The program --------------------------------------------------------------------------------------------------------

# A pipe nobody writes to, for waiting without a process: starting one takes long in an emulated guest.
mkfifo never && exec {NEVER}<>never && rm never

# doze [MILLISECONDS]
doze() {
	local ms=${1:-100}
	# printf -v, as a process more would be started for $(printf).
	printf -v ms '%d.%03d' $((ms / 1000)) $((ms % 1000))
	read -r -t "$ms" -u "$NEVER" || true
}

# wait_until SECONDS COMMAND ARG…: status 1 when it did not come true. It looks ever more seldom, up to once a second:
# looking, too, takes time from what it waits for.
wait_until() {
	local deadline=$((SECONDS + $1 + 1)) ms=100
	shift
	until "$@"; do
		((SECONDS < deadline)) || return 1
		doze "$ms"
		((ms = ms < 800 ? ms * 5 / 4 : 1000))
	done
}

process_is_gone() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0 # bash ends for a $(<FILE) that is not there
	stat=${stat##*) }
	[ "${stat%% *}" = Z ] # our own child, not reaped yet
}

node_is_gone() {
	[ ! -e "/dev/ublkb$1" ] && [ ! -e "/sys/block/ublkb$1" ]
}

device_is_gone() {
	node_is_gone "$1" && [ ! -e "/dev/ublkc$1" ] && [ ! -e "/sys/class/ublk-char/ublkc$1" ]
}

path_is_printed() {
	[ -s "$OUT" ] || process_is_gone "$PID"
}

# start_ublkd ARG…: ublkd run ARG… in the background until it has printed its path.
# Sets DEV, ID, PID, LOG (stderr), OUT (stdout), QUEUE (the queue's folder in sysfs).
start_ublkd() {
	STARTED=$((STARTED + 1))
	OUT=$PWD/ublkd.$STARTED.out LOG=$PWD/ublkd.$STARTED.log
	LOGS+=("$LOG")
	"$UBLKD" run --stats "$@" >"$OUT" 2>"$LOG" </dev/null &
	PID=$!
	defer kill_ublkd "$PID"
	wait_until "$START_SECONDS" path_is_printed || fail "no path after $START_SECONDS s: ublkd run $*"
	[ -s "$OUT" ] || fail "ended without a path: ublkd run $*"
	DEV=$(<"$OUT")
	[[ $DEV =~ ^/dev/ublkb([0-9]+)$ ]] || fail "not a path of a device: '$DEV'"
	ID=${BASH_REMATCH[1]}
	QUEUE=/sys/block/ublkb$ID/queue
	[ -b "$DEV" ] || fail "$DEV is printed and is no block device"
	(($(<"/sys/block/ublkb$ID/size") > 0)) || fail "$DEV is printed and has no size"
}

lines_are_printed() {
	(($(wc -l <"$OUT") >= $1)) || process_is_gone "$PID"
}

# start_serve COUNT ARG…: ublkd serve ARG… in the background until it has printed the lines of COUNT devices.
# Sets PID, LOG, OUT; use_device says which device is meant.
start_serve() {
	local count=$1
	shift
	STARTED=$((STARTED + 1))
	OUT=$PWD/ublkd.$STARTED.out LOG=$PWD/ublkd.$STARTED.log
	LOGS+=("$LOG")
	: >"$OUT"
	"$UBLKD" serve "$@" >"$OUT" 2>"$LOG" </dev/null &
	PID=$!
	defer kill_ublkd "$PID"
	wait_until $((START_SECONDS + count * 2)) lines_are_printed "$count" || fail "not $count lines: $(<"$OUT")"
	# Whoever waits for none may be later than the first.
	[ "$count" = 0 ] || [ "$(wc -l <"$OUT")" = "$count" ] || fail "ended without $count lines: ublkd serve $*: $(<"$OUT")"
}

# use_device NAME: sets DEV, ID and QUEUE to those of a device that is served
use_device() {
	DEV=$(awk -v name="$1" '$1 == name { print $2 }' "$OUT")
	[[ $DEV =~ ^/dev/ublkb([0-9]+)$ ]] || fail "no path of a device for '$1': '$DEV'"
	ID=${BASH_REMATCH[1]}
	QUEUE=/sys/block/ublkb$ID/queue
	[ -b "$DEV" ] || fail "$DEV is printed and is no block device"
}

# dirty_pages_stay: until they are asked for
dirty_pages_stay() {
	local every=/proc/sys/vm/dirty_writeback_centisecs
	defer sh -c "echo $(<$every) >$every"
	echo 0 >$every
}

# workers_of PID: the processes that serve its devices, one each line, without the one that waits for the next device
workers_of() {
	pgrep -P "$1" -f -- '--worker .* -- [^(]'
}

# spare_of PID: that one
spare_of() {
	pgrep -P "$1" -f -- '--worker .* -- \(spare\)'
}

# start_service ARG…: ublkd serve with the socket UBLKD_SOCKET, in the background until it can be talked to
start_service() {
	export UBLKD_SOCKET=$PWD/socket
	start_serve 0 --socket="$UBLKD_SOCKET" "$@"
	wait_until "$START_SECONDS" "$UBLKCTL" list >/dev/null 2>list.err || fail "no answer: $(<list.err)"
}

# ctl_refused STATUS REGEX ARG…: ublkctl ARG… must end with that status, and say something that matches
ctl_refused() {
	local want=$1 regex=$2 status=0
	shift 2
	"$UBLKCTL" "$@" >ctl.out 2>ctl.err || status=$?
	[ "$status" = "$want" ] || fail "ublkctl $*: status $status, expected $want: $(<ctl.err)"
	[ ! -s ctl.out ] || fail "ublkctl $*: on stdout: $(<ctl.out)"
	grep -qE -- "$regex" ctl.err || fail "ublkctl $* says '$(<ctl.err)' and not '$regex'"
}

# device_file NAME KEY=VALUE…: a file NAME.conf in the folder conf, which describes a device
device_file() {
	local name=$1
	shift
	mkdir -p conf
	printf '%s\n' '[device]' "$@" >"conf/$name.conf"
}

no_device_is_left() {
	! compgen -G '/dev/ublk[bc]*' >/dev/null && ! compgen -G '/sys/class/ublk-char/*' >/dev/null
}

# start_small BACKEND ARG…: with few buffers to lock, for tests that start often and do not look at the depth
start_small() {
	start_ublkd "$@" depth=16 max-io=128K
}

# end_status PID SECONDS: sets STATUS to the exit status, fails when the process does not end
end_status() {
	wait_until "$2" process_is_gone "$1" || fail "still running after $2 s"
	STATUS=0
	wait "$1" || STATUS=$?
}

# has_feature NAME: the running kernel's driver offers it
has_feature() {
	"$UBLKD" features >features.out
	grep -qE "^$1 +yes " features.out
}

# data_modes [MODE…]: sets MODES to those of them (by default of all) that the running kernel offers
data_modes() {
	local mode feature
	[ $# -gt 0 ] || set -- zero-copy register copy get-data user-copy
	"$UBLKD" features >features.out
	MODES=()
	for mode; do
		case $mode in
		zero-copy) feature=auto-buf-reg ;;
		register) feature=zero-copy ;;
		*) feature=$mode ;;
		esac
		[ "$mode" != copy ] && ! grep -qE "^$feature +yes " features.out || MODES+=("$mode")
	done
	echo "data modes: ${MODES[*]}"
}

# stop_ublkd: the last started one, by SIGTERM; it has to end in time, with status 0, and leave nothing
stop_ublkd() {
	kill -TERM "$PID"
	end_status "$PID" "$STOP_SECONDS"
	[ "$STATUS" = 0 ] || fail "exit status $STATUS after SIGTERM"
	device_is_gone "$ID" || fail "$DEV or its char device is still there"
	[ "$(wc -l <"$OUT")" = 1 ] || fail "more than the path on stdout: $(<"$OUT")"
}

# Only for the end of a test that failed half-way: a passing test has stopped what it started.
kill_ublkd() {
	process_is_gone "$1" && return
	kill -CONT "$1"
	kill -TERM "$1"
	wait_until 5 process_is_gone "$1" && return
	kill -KILL "$1"
	wait_until 5 process_is_gone "$1"
}

# refused STATUS REGEX ARG…: ublkd ARG… must end by itself with that status, say something that matches, on stderr only
refused() {
	local want=$1 regex=$2 status=0
	shift 2
	timeout -k 5 "$START_SECONDS" "$UBLKD" "$@" >refused.out 2>refused.err </dev/null || status=$?
	if [ "$status" != "$want" ] || [ -s refused.out ] || ! grep -qiE -- "$regex" refused.err; then
		echo "ublkd $*"
		echo "  expected: status $want, stderr matching: $regex"
		echo "  given:    status $status, stdout: '$(<refused.out)', stderr: '$(<refused.err)'"
		return 1
	fi
}

# expect_error REGEX COMMAND ARG…: it has to fail and say so
expect_error() {
	local regex=$1
	shift
	if "$@" >expect.out 2>&1; then fail "should have failed: $*"; fi
	grep -qE -- "$regex" expect.out || fail "$* says '$(<expect.out)' and not '$regex'"
}

# Ordinary users -----------------------------------------------------------------------------------------------------

# as UID COMMAND ARG…: as a user without any privilege
as() {
	setpriv --reuid="$1" --regid="$1" --clear-groups "${@:2}"
}

# ordinary_users: they may open the control node, a udev with our rules runs, and $UBLKD is one of user 1000 from now on,
# whose folder is $USERS; $ROOTS is root's.
ordinary_users() {
	local udevd=/usr/lib/systemd/systemd-udevd rules=${abs_top_builddir:?}/contrib/udev/59-ublkd-owner.rules
	require setpriv udevadm
	has_feature unprivileged || skip "no devices of ordinary users"
	[ -x "$udevd" ] || skip "no $udevd"
	[ -e "$rules" ] || skip "no $rules"
	[ ! -e /run/udev/control ] || skip "a udev runs already"
	ROOTS=$UBLKD
	USERS=$(mktemp -d /run/ublkd-users-XXXXXX)
	defer no_ordinary_users
	chown 1000:1000 "$USERS"
	mkdir -p /run/udev/rules.d
	# The program that is tested, instead of the one that will be installed.
	sed "s,\"[^ ]*/ublkd ,\"$UBLKD ," "$rules" >/run/udev/rules.d/59-ublkd-owner.rules
	cp "${abs_top_srcdir:?}/contrib/udev/60-ublkd.rules" /run/udev/rules.d
	"$udevd" --daemon 2>udevd.err || fail "no udev: $(<udevd.err)"
	chmod 666 /dev/ublk-control
	UBLKD=$(of_user 1000 "$ROOTS")
}

# of_user UID PROGRAM: prints the path of a program that is that one, run by the user
of_user() {
	local path=$PWD/${2##*/}-of-$1
	printf '#!/bin/sh\nexec setpriv --reuid=%s --regid=%s --clear-groups %q "$@"\n' "$1" "$1" "$2" >"$path"
	chmod +x "$path"
	echo "$path"
}

no_ordinary_users() {
	udevadm control --exit
	rm -rf /run/udev "$USERS"
	chmod 600 /dev/ublk-control
}

# Statistics ---------------------------------------------------------------------------------------------------------

# statistic KEY: the sum over the queues, from the last report of each queue in LOG
statistic() {
	awk -v key="$1" '
		$2 ~ /^q[0-9]+(\/[0-9]+)?:$/ { for (i = 3; i <= NF; i++) { split($i, kv, "="); if (kv[1] == key) last[$2] = kv[2] } }
		END { for (q in last) sum += last[q]; print sum + 0 }' "$LOG"
}

# queues_reported: how many queues have a line
queues_reported() {
	awk '$2 ~ /^q[0-9]+(\/[0-9]+)?:$/ { seen[$2] } END { print length(seen) }' "$LOG"
}

# locked_buffers: KiB of I/O buffers that the server has locked and that are there. All else of it is locked, too, as it is
# used: it is small, or says nothing about huge pages.
locked_buffers() {
	awk '/^Locked:/ { locked = $2 }
		/^VmFlags:.* lo / && / (hg|nh) / && locked >= 128 { sum += locked } END { print sum + 0 }' "/proc/$PID/smaps"
}

# statistics_now: asks the running server for a report and waits for it
statistics_now() {
	local before
	before=$(grep -c ' q0: ' "$LOG" || true)
	kill -USR1 "$PID"
	wait_until 10 reports_exceed "$before" || fail "no statistics after SIGUSR1"
	sleep 0.2
}

# server_has N: the server has got so many requests at least; what it has not yet is not its to lose, whatever becomes of it
server_has() {
	statistics_now
	(($(statistic read) + $(statistic write) >= $1))
}

reports_exceed() {
	(($(grep -c ' q0: ' "$LOG" || true) > $1))
}

# check_tags: every tag of every queue has served a request
check_tags() {
	local line tags
	while read -r line; do
		[[ $line =~ tags=([0-9]+)/([0-9]+) ]] || fail "no tags in '$line'"
		[ "${BASH_REMATCH[1]}" = "${BASH_REMATCH[2]}" ] || fail "tags not served: $line"
		tags=1
	done < <(awk '$2 ~ /^q[0-9]+(\/[0-9]+)?:$/ { last[$2] = $0 } END { for (q in last) print last[q] }' "$LOG")
	[ -n "${tags:-}" ] || fail "no statistics in $LOG"
}

all_tags_in_flight() {
	local reads writes
	read -r reads writes <"/sys/block/ublkb$ID/inflight"
	((reads + writes >= $1))
}

# use_every_tag DEPTH QUEUES: stops the server's process, fills every queue from its own CPU, and lets it go on
use_every_tag() {
	local depth=$1 queues=$2 job
	kill -STOP "$PID"
	# shellcheck disable=SC2086
	fio --name=tags --filename="$DEV" --ioengine=io_uring --direct=1 --rw=randread --bs=4k --iodepth=$((depth * 2)) \
		--number_ios=$((depth * 3)) --numjobs="$queues" --cpus_allowed="0-$((queues - 1))" --cpus_allowed_policy=split \
		--thread --output=tags.fio &
	job=$!
	wait_until 15 all_tags_in_flight $((depth * queues)) || echo "not all tags in flight: $(<"/sys/block/ublkb$ID/inflight")"
	kill -CONT "$PID"
	wait "$job" || fail "fio failed: $(<tags.fio)"
}

# Data ---------------------------------------------------------------------------------------------------------------

# fio_verify OPTION…: random mixed I/O on DEV, every block written read again and checked by crc32c
fio_verify() {
	timeout -k 10 "$(long 1200 120)" fio --name=verify --filename="$DEV" --ioengine=io_uring --rw=randrw --rwmixread=40 \
		--bsrange=512-1M --direct=1 --iodepth=32 --size="$(long 256M 16M)" --verify=crc32c --verify_fatal=1 \
		--group_reporting --output=verify.fio "$@" || fail "fio $* failed: $(<verify.fio)"
}

random_file() {
	head -c "$2" /dev/urandom >"$1"
}

# file_blocks FILE: 512-byte blocks it holds
file_blocks() {
	stat -c %b "$1"
}

# same_data A B [LENGTH]: compares; with LENGTH only so much
same_data() {
	cmp ${3:+-n "$3"} "$1" "$2" || fail "$1 and $2 differ"
}

# is_zero FILE OFFSET LENGTH
is_zero() {
	cmp -i "$2:0" -n "$3" "$1" /dev/zero || fail "$1 is not zero at $2+$3"
}

# drop_caches DEV: later reads of it come from the server
drop_caches() {
	blockdev --flushbufs "$1"
}

# a_real_tree DIR: some thousand files of this machine, and their checksums in tree.sums
a_real_tree() {
	local tree
	mkdir "$1"
	for tree in /usr/include /usr/share/doc /usr/share; do
		[ -d "$tree" ] || continue
		(cd "$tree" && find . -xdev -type f -print0 2>/dev/null) | sort -z >all.list
		head -z -n "$(long 6000 1000)" all.list >tree.list
		[ "$(tr -dc '\0' <tree.list | wc -c)" -ge 1000 ] && break
	done
	tar -C "$tree" --null -T tree.list -cf - | tar -C "$1" -xf -
	checksums "$1" >tree.sums
	[ "$(wc -l <tree.sums)" -ge 1000 ] || skip "no tree of a thousand files to copy"
}

checksums() {
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0 md5sum)
}
