# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# One virtual machine: the daemon that shares the host's /, QEMU, the channels to both, and their end.
# Everything of a run is in one private folder, RUN. Processes are ended by the id they were started with.

RUN='' VFS_PID='' QEMU_PID='' OUT_PID='' STALLS_PID='' VM_OFF=''
VFS_DAEMON=''

# The folder is removed and both processes end with this one, however it ends.
vm_prepare()
{
	vm_sweep "${TMPDIR:-/tmp}"
	RUN=$(mktemp -d "${TMPDIR:-/tmp}/ublkd-vm-$$-XXXXXX") || die 125 "no temporary folder in ${TMPDIR:-/tmp}"
	trap vm_cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap 'exit 129' HUP
	mkfifo "$RUN/ctl" "$RUN/out" "$RUN/console.in" "$RUN/monitor.in" || die 125 "$RUN: no named pipes here"
	: >"$RUN/console.out"
	: >"$RUN/monitor.out"
	# Opened for both directions, neither blocks nor ends when QEMU is gone.
	exec {CTL}<>"$RUN/ctl" {CONSOLE}<>"$RUN/console.in" {MONITOR}<>"$RUN/monitor.in"
}

# vm_sweep FOLDER: what an earlier run could not remove, because it was killed outright.
vm_sweep()
{
	local dir owner
	for dir in "$1"/ublkd-vm-*-*; do
		owner=${dir#"$1"/ublkd-vm-}
		owner=${owner%%-*}
		if [ -O "$dir" ] && [[ $owner =~ ^[0-9]+$ ]] && [ ! -d "/proc/$owner" ]; then
			rm -rf "$dir"
		fi
	done
}

vm_cleanup()
{
	local status=$? pid
	trap - EXIT INT TERM HUP
	for pid in $STALLS_PID $QEMU_PID $VFS_PID $OUT_PID; do
		kill -KILL "$pid"
		wait "$pid"
	done 2>/dev/null
	rm -rf "$RUN"
	exit $status
}

# vm_tools: what must be installed, each with the package that brings it.
vm_tools()
{
	local place
	need qemu-system-x86_64 qemu-system-x86
	need perl perl-base
	need setpriv util-linux
	for place in "${UBLKD_VIRTIOFSD:-}" /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd; do
		if [ -n "$place" ] && [ -x "$place" ]; then
			VFS_DAEMON=$place
			break
		fi
	done
	[ -n "$VFS_DAEMON" ] ||
		die 125 "virtiofsd: not found in /usr/libexec or /usr/lib/qemu (Debian 13: apt-get install virtiofsd, Debian 12: qemu-system-common)"
	# The one that came with QEMU up to Debian 12 opens an overlay's files in a way only their owner may.
	if [ "$(id -u)" != 0 ] && ! "$VFS_DAEMON" --help 2>&1 | grep -q -e --shared-dir; then
		die 125 "$VFS_DAEMON: as a normal user expected virtiofsd 1.11 or later (Debian 13), this one needs root"
	fi
}

# The socket is made and listened on before the daemon starts: it needs no lock or pid file in
# /run for it, and QEMU may connect at once.
# shellcheck disable=SC2016 # it is perl
LISTEN='
use Socket;
$^F = 255;
my $path = shift;
socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!\n";
bind($s, pack_sockaddr_un("$path.new")) or die "$path.new: $!\n";
listen($s, 1) or die "listen: $!\n";
rename("$path.new", $path) or die "$path: $!\n";
push @ARGV, "--fd=" . fileno($s);
exec @ARGV or die "$ARGV[0]: $!\n";'

# vm_share: the whole / of the host, as one file system; the guest mounts it read-only.
vm_share()
{
	local daemon=("$VFS_DAEMON") help
	help=$("$VFS_DAEMON" --help 2>&1)
	if [[ $help == *--shared-dir* ]]; then
		daemon+=(--shared-dir=/ --cache=always --log-level=error --rlimit-nofile=0)
		if [ "$(id -u)" = 0 ]; then daemon+=(--sandbox=chroot); else daemon+=(--sandbox=none); fi
		[[ $help != *--readonly* ]] || daemon+=(--readonly)
		[[ $help != *--no-announce-submounts* ]] || daemon+=(--no-announce-submounts)
	else
		daemon+=(-o source=/ -o cache=always -o sandbox=chroot -o log_level=err --rlimit-nofile=0)
	fi
	ulimit -S -n "$(ulimit -H -n)"
	setpriv --pdeathsig KILL perl -e "$LISTEN" "$RUN/share" "${daemon[@]}" \
		>"$RUN/virtiofsd.log" 2>&1 </dev/null &
	VFS_PID=$!
	for _ in {1..100}; do
		[ -S "$RUN/share" ] && return
		running $VFS_PID || break
		sleep 0.1
	done
	die 125 "virtiofsd does not start: $(tail -n 3 "$RUN/virtiofsd.log")"
}

# vm_conf VERSION MODULES CWD INIT: read by both scripts of the guest, added behind the cached image.
vm_conf()
{
	mkdir "$RUN/conf"
	{
		echo "VM_VERSION=$(quoted "$1")"
		echo "VM_MODULES=$(quoted "$2")"
		echo "VM_CWD=$(quoted "$3")"
		echo "VM_INIT=$(quoted "$4")"
	} >"$RUN/conf/vm.conf"
}

# vm_command BOOT ENV-ARRAY-NAME WORD...: what the guest runs, and with which environment.
vm_command()
{
	local boot=$1
	local -n variables=$2
	shift 2
	{
		echo "VM_BOOT=$boot"
		echo "VM_ENV=($(quoted "${variables[@]}"))"
		echo "VM_ARGV=($(quoted "$@"))"
	} >"$RUN/conf/lists"
}

# vm_memory CPUS MEMORY NODES: sets QEMU_MEMORY. All of it is shared with the daemon.
vm_memory()
{
	local node each=$(($2 / $3)) cpus=$(($1 / $3))
	local backend=memory-backend-memfd,share=on
	QEMU_MEMORY=(-smp "$1" -m "$((each * $3))M" -machine pc)
	if [ "$3" = 1 ]; then
		QEMU_MEMORY[-1]+=,memory-backend=memory
		QEMU_MEMORY+=(-object "$backend,id=memory,size=${each}M")
		return
	fi
	for ((node = 0; node < $3; node++)); do
		QEMU_MEMORY+=(-object "$backend,id=memory$node,size=${each}M"
			-numa "node,nodeid=$node,cpus=$((node * cpus))-$(((node + 1) * cpus - 1)),memdev=memory$node")
	done
}

# vm_start IMAGE KERNEL CPUS MEMORY NODES ACCELERATION APPEND QEMU-ARG...
vm_start()
{
	local image=$1 kernel=$2 acceleration=$6 append=$7 qemu
	vm_memory "$3" "$4" "$5"
	shift 7
	(cd "$RUN/conf" && find . -type f | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$RUN/conf.gz"
	cat "$image" "$RUN/conf.gz" >"$RUN/initrd" || die 125 "$RUN: cannot be written"
	# cat ends by itself when QEMU, the only writer, is gone.
	cat "$RUN/out" &
	OUT_PID=$!
	# shellcheck disable=SC2054 # QEMU's words have commas
	qemu=(qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -name ublkd-vm
		"${QEMU_MEMORY[@]}"
		-chardev "pipe,id=console,path=$RUN/console" -serial chardev:console
		-chardev "pipe,id=monitor,path=$RUN/monitor" -mon chardev=monitor,mode=readline
		# The first virtio device: the guest knows its ports as vport0p1 and vport0p2.
		-device virtio-serial-pci
		-chardev "file,id=ctl,path=$RUN/ctl" -device virtserialport,nr=1,chardev=ctl,name=ctl
		-chardev "file,id=out,path=$RUN/out" -device virtserialport,nr=2,chardev=out,name=out
		-chardev "socket,id=share,path=$RUN/share" -device vhost-user-fs-pci,chardev=share,tag=host
		-kernel "$kernel" -initrd "$RUN/initrd"
		# Warnings reach the console, so that a guest that dies has left its last words there. Without norandmaps
		# each program starts at other addresses, and QEMU before 8.0 translates its code and libc's anew each
		# time: starting fio takes three times as long. With tsc=reliable the kernel does not compare the TSC, which
		# is the host's clock, with the HPET: a host that has no time for the guest in between makes them differ,
		# and leaving the TSC is slow, or an Oops, as it patches code that QEMU is running.
		-append "console=ttyS0 loglevel=5 panic=-1 no_timer_check tsc=reliable mitigations=off norandmaps log_buf_len=8M printk.devkmsg=on sysrq_always_enabled watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=180 $append"
		"$@")
	case $acceleration in
	tcg) qemu+=(-accel "tcg,thread=multi" -cpu "max,cx16=off") ;;
	icount) qemu+=(-accel "tcg,thread=single" -cpu "max,cx16=off" -icount "shift=0,sleep=off") ;;
	kvm) qemu+=(-accel kvm -cpu host) ;;
	esac
	setpriv --pdeathsig KILL "${qemu[@]}" >"$RUN/qemu.log" 2>&1 </dev/null &
	QEMU_PID=$!
}

