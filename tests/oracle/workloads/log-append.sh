#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Logs that grow by small writes, each with fsync.
set -eu

mkdir log
"$NF_SYSCALLS" append log/small 20 37
"$NF_SYSCALLS" append log/block 6 4096
"$NF_SYSCALLS" append log/odd 6 10001
mv log/small log/small.1
"$NF_SYSCALLS" append log/small 5 100
gzip -c log/odd > log/odd.gz
rm log/odd
sync
