#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A repository of real files: commits, branches, checkouts, merges, clones that
# share objects by hard links, packing.
# oracle: size=128M --sample=25
set -eu

export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@localhost
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@localhost
export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
git config --global core.fsync all
git config --global gc.auto 0
git config --global init.defaultBranch main
mkdir repo
cp -r /usr/include/linux/netfilter /usr/include/linux/can /usr/include/asm-generic repo/
cd repo
git init -q
git add .
git commit -q -m first
for n in 1 2 3 4 5 6; do
    git checkout -q -b b$n main
    for f in asm-generic/*$n*.h can/*.h; do
        [ ! -f "$f" ] || echo "/* branch $n */" >> "$f"
    done
    git mv can/raw.h can/raw$n.h
    git rm -q "$(git ls-files netfilter | sed -n "${n}0p")"
    git add -A
    git commit -q -m "change $n"
    git checkout -q main
    [ $((n % 2)) = 0 ] || git merge -q -s ours -m "merge $n" b$n
done
cd ..
git clone -q --local repo clone
cd clone
git checkout -q b2 2> /dev/null
git checkout -q b5 2> /dev/null
echo text > new
git stash -q -u
git stash pop -q
git clean -q -f
cd ../repo
git repack -q -a -d
git gc -q --prune=now
for n in 4 6 1; do git checkout -q b$n; done
git worktree add -q ../tree b3
rm -rf .git/objects/pack/*.keep
cd ..
rm -rf clone
sync
