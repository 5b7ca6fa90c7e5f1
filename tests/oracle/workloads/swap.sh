#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Swap files: made, taken by the kernel, written in place, left.
set -eu

# On for an instant only: it is this machine's memory that would be swapped out,
# to a disk that goes away. What the kernel would write into it is written by
# O_DIRECT, in place and past the file system's times.
trap 'for f in swap preallocated; do swapoff $f 2> /dev/null || true; done' EXIT
on_and_off() {
    swapon "$1"
    # As long as it is on, it can be neither moved nor removed.
    status=0
    mv "$1" moved 2> /dev/null || status=$?
    swapoff "$1"
    [ $status != 0 ]
}
dd if=/dev/zero of=swap bs=65536 count=64 2> /dev/null
chmod 600 swap
mkswap -q -U 11111111-2222-3333-4444-555555555555 swap 2> /dev/null
sync
on_and_off swap
sync
"$NF_SYSCALLS" direct swap 40960 262144 s
mkswap -q -L again -U 11111111-2222-3333-4444-555555555556 swap 2> /dev/null
on_and_off swap
"$NF_SYSCALLS" direct swap 81920 4096 t
mv swap renamed
sync
"$NF_SYSCALLS" fallocate alloc 0 2097152 preallocated
chmod 600 preallocated
mkswap -q -U 11111111-2222-3333-4444-555555555557 preallocated 2> /dev/null
sync
on_and_off preallocated
rm renamed
sync
