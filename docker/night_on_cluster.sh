#!/usr/bin/env bash
# One night twice, on the same logs: locally, and by spark-submit on a standalone cluster of one master and two workers
# with training launched on the executors (training.local_mode=false). Ends with a comparison of all tables.
# Users, night and settings from outside: NUM_USERS, DS, CONF; arguments go to both runs (--set training.epochs=3).
# With ENVIRONMENT, a file of pack-environment.sh, the workers have a Python of their own without a single package.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/spark.env.sh"
cd "$ROOT"
DS="${DS:-2026-01-15}" CONF="${CONF:-conf/local.yaml}" NUM_USERS="${NUM_USERS:-6000}"
ONE="$CLUSTER_DIR/local" TWO="$CLUSTER_DIR/standalone"
export MLFLOW_DISABLE_TELEMETRY=true PYTHONPATH="$ROOT"
settings=(--conf "$CONF" --ds "$DS" --set simulator.num_users="$NUM_USERS" --set report_file= "$@")

rm -rf "$ONE" "$TWO" "$CLUSTER_DIR/work"
echo "== logs of $NUM_USERS users"
"$BIN/python" -m jobs.simulate "${settings[@]}" --set warehouse="$ONE/warehouse"
mkdir -p "$TWO"
cp -r "$ONE/warehouse" "$TWO/warehouse"

echo "== the night, locally"
"$BIN/python" -m jobs.nightly "${settings[@]}" --set warehouse="$ONE/warehouse"

echo "== the night, on the cluster"
if [ -n "${ENVIRONMENT:-}" ]; then
  bare="$CLUSTER_DIR/bare/bin"
  "$BIN/python" -m venv --clear --without-pip "$CLUSTER_DIR/bare"
  env -u PYTHONPATH PATH="$bare:/usr/bin:/bin" PYSPARK_PYTHON="$bare/python" "$here/start-cluster.sh"
else
  "$here/start-cluster.sh"
fi
trap '"$here/stop-cluster.sh"' EXIT
WAREHOUSE="$TWO/warehouse" "$here/submit-night.sh" "${settings[@]}"

compgen -G "$CLUSTER_DIR/work/app-*/*" >/dev/null ||
  { echo "night_on_cluster: no executor ran on the workers" >&2; exit 1; }
"$BIN/python" "$here/same_tables.py" "$ONE/warehouse" "$TWO/warehouse" "$DS"
