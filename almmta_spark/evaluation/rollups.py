"""Attribution summed by item, author and cluster."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.evaluation.fixed_point import fixed_sum
from almmta_spark.tables import Table


def rollup(attribution: DataFrame, table: Table) -> DataFrame:
    """One night's attribution in the schema of one of tables.ROLLUPS; interval columns are null until computed.

    A method has one model_version a night and holds every touch, so a group's users are counted once for all methods.
    Cost: two scans; one shuffle of (group, method) partial sums, one of distinct (group, user) pairs.
    """
    key = table.key[0]
    users = attribution.select(key, "user_id").distinct().groupBy(key).agg(F.count(F.lit(1)).alias("users"))
    summed = attribution.groupBy(key, "method", "model_version").agg(
        F.count(F.lit(1)).alias("exposures"),
        F.sum("outcome").alias("outcomes"),
        fixed_sum(F.col("removal_effect")).alias("removal_effect_sum"),
        fixed_sum(F.col("credit")).alias("credit_sum"),
        fixed_sum(F.col("attribution_share") * F.col("outcome")).alias("attribution_share_sum"),
    )
    mean = F.col("removal_effect_sum") / F.col("exposures")
    figures = summed.join(users, key).withColumns({"removal_effect_mean": mean, "efficiency": mean})
    unknown = F.lit(None).cast("double")
    return figures.select(
        *[F.col(c.name) if c.name in figures.columns else unknown.alias(c.name) for c in table.columns]
    )
