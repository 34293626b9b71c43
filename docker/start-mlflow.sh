#!/usr/bin/env bash
# Starts MLflow's server in the background and returns when it is healthy: on the PostgreSQL that PGHOST names, else on
# one of its own in MLFLOW_DIR, with a password made on the first start. Stop it with stop-mlflow.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cluster.env.sh"
DAEMONS="$MLFLOW_DIR"
source "$here/daemons.sh"

mkdir -p "$MLFLOW_DIR"
refuse_second_start
refuse_taken "$MLFLOW_PORT"
if [ -z "${PGHOST:-}" ]; then
  password="$MLFLOW_DIR/password"
  [ -s "$password" ] || (umask 077 && "$BIN/python" -c 'import secrets; print(secrets.token_hex(16))' >"$password")
  PGPASSWORD="$(cat "$password")"
  export PGPASSWORD PGHOST="$HOST" PGPORT="${PGPORT:-5432}"
  refuse_taken "$PGPORT"
  start_daemon postgres "$here/postgres.sh"
fi
start_daemon mlflow "$here/mlflow-server.sh"
await "is a port taken?" "$BIN/python" "$here/answers.py" "http://$HOST:$MLFLOW_PORT/health"
echo "http://$HOST:$MLFLOW_PORT on PostgreSQL at $PGHOST${PGPORT:+:$PGPORT}, MLFLOW_TRACKING_URI for the nights"
