#!/usr/bin/env bash
# Starts a Spark standalone cluster from the pip wheel (which has no start-master.sh): one master, WORKERS workers, and
# returns when all are registered. Settings: see cluster.env.sh. Stop it with stop-cluster.sh.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/cluster.env.sh"
PACKAGE=org.apache.spark.deploy

fail() {
  echo "start-cluster: $1" >&2
  "$here/stop-cluster.sh" >&2
  exit 1
}

start() { # name class arguments...
  local name="$1"
  shift
  # A port that is taken is an error: Spark would quietly try the next, where nobody looks for it.
  SPARK_DAEMON_JAVA_OPTS="-Dspark.port.maxRetries=0" SPARK_NO_DAEMONIZE=1 \
    nohup setsid "$SPARK_HOME/bin/spark-class" "$@" >"$CLUSTER_DIR/$name.log" 2>&1 </dev/null &
  echo $! >"$CLUSTER_DIR/$name.pid"
}

registered() {
  "$BIN/python" - "http://$HOST:$UI_PORT/json/" <<'PY' 2>/dev/null || echo none
import json, sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(json.load(opener.open(sys.argv[1], timeout=5))["aliveworkers"])
PY
}

mkdir -p "$CLUSTER_DIR"
if compgen -G "$CLUSTER_DIR/*.pid" >/dev/null; then
  echo "start-cluster: $CLUSTER_DIR holds the pid files of a cluster: run stop-cluster.sh first" >&2
  exit 1
fi

start master "$PACKAGE.master.Master" --host "$HOST" --port "$PORT" --webui-port "$UI_PORT"
for n in $(seq "$WORKERS"); do
  start "worker-$n" "$PACKAGE.worker.Worker" --host "$HOST" --webui-port $((UI_PORT + n)) --cores "$CORES" \
    --memory "$MEMORY" --work-dir "$CLUSTER_DIR/work" "spark://$HOST:$PORT"
done

deadline=$((SECONDS + ${TIMEOUT:-180}))
while [ "$(registered)" != "$WORKERS" ]; do
  for pid_file in "$CLUSTER_DIR"/*.pid; do
    kill -0 "$(cat "$pid_file")" 2>/dev/null || {
      name="$(basename "$pid_file" .pid)"
      tail -n 5 "$CLUSTER_DIR/$name.log" >&2
      fail "$name ended, see $CLUSTER_DIR/$name.log (is port $PORT or $UI_PORT taken?)"
    }
  done
  [ $SECONDS -lt $deadline ] || fail "only $(registered) of $WORKERS workers registered, see $CLUSTER_DIR/*.log"
  sleep 0.5
done
echo "spark://$HOST:$PORT with $WORKERS workers of $CORES core(s) and $MEMORY, pages on http://$HOST:$UI_PORT"
