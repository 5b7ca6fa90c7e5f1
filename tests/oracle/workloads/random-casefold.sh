#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The exerciser in a case-insensitive directory, encrypted if the seed is even.
set -eu

mkdir c
[ $((${1:-1} % 2)) = 1 ] || "$NF_SYSCALLS" encrypt c 2 r 1
"$NF_SYSCALLS" chattr c +40000000
cd c
exec "$NF_EXERCISER" "${1:-1}" "${NF_STEPS:-150}" .
