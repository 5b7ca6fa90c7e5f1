#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# SQLite in all of its journal modes: with a write-ahead log, and with rollback
# journals that are deleted, cut, kept.
# oracle: --sample=30
set -eu

fill='with recursive n(i) as (select 1 union all select i + 1 from n where i < 120)'
for mode in wal delete truncate persist; do
    {
        echo "pragma journal_mode = $mode; pragma synchronous = full;"
        echo "pragma wal_autocheckpoint = 40;"
        echo 'create table t (id integer primary key, a, b blob); create index i on t (a);'
        for n in 1 2 3 4 5 6; do
            echo "begin; insert into t (a, b) $fill select i * $n % 97, zeroblob(i * 3) || hex(i) from n; commit;"
            echo "update t set b = hex(id) where a = $((n * 7)); delete from t where a % 11 = $n;"
        done
        echo 'pragma wal_checkpoint(truncate); vacuum; pragma integrity_check;'
    } | sqlite3 -bail $mode.db > out
    tail -n 1 out | grep -qx ok
done
# Left open when the machine goes away: the log stays.
sqlite3 wal.db "pragma journal_mode = wal; begin; insert into t (a) values (1); commit;" > out
rm delete.db
sync
