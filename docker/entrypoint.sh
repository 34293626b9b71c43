#!/usr/bin/env bash
# The image's entrypoint: any command; or, as Spark starts its pods on Kubernetes, `driver ARGUMENTS` of spark-submit
# and `executor`, which finds its settings in the environment (the wheel has no such script of its own).
set -euo pipefail
case "${1:-}" in driver | executor) ;; *) exec "$@" ;; esac
HOST="${SPARK_DRIVER_BIND_ADDRESS:-${SPARK_EXECUTOR_POD_IP:-127.0.0.1}}"
source "$(dirname "${BASH_SOURCE[0]}")/spark.env.sh"
cd "$ROOT"
if [ "$1" = driver ]; then
  exec "$SPARK_HOME/bin/spark-submit" --deploy-mode client --conf spark.driver.bindAddress="$HOST" \
    --conf spark.executorEnv.SPARK_DRIVER_POD_IP="$HOST" "${@:2}"
fi
options=()
for name in $(compgen -e SPARK_JAVA_OPT_ | sort -t _ -k 4n); do options+=("${!name}"); done
exec "$JAVA_HOME/bin/java" "${options[@]}" -Xms"$SPARK_EXECUTOR_MEMORY" -Xmx"$SPARK_EXECUTOR_MEMORY" \
  -cp "${SPARK_CLASSPATH:+$SPARK_CLASSPATH:}$SPARK_HOME/jars/*" \
  org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend --driver-url "$SPARK_DRIVER_URL" \
  --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" --app-id "$SPARK_APPLICATION_ID" \
  --hostname "$HOST" --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