vm_alive() { running "$QEMU_PID"; }

# stop_and_go PID MILLISECONDS
stop_and_go()
{
	local signal ms
	while running "$1"; do
		for signal in STOP CONT; do
			kill -$signal "$1" 2>/dev/null
			ms=$((RANDOM * $2 / 32768))
			printf -v ms %d.%03d $((ms / 1000)) $((ms % 1000))
			sleep "$ms"
		done
	done
}

# vm_stalls MILLISECONDS: until vm_wait.
vm_stalls()
{
	stop_and_go "$QEMU_PID" "$1" &
	STALLS_PID=$!
}

# vm_read VARIABLE SECONDS: one line from the guest; 1 when there was none in that time, 2 when the VM is gone.
vm_read()
{
	local left=$2 part text=''
	while [ "$left" -gt 0 ]; do
		# A time-out in the middle of a line gives what was read of it.
		part=''
		IFS= read -r -t 1 -u "$CTL" part && { printf -v "$1" %s "$text$part"; return 0; }
		text+=$part
		if ! vm_alive; then
			VM_OFF=$EPOCHSECONDS
			# Its last line may still be on the way; a busy host takes its time to read it.
			IFS= read -r -t 3 -u "$CTL" part && { printf -v "$1" %s "$text$part"; return 0; }
			return 2
		fi
		[ -z "${VM_EXPIRED:-}" ] || return 1
		left=$((left - 1))
	done
	return 1
}

