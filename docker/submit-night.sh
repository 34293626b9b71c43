#!/usr/bin/env bash
# The whole night (or another job, JOB=jobs/train.py) on the cluster of MASTER: its driver here, everything else on the
# workers, a rank of the training in a task slot. Arguments are the job's; WAREHOUSE is one that all machines see.
# With ENVIRONMENT, a file of pack-environment.sh, the workers' Python needs no packages.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/spark.env.sh"
packed=()
if [ -n "${ENVIRONMENT:-}" ]; then
  export PYSPARK_DRIVER_PYTHON="$BIN/python" PYSPARK_PYTHON=./environment/bin/python
  packed=(--archives "$(realpath "$ENVIRONMENT")#environment")
fi
cd "$ROOT"
export MLFLOW_DISABLE_TELEMETRY=true PYTHONPATH="$ROOT"
exec "$SPARK_HOME/bin/spark-submit" --master "$MASTER" --properties-file conf/spark/standalone.conf \
  --conf spark.driver.host="$HOST" --conf spark.driver.bindAddress="$HOST" "${packed[@]}" \
  "${JOB:-jobs/nightly.py}" "$@" --set training.local_mode=false ${WAREHOUSE:+--set warehouse="$WAREHOUSE"}
