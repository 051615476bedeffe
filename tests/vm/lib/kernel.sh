# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Finding kernels. A kernel is a folder into which its packages were unpacked; nothing here uses the network.

# kernel_version DIR: "6.12.117+deb13-cloud-amd64", from the one folder of modules in it.
kernel_version()
{
	local modules
	for modules in "$1"/usr/lib/modules/*/kernel "$1"/lib/modules/*/kernel; do
		if [ -d "$modules" ]; then
			basename "$(dirname "$modules")"
			return
		fi
	done
	return 1
}

# kernel_modules DIR VERSION: where the modules are.
kernel_modules()
{
	local place
	for place in "$1/usr/lib/modules/$2" "$1/lib/modules/$2"; do
		if [ -d "$place/kernel" ]; then
			echo "$place"
			return
		fi
	done
	return 1
}

# kernel_image DIR VERSION: the bootable file; from 7.3 on it lies beside the modules.
kernel_image()
{
	local place
	for place in "$1/boot/vmlinuz-$2" "$1/usr/lib/modules/$2/vmlinuz" "$1/lib/modules/$2/vmlinuz"; do
		if [ -f "$place" ]; then
			echo "$place"
			return
		fi
	done
	return 1
}

# series_of VERSION: 6.12.117+deb13-cloud-amd64 is of series 6.12.
series_of()
{
	[[ $1 =~ ^([0-9]+\.[0-9]+) ]] && echo "${BASH_REMATCH[1]}"
}

# kernel_list: "SERIES VERSION DIR" of every usable kernel in the cache, the newest last.
kernel_list()
{
	local dir version
	for dir in "$KERNEL_CACHE"/*/; do
		dir=${dir%/}
		version=$(kernel_version "$dir") || continue
		kernel_image "$dir" "$version" >/dev/null || continue
		echo "$(series_of "$version") $version $dir"
	done | sort -k2,2V
}

# kernel_find SERIES|newest|DIR: the folder, or an error that says how to get one.
kernel_find()
{
	local dir
	case $1 in
	*/* | .)
		kernel_version "$1" >/dev/null ||
			die 125 "$1: expected a folder with an unpacked kernel (lib/modules/VERSION), found none"
		realpath -- "$1"
		return
		;;
	newest) dir=$(kernel_list | tail -n 1 | cut -d ' ' -f 3-) ;;
	*) dir=$(kernel_list | awk -v s="$1" '$1 == s { sub(/^[^ ]+ [^ ]+ /, ""); dir = $0 } END { print dir }') ;;
	esac
	[ -n "$dir" ] ||
		die 125 "no kernel '$1' in $KERNEL_CACHE (get one: $VM_DIR/kernels fetch $1)"
	realpath -- "$dir"
}
