#!/usr/bin/env bash
# Starts a standalone cluster in the background, one master and WORKERS workers, and returns when all are registered.
# Settings: see cluster.env.sh. Stop it with stop-cluster.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/spark.env.sh"
DAEMONS="$CLUSTER_DIR"
source "$here/daemons.sh"

mkdir -p "$CLUSTER_DIR"
refuse_second_start
refuse_taken "$PORT" $(seq "$UI_PORT" $((UI_PORT + WORKERS)))
start_daemon master "$here/spark-master.sh"
for n in $(seq "$WORKERS"); do
  start_daemon "worker-$n" env UI_PORT=$((UI_PORT + n)) "$here/spark-worker.sh"
done
await "is a port taken?" "$BIN/python" "$here/answers.py" "http://$HOST:$UI_PORT/json/" "$WORKERS"
echo "$MASTER with $WORKERS workers of $CORES core(s) and $MEMORY, pages on http://$HOST:$UI_PORT"
