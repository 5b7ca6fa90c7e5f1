#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Files of projects, with quotas that count them and change with each.
# Runs in a guest: busybox and our helpers are all there is.
set -eu

mkdir none one one/inside
echo a > none/a
echo b > one/b
"$NF_SYSCALLS" project none/a 7
sync
# What is made in it, and in what is made in it, gets the same.
"$NF_SYSCALLS" project one 1000 inherit
mkdir one/sub
"$NF_SYSCALLS" write one/sub/file 0 50000 F
ln -s file one/sub/link
mkfifo one/sub/fifo
echo c > one/inside/c
sync
# The largest id; none again; another, with content, owner and size in one step.
"$NF_SYSCALLS" project none/a 4294967294
"$NF_SYSCALLS" project one/b 5
sync
"$NF_SYSCALLS" project none/a 0
"$NF_SYSCALLS" project one/b 6
echo longer than before > one/b
chown 33:44 one/b
sync
"$NF_SYSCALLS" project one/sub 2000 inherit
"$NF_SYSCALLS" write one/sub/other 0 3000 O
! mv one/b one/sub/ 2> /dev/null || [ -e one/sub/b ]
mv one/sub/other one/sub/moved
ln one/sub/moved one/sub/again
sync
"$NF_SYSCALLS" project one 0
echo d > one/d
"$NF_SYSCALLS" tmpfile one/sub one/sub/nameless 9000
rm one/sub/file
"$NF_SYSCALLS" write one/sub/reused 0 70000 R
"$NF_SYSCALLS" orphan one/sub/orphan 5000
sync
