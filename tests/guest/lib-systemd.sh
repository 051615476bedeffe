# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# For tests of the units, behind lib.sh: in a guest in which systemd is process 1 ("# init: systemd").
require systemctl udevadm
[ -d /run/systemd/system ] || skip "systemd is not process 1"

INSTALLED=${abs_top_builddir:?}/tests/installed
[ -d "$INSTALLED" ] || skip "no $INSTALLED: 'make check' makes it"
mapfile -t INSTALLED_FILES < <(cd "$INSTALLED" && find . ! -type d)
UNIT=$(find "$INSTALLED" -path '*/system/ublkd.service')
[ -e "$UNIT" ] || skip "no units in $INSTALLED: configure has found no folder for them"
SBIN=$(sed -n 's,^ExecStart=\(.*\)/ublkd serve .*,\1,p' "$UNIT")
ETC=$(sed -n 's,^ConditionPathIsDirectory=\(.*\)/ublkd/devices$,\1,p' "$UNIT")
# The client's own default is the unit's.
unset UBLKD_SOCKET

no_service() {
	systemctl stop ublkd-shutdown
	systemctl stop ublkd ublkd@one || true
	(cd / && rm -f "${INSTALLED_FILES[@]}")
	rm -rf "$ETC/ublkd" /etc/systemd/system/ublkd* /etc/udev/rules.d/*ublkd* /etc/tmpfiles.d/ublkd.conf
}

# found FOLDER FILE…: those for this folder of systemd's or udev's; they may have been built for a prefix of its own
found() {
	local folder=$1 file
	for file in "${@:2}"; do
		[ -e "/usr/lib/$folder/${file##*/}" ] || [ -e "/lib/$folder/${file##*/}" ] ||
			install -D -m 644 -t "/etc/$folder" "$file"
	done
}

# install_units: as a package does with what "make install" makes, with an empty folder of devices
install_units() {
	defer no_service
	tar -C "$INSTALLED" -c . | tar -C / -x --keep-directory-symlink --no-overwrite-dir
	install -t "$SBIN" "$UBLKD" "$UBLKCTL" # that are to be tested
	found systemd/system "${UNIT%/*}"/ublkd*
	found udev/rules.d "${UNIT%/systemd/*}"/udev/rules.d/*ublkd*
	found tmpfiles.d "$(find "$INSTALLED" -path '*/tmpfiles.d/ublkd.conf')"
	rm -rf /run/ublkd
	systemd-tmpfiles --create ublkd.conf
	[ "$(stat -c '%U:%G %a' /run/ublkd /run/ublkd/udev | sort -u)" = "root:root 755" ] || fail "$(ls -ld /run/ublkd{,/udev})"
	mkdir -p "$ETC/ublkd/devices"
	udevadm control --reload
	systemctl daemon-reload
}

# end_service: as before the package is removed
end_service() {
	systemctl stop ublkd-shutdown || fail "no devices deleted: $(said ublkd-shutdown)"
	systemctl stop ublkd || fail "not stopped: $(said ublkd)"
	no_device_is_left || fail "left: $(echo /dev/ublk*)"
}

# describe_device NAME KEY=VALUE…: for the next start, with few buffers to lock
describe_device() {
	local name=$1
	shift
	printf '%s\n' '[device]' "$@" depth=16 max-io=128K >"$ETC/ublkd/devices/$name.conf"
}

# shown PROPERTY: what systemd knows of the service
shown() {
	systemctl show --property="$1" --value ublkd
}

# runs_again PID: another process is the service's than this
runs_again() {
	local pid
	pid=$(shown MainPID)
	[ "$pid" != 0 ] && [ "$pid" != "$1" ] && systemctl --quiet is-active ublkd
}

is_live() { # NAME
	"$UBLKCTL" list | grep -qE "^$1 .* live "
}

said() { # UNIT
	journalctl --no-pager --output=cat --unit="$1" | tail -n 60
}
