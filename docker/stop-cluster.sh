#!/usr/bin/env bash
# Stops what start-cluster.sh started in CLUSTER_DIR, workers first, and nothing else.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cluster.env.sh"
DAEMONS="$CLUSTER_DIR"
source "$here/daemons.sh"

for pid_file in "$CLUSTER_DIR"/worker-*.pid; do stop_daemon "$(basename "$pid_file" .pid)"; done
stop_daemon master
echo "stopped"
