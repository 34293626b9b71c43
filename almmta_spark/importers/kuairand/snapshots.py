"""The snapshots: contents learned from the log, items and users."""

from __future__ import annotations

from pyspark.ml.feature import Word2Vec
from pyspark.ml.functions import vector_to_array
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from almmta_spark.importers.kuairand.files import (
    COUNTS,
    DEGREES,
    FLAGS,
    MISSING,
    NARROW,
    WIDE,
    user_reason,
    video_reason,
)


def content(log: DataFrame, before_ds: str, seed: int, length: int = 16) -> DataFrame:
    """item_id, embedding (array<float>, length values): Word2Vec over each user's items watched before before_ds.

    Sentences are sorted and training is in one partition, so equal logs give equal vectors. Items watched fewer than 3
    times have none. Cost: one shuffle by user, then one task.
    """
    watched = log.filter((F.col("ds") < before_ds) & (F.col("play_time_ms") > 0))
    watch = F.struct("event_ts", F.col("item_id").cast("string").alias("word"))
    sentences = watched.groupBy("user_id").agg(F.array_sort(F.collect_set(watch))["word"].alias("words"))
    ordered = sentences.repartition(1).sortWithinPartitions("user_id")
    model = Word2Vec(
        vectorSize=length, minCount=3, numPartitions=1, maxIter=5, windowSize=5, seed=seed, inputCol="words"
    ).fit(ordered)
    values = vector_to_array(F.col("vector"), "float32").alias("embedding")
    return model.getVectors().select(F.col("word").cast("bigint").alias("item_id"), values)


def items(videos: DataFrame, vectors: DataFrame | None) -> DataFrame:
    """Items with author and cluster; contents from vectors, null where vectors is None or has none.

    cluster is the first of the comma-separated tags. A video without a tag has a null cluster where it has a content
    (ingest gives it the nearest), and -1, the cluster of the untagged, where it has not.
    """
    accepted = videos.filter(video_reason().isNull()).withColumnRenamed("video_id", "item_id")
    tag = F.expr("try_cast(split(tag, ',')[0] AS int)")
    if vectors is None:
        rows = accepted.withColumn("embedding", F.lit(None).cast("array<float>"))
    else:
        rows = accepted.join(F.broadcast(vectors), "item_id", "left")
    cluster = F.coalesce(tag, F.when(F.isnull("embedding"), F.lit(-1))).alias("cluster")
    return rows.select("item_id", "author_id", cluster, "embedding")


def users(raw: DataFrame) -> DataFrame:
    """user_id and the COVARIATES, raw scale; NaN where missing or flagged -124. One window a WIDE column."""
    accepted = raw.filter(user_reason().isNull())
    total = accepted.count()
    degree = F.col("user_active_degree")
    unknown = degree.isNull() | degree.isin("UNKNOWN", str(int(MISSING)))
    columns = [F.when(unknown, F.lit(float("nan"))).otherwise((degree == d).cast("double")) for d in DEGREES]
    columns += [_known(F.col(c)) for c in FLAGS]
    columns += [_known(F.log1p(F.greatest(F.col(c), F.lit(0.0))), F.col(c)) for c in COUNTS]
    columns += [_known(F.col(c)) for c in NARROW]
    columns += [_known(F.log(F.count(F.lit(1)).over(Window.partitionBy(c)) / total), F.col(c)) for c in WIDE]
    return accepted.select("user_id", F.array(*[c.cast("float") for c in columns]).alias("covariates"))


def _known(value: Column, flag: Column | None = None) -> Column:
    """The value, NaN where the raw column is null or flagged as missing."""
    raw = value if flag is None else flag
    return F.when(raw.isNull() | (raw == MISSING), F.lit(float("nan"))).otherwise(value)
