#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Hard links and symbolic links.
set -eu

mkdir d1 d2
echo shared > d1/f
ln d1/f d1/g
ln d1/f d2/h
sync
rm d1/f
ln d2/h d1/again
sync
echo changed >> d1/g
mv d2/h d1/f
sync
# All names change at once.
mv d1/f d2/1 && mv d1/g d2/2 && mv d1/again d2/3
sync
rm d2/1 d2/2
mv d2/3 d2/last
sync
for n in 1 10 58 59 60 61 100 1000 4000; do
    # The longest does not fit into a block of 1 KiB.
    ln -s "$(head -c "$n" /dev/zero | tr '\0' s)" sym$n 2> /dev/null || [ $n = 4000 ]
done
sync
ln -s 'with space and
newline' odd
ln sym100 hardsym
mv sym10 moved
rm sym59
ln -s other sym59
sync
