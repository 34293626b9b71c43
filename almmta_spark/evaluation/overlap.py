"""Overlap: how the propensities of exposed and unexposed (journey, cluster) pairs lie, and what weighting costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.config import PropensityConfig
from almmta_spark.evaluation.fixed_point import collect, fixed_sum

BINS_PER_LOGIT = 8


@dataclass(frozen=True)
class Overlap:
    """Counts per (bucket, exposed, bin) in parallel arrays of H; bin b covers logits [b, b + 1) / BINS_PER_LOGIT."""

    bucket_H: NDArray[np.int64]
    exposed_H: NDArray[np.bool_]
    bin_H: NDArray[np.int64]
    count_H: NDArray[np.int64]
    buckets: Mapping[int, BucketOverlap]


@dataclass(frozen=True)
class BucketOverlap:
    """Sums over one propensity bucket."""

    pairs: int
    """(journey, cluster) pairs."""
    exposed: int
    predicted: float
    """Sum of propensities: what `exposed` should be."""
    effective_exposed: float
    """Kish's effective sample size of the exposed pairs' weights."""
    clipped: int
    """Pairs whose weight stands at the clip."""
    impossible: int
    """Pairs whose propensity stands at a clip: exposure all but cannot happen, or all but must."""


def overlap(propensities: DataFrame, conf: PropensityConfig) -> Overlap:
    """One scan of propensities, exploded in place. Collects at most buckets x 2 x some 150 bins."""
    zipped = F.arrays_zip("propensity_bucket", "propensity", "exposed", "stabilized_weight")
    pairs = propensities.select(F.inline(zipped))
    p, weight = F.col("propensity").cast("double"), F.col("stabilized_weight").cast("double")
    bin_ = F.floor(F.ln(p / (1 - p)) * BINS_PER_LOGIT).alias("bin")
    found = collect(
        pairs.groupBy("propensity_bucket", "exposed", bin_).agg(
            F.count(F.lit(1)).alias("count"),
            fixed_sum(p).alias("predicted"),
            fixed_sum(weight).alias("weight"),
            fixed_sum(weight * weight).alias("weight_squared"),
            # the clips were stored as floats
            F.count_if(F.col("stabilized_weight") >= F.lit(conf.max_weight).cast("float")).alias("clipped"),
            F.count_if(
                (F.col("propensity") <= F.lit(conf.min_propensity).cast("float"))
                | (F.col("propensity") >= F.lit(1.0 - conf.min_propensity).cast("float"))
            ).alias("impossible"),
        )
    )
    exposed = found["exposed"].astype(bool)
    order = np.lexsort((found["bin"], exposed, found["propensity_bucket"]))
    rows = {name: values[order] for name, values in found.items()}
    of_bucket = {
        int(b): _bucket({n: v[rows["propensity_bucket"] == b] for n, v in rows.items()})
        for b in np.unique(rows["propensity_bucket"])
    }
    bucket, bins = rows["propensity_bucket"].astype(np.int64), rows["bin"].astype(np.int64)
    return Overlap(bucket, rows["exposed"].astype(bool), bins, rows["count"].astype(np.int64), of_bucket)


def _bucket(rows: Mapping[str, NDArray[Any]]) -> BucketOverlap:
    treated = rows["exposed"].astype(bool)
    squares = float(rows["weight_squared"][treated].sum())
    return BucketOverlap(
        int(rows["count"].sum()),
        int(rows["count"][treated].sum()),
        float(rows["predicted"].sum()),
        float(rows["weight"][treated].sum()) ** 2 / squares if squares else 0.0,
        int(rows["clipped"].sum()),
        int(rows["impossible"].sum()),
    )


def mediator_overlap(journey_scores: DataFrame, share: float = 0.05) -> dict[str, float]:
    """The overlap that `share` of each model's logged journeys do not reach; models without a mediator are left out.

    Bins of 1/1000, counted: exact sketches would depend on the order of arrival. One scan; 1,001 rows a model.
    """
    scores = journey_scores.where((F.col("sample") == "logged") & F.col("mediator_overlap").isNotNull())
    bin_ = F.floor(F.col("mediator_overlap") * 1000).cast("int").alias("bin")
    found = collect(scores.groupBy("method", bin_).agg(F.count(F.lit(1)).alias("count")))
    lowest = {}
    for method in sorted(set(found["method"])):
        of = found["method"] == method
        order = np.argsort(found["bin"][of])
        reached = np.cumsum(found["count"][of][order])
        lowest[method] = float(found["bin"][of][order][np.searchsorted(reached, share * reached[-1])]) / 1000
    return lowest
