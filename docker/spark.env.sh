# Sourced by the scripts that start Spark: its home and Java's, from the environment's own packages.
source "$(dirname "${BASH_SOURCE[0]}")/cluster.env.sh"
export SPARK_HOME="${SPARK_HOME:-$("$BIN/python" -c 'import pyspark; print(pyspark.__path__[0])')}"
export JAVA_HOME="${JAVA_HOME:-$(cd "$ROOT" && "$BIN/python" -m almmta_spark.java_home)}"
export SPARK_LOCAL_IP="$HOST" PYSPARK_PYTHON="${PYSPARK_PYTHON:-$BIN/python}"
# A port that is taken is an error: Spark would quietly try the next, where nobody looks for it.
export SPARK_DAEMON_JAVA_OPTS="-Dspark.port.maxRetries=0"
