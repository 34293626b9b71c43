"""Which touches of a journey resemble the uploads that followed, by content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from almmta_spark.config import PairsConfig

_BINS = 10_000  # of a cosine similarity in [-1, 1], for its quantile


@dataclass(frozen=True)
class Matches:
    """High-match pairs, lazy, and how they were chosen."""

    pairs: DataFrame
    threshold: float
    num_scored: int
    """(touch, upload) pairs inside journeys that were compared."""


def match_scores(journeys: DataFrame, items: DataFrame) -> DataFrame:
    """Cosine similarity of every touch of a journey with every upload of it, where both have content.

    Cost: journeys without an upload drop out in the scan; what is left is exploded inside its row (no cross join) and
    joined with items by item_id.
    """
    uploads = journeys.where(F.size("uploads") > 0).select(
        "journey_id", "user_id", "touches", F.explode("uploads").alias("upload")
    )
    touches = uploads.where("upload.embedding is not null").select(
        "journey_id", "user_id", "upload", F.posexplode("touches").alias("touch_position", "touch")
    )
    contents = items.where("embedding is not null").select("item_id", F.col("embedding").alias("content"))
    scored = touches.join(contents, F.col("touch.item_id") == contents.item_id).select(
        "journey_id",
        "user_id",
        F.col("upload.upload_id").alias("upload_id"),
        F.col("touch.touch_id").alias("touch_id"),
        F.col("touch.cluster").alias("cluster"),
        "touch_position",
        cosine(F.col("content"), F.col("upload.embedding")).cast("float").alias("match_score"),
    )
    return scored.where("match_score is not null")


def cosine(a: Column, b: Column) -> Column:
    """<a, b> / (|a| |b|), summed in the order of the entries; null where one is zero throughout."""
    return F.try_divide(_dot(a, b), F.sqrt(_dot(a, a) * _dot(b, b)))


def _dot(a: Column, b: Column) -> Column:
    products = F.zip_with(a, b, lambda x, y: x.cast("double") * y.cast("double"))
    return F.aggregate(products, F.lit(0.0).cast("double"), lambda total, product: total + product)


def high_match(scores: DataFrame, conf: PairsConfig, fitted_on: Column | None = None) -> Matches:
    """Pairs from the threshold on, at most max_pairs_per_upload an upload (ties: the newest touch first).

    fitted_on: the scores match_quantile is taken of (default: all). Cost: one aggregation to at most 2 x 20,001 bins
    for the quantile (on the driver), one shuffle of the pairs by upload.
    """
    threshold, num_scored = _threshold(
        scores.withColumn("fitted_on", F.lit(True) if fitted_on is None else fitted_on), conf
    )
    order = Window.partitionBy("upload_id").orderBy(F.desc("match_score"), F.desc("touch_position"), "touch_id")
    ranked = scores.where(F.col("match_score") >= threshold).withColumn("match_rank", F.row_number().over(order))
    return Matches(ranked.where(F.col("match_rank") <= conf.max_pairs_per_upload), threshold, num_scored)


def _threshold(scores: DataFrame, conf: PairsConfig) -> tuple[float, int]:
    """match_threshold, or the lower edge of the bin that holds the match_quantile; and the number of scored pairs."""
    bins = F.floor(F.col("match_score") * _BINS).alias("bin")
    counted = sorted(tuple(row) for row in scores.groupBy(bins, "fitted_on").count().toLocalIterator())
    total = sum(count for *_, count in counted)
    fitted = [(edge, count) for edge, fits, count in counted if fits]
    if conf.match_threshold is not None or not fitted:
        return (1.0 if conf.match_threshold is None else conf.match_threshold), total
    below = np.cumsum([count for _, count in fitted])
    at = int(np.searchsorted(below, conf.match_quantile * below[-1], side="right"))
    return fitted[min(at, len(fitted) - 1)][0] / _BINS, total
