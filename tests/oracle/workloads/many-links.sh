#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A file with more names than an event carries.
set -eu

mkdir d1
i=0
echo many > m
while [ $i -lt 40 ]; do
    ln m d1/m$i
    i=$((i + 1))
done
sync
rm m
sync
echo more >> d1/m30
sync
mv d1/m39 d1/m40
rm d1/m2*
sync
