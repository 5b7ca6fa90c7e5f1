# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Functions for bash scripts that need a small Linux guest: Debian's cloud
# kernel, a busybox initramfs, disks of the caller's. One guest per script.
#
#   guest_build         the directory of our programs (default: build)
#   guest_files         absolute paths of files and directories that it shall have, too
#   guest_start DIR QEMU-ARGUMENTS...
#                       starts it, paused; DIR is a private directory
#   qmp JSON            one command on its monitor; prints the reply
#   guest_boot          lets it run and waits until it takes commands
#   guest_run COMMAND   runs a line of shell in it; prints what it prints,
#                       returns its status (125: no answer in time)
#   guest_script FILE ARGUMENTS
#                       runs a shell script of the host's in it
#   guest_off           syncs, powers it off and waits for its end
#   guest_kill          ends it at once, if it still runs
#
# Kernel messages are in DIR/console. QEMU's process id is in guest_pid, and
# the accelerator it uses in guest_accel.

PATH=$PATH:/usr/sbin:/sbin
guest_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
guest_build=${NF_BUILD:-$(cd "$guest_here/../.." && pwd)/build}
guest_qemu=${NF_QEMU:-$guest_build/qemu/bin/qemu-system-x86_64}
guest_files=()
guest_pid=
guest_accel=

guest_fail() {
    echo "guest: $*" >&2
    return 1
}

# Everything about the machine that does not depend on the caller.
guest_machine() {
    local kernel=$1 initramfs=$2
    guest_args=(
        "$guest_qemu" -L /usr/share/qemu -L /usr/share/seabios
        -nodefaults -no-user-config -display none -no-reboot
        -machine pc -m 256 -smp 1
        -kernel "$kernel" -initrd "$initramfs"
        -append "console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on"
    )
}

# Whether KVM runs this guest to its init. That /dev/kvm opens says little: on
# a host that is itself a guest it may hang in early boot. Tried once per boot
# of the host, within a few seconds; the answer is kept beside the kernel.
guest_probe_kvm() {
    local kernel=$1 initramfs=$2 mark dir pid fd line ok=1
    grep -qwE 'vmx|svm' /proc/cpuinfo && [ -r /dev/kvm ] && [ -w /dev/kvm ] || return 1
    mark=$(dirname "$kernel")/kvm-works-$(cat /proc/sys/kernel/random/boot_id)
    if [ -f "$mark" ]; then
        [ "$(cat "$mark")" = yes ]
        return
    fi
    dir=$(mktemp -d)
    mkfifo "$dir/ctl.in" "$dir/ctl.out"
    local guest_args
    guest_machine "$kernel" "$initramfs"
    "${guest_args[@]}" -accel kvm -cpu host -chardev null,id=con -serial chardev:con \
        -chardev "pipe,id=ctl,path=$dir/ctl" -serial chardev:ctl \
        > /dev/null 2>&1 < /dev/null &
    pid=$!
    exec {fd}<> "$dir/ctl.out"
    if read -r -t 8 line <&"$fd" && [ "$line" = =ready ]; then
        ok=0
    fi
    exec {fd}>&-
    kill -KILL "$pid" 2> /dev/null
    wait "$pid" 2> /dev/null
    rm -rf "$dir"
    rm -f "$(dirname "$kernel")"/kvm-works-*
    if [ $ok -eq 0 ]; then echo yes; else echo no; fi > "$mark"
    return $ok
}

