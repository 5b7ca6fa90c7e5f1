# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Functions for bash scripts that work on tapped disks without a guest: this
# kernel's ext4 on a loop device over nbdfuse over an NBD export of write-tap.
# The caller sets disk_dir (private, removed by the caller) and disk_qsd (the
# patched storage daemon), and calls disk_stop_all at its end.
#
#   disk_start NAME [TAP-OPTIONS]
#                       serve $disk_dir/NAME.img: tap on NAME.tap, exports "x"
#                       (writable) and "ro" on NAME.nbd
#   disk_mount NAME [MOUNT-OPTIONS]
#                       its file system on $disk_dir/NAME.mnt
#   disk_umount NAME    and off again
#   disk_stop NAME      all of it
#   disk_stop_all

declare -A disk_qsd_pid=() disk_fuse_pid=() disk_loop=() disk_mounted=()

disk_wait() { # WHAT COMMAND...
    local what=$1
    shift
    for _ in $(seq 400); do
        "$@" && return
        sleep 0.05
    done
    echo "disk: $what did not come up" >&2
    cat "$disk_dir"/*.qsd.err >&2
    return 1
}

disk_start() {
    local name=$1 tap=${2:-}
    rm -f "$disk_dir/$name.nbd" "$disk_dir/$name.tap"
    "$disk_qsd" \
        --blockdev "driver=file,node-name=f0,filename=$disk_dir/$name.img,discard=unmap" \
        --blockdev "driver=write-tap,node-name=t0,file=f0,socket=$disk_dir/$name.tap,discard=unmap${tap:+,$tap}" \
        --nbd-server "addr.type=unix,addr.path=$disk_dir/$name.nbd,max-connections=0" \
        --export type=nbd,id=rw,node-name=t0,name=x,writable=on \
        --export type=nbd,id=ro,node-name=t0,name=ro 2> "$disk_dir/$name.qsd.err" < /dev/null &
    disk_qsd_pid[$name]=$!
    disk_wait "the disk $name" test -S "$disk_dir/$name.nbd"
    disk_wait "the tap of $name" test -S "$disk_dir/$name.tap"
}

disk_mount() {
    local name=$1 options=${2:-}
    mkdir -p "$disk_dir/$name.fuse" "$disk_dir/$name.mnt"
    nbdfuse "$disk_dir/$name.fuse/disk" "nbd+unix:///x?socket=$disk_dir/$name.nbd" < /dev/null &
    disk_fuse_pid[$name]=$!
    disk_wait "nbdfuse of $name" test -e "$disk_dir/$name.fuse/disk"
    disk_loop[$name]=$(losetup -f --show --direct-io=on "$disk_dir/$name.fuse/disk")
    mount ${options:+-o "$options"} "${disk_loop[$name]}" "$disk_dir/$name.mnt"
    disk_mounted[$name]=yes
}

# Each thing by its own id, in the reverse order; an error on the way out must
# not stop the rest.
disk_umount() {
    local name=$1
    if [ -n "${disk_mounted[$name]:-}" ]; then
        umount "$disk_dir/$name.mnt" || umount -l "$disk_dir/$name.mnt" || true
        disk_mounted[$name]=
    fi
    if [ -n "${disk_loop[$name]:-}" ]; then
        losetup -d "${disk_loop[$name]}" || true
        disk_loop[$name]=
    fi
    if [ -n "${disk_fuse_pid[$name]:-}" ]; then
        # The loop device lets go of the file a moment after losetup -d.
        for _ in $(seq 100); do
            fusermount -u "$disk_dir/$name.fuse" 2> /dev/null && break
            sleep 0.05
        done
        kill "${disk_fuse_pid[$name]}" 2> /dev/null || true
        wait "${disk_fuse_pid[$name]}" 2> /dev/null || true
        disk_fuse_pid[$name]=
    fi
}

disk_stop() {
    local name=$1
    disk_umount "$name"
    if [ -n "${disk_qsd_pid[$name]:-}" ]; then
        kill "${disk_qsd_pid[$name]}" 2> /dev/null || true
        wait "${disk_qsd_pid[$name]}" 2> /dev/null || true
        disk_qsd_pid[$name]=
    fi
}

disk_stop_all() {
    local name
    for name in "${!disk_qsd_pid[@]}"; do
        disk_stop "$name"
    done
}