# vm_sysrq KEY: through the serial line, so no process of the guest needs to be alive for it.
vm_sysrq()
{
	local size=-1 now
	echo 'chardev-send-break console' >&"$MONITOR"
	sleep 0.3
	printf '%s' "$1" >&"$CONSOLE"
	# All tasks are a long text: wait until no more comes.
	for _ in {1..20}; do
		sleep 1
		now=$(stat -c %s "$RUN/console.out")
		[ "$now" != "$size" ] || break
		size=$now
	done
}

# vm_dump: what hangs, then every task, into the console's log.
vm_dump()
{
	vm_alive || return
	vm_sysrq 9
	vm_sysrq w
	vm_sysrq t
}

# vm_again: what a guest that is off leaves, so that another can be started.
vm_again()
{
	vm_wait
	kill -KILL "$VFS_PID" 2>/dev/null
	wait "$VFS_PID" 2>/dev/null
	VFS_PID=''
	rm -f "$RUN/share"
	: >"$RUN/console.out"
}

# vm_wait: a guest that has said its result switches off; it is given ten seconds.
vm_wait()
{
	for _ in {1..100}; do
		vm_alive || break
		sleep 0.1
	done
	[ -z "$STALLS_PID" ] || kill "$STALLS_PID" 2>/dev/null
	STALLS_PID=''
	kill -KILL "$QEMU_PID" 2>/dev/null
	wait "$QEMU_PID" 2>/dev/null
	QEMU_PID=''
	wait "$OUT_PID" 2>/dev/null
	OUT_PID=''
}
