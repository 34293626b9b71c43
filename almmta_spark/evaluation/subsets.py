"""Refutation by random subsets: fits of other seeds on a part of the users must say what all of them say together.

An ensemble's members are such fits already: each begins elsewhere and leaves out one fold, 1/F of the users (Sharma &
Kiciman 2020, DoWhy's data_subset_refuter, leaves out a fifth). So nothing is fitted for this.

C clusters, M members
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal.truth import overall_spearman
from almmta_spark.config import EnsembleConfig
from almmta_spark.evaluation.fixed_point import collect
from almmta_spark.evaluation.rollups import MEMBERS, member_sums


@dataclass(frozen=True)
class Subsets:
    """Of one model with an ensemble."""

    method: str
    total: float
    """Largest departure of a member's sum of effects from the mean of all, as a share of it."""
    ranking: float
    """Lowest Spearman correlation of a member's clusters (mean effect of a touch) with those of all."""
    ranking_by_chance: float
    """1 / sqrt(M): that of M members with nothing in common, each being a part of the mean."""


def agreement(attribution: DataFrame, method: str, plan: EnsembleConfig) -> Subsets | None:
    """None for a method whose effects were not fitted by the plan's ensemble. Cost: a scan of the method's rows; a row
    a cluster is collected."""
    own = attribution.where((F.col("method") == method) & (F.size(MEMBERS) == plan.members))
    sums = own.groupBy("cluster").agg(
        F.count(F.lit(1)).alias("touches"), *member_sums(plan, "member", lambda value: value)
    )
    found = collect(sums.orderBy("cluster"))
    if not len(found["cluster"]):
        return None
    member_MC = np.stack([found[f"member_{m}"] for m in range(plan.members)])
    total_M, mean_MC = member_MC.sum(axis=1), member_MC / found["touches"]
    centre = total_M.mean()
    return Subsets(
        method,
        float(np.abs(total_M / centre - 1).max()) if centre else float("nan"),
        min(overall_spearman(member_C, mean_MC.mean(axis=0)) for member_C in mean_MC),
        1 / math.sqrt(plan.members),
    )
