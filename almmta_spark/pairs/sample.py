"""Hard negatives: other users' touches of other clusters in the same propensity bucket, drawn by seeded hash.

A touch of the positive's own cluster would be no negative: what inspired the upload was of that kind.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

POOL = 1024
"""Touches a propensity bucket offers as negatives."""
_DRAWS = 3  # candidates drawn per negative, since some are the user's own or of the pair's cluster
_PARTS = 1_000_000


def bucket_of(cluster: Column) -> Column:
    """The journey's propensity bucket for a cluster, from the arrays of `propensities`."""
    return F.element_at("propensity_bucket", F.array_position("clusters", cluster).cast("int"))


def negative_pool(journeys: DataFrame, propensities: DataFrame, num_buckets: int, seed: int) -> DataFrame:
    """(propensity_bucket, slot, user_id, touch_id, item_id, cluster): at most POOL touches a bucket.

    Cost: one count of journeys, then a hash sample of them joined with propensities; the pool is small.
    """
    num_journeys = journeys.count()
    wanted = 4 * POOL * num_buckets  # rare buckets fill too
    part = F.pmod(F.xxhash64(F.lit(seed), F.lit("negatives"), "journey_id"), F.lit(_PARTS))
    sampled = journeys.where(part < max(1, round(_PARTS * min(1.0, wanted / max(num_journeys, 1)))))
    touches = sampled.join(_buckets(propensities), "journey_id").select(
        "user_id", "clusters", "propensity_bucket", F.explode("touches").alias("touch")
    )
    of_bucket = touches.select(
        bucket_of(F.col("touch.cluster")).alias("propensity_bucket"),
        "user_id",
        F.col("touch.touch_id").alias("touch_id"),
        F.col("touch.item_id").alias("item_id"),
        F.col("touch.cluster").alias("cluster"),
    )
    order = Window.partitionBy("propensity_bucket").orderBy(F.xxhash64(F.lit(seed), "touch_id"), "touch_id")
    return of_bucket.withColumn("slot", F.row_number().over(order) - 1).where(F.col("slot") < POOL)


def with_negatives(pairs: DataFrame, propensities: DataFrame, pool: DataFrame, num: int, seed: int) -> DataFrame:
    """Pairs with their bucket and up to num negatives (fewer where the bucket has too few other users and clusters).

    Cost: one join of pairs with propensities by journey_id, one broadcast of the pool, one shuffle of pairs.
    """
    placed = pairs.join(_buckets(propensities), "journey_id").select(
        *pairs.columns, bucket_of(F.col("cluster")).alias("propensity_bucket")
    )
    sizes = pool.groupBy("propensity_bucket").agg(F.count(F.lit(1)).alias("size"))
    key = F.xxhash64(F.lit(seed), "upload_id", "touch_id", "draw")
    drawn = (
        placed.join(F.broadcast(sizes), "propensity_bucket")
        .withColumn("draw", F.explode(F.sequence(F.lit(1), F.lit(max(1, num * _DRAWS)))))
        .withColumn("slot", F.pmod(key, F.col("size")).cast("int"))
    )
    other = pool.select(
        "propensity_bucket",
        "slot",
        F.col("user_id").alias("other_user"),
        F.struct("touch_id", "item_id", "cluster").alias("negative"),
    )
    met = drawn.join(F.broadcast(other), ["propensity_bucket", "slot"])
    usable = (F.col("other_user") != F.col("user_id")) & (F.col("negative.cluster") != F.col("cluster"))
    found = F.sort_array(F.collect_list(F.when(usable, F.struct("draw", "negative"))))
    grouped = met.groupBy(*pairs.columns, "propensity_bucket").agg(found.alias("found"))
    distinct = F.array_distinct(F.transform("found", lambda drawn_one: drawn_one["negative"]))
    return grouped.withColumn("negatives", F.slice(distinct, 1, num))


def _buckets(propensities: DataFrame) -> DataFrame:
    return propensities.select("journey_id", F.col("cluster").alias("clusters"), "propensity_bucket")
