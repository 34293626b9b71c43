#!/usr/bin/env bash
# Stops what start-cluster.sh started in CLUSTER_DIR, workers first, and nothing else.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/cluster.env.sh"

ours() { # the process of the pid is still a daemon of Spark: pids come round
  { tr "\0" " " <"/proc/$1/cmdline"; } 2>/dev/null | grep -q "org.apache.spark.deploy\|bin/spark-class"
}

stop() { # pid file
  local pid
  pid="$(cat "$1")"
  if ours "$pid"; then kill "$pid" || true; fi
  for _ in $(seq 60); do
    ours "$pid" || break
    sleep 0.5
  done
  if ours "$pid"; then
    echo "stop-cluster: $(basename "$1" .pid) did not end in 30 s, killed" >&2
    kill -9 "$pid" || true
  fi
  rm -f "$1"
}

for pid_file in "$CLUSTER_DIR"/worker-*.pid "$CLUSTER_DIR"/master.pid; do
  if [ -f "$pid_file" ]; then stop "$pid_file"; fi
done
echo "stopped"
