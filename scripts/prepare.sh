#!/bin/sh
# Writes .sqlx anew: starts a throw-away Postgres, applies migrations/, lets sqlx ask it about every query.
#
# Not through examples/with_postgres.rs, as the tests do it: that program does not build while .sqlx is out of date.
# Needs what `scripts/setup.sh sqlx` installs.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.tools/bin:$PATH:${HOME:-/}/.cargo/bin"

postgres=$(scripts/setup.sh where)
dir=$(mktemp -d)

# Postgres refuses to run as root, so root becomes somebody else for it. Takes words without white space only.
as_server() {
    if [ "$(id -u)" = 0 ]; then
        (cd "$dir" && su -s /bin/sh "$server_user" -c "$*")
    else
        "$@"
    fi
}
stop() {
    as_server "$postgres/pg_ctl" stop -D "$dir/data" -m immediate >/dev/null 2>&1 || true
    rm -rf "$dir"
}
fail() {
    cat "$dir/log" >&2
    echo "prepare: the throw-away Postgres did not start" >&2
    exit 1
}

server_user=nobody
if id postgres >/dev/null 2>&1; then server_user=postgres; fi
if [ "$(id -u)" = 0 ]; then chown "$server_user" "$dir"; fi
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# It listens only on a socket in a folder that is closed to others; so it needs neither a port nor a password.
as_server "$postgres/initdb" -D "$dir/data" -U assize -A trust -E UTF8 --locale=C -N >"$dir/log" 2>&1 || fail
cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$dir'
fsync = off
CONF
as_server "$postgres/pg_ctl" start -w -D "$dir/data" -l "$dir/server.log" >>"$dir/log" 2>&1 || fail
export DATABASE_URL="postgres://assize@localhost/postgres?host=$dir"

unset SQLX_OFFLINE
sqlx migrate run --source migrations >/dev/null
cargo sqlx prepare "$@" -- --all-targets
