#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# O_DIRECT, shared mappings and buffered writes over each other.
set -eu

"$NF_SYSCALLS" direct d 0 65536 d
sync
"$NF_SYSCALLS" direct d 8192 8192 e
"$NF_SYSCALLS" direct d 131072 4096 f
sync
"$NF_SYSCALLS" mmap d 5000 20000 m
sync
"$NF_SYSCALLS" write d 6000 10 w
sync
"$NF_SYSCALLS" direct d 4096 4096 x
"$NF_SYSCALLS" fsync d
truncate -s 300000 d
"$NF_SYSCALLS" mmap d 250000 1000 n
sync
# Freed and written again by others.
rm d
sync
"$NF_SYSCALLS" direct e 0 65536 1
"$NF_SYSCALLS" direct g 0 65536 2
sync
truncate -s 10000 e
"$NF_SYSCALLS" direct h 0 65536 3
sync
# Overwritten in place, without any metadata but times.
"$NF_SYSCALLS" write g 0 65536 4
sync
"$NF_SYSCALLS" write g 100 3 5
sync
