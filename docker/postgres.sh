#!/usr/bin/env bash
# PostgreSQL in the foreground, its files in POSTGRES_DIR, made on the first start with the database PGDATABASE of user
# PGUSER, whose password is PGPASSWORD then and later. PostgreSQL refuses to be root: root starts it as POSTGRES_OWNER.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cluster.env.sh"
POSTGRES_DIR="${POSTGRES_DIR:-$MLFLOW_DIR/postgres}" POSTGRES_OWNER="${POSTGRES_OWNER:-postgres}"
PGPORT="${PGPORT:-5432}" PGUSER="${PGUSER:-mlflow}" PGDATABASE="${PGDATABASE:-mlflow}"
: "${PGPASSWORD:?the password of the database user is not set}"

binary="$(readlink -f "$(command -v postgres || ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null | tail -n 1)")"
[ -x "$binary" ] || { echo "postgres.sh: no PostgreSQL found: apt-get install postgresql" >&2; exit 1; }
BINARIES="$(dirname "$binary")"
user=()
if [ "$(id -u)" = 0 ]; then user=(setpriv --reuid="$POSTGRES_OWNER" --regid="$POSTGRES_OWNER" --init-groups --); fi

mkdir -p "$POSTGRES_DIR"
cd "$POSTGRES_DIR"
if [ "$(id -u)" = 0 ]; then chown "$POSTGRES_OWNER:" "$POSTGRES_DIR"; fi
"${user[@]}" test -w "$PWD" ||
  { echo "postgres.sh: POSTGRES_DIR=$PWD cannot be reached by $POSTGRES_OWNER: choose another" >&2; exit 1; }

if [ ! -d data ]; then
  "${user[@]}" rm -rf new # what a start that was killed left
  (umask 077 && printf %s "$PGPASSWORD" | "${user[@]}" tee password >/dev/null)
  "${user[@]}" "$BINARIES/initdb" --pgdata new --username "$PGUSER" --pwfile password --auth scram-sha-256 \
    --encoding UTF8 --locale C.UTF-8 --data-checksums
  rm password
  [ "$PGDATABASE" = postgres ] ||
    "${user[@]}" "$BINARIES/postgres" --single -D new postgres <<<"CREATE DATABASE \"$PGDATABASE\"" >/dev/null
  echo "host all all samenet scram-sha-256" | "${user[@]}" tee -a new/pg_hba.conf >/dev/null
  mv new data
fi
exec "${user[@]}" "$BINARIES/postgres" -D data -p "$PGPORT" -c listen_addresses="$HOST" -c unix_socket_directories=
