"""The mean effect of a (propensity bucket, treatment cluster) group, measured under three protocols.

Each protocol is one function that turns tables into unit rows: propensity_bucket, cluster, cell (the user's bootstrap
cell), treated, weight, value. One Spark aggregation then sums them, and numpy does the rest on that small result:
uplift = weighted mean of the treated minus weighted mean of the others (Hajek), or the treated mean alone where the
value is an effect already.

G groups, C cells, R replicates and the data, S = 4 sums
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from almmta_spark.causal.ratio import ratio
from almmta_spark.evaluation import bootstrap
from almmta_spark.evaluation.fixed_point import collect, fixed_sum

GROUP = ("propensity_bucket", "cluster")


@dataclass(frozen=True)
class Protocol:
    """How uplift is known, and of what it is the uplift."""

    name: str
    estimand: str
    has_control: bool
    """False: the value of a row is an effect, not an outcome."""
    counted_arms: str
    """Rows that must reach min_group_rows: "all", or those of the "smaller" arm where nature sets the arms' sizes."""


EXACT = Protocol("exact", "mean effect per exposed touch (ETT)", False, "all")
RANDOMISED = Protocol("randomised", "mean effect per exposed touch (ETT)", True, "all")
OBSERVATIONAL = Protocol(
    "observational", "ATE of exposure on journeys, by weights (observational, not causal)", True, "smaller"
)
DOUBLY_ROBUST = Protocol(
    "observational_doubly_robust",
    "ATE of exposure on journeys, doubly robust (observational, not causal)",
    True,
    "smaller",
)
"""The same contrast of what covariates do not explain (doubly_robust.py)."""
NOT_CAUSAL = (
    "Not causal: what drives both what is shown and the upload, and is not among the covariates, stays in these "
    "figures. In simulated world `default` a biased back-door model scores .92 here, the true effects themselves .73."
)
"""Stands beside every observational figure."""
OBSERVATIONAL_NAMES = (OBSERVATIONAL.name, DOUBLY_ROBUST.name)


# ---- unit rows of each protocol -------------------------------------------------------------------------------------


def exact_rows(touches: DataFrame, truth: DataFrame, seed: int) -> DataFrame:
    """Touches with a known exact effect. touches: attribution rows of one method. Cost: one join by touch."""
    cell = bootstrap.user_cell(F.col("user_id"), seed)
    return touches.join(truth, same_keys(touches, truth, "user_id", "touch_id")).select(
        *GROUP,
        cell.alias("cell"),
        F.lit(True).alias("treated"),
        F.lit(1.0).alias("weight"),
        F.col("ett").alias("value"),
    )


def observational_rows(
    journeys: DataFrame, propensities: DataFrame, seed: int, clip: float = float("inf")
) -> DataFrame:
    """A row per (journey, cluster): exposed against not, by stabilised weight, clipped (and once more at `clip`);
    value = outcome.

    Cost: one join by journey, then journeys x clusters rows that only pass through to the aggregation.
    """
    pairs = F.arrays_zip("propensity_bucket", "cluster", "exposed", "stabilized_weight")
    outcome = journeys.select("journey_id", F.col("outcome").cast("double").alias("value"))
    return (
        propensities.select(
            "journey_id", bootstrap.user_cell(F.col("user_id"), seed).alias("cell"), pairs.alias("pairs")
        )
        .join(outcome, "journey_id")
        .select("cell", "value", F.inline("pairs"))
        .select(
            *GROUP,
            "cell",
            F.col("exposed").alias("treated"),
            F.least(F.col("stabilized_weight").cast("double"), F.lit(clip)).alias("weight"),
            "value",
        )
    )


def randomised_rows(
    decisions: DataFrame,
    journeys: DataFrame,
    propensities: DataFrame,
    uploads: DataFrame,
    p_withheld: float,
    seed: int,
) -> DataFrame:
    """Unit rows of the withholding experiment, with touch_id: kept (treated) against withheld, by arm.

    decisions and uploads: those that ingest accepted, with their night ds; p_withheld stands for a null one.
    weight = n / d / P(arm): d of the user's n touches of the night, shown and withheld, were drawn, so a decision has
    the selection probability d / n, and the weighted mean is over touches as they are exposed. n counts the journey's
    touches (at most max_touchpoints) and the withheld ones. value = an upload in the outcome window, with or without a
    journey. The bucket is that of the user's propensity for the item's cluster, null where there is none. Cost: one
    shuffle of decisions and uploads by user, then left joins of the (small) experiment by journey.
    """
    created = uploads.select("user_id", "ds", F.lit(True).alias("upload"))
    of_night = Window.partitionBy("user_id", "ds")
    drawn = (
        decisions.unionByName(created, allowMissingColumns=True)
        .withColumns(
            {
                "num_decisions": F.count("withheld").over(of_night),
                "num_withheld": F.count_if("withheld").over(of_night),
                "value": F.coalesce(F.max(F.col("upload").cast("double")).over(of_night), F.lit(0.0)),
                "journey_id": F.xxhash64("user_id", "ds"),
            }
        )
        .where("upload is null")
    )
    shown = journeys.select("journey_id", F.size("touches").alias("num_shown"))
    buckets = propensities.select("journey_id", F.map_from_arrays("cluster", "propensity_bucket").alias("buckets"))
    touches = F.coalesce("num_shown", F.lit(0)) + F.col("num_withheld")
    probability = F.coalesce("p_withheld", F.lit(p_withheld))
    arm = F.when(F.col("withheld"), probability).otherwise(1 - probability)
    return (
        drawn.join(buckets, "journey_id", "left")
        .join(shown, "journey_id", "left")
        .select(
            F.try_element_at("buckets", "cluster").alias("propensity_bucket"),
            "cluster",
            bootstrap.user_cell(F.col("user_id"), seed).alias("cell"),
            (~F.col("withheld")).alias("treated"),
            (touches / F.col("num_decisions") / arm).alias("weight"),
            "value",
            "journey_id",
            F.xxhash64("user_id", "item_id", "event_ts").alias("touch_id"),
        )
    )


