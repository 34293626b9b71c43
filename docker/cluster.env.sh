# Sourced by the scripts beside it: where things are, each to be set from outside.
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
BIN="${BIN:-$ROOT/.venv/bin}"                            # Python with pyspark and this package
HOST="${HOST:-127.0.0.1}"                                # this daemon's address; loopback: nothing outside can reach it
PORT="${PORT:-7077}"                                     # the master's, for spark-submit
UI_PORT="${UI_PORT:-8077}"                               # the master's pages; worker n has UI_PORT + n
WORKERS="${WORKERS:-2}"
CORES="${CORES:-1}"                                      # task slots a worker offers
MEMORY="${MEMORY:-1536m}"                                # what a worker has for executors
CLUSTER_DIR="${CLUSTER_DIR:-$ROOT/runs/cluster}"         # pid files, logs, executors' folders
MLFLOW_PORT="${MLFLOW_PORT:-5000}"
MLFLOW_DIR="${MLFLOW_DIR:-$ROOT/runs/mlflow}"            # artifacts, pid files, logs, PostgreSQL's files

[[ "$BIN" = /* ]] || BIN="$(cd "$BIN" && pwd)"
here="$ROOT/docker"
MASTER="${MASTER:-spark://$HOST:$PORT}"
