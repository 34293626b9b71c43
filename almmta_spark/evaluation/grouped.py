"""The mean effect of a (propensity bucket, treatment cluster) group, measured under three protocols.

Each protocol is one function that turns tables into unit rows: propensity_bucket, cluster, cell (the user's bootstrap
cell), treated, weight, value. One Spark aggregation then sums them, and numpy does the rest on that small result:
uplift = weighted mean of the treated minus weighted mean of the others (Hajek), or the treated mean alone where the
value is an effect already.

G groups, C cells, R replicates and the data, S = 4 sums
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from almmta_spark.causal.ratio import ratio
from almmta_spark.evaluation import bootstrap
from almmta_spark.evaluation.fixed_point import collect, fixed_sum

GROUP = ("propensity_bucket", "cluster")
MICROSECONDS_PER_HOUR = 3_600_000_000


@dataclass(frozen=True)
class Protocol:
    name: str
    estimand: str
    has_control: bool
    """False: the value of a row is an effect, not an outcome."""
    counted_arms: str
    """Rows that must reach min_group_rows: "all", or those of the "smaller" arm where nature sets the arms' sizes."""


EXACT = Protocol("exact", "mean effect per exposed touch (ETT)", False, "all")
RANDOMISED = Protocol("randomised", "mean effect per exposed touch (ETT)", True, "all")
OBSERVATIONAL = Protocol("observational", "ATE of exposure on journeys (observational, not causal)", True, "smaller")


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


def observational_rows(journeys: DataFrame, propensities: DataFrame, seed: int) -> DataFrame:
    """A row per (journey, cluster): exposed against not, by stabilised, clipped weight; value = outcome.

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
            F.col("stabilized_weight").cast("double").alias("weight"),
            "value",
        )
    )


@dataclass(frozen=True)
class Windows:
    """Which night a raw row belongs to: half-open hours around each night's index_ts."""

    nights: Sequence[str]
    lookback_hours: float
    outcome_window_hours: float

    def assign(self, rows: DataFrame, hours_back: float, hours_ahead: float) -> DataFrame:
        """The rows with `night`, once for each night whose [index_ts - hours_back, index_ts + hours_ahead) has them."""
        night = F.explode(F.array(*[F.lit(n) for n in self.nights])).alias("night")
        ahead = F.unix_micros("event_ts") - F.unix_micros(F.to_timestamp("night"))
        first, end = (round(hours * MICROSECONDS_PER_HOUR) for hours in (-hours_back, hours_ahead))
        return rows.select("*", night).where((ahead >= F.lit(first)) & (ahead < F.lit(end)))


def decisions(withholdings: DataFrame, windows: Windows, p_withheld: float) -> DataFrame:
    """Randomised decisions of the nights, one a key: night, user_id, item_id, event_ts, withheld, p_withheld, usable.

    Duplicates are one. Not usable: a key decided both ways, or with a probability outside (0, 1). Cost: one small
    shuffle by user, which the window of randomised_rows uses too.
    """
    default = F.lit(p_withheld)
    known = F.coalesce("p_withheld", default) if "p_withheld" in withholdings.columns else default
    probability = F.col("p_withheld")
    return (
        windows.assign(withholdings, windows.lookback_hours, 0.0)
        .withColumn("p_withheld", known)
        .groupBy("night", "user_id", "item_id", "event_ts")
        .agg(
            F.min("withheld").alias("withheld"),
            F.max("withheld").alias("most"),
            F.min("p_withheld").alias("p_withheld"),
            F.max("p_withheld").alias("largest"),
        )
        .withColumn(
            "usable", F.expr("withheld = most and p_withheld = largest") & (probability > 0) & (probability < 1)
        )
        .drop("most", "largest")
    )


