#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Directories with an index of two levels (1 KiB blocks).
set -eu

mkdir huge
"$NF_SYSCALLS" many huge "$(head -c 60 /dev/zero | tr '\0' h)" 5000
sync
"$NF_SYSCALLS" many huge second 3000
sync
rm huge/second1*
sync
mv huge/second2 huge/third
find huge -mindepth 1 -name "h*" -delete
sync
