#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Deep and large directories, growing to an index and shrinking again.
set -eu

"$NF_SYSCALLS" deep 60 level
sync
"$NF_SYSCALLS" deep 20 "$(head -c 250 /dev/zero | tr '\0' n)"
sync
mkdir large
"$NF_SYSCALLS" many large a 300
sync
"$NF_SYSCALLS" many large "$(head -c 100 /dev/zero | tr '\0' L)" 700
sync
mv large/a17 large/renamed
mv large/a18 .
sync
rm large/a1*
sync
mv large bigger
mkdir large
mv bigger/a200 large/
sync
rm -r bigger
sync
