#!/usr/bin/env bash
# Stops what start-mlflow.sh started in MLFLOW_DIR, the server first, and nothing else.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cluster.env.sh"
DAEMONS="$MLFLOW_DIR"
source "$here/daemons.sh"

stop_daemon mlflow
stop_daemon postgres
echo "stopped"
