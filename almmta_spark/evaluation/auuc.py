"""Rows of grouped_uplift and auuc_by_bucket: every method's ranking of the groups against every protocol's uplift.

G groups, R replicates and the data
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal import uplift as curves
from almmta_spark.config import EvaluationConfig
from almmta_spark.evaluation import bootstrap
from almmta_spark.evaluation.fixed_point import collect, fixed_sum
from almmta_spark.evaluation.grouped import EXACT, GROUP, GroupSums

ALL_BUCKETS = -1
TRUTH_METHOD = "truth"
"""The exact effects as a method: its ranking under the sampled protocols shows what these protocols reward."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Scores:
    """Mean removal_effect of each method in each group of the attribution table."""

    bucket_G: NDArray[np.int64]
    cluster_G: NDArray[np.int64]
    touches_G: NDArray[np.int64]
    """Attribution touches of the group: its share of the population under every protocol."""
    by_method: Mapping[str, NDArray[np.float64]]
    partial: Mapping[str, float]
    """Methods left out because they hold only this share of the touches."""

    def position(self, bucket_N: NDArray[np.int64], cluster_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of each given group here, -1 where it has no touch."""
        index = {key: g for g, key in enumerate(zip(self.bucket_G.tolist(), self.cluster_G.tolist(), strict=True))}
        keys = zip(bucket_N.tolist(), cluster_N.tolist(), strict=True)
        return np.array([index.get(key, -1) for key in keys], dtype=np.int64)


def scores(attribution: DataFrame) -> Scores:
    """One scan of attribution. Collects groups x methods rows."""
    found = collect(
        attribution.groupBy(*GROUP, "method").agg(
            F.count(F.lit(1)).alias("touches"), fixed_sum(F.col("removal_effect")).alias("total")
        )
    )
    totals = {m: int(found["touches"][found["method"] == m].sum()) for m in sorted(set(found["method"]))}
    if not totals:
        raise ValueError("table attribution: no rows, so there is nothing to evaluate: run the attribute job")
    most = max(totals.values())
    whole = [m for m, n in totals.items() if n == most]
    keys, group = np.unique(np.stack([found[name].astype(np.int64) for name in GROUP]), axis=1, return_inverse=True)
    group = group.reshape(-1)
    touches, by_method = np.zeros(keys.shape[1], dtype=np.int64), {}
    for method in whole:
        rows = found["method"] == method
        touches[group[rows]] = found["touches"][rows]
        by_method[method] = np.zeros(keys.shape[1])
        by_method[method][group[rows]] = found["total"][rows] / found["touches"][rows]
    partial = {m: n / most for m, n in totals.items() if n < most}
    return Scores(keys[0], keys[1], touches, by_method, partial)


@dataclass(frozen=True)
class Measured:
    """A protocol's uplifts on the groups of Scores: NaN where not measured."""

    sums: GroupSums
    uplift_RG: NDArray[np.float64]
    rows_G: NDArray[np.int64]
    reason_G: Sequence[str | None]
    """Why a group is not in the curves."""
    outcomes_2G: NDArray[np.float64]
    """Lowest and highest outcome behind each uplift."""

    @property
    def in_curve_G(self) -> NDArray[np.bool_]:
        return np.array([r is None for r in self.reason_G], dtype=bool)


def measure(found: Scores, sums: GroupSums, conf: EvaluationConfig, seed: int) -> Measured:
    """The protocol's uplift and its replicates for every group that has a score."""
    weights = bootstrap.poisson_weights(seed, conf.bootstrap_replicates)
    uplift_RG = np.full((len(weights), len(found.touches_G)), np.nan)
    rows, counted = np.zeros(len(found.touches_G), dtype=np.int64), np.zeros(len(found.touches_G), dtype=np.int64)
    position = found.position(sums.bucket_G, sums.cluster_G)
    here = position >= 0
    outcomes_2G = np.full((2, len(found.touches_G)), np.nan)
    outcomes_2G[:, position[here]] = sums.lowest_G[here], sums.highest_G[here]
    uplift_RG[:, position[here]] = sums.uplift(weights)[:, here]
    rows[position[here]], counted[position[here]] = sums.rows_G[here], sums.counted_G[here]
    reasons = [_group_reason(c, n, u, conf.min_group_rows) for c, n, u in zip(counted, rows, uplift_RG[0], strict=True)]
    uplift_RG[:, [r is not None for r in reasons]] = np.nan
    return Measured(sums, uplift_RG, rows, reasons, outcomes_2G)


def _group_reason(counted: int, rows: int, uplift: float, min_group_rows: int) -> str | None:
    if rows == 0:
        return "no rows"
    if counted < min_group_rows:
        return f"{counted} rows count towards min_group_rows = {min_group_rows}"
    return "an arm has no rows" if math.isnan(uplift) else None


def grouped_rows(
    found: Scores, measured: Measured, methods: Mapping[str, NDArray[np.float64]], level: float
) -> Iterator[Row]:
    """Rows of grouped_uplift for one protocol: every group of every method, defined or with its reason."""
    lower, upper = bootstrap.interval(measured.uplift_RG, level)
    for method, score in methods.items():
        for g, reason in enumerate(measured.reason_G):
            if math.isnan(score[g]):
                continue  # `truth` knows only the groups of its sample
            yield {
                "propensity_bucket": int(found.bucket_G[g]),
                "cluster": int(found.cluster_G[g]),
                "method": method,
                "protocol": measured.sums.protocol.name,
                "estimand": measured.sums.protocol.estimand,
                "n": int(measured.rows_G[g]),
                "touches": int(found.touches_G[g]),
                "score": float(score[g]),
                "uplift": null_if_nan(measured.uplift_RG[0, g]),
                "uplift_lower": null_if_nan(lower[g]),
                "uplift_upper": null_if_nan(upper[g]),
                "undefined_reason": reason,
            }


def auuc_rows(
    found: Scores, measured: Measured, methods: Mapping[str, NDArray[np.float64]], level: float
) -> Iterator[Row]:
    """Rows of auuc_by_bucket for one protocol: each bucket's clusters, and all (bucket, cluster) groups together."""
    for bucket in (ALL_BUCKETS, *np.unique(found.bucket_G).tolist()):
        of_bucket = measured.in_curve_G & ((found.bucket_G == bucket) | (bucket == ALL_BUCKETS))
        for method, score in methods.items():
            groups = of_bucket & ~np.isnan(score)
            yield {
                "propensity_bucket": int(bucket),
                "method": method,
                "protocol": measured.sums.protocol.name,
                "n": int(measured.rows_G[groups].sum()),
                "num_groups": int(groups.sum()),
                **_figures(score[groups], measured, groups, found.touches_G[groups], level),
            }


def _figures(
    score: NDArray[np.float64],
    measured: Measured,
    groups: NDArray[np.bool_],
    touches: NDArray[np.int64],
    level: float,
) -> Row:
    """The three figures with their intervals; nulls and the reason where there is nothing to rank or no oracle."""
    names = ("auuc", "auuc_normalised", "qini")
    figures: Row = {f"{name}{side}": None for name in names for side in ("", "_lower", "_upper")}
    if len(score) < 2:
        return figures | {"undefined_reason": f"{len(score)} measured clusters: a ranking needs 2"}
    lowest, highest = measured.outcomes_2G[0, groups].min(), measured.outcomes_2G[1, groups].max()
    if measured.sums.protocol.has_control and lowest == highest:
        return figures | {"undefined_reason": f"every outcome is {lowest:g}: there is nothing to rank by"}
    uplift_RG = measured.uplift_RG[:, groups]
    replicates = {"auuc": curves.auuc(score, uplift_RG, touches), "qini": curves.qini(score, uplift_RG, touches)}
    reason = "auuc_normalised: no known oracle in this protocol, read qini"
    if measured.sums.protocol is EXACT:
        # The data's own oracle ranking, held fixed: a method that ranks like it is 1 in every replicate.
        normalised = curves.auuc_normalised(score, uplift_RG, touches, oracle_G=uplift_RG[0])
        replicates["auuc_normalised"] = normalised
        reason = "auuc_normalised: all clusters have one uplift" if math.isnan(normalised[0]) else ""
    for name, values in replicates.items():
        ends = bootstrap.interval(values, level)
        figures |= {name: null_if_nan(values[0])}
        figures |= {f"{name}{side}": null_if_nan(end) for side, end in zip(("_lower", "_upper"), ends, strict=True)}
    return figures | {"undefined_reason": reason or None}


def null_if_nan(value: float | np.floating | NDArray[np.float64]) -> float | None:
    """A float for a nullable column."""
    return None if math.isnan(float(value)) else float(value)
