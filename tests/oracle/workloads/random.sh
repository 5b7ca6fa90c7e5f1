#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The exerciser: any system call, in any order.
set -eu

exec "$NF_EXERCISER" "${1:-1}" "${NF_STEPS:-400}" .
