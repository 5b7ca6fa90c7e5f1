#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The exerciser on small files and directories, which may stand in their inodes.
set -eu

exec "$NF_EXERCISER" --small "${1:-1}" "${NF_STEPS:-400}" .
