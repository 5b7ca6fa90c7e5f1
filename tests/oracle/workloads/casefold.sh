#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Case-insensitive directories beside others, plain and encrypted. Runs in a
# guest: busybox and our helpers are all there is.
set -eu

fold=+40000000
mkdir plain cold
"$NF_SYSCALLS" chattr cold $fold
echo 1 > cold/Name
echo 2 > plain/Name
echo 3 > plain/name
sync
echo more >> cold/NAME
# A change of case only, and of nothing.
"$NF_SYSCALLS" rename cold/Name cold/nAME
sync
"$NF_SYSCALLS" rename cold/name cold/NAME
ln cold/name cold/other
mkdir cold/Sub
echo inherited > cold/sub/File
sync
"$NF_SYSCALLS" rename cold/OTHER cold/SUB/file
mkdir cold/été
echo utf8 > cold/ÉTÉ/straße
sync
mv plain/name cold/SUB/Name
rm cold/ÉTÉ/STRASSE
rmdir cold/éTé
sync
# An index.
"$NF_SYSCALLS" many cold/sub "$(head -c 60 /dev/zero | tr '\0' X)" 200
sync
for i in 3 70 199; do rm "cold/sub/$(head -c 60 /dev/zero | tr '\0' x)$i"; done
sync
# The flag comes and goes while a directory is empty.
mkdir cold/flag
"$NF_SYSCALLS" chattr cold/flag -40000000
echo a > cold/flag/a
echo A > cold/flag/A
sync
# With encryption each name keeps its hashes.
if mkdir both && "$NF_SYSCALLS" encrypt both 2 k 2; then
    mkdir both/cold
    "$NF_SYSCALLS" chattr both/cold $fold
    echo 1 > both/cold/Name
    ln -s Name both/cold/Link
    mkdir both/cold/Sub
    sync
    "$NF_SYSCALLS" rename both/cold/NAME both/cold/nAmE
    ln both/cold/name both/cold/sub/Second
    sync
    for n in 1 16 33 140 150 200 250; do
        echo "$n" > "both/cold/$(head -c $n /dev/zero | tr '\0' n)"
    done
    sync
    "$NF_SYSCALLS" many both/cold "$(head -c 60 /dev/zero | tr '\0' Y)" 100
    sync
    "$NF_SYSCALLS" many both/cold/sub "$(head -c 170 /dev/zero | tr '\0' Z)" 60
    sync
    rm both/cold/sub/second "both/cold/$(head -c 60 /dev/zero | tr '\0' y)7"
    "$NF_SYSCALLS" exchange both/cold/name both/cold/link
    sync
    rm -r both/cold/sub
    mv both/cold both/warm
    sync
fi
rm -r cold
sync