guest_start() {
    local dir=$1 kernel_dir line guest_args accel
    shift
    [ -x "$guest_qemu" ] || guest_fail "$guest_qemu is not there: run make qemu" || return
    kernel_dir=$("$guest_here/fetch-kernel") || return
    "$guest_here/make-initramfs" "$kernel_dir" "$guest_build/guest/guest-tool" \
        "$dir/initramfs" ${guest_files[@]+"${guest_files[@]}"} || return
    if [ -z "$guest_accel" ]; then
        guest_accel=tcg
        if guest_probe_kvm "$kernel_dir/vmlinuz" "$dir/initramfs"; then
            guest_accel=kvm
        fi
    fi
    accel=(-accel tcg,thread=multi -cpu max)
    if [ "$guest_accel" = kvm ]; then
        accel=(-accel kvm -cpu host)
    fi
    mkfifo -m 600 "$dir/ctl.in" "$dir/ctl.out" "$dir/qmp.in" "$dir/qmp.out" || return
    # Opened for both directions, so that neither end waits for the other.
    exec {guest_ctl_in}<> "$dir/ctl.in" {guest_ctl_out}<> "$dir/ctl.out" \
        {guest_qmp_in}<> "$dir/qmp.in" {guest_qmp_out}<> "$dir/qmp.out"
    guest_machine "$kernel_dir/vmlinuz" "$dir/initramfs"
    "${guest_args[@]}" "${accel[@]}" -S \
        -chardev "file,id=console,path=$dir/console" -serial chardev:console \
        -chardev "pipe,id=ctl,path=$dir/ctl" -serial chardev:ctl \
        -chardev "pipe,id=qmp,path=$dir/qmp" -mon chardev=qmp,mode=control \
        "$@" < /dev/null 2> "$dir/qemu.log" &
    guest_pid=$!
    while ! IFS= read -r -t 0.2 line <&"$guest_qmp_out"; do
        if ! kill -0 "$guest_pid" 2> /dev/null; then
            guest_pid=
            guest_fail "QEMU did not start: $(cat "$dir/qemu.log")"
            return
        fi
    done
    guest_dir=$dir
    qmp '{"execute": "qmp_capabilities"}' > /dev/null
}

qmp() {
    local line
    printf '%s\n' "$1" >&"$guest_qmp_in"
    while IFS= read -r -t 30 line <&"$guest_qmp_out"; do
        case $line in
        '{"return"'*)
            printf '%s\n' "$line"
            return 0
            ;;
        '{"error"'*)
            guest_fail "$1: $line"
            return
            ;;
        esac
    done
    guest_fail "the monitor does not answer: $1"
}

guest_boot() {
    local line
    qmp '{"execute": "cont"}' > /dev/null || return
    if ! IFS= read -r -t "${guest_boot_timeout:-60}" line <&"$guest_ctl_out" ||
        [ "$line" != =ready ]; then
        guest_fail "the guest does not boot: $(tail -n 5 "$guest_dir/console")"
        return
    fi
}

guest_run() {
    local line
    printf '%s\n' "$1" >&"$guest_ctl_in"
    while IFS= read -r -t "${guest_timeout:-60}" line <&"$guest_ctl_out"; do
        case $line in
        =[0-9]*) return "${line#=}" ;;
        esac
        printf '%s\n' "$line"
    done
    guest_fail "no answer to: $1" || return 125
}

guest_off() {
    local i
    [ -n "$guest_pid" ] || return 0
    guest_run 'sync; cd /; umount -a -t ext4' || true
    printf 'poweroff -f\n' >&"$guest_ctl_in"
    for ((i = 0; i < 100; i++)); do
        if ! kill -0 "$guest_pid" 2> /dev/null; then
            break
        fi
        sleep 0.1
    done
    guest_kill
}

guest_kill() {
    [ -n "$guest_pid" ] || return 0
    kill -KILL "$guest_pid" 2> /dev/null || true
    wait "$guest_pid" 2> /dev/null || true
    guest_pid=
    exec {guest_ctl_in}>&- {guest_ctl_out}>&- {guest_qmp_in}>&- {guest_qmp_out}>&-
    return 0
}

# guest_script FILE ARGUMENTS: runs a script of the host's in the guest.
guest_script() {
    local file=$1
    shift
    guest_run "echo $(base64 -w 0 "$file") | base64 -d > /tmp/script" &&
        guest_run "sh /tmp/script $*"
}
