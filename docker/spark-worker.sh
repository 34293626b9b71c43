#!/usr/bin/env bash
# A worker of the cluster of MASTER, in the foreground.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/spark.env.sh"
exec "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.worker.Worker --host "$HOST" --webui-port "$UI_PORT" \
  --cores "$CORES" --memory "$MEMORY" --work-dir "$CLUSTER_DIR/work" "$MASTER"
