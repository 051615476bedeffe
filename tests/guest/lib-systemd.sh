# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# For tests of the units, behind lib.sh: in a guest in which systemd is process 1 ("# init: systemd").
require systemctl udevadm
[ -d /run/systemd/system ] || skip "systemd is not process 1"

UNITS=${abs_top_builddir:?}/contrib/systemd
[ -e "$UNITS/ublkd.service" ] || skip "no $UNITS/ublkd.service"
ETC=$(sed -n 's,^ConditionPathIsDirectory=\(.*\)/ublkd/devices$,\1,p' "$UNITS/ublkd.service")
SBIN=$(sed -n 's,^ExecStart=\(.*\)/ublkd serve .*,\1,p' "$UNITS/ublkd.service")
# The client's own default is the unit's.
unset UBLKD_SOCKET

no_service() {
	systemctl stop ublkd-shutdown
	systemctl stop ublkd ublkd@one || true
	rm -f "$SBIN/ublkd" "$SBIN/ublkctl" /etc/systemd/system/ublkd*.service /etc/udev/rules.d/60-ublkd.rules
	rm -rf "$ETC/ublkd" /etc/systemd/system/ublkd.service.d
}

# install_units: as make install does, with an empty folder of devices
install_units() {
	defer no_service
	install -D -t "$SBIN" "$UBLKD" "$UBLKCTL"
	install -D -m 644 -t /etc/systemd/system "$UNITS"/*.service
	install -D -m 644 -t /etc/udev/rules.d "${abs_top_srcdir:?}/contrib/udev/60-ublkd.rules"
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
