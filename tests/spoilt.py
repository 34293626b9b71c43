"""Logs on which something has gone wrong, made of good ones."""

from __future__ import annotations

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from almmta_spark import spark_tables, tables
from almmta_spark.config import Config


def permute_proxies(spark: SparkSession, conf: Config, ds: str) -> None:
    """Outcome proxies joined to the wrong users: each one's are those of the user half the ids away."""
    day = spark_tables.shift(ds, -1)
    signals = spark_tables.read_day(spark, conf, tables.SIGNALS, day)
    proxies = [name for name, signal in conf.signals.items() if "outcome_proxy" in signal.roles]
    other = (F.col("user_id") + conf.simulator.num_users // 2) % conf.simulator.num_users
    moved = F.when(F.col("signal").isin(proxies), other).otherwise(F.col("user_id"))
    spark_tables.write_input(signals.withColumn("user_id", moved), conf, tables.SIGNALS, day)
