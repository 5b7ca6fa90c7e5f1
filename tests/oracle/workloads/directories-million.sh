#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The same with 1000000 entries.
# oracle: size=2G inodes=1100000 stages=equal --sample=1
set -eu

exec "$(dirname "$0")/directories-100k.sh" "$1" 1000000
