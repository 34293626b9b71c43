"""The night's own effects under what no log shows (causal/sensitivity.py): what halves their sum, what levels the top.

C clusters, J strengths
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal import reallocation, sensitivity
from almmta_spark.evaluation.auuc import Row
from almmta_spark.evaluation.fixed_point import collect, fixed_sum

TOP = 0.1
"""Share of the exposures, by cluster, that is looked at as the top."""
_EPSILON = 1e-9


@dataclass(frozen=True)
class Sensitivity:
    """Of one model. Strengths: of a hidden cause as its share of the outcome's slope in the mediator, of a direct path
    as the log odds of an upload that each touch takes beside the mediator."""

    method: str
    uploads: float
    """Sum of the effects."""
    slope: float
    """Mean b, log odds per standard deviation of the mediator's noise, journeys weighed by p (1 - p)."""
    confounder_total: float
    """Halves the sum."""
    confounder_top: float
    """Acting on the top alone, leaves it worth no more than the average exposure."""
    direct_total: float
    direct_top: float

    def robustness(self, share: float) -> float:
        """Share of what else moves mediator and outcome that such a hidden cause explains of each."""
        return sensitivity.robustness_value(share * self.slope)


def measure(
    attribution: DataFrame, journey_scores: DataFrame, method: str, worth: Sequence[Row] = ()
) -> Sensitivity | None:
    """None for a method that has no mediator's noise, or says no chances.

    worth: rows of exposure_efficiency; they say what the top is worth by users that did not rank it.
    Cost: a scan of the method's rows of attribution, one of journey_scores; a row a cluster is collected.
    """
    slope = _mean_slope(journey_scores, method)
    if slope is None:
        return None
    found = collect(_sums_by_cluster(attribution.where(F.col("method") == method)).orderBy("cluster"))
    if not len(found["cluster"]):
        return None
    exposures_C = found["exposures"].astype(float)
    confounded_CJ, direct_CJ = (_columns(found, name) for name in ("confounded", "direct"))
    total, of_top = confounded_CJ[:, 0].sum(), np.vstack([confounded_CJ.T, direct_CJ.T])
    top = reallocation.given_to_top(confounded_CJ[:, 0] / exposures_C, exposures_C, of_top, [TOP])[:, 0]
    average = _average(worth, method, TOP * total / top[0] if top[0] > 0 else 1.0)
    shares, paths = sensitivity.SHARES, sensitivity.DIRECT
    return Sensitivity(
        method,
        float(total),
        slope,
        sensitivity.strength_until(shares, confounded_CJ.sum(axis=0), total / 2),
        sensitivity.strength_until(shares, top[: len(shares)], average * top[0]),
        sensitivity.strength_until(paths, direct_CJ.sum(axis=0), total / 2),
        sensitivity.strength_until(paths, top[len(shares) :], average * top[0]),
    )


def _average(worth: Sequence[Row], method: str, otherwise: float) -> float:
    """What the average exposure is worth, as a share of one of the top."""
    for row in worth:
        if (row["level"], row["ranking"], row["share"]) == ("cluster", method, TOP) and row["uploads"] > 0:
            return (row["uploads"] - row["extra_uploads"]) / row["uploads"]
    return otherwise


def _mean_slope(journey_scores: DataFrame, method: str) -> float | None:
    of = journey_scores.where(
        (F.col("method") == method) & (F.col("sample") == "logged") & F.col("posterior_mean").isNotNull()
    )
    weight = F.col("p_outcome") * (1 - F.col("p_outcome"))
    found = collect(of.agg(fixed_sum(weight * F.col("slope")).alias("slope"), fixed_sum(weight).alias("weight")))
    return float(found["slope"][0] / found["weight"][0]) if found["weight"][0] else None


def _sums_by_cluster(own: DataFrame) -> DataFrame:
    """exposures, and the sums of the effects at each strength: confounded_0, ..., direct_0, ..."""
    p, deleted = (F.least(F.greatest(F.col(n), F.lit(_EPSILON)), F.lit(1 - _EPSILON)) for n in _CHANCES)
    known = own.where(F.col("p_outcome").isNotNull())
    touches = known.select("cluster", p.alias("p"), _logit(p).alias("at"), _logit(deleted).alias("deleted"))
    confounded = [F.col("at") - F.lit(1 - r) * (F.col("at") - F.col("deleted")) for r in sensitivity.SHARES]
    direct = [F.col("deleted") + F.lit(d) for d in sensitivity.DIRECT]
    sums = {f"confounded_{j}": column for j, column in enumerate(confounded)}
    sums |= {f"direct_{j}": column for j, column in enumerate(direct)}
    effects = [fixed_sum(F.col("p") - 1 / (1 + F.exp(-column))).alias(name) for name, column in sums.items()]
    return touches.groupBy("cluster").agg(F.count(F.lit(1)).alias("exposures"), *effects)


_CHANCES = ("p_outcome", "p_outcome_deleted")


def _logit(p: Column) -> Column:
    return F.ln(p / (1 - p))


def _columns(found: Mapping[str, NDArray], name: str) -> NDArray[np.float64]:
    """(C, J)."""
    number = sum(column.startswith(f"{name}_") for column in found)
    return np.stack([found[f"{name}_{j}"] for j in range(number)], axis=1)