def randomised_rows(
    decided: DataFrame,
    journeys: DataFrame,
    propensities: DataFrame,
    item_clusters: DataFrame,
    uploads: DataFrame,
    windows: Windows,
    seed: int,
) -> DataFrame:
    """Unit rows of the withholding experiment, with user_id and touch_id: kept (treated) against withheld, by arm.

    weight = n / d / P(arm): d of the user's n touches of the night, shown and withheld, were drawn, so a decision has
    the selection probability d / n, and the weighted mean is over touches as they are exposed. n counts the journey's
    touches (at most max_touchpoints) and the withheld ones. value = an upload in the outcome window, with or without a
    journey. The bucket is that of the user's propensity for the item's cluster. A decision that is not usable, or whose
    item or user has no cluster or propensity, has a null propensity_bucket. Cost: one shuffle of decisions and uploads
    by user, then left joins of the (small) experiment by item and journey.
    """
    by_night = ["user_id", "night"]
    created = windows.assign(uploads, 0.0, windows.outcome_window_hours).select(*by_night, F.lit(True).alias("upload"))
    of_night = Window.partitionBy(*by_night)
    drawn = (
        decided.where("usable is not null")
        .unionByName(created, allowMissingColumns=True)
        .withColumns(
            {
                "num_decisions": F.count_if("usable").over(of_night),
                "num_withheld": F.count_if(F.col("usable") & F.col("withheld")).over(of_night),
                "value": F.coalesce(F.max(F.col("upload").cast("double")).over(of_night), F.lit(0.0)),
                "journey_id": F.xxhash64("user_id", "night"),
            }
        )
        .where("upload is null")
    )
    shown = journeys.select("journey_id", F.size("touches").alias("num_shown"))
    buckets = propensities.select("journey_id", F.map_from_arrays("cluster", "propensity_bucket").alias("buckets"))
    nights = [F.col("ds").alias("night")] if "ds" in item_clusters.columns else []
    items = item_clusters.select("item_id", "cluster", *nights)
    touches = F.coalesce("num_shown", F.lit(0)) + F.col("num_withheld")
    arm = F.when(F.col("withheld"), F.col("p_withheld")).otherwise(1 - F.col("p_withheld"))
    return (
        drawn.join(items, same_keys(drawn, items, "item_id", by="night"), "left")
        .join(buckets, "journey_id", "left")
        .join(shown, "journey_id", "left")
        .select(
            F.when(F.col("usable"), F.try_element_at("buckets", "cluster")).alias("propensity_bucket"),
            "cluster",
            bootstrap.user_cell(F.col("user_id"), seed).alias("cell"),
            (~F.col("withheld")).alias("treated"),
            F.when(F.col("usable"), touches / F.col("num_decisions") / arm).alias("weight"),
            "value",
            "journey_id",
            F.xxhash64("user_id", "item_id", "event_ts").alias("touch_id"),
        )
    )


def same_keys(left: DataFrame, right: DataFrame, *names: str, by: str = "ds") -> list[str]:
    """Join keys, with the night among them where both sides say it."""
    return [*names, *([by] if by in left.columns and by in right.columns else [])]


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
    sums_CGS: NDArray[np.float64]
    """Treated: sum of weight x value, sum of weight; then the same of the others."""

    def uplift(self, weights_RC: NDArray[np.int64]) -> NDArray[np.float64]:
        """(R, G) mean effects; NaN where an arm has no weight. einsum, not BLAS: the same bits on any thread count."""
        sums_RGS = np.einsum("rc,cgs->rgs", weights_RC.astype(float), self.sums_CGS)
        return _contrast(sums_RGS, self.protocol.has_control)

    def overall(self, weights_RC: NDArray[np.int64]) -> NDArray[np.float64]:
        """(R,) the same contrast over all groups together."""
        sums_RS = np.einsum("rc,cs->rs", weights_RC.astype(float), self.sums_CGS.sum(axis=1))
        return _contrast(sums_RS, self.protocol.has_control)


def group_sums(rows: DataFrame, protocol: Protocol) -> GroupSums:
    """One aggregation of a protocol's unit rows. Collects at most groups x NUM_CELLS x 2 rows of six numbers."""
    found = collect(
        rows.groupBy(*GROUP, "cell", "treated").agg(
            F.count(F.lit(1)).alias("rows"),
            fixed_sum(F.col("weight") * F.col("value")).alias("weighted_value"),
            fixed_sum(F.col("weight")).alias("weight"),
        )
    )
    keys, group = np.unique(np.stack([found[name].astype(np.int64) for name in GROUP]), axis=1, return_inverse=True)
    group, treated = group.reshape(-1), found["treated"].astype(bool)
    sums_CGS = np.zeros((bootstrap.NUM_CELLS, keys.shape[1], 4))
    sums_CGS[found["cell"], group, np.where(treated, 0, 2)] = found["weighted_value"]
    sums_CGS[found["cell"], group, np.where(treated, 1, 3)] = found["weight"]
    arms_2G = np.zeros((2, keys.shape[1]), dtype=np.int64)
    np.add.at(arms_2G, (treated.astype(int), group), found["rows"])
    counted = arms_2G.min(axis=0) if protocol.counted_arms == "smaller" else arms_2G.sum(axis=0)
    return GroupSums(protocol, keys[0], keys[1], arms_2G.sum(axis=0), counted, sums_CGS)


def _contrast(sums: NDArray[np.float64], has_control: bool) -> NDArray[np.float64]:
    means = ratio(sums[..., 0::2], sums[..., 1::2])
    return means[..., 0] - means[..., 1] if has_control else means[..., 0]
