# Sourced by the scripts beside it: where things are, each to be set from outside.
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
BIN="${BIN:-$ROOT/.venv/bin}"                            # Python with pyspark and this package
HOST="${HOST:-127.0.0.1}"                                # loopback: nothing outside can submit
PORT="${PORT:-7077}"                                     # the master's, for spark-submit
UI_PORT="${UI_PORT:-8077}"                               # the master's pages; worker n has UI_PORT + n
WORKERS="${WORKERS:-2}"
CORES="${CORES:-1}"                                      # task slots a worker offers
MEMORY="${MEMORY:-1536m}"                                # what a worker has for executors
CLUSTER_DIR="${CLUSTER_DIR:-$ROOT/runs/cluster}"         # pid files, logs, executors' folders

[[ "$BIN" = /* ]] || BIN="$(cd "$BIN" && pwd)"
export SPARK_HOME="${SPARK_HOME:-$("$BIN/python" -c 'import pyspark; print(pyspark.__path__[0])')}"
export JAVA_HOME="${JAVA_HOME:-$(cd "$ROOT" && "$BIN/python" -m almmta_spark.java_home)}"
export SPARK_LOCAL_IP="$HOST" PYSPARK_PYTHON="${PYSPARK_PYTHON:-$BIN/python}"
