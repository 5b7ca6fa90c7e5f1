#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The exerciser, with files synced one by one.
set -eu

exec "$NF_EXERCISER" --fsync "${1:-1}" "${NF_STEPS:-250}" .
