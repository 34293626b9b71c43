#!/usr/bin/env bash
# The master of a standalone cluster, in the foreground, from the pip wheel (which has no start-master.sh).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/spark.env.sh"
exec "$SPARK_HOME/bin/spark-class" org.apache.spark.deploy.master.Master --host "$HOST" --port "$PORT" \
  --webui-port "$UI_PORT"
