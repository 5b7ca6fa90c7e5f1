#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# PostgreSQL with data checksums under pgbench: checkpoints, WAL recycled, tables
# rewritten and dropped, a crash and its recovery. In the end its own checksums
# are verified.
# oracle: size=512M --sample=15
set -eu

seed=${1:-1} sockets=/mnt/pg/sockets
case ${2:-} in
'')
    mkdir -m 700 pg
    chown postgres:postgres pg
    # The server's user has no way into the private directory that we are mounted
    # in: it sees this place as /mnt, and nobody else does.
    exec unshare -m --propagation private "$0" "$seed" bound
    ;;
bound)
    mount --bind . /mnt
    cd /mnt
    programs=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    exec setpriv --reuid=postgres --regid=postgres --init-groups \
        env -i PATH="$programs:$PATH" LC_ALL=C bash -s "$seed" postgres < "$0"
    ;;
esac

# All of it, before a program below reads from where this script comes from.
{
    cd pg
    initdb -D data -U postgres --data-checksums --wal-segsize=1 -A trust --no-instructions \
        > initdb.log
    mkdir sockets
    cat >> data/postgresql.conf << END
listen_addresses = ''
unix_socket_directories = '$sockets'
shared_buffers = 4MB
min_wal_size = 4MB
max_wal_size = 8MB
checkpoint_timeout = 30s
autovacuum_naptime = 2s
END
    export PGHOST=$sockets PGUSER=postgres
    pg_ctl -D data -l log -w start > pg_ctl.log
    # Whatever fails, the server must not go on holding the disk.
    trap 'pg_ctl -D data -m immediate stop > pg_ctl.log 2>&1 || true' EXIT
    createdb bench
    pgbench -q -i -s 2 bench > bench.log 2>&1
    pgbench -c 3 -t 150 --random-seed="$seed" bench >> bench.log 2>&1
    psql -q bench << END
create table t as select g, repeat(md5(g::text), 20) from generate_series(1, 4000) g;
create index on t (g);
checkpoint;
update t set g = -g where g % 3 = 0;
vacuum full t;
truncate pgbench_history;
drop table t;
END
    # A crash: what is not checkpointed is recovered from the WAL.
    pg_ctl -D data -m immediate stop > pg_ctl.log
    pg_ctl -D data -l log -w start > pg_ctl.log
    pgbench -c 2 -t 100 --random-seed="$((seed + 1))" bench >> bench.log 2>&1
    pg_ctl -D data -m fast stop > pg_ctl.log
    pg_checksums -D data --check > checksums.log
    grep -q 'Bad checksums: *0$' checksums.log
    exit 0
} < /dev/null