def same_keys(left: DataFrame, right: DataFrame, *names: str) -> list[str]:
    """Join keys, with the night among them where both sides say it."""
    return [*names, *(["ds"] if "ds" in left.columns and "ds" in right.columns else [])]


# ---- one aggregation, then numpy ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GroupSums:
    """A protocol's sums per (cell, group): all that uplift, AUUC and their replicates need."""

    protocol: Protocol
    bucket_G: NDArray[np.int64]
    cluster_G: NDArray[np.int64]
    rows_G: NDArray[np.int64]
    """Unit rows behind the uplift."""
    counted_G: NDArray[np.int64]
    """Rows compared with min_group_rows."""
    lowest_G: NDArray[np.float64]
    highest_G: NDArray[np.float64]
    """Outcomes of those rows."""
    sums_CGS: NDArray[np.float64]
    """Treated: sum of weight x value, sum of weight; then the same of the others; then, where values are residuals, sum
    of expected and number of rows."""

    def uplift(self, weights_RC: NDArray[np.int64]) -> NDArray[np.float64]:
        """(R, G) mean effects; NaN where an arm has no weight. einsum, not BLAS: the same bits on any thread count."""
        sums_RGS = np.einsum("rc,cgs->rgs", weights_RC.astype(float), self.sums_CGS)
        return _contrast(sums_RGS, self.protocol.has_control)

    def overall(self, weights_RC: NDArray[np.int64]) -> NDArray[np.float64]:
        """(R,) the same contrast over all groups together."""
        sums_RS = np.einsum("rc,cs->rs", weights_RC.astype(float), self.sums_CGS.sum(axis=1))
        return _contrast(sums_RS, self.protocol.has_control)


def group_sums(rows: DataFrame, protocol: Protocol) -> GroupSums:
    """One aggregation of a protocol's unit rows. Collects at most groups x NUM_CELLS x 2 rows of nine numbers."""
    residual = "expected" in rows.columns
    summed = rows.groupBy(*GROUP, "cell", "treated").agg(
        F.count(F.lit(1)).alias("rows"),
        fixed_sum(F.col("weight") * F.col("value")).alias("weighted_value"),
        fixed_sum(F.col("weight")).alias("weight"),
        *[of("outcome" if residual else "value").alias(name) for name, of in (("lowest", F.min), ("highest", F.max))],
        *([fixed_sum(F.col("expected")).alias("expected")] if residual else []),
    )
    return added_up(protocol, **collect(summed))


def added_up(
    protocol: Protocol,
    propensity_bucket: NDArray[Any],
    cluster: NDArray[Any],
    cell: NDArray[Any],
    treated: NDArray[Any],
    rows: NDArray[Any],
    weighted_value: NDArray[Any],
    weight: NDArray[Any],
    lowest: NDArray[Any],
    highest: NDArray[Any],
    expected: NDArray[Any] | None = None,
) -> GroupSums:
    """The same in numpy, of single unit rows (rows = 1; lowest = highest = the outcome) or of sums of some."""
    groups = np.stack([propensity_bucket.astype(np.int64), cluster.astype(np.int64)])
    keys, group = np.unique(groups, axis=1, return_inverse=True)
    group, treated = group.reshape(-1), treated.astype(bool)
    sums_CGS = np.zeros((bootstrap.NUM_CELLS, keys.shape[1], 4 if expected is None else 6))
    np.add.at(sums_CGS, (cell, group, np.where(treated, 0, 2)), weighted_value)
    np.add.at(sums_CGS, (cell, group, np.where(treated, 1, 3)), weight)
    if expected is not None:
        np.add.at(sums_CGS[..., 4], (cell, group), expected)
        np.add.at(sums_CGS[..., 5], (cell, group), rows)
    arms_2G = np.zeros((2, keys.shape[1]), dtype=np.int64)
    np.add.at(arms_2G, (treated.astype(int), group), rows)
    counted = arms_2G.min(axis=0) if protocol.counted_arms == "smaller" else arms_2G.sum(axis=0)
    lowest_G, highest_G = np.full(keys.shape[1], np.inf), np.full(keys.shape[1], -np.inf)
    np.minimum.at(lowest_G, group, lowest)
    np.maximum.at(highest_G, group, highest)
    return GroupSums(protocol, keys[0], keys[1], arms_2G.sum(axis=0), counted, lowest_G, highest_G, sums_CGS)


def _contrast(sums: NDArray[np.float64], has_control: bool) -> NDArray[np.float64]:
    means = ratio(sums[..., 0::2], sums[..., 1::2])
    effect = means[..., 0] - means[..., 1] if has_control else means[..., 0]
    return effect + means[..., 2] if means.shape[-1] == 3 else effect
