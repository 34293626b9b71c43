"""Uploads as witnesses: do touches that an upload resembles hold more than an equal share of their journey's credit?

    lift(t) = sum of attribution_share / sum of 1 / num_touches        over matched pairs with match_score >= t

1 where resemblance and credit have nothing to do with each other. Effects know touches, covariates and the model, not
the journey's own upload, so what it resembles is evidence of its own. From which score on a pair counts as matched is
anybody's choice, and what is said must not hang on it: the sweep takes ever fewer, ever closer pairs.

C cells of users, R replicates and the data, J thresholds
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from almmta_spark.causal.ratio import ratio
from almmta_spark.config import EvaluationConfig
from almmta_spark.evaluation import bootstrap
from almmta_spark.evaluation.fixed_point import collect, fixed_sum

_BINS = 10_000
"""Of a cosine similarity in [-1, 1]: where pairs are cut."""


@dataclass(frozen=True)
class Lift:
    """Of the closest pairs of a night, among journeys of two touches or more that were given any credit."""

    best: float
    """Share of all matched pairs that is looked at."""
    min_score: float
    pairs: int
    lift: float
    lower: float
    upper: float


def lifts(attribution: DataFrame, pairs: DataFrame, method: str, conf: EvaluationConfig, seed: int) -> list[Lift]:
    """Of a method, for each share of conf.match_sweep; none where there are no pairs.

    pairs: matched_pairs. Cost: two scans of pairs, one of the method's rows of attribution, of which those in journeys
    with a pair are shuffled by journey; 2 x _BINS counts and J x NUM_CELLS sums are collected.
    """
    scored = pairs.withColumn("bin", F.floor(F.col("match_score") * _BINS).cast("int"))
    edges = _edges(scored, conf.match_sweep)
    if not edges:
        return []
    held = _shares(attribution.where(F.col("method") == method), scored)
    inner = [(F.col("bin") >= edge).cast("int") for edge in edges]
    found = collect(
        held.groupBy(
            *[flag.alias(f"in_{j}") for j, flag in enumerate(inner)],
            bootstrap.user_cell(F.col("user_id"), seed).alias("cell"),
        ).agg(
            F.count(F.lit(1)).alias("pairs"),
            fixed_sum(F.col("attribution_share")).alias("share"),
            fixed_sum(1 / F.col("num_touches")).alias("equal"),
        )
    )
    weight_RC = bootstrap.poisson_weights(seed, conf.bootstrap_replicates)
    result = []
    for j, (best, edge) in enumerate(zip(conf.match_sweep, edges, strict=True)):
        sums_3C = np.zeros((3, bootstrap.NUM_CELLS))
        for sums_C, name in zip(sums_3C, ("pairs", "share", "equal"), strict=True):
            np.add.at(sums_C, found["cell"], found[name] * found[f"in_{j}"])
        lift_R = ratio(weight_RC @ sums_3C[1], weight_RC @ sums_3C[2])
        lower, upper = (float(end) for end in bootstrap.interval(lift_R, conf.interval))
        result.append(Lift(best, edge / _BINS, int(sums_3C[0].sum()), float(lift_R[0]), lower, upper))
    return result


def _edges(scored: DataFrame, shares: Sequence[float]) -> list[int]:
    """For each share the bin from which on the pairs are at least that part of all; none without pairs."""
    counted = collect(scored.groupBy("bin").count().orderBy(F.desc("bin")))
    above = np.cumsum(counted["count"])
    return [int(counted["bin"][np.searchsorted(above, share * above[-1])]) for share in shares] if len(above) else []


def _shares(own: DataFrame, scored: DataFrame) -> DataFrame:
    """bin, user_id, attribution_share and num_touches of each pair that can tell anything."""
    of_journey = Window.partitionBy("journey_id")
    touches = (
        own.select("journey_id", "touch_id", "attribution_share")
        .join(scored.select("journey_id"), "journey_id", "left_semi")
        .withColumn("num_touches", F.count(F.lit(1)).over(of_journey))
        .withColumn("largest", F.max("attribution_share").over(of_journey))
        .where("num_touches > 1 and largest > 0")
    )
    return scored.select("journey_id", "touch_id", "user_id", "bin").join(touches, ["journey_id", "touch_id"])
