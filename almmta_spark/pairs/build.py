"""Matched pairs: positives by content inside the lookback, hard negatives from the same propensity bucket."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import Config
from almmta_spark.journeys.split import is_validation
from almmta_spark.pairs.match import Matches, high_match, match_scores
from almmta_spark.pairs.sample import negative_pool, with_negatives


def build_pairs(
    journeys: DataFrame, propensities: DataFrame, items: DataFrame, conf: Config
) -> tuple[DataFrame, Matches]:
    """The matched_pairs table, lazy, and how its pairs were chosen: threshold and negatives from training users alone.

    Cost: three scans of journeys (scores, count, negatives), one join of the journeys that have an upload with items
    and with propensities; the driver sees a histogram of scores. No cross join, no Python.
    """
    training = is_validation(conf.seed, conf.examples.validation_share) == 0
    found = high_match(match_scores(journeys, items), conf.pairs, fitted_on=training)
    pool = negative_pool(journeys.where(training), propensities, conf.propensity.num_buckets, conf.seed)
    rows = with_negatives(found.pairs, propensities, pool, conf.pairs.num_hard_negatives, conf.seed)
    for name in ("touch_id", "item_id", "cluster"):
        rows = rows.withColumn(f"negative_{name}", F.col(f"negatives.{name}"))
    return rows.select(*[F.col(c.name).cast(c.type).alias(c.name) for c in tables.MATCHED_PAIRS.columns]), found
