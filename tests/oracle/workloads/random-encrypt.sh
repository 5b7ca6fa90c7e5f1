#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The exerciser in an encrypted directory.
set -eu

mkdir e
"$NF_SYSCALLS" encrypt e 2 r "$((${1:-1} % 4))"
cd e
exec "$NF_EXERCISER" "${1:-1}" "${NF_STEPS:-250}" .
