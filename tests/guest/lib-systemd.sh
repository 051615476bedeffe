# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# For tests of the units, behind lib.sh: in a guest in which systemd is process 1 ("# init: systemd").
require systemctl udevadm
[ -d /run/systemd/system ] || skip "systemd is not process 1"

INSTALLED=${abs_top_builddir:?}/tests/installed
mapfile -t INSTALLED_FILES < <(cd "$INSTALLED" && find . ! -type d)
UNIT=$(find "$INSTALLED" -path '*/system/ublkd.service')
[ -e "$UNIT" ] || skip "no units in $INSTALLED: 'make check' makes it, where configure finds systemd and udev"
ETC=$(sed -n 's,^ConditionPathIsDirectory=\(.*\)/ublkd/devices$,\1,p' "$UNIT")
# The client's own default is the unit's.
unset UBLKD_SOCKET

no_service() {
	systemctl stop ublkd-shutdown
	systemctl stop ublkd ublkd@one || true
	(cd / && rm -f "${INSTALLED_FILES[@]}")
	rm -rf "$ETC/ublkd" /etc/systemd/system/ublkd.service.d /etc/systemd/system/ublkd-shutdown.service.d
}

# install_units: as a package does with what "make install" makes, with an empty folder of devices
install_units() {
	defer no_service
	tar -C "$INSTALLED" -c . | tar -C / -x --keep-directory-symlink --no-overwrite-dir
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
