"""The one check that can see a direct path T -> Y: the withholding experiment against the models' own predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal.ratio import ratio
from almmta_spark.config import EvaluationConfig
from almmta_spark.evaluation import bootstrap, planner
from almmta_spark.evaluation.fixed_point import collect, fixed_sum
from almmta_spark.evaluation.grouped import GroupSums


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
    """Size of an experiment whose interval would exclude 0, with a chance of planner.POWER, if as much as is predicted
    were missing; 0: unknown."""

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
    """The data's figures (replicate 0) with an interval, and the decisions it takes to see as much missing."""
    lower, upper = (float(end) for end in bootstrap.interval(shortfall_R, level))
    needed = planner.needed_after(num_decisions, (upper - lower) / 2, float(predicted_R[0]), level)
    return Comparison(float(predicted_R[0]), float(shortfall_R[0]), lower, upper, num_decisions, needed)
