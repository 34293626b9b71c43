"""The log: exposures, signals and uploads, each with ds, the UTC day of event_ts."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.importers.kuairand.files import CREATING, LOG_FILE, SIGNALS, log_reason
from almmta_spark.spark_tables import shift


def tidy(log: DataFrame) -> DataFrame:
    """Accepted log rows with item_id, event_ts and ds, its UTC date. Repeated rows stay: ingest counts them."""
    event_ts = F.timestamp_millis(F.col("time_ms"))
    accepted = log.filter(log_reason().isNull()).withColumnRenamed("video_id", "item_id")
    return accepted.withColumn("event_ts", event_ts).withColumn("ds", F.date_format("event_ts", "yyyy-MM-dd"))


def exposures(log: DataFrame) -> DataFrame:
    """One row a log row. Zero durations stay: nothing here reads the duration."""
    return log.select("user_id", "item_id", "event_ts", "ds")


def signals(log: DataFrame) -> DataFrame:
    """One row an act, at its exposure's time; a log row written twice is one act. One shuffle of the acts."""
    names = F.explode(F.array(*[F.when(F.col(s) == 1, F.lit(s)) for s in SIGNALS])).alias("signal")
    acts = log.select("user_id", "item_id", "event_ts", "ds", names).filter("signal IS NOT NULL").distinct()
    return acts.select("user_id", "signal", "event_ts", F.lit(1.0).alias("value"), "ds")


def uploads(log: DataFrame, vectors: DataFrame, known_from: str) -> DataFrame:
    """Comments and forwards, one per exposure, with the content of its item from day known_from on.

    Cost: one shuffle of the acts; vectors (one a video) are broadcast.
    """
    created = F.greatest(*[F.coalesce(F.col(c), F.lit(0)) for c in CREATING]) == 1
    acts = log.filter(created).select("user_id", "item_id", "event_ts", "ds").distinct()
    known = F.when(F.col("ds") >= known_from, F.col("embedding")).alias("embedding")
    upload_id = F.xxhash64("user_id", "item_id", "event_ts").alias("upload_id")
    return acts.join(F.broadcast(vectors), "item_id", "left").select("user_id", upload_id, "event_ts", known, "ds")


def days(log: DataFrame) -> list[tuple[str, int]]:
    """UTC days of the log with their rows, ascending, without a gap (a day without rows has 0)."""
    counted = {r["ds"]: r["count"] for r in log.groupBy("ds").count().collect()}
    if not counted:
        raise ValueError(f"{LOG_FILE}: no row was accepted, see the counts of refused rows: check the files")
    return [(d, counted.get(d, 0)) for d in _range(min(counted), max(counted))]


def _range(first: str, last: str) -> list[str]:
    days = [first]
    while days[-1] < last:
        days.append(shift(days[-1], 1))
    return days
