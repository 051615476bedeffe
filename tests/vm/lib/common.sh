# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034
# What every script of the harness needs: messages, checks of what is installed, numbers.

VM_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
PROGRAM=${0##*/}

# Kernels live outside the tree: they survive `make clean` and serve every clone.
KERNEL_CACHE=${UBLKD_KERNELS:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/ublkd/kernels}

say() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }

# die STATUS MESSAGE...
die()
{
	local status=$1
	shift
	say "$@"
	exit "$status"
}

have() { command -v "$1" >/dev/null 2>&1; }

# running PID: a child that has ended but was not waited for runs no more. (bash does not always take it from the
# kernel at once, so kill -0 would find it for a long time.)
running()
{
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
	stat=${stat##*) }
	[ "${stat%% *}" != Z ]
}

# need TOOL PACKAGE: a tool that is missing is named with the package that brings it.
need()
{
	have "$1" || die 125 "$1: not found (Debian: apt-get install $2)"
}

# number OPTION VALUE MIN MAX
number()
{
	case $2 in
	'' | *[!0-9]*) die 2 "$1: expected $3...$4, got '$2'" ;;
	esac
	if [ "${#2}" -gt 9 ] || [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then
		die 2 "$1: expected $3...$4, got '$2'"
	fi
}

# writable_folder DIR: made when it is not there.
writable_folder()
{
	mkdir -p "$1" 2>/dev/null
	[ -w "$1" ] || die 125 "$1: cannot be written (UBLKD_KERNELS may name another folder)"
}

# quoted WORD...: in single quotes, for bash and for busybox sh alike.
quoted()
{
	local word
	for word; do
		printf "'%s' " "${word//\'/\'\\\'\'}"
	done
}
