# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# The initramfs: busybox, the modules that reach the shared root, the guest's two scripts, and the
# index of the modules. Built once for each kernel and state of these scripts, then kept in the cache.

# Modules needed before the root is there; what a kernel has built in is absent here and not missed.
BOOT_MODULES='virtio_pci virtio_console virtiofs overlay'

image_tools()
{
	need busybox busybox-static
	need depmod kmod
	need xz xz-utils
}

# image_for DIR VERSION MODULES: prints the path of a fitting initramfs.
image_for()
{
	local version=$2 modules=$3 images=$KERNEL_CACHE/images image
	image=$images/$version-$(image_key "$modules").img
	if [ ! -s "$image" ]; then
		writable_folder "$images"
		say "making the initramfs of $version"
		image_build "$version" "$modules" "$image" || die 125 "$version: the initramfs cannot be made"
		find "$images" -name '*.img' -mtime +14 -delete
	fi
	echo "$image"
}

# One key for all that goes into the image.
image_key()
{
	{
		cat "$VM_DIR/lib/image.sh" "$VM_DIR/guest-init" "$VM_DIR/guest-main" "$(command -v busybox)"
		stat -c '%n %Y' "$1" "$1"/modules.* 2>/dev/null
	} | sha256sum | cut -c 1-16
}

image_build()
(
	version=$1 modules=$2 image=$3
	work=$(mktemp -d) || exit
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' INT TERM
	root=$work/root index=$work/index/lib/modules/$version
	mkdir -p "$root"/{bin,dev,proc,sys,share,over,root,lib/boot,lib/index} "$index" || exit
	image_index "$modules" "$version" "$work/index" || exit
	cp "$index"/modules.* "$root/lib/index/" || exit
	image_boot_modules "$modules" "$index/modules.dep" "$root/lib/boot" || exit
	image_busybox "$root/bin" || exit
	install -m 755 "$VM_DIR/guest-init" "$root/init" || exit
	install -m 755 "$VM_DIR/guest-main" "$root/main" || exit
	(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$work/image" || exit
	# Renamed when complete, so that two runs at once cannot disturb each other.
	cp "$work/image" "$image.$$" && mv "$image.$$" "$image"
)

# depmod writes beside the modules it indexes: give it a folder of ours with a link to them.
image_index()
{
	local modules=$1 version=$2 base=$3 to=$3/lib/modules/$2
	ln -s "$modules/kernel" "$to/kernel" || return
	cp "$modules"/modules.{order,builtin,builtin.modinfo} "$to/" 2>/dev/null
	depmod -b "$base" "$version" 2>/dev/null
}

image_busybox()
{
	local busybox applet
	busybox=$(command -v busybox)
	# The list of the loader's own words: "not a dynamic executable" is what a static one gets.
	if ldd "$busybox" >/dev/null 2>&1; then
		say "$busybox: expected a static one (Debian: apt-get install busybox-static)"
		return 1
	fi
	cp "$busybox" "$1/busybox" || return
	for applet in sh mount mkdir insmod switch_root sleep cat cp ln; do
		ln -s busybox "$1/$applet" || return
	done
}

# Copied uncompressed, and numbered in the order in which they must be loaded.
image_boot_modules()
{
	local modules=$1 dep=$2 to=$3 name file n=10
	while read -r file; do
		name=${file##*/}
		name=${name%%.ko*}
		case $file in
		*.xz) xz -dc "$modules/$file" ;;
		*.zst) zstd -qdc "$modules/$file" ;;
		*.gz) gzip -dc "$modules/$file" ;;
		*) cat "$modules/$file" ;;
		esac >"$to/$n-$name.ko" || return
		n=$((n + 1))
	done < <(image_load_order "$dep")
}

# modules.dep has "module: needs needs-of-needs ...": load each line from its end.
image_load_order()
{
	local module
	for module in $BOOT_MODULES; do
		awk -v want="/$module.ko" '
			{ file = $1; sub(/:$/, "", file) }
			index(file, want) { for (i = NF; i > 1; i--) print $i; print file }' "$1"
	done | awk '!seen[$0]++'
}
