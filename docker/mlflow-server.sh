#!/usr/bin/env bash
# MLflow's server in the foreground, on the PostgreSQL that libpq's own variables name (PGHOST, PGPORT, PGDATABASE,
# PGUSER, PGPASSWORD: none is seen in a list of processes), with its artifacts in ARTIFACTS, a folder or a URL.
# Where it is to be reached by a name (http://mlflow:5000), MLFLOW_SERVER_ALLOWED_HOSTS must hold it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cluster.env.sh"
ARTIFACTS="${ARTIFACTS:-$MLFLOW_DIR/artifacts}"
export PGHOST="${PGHOST:-$HOST}" PGDATABASE="${PGDATABASE:-mlflow}" PGUSER="${PGUSER:-mlflow}"
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false

database_answers() {
  "$BIN/python" -c 'import psycopg2; psycopg2.connect("").close()'
}

deadline=$((SECONDS + ${TIMEOUT:-180}))
until said="$(database_answers 2>&1)"; do
  [ $SECONDS -lt $deadline ] ||
    { echo "mlflow-server.sh: no answer from PostgreSQL: $(tail -n 2 <<<"$said")" >&2; exit 1; }
  sleep 0.5
done
exec "$BIN/mlflow" server --host "$HOST" --port "$MLFLOW_PORT" --workers "${MLFLOW_WORKERS:-2}" \
  --backend-store-uri postgresql+psycopg2:// --artifacts-destination "$ARTIFACTS"
