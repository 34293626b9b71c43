"""The one check that can see a direct path T -> Y: the withholding experiment against the models' own predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.special import ndtri

from almmta_spark.causal.ratio import ratio
from almmta_spark.config import EvaluationConfig
from almmta_spark.evaluation import bootstrap
from almmta_spark.evaluation.fixed_point import collect, fixed_sum
from almmta_spark.evaluation.grouped import GroupSums

POWER = 0.8
"""Chance of seeing what there is that an experiment should have."""


@dataclass(frozen=True)
class Comparison:
    """Of one model, per exposed touch."""

    predicted: float
    """Mean removal_effect of the kept decisions' touches, weighted as the experiment is."""
    shortfall: float
    """(kept - withheld) - predicted: what the model does not see."""
    lower: float
    upper: float
    decisions: int
    decisions_needed: float
    """Size of an experiment whose interval would exclude 0, with a chance of POWER, if as much as is predicted were
    missing; 0: unknown."""

    @property
    def distance(self) -> float:
        """Of the interval from 0; NaN without replicates."""
        if np.isnan(self.lower):
            return float("nan")
        return max(self.lower, -self.upper, 0.0)

    @property
    def calls_for_correction(self) -> bool:
        """The interval excludes 0, and is short enough to tell the prediction from nothing.

        What a wider one finds at all is mostly exaggerated: Gelman & Carlin's (2014) error of magnitude.
        """
        return self.distance > 0 and (self.upper - self.lower) / 2 <= abs(self.predicted)


def compare(
    rows: DataFrame, attribution: DataFrame, methods: Sequence[str], sums: GroupSums, conf: EvaluationConfig, seed: int
) -> dict[str, Comparison]:
    """rows: those of grouped.randomised_rows that count, and sums the sums of the same rows.

    Both sides are resampled together, by user. Cost: one join of attribution with the (small) experiment; collects
    methods x NUM_CELLS rows.
    """
    kept = rows.where("treated").select("journey_id", "touch_id", "cell", "weight")
    predicted = attribution.where(F.col("method").isin(*methods)).select(
        "journey_id", "touch_id", "method", "removal_effect"
    )
    found = collect(
        predicted.join(kept, ["journey_id", "touch_id"])
        .groupBy("method", "cell")
        .agg(
            fixed_sum(F.col("weight") * F.col("removal_effect")).alias("effect"),
            fixed_sum(F.col("weight")).alias("weight"),
        )
    )
    weights = bootstrap.poisson_weights(seed, conf.bootstrap_replicates)
    measured_R = sums.overall(weights)
    by_cell = {name: np.zeros((len(methods), bootstrap.NUM_CELLS)) for name in ("effect", "weight")}
    for i, method in enumerate(methods):
        of = found["method"] == method
        for name, values in by_cell.items():
            values[i, found["cell"][of]] = found[name][of]
    total = {name: np.einsum("rc,mc->mr", weights.astype(float), values) for name, values in by_cell.items()}
    means_MR = ratio(total["effect"], total["weight"])
    num_decisions = int(sums.rows_G.sum())
    return {
        m: comparison(means_MR[i], measured_R - means_MR[i], conf.interval, num_decisions)
        for i, m in enumerate(methods)
    }


def comparison(predicted_R: np.ndarray, shortfall_R: np.ndarray, level: float, num_decisions: int) -> Comparison:
    lower, upper = (float(end) for end in bootstrap.interval(shortfall_R, level))
    needed = decisions_needed(num_decisions, (upper - lower) / 2, float(predicted_R[0]), level)
    return Comparison(float(predicted_R[0]), float(shortfall_R[0]), lower, upper, num_decisions, needed)


def decisions_needed(num_decisions: int, half_width: float, effect: float, level: float) -> float:
    """n' = n ((z_level + z_POWER) s / effect)^2 for the standard error s = half_width / z_level of n decisions.

    s falls with the root of n, and a normal estimate of standard error s' is beyond z_level s' with a chance of POWER
    where its mean is (z_level + z_POWER) s'. 0 where effect is 0 or half_width unknown.
    """
    if effect == 0 or not half_width >= 0:
        return 0.0
    z = float(ndtri((1 + level) / 2))
    return num_decisions * ((1 + float(ndtri(POWER)) / z) * half_width / effect) ** 2
