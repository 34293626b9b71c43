"""A night's own effects held against its withholding experiment, and corrected by it where it is large enough.

C clusters, N cells of users, R replicates and the data
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal import calibration
from almmta_spark.config import Config
from almmta_spark.evaluation import bootstrap, withholding
from almmta_spark.evaluation.fixed_point import collect, fixed_sum
from almmta_spark.evaluation.grouped import GroupSums
from almmta_spark.evaluation.withholding import Comparison


def compare_and_correct(
    rows: DataFrame, attribution: DataFrame, method: str, clusters: Sequence[int], sums: GroupSums, conf: Config
) -> tuple[Comparison, calibration.Correction | None]:
    """The experiment against a method's effects, and their correction; None where the experiment does not call for one.

    rows, sums: as for withholding.compare; attribution: of the same nights; clusters: all there are. Where nights are
    pooled, each one's decisions are held against that night's own effects. Cost: two joins of the method's rows with
    the (small) experiment, and one scan of them; collects clusters x NUM_CELLS rows and one an hour of age.
    """
    compared = withholding.compare(rows, attribution, [method], sums, conf.evaluation, conf.seed)[method]
    if not compared.calls_for_correction:
        return compared, None
    own = attribution.where(F.col("method") == method)
    fade = _fade_per_hour(own)
    pooled = _pooled(_sums_by_cluster(rows, own, fade), sums, clusters, conf)
    plan = conf.training.ensemble
    return compared, calibration.correction(clusters, pooled, fade, plan.folds, plan.repeats, conf.seed)


def _scale(fade_per_hour: float) -> Column:
    p_deleted, age_hours = F.col("p_outcome_deleted"), F.col("age_hours").cast("double")
    return p_deleted * (1 - p_deleted) * F.exp(F.lit(-fade_per_hour) * age_hours)


def _fade_per_hour(own: DataFrame) -> float:
    hour = F.floor("age_hours")
    by_hour = own.groupBy(hour.alias("hour")).agg(
        fixed_sum(F.abs("removal_effect")).alias("effect"),
        fixed_sum(_scale(0.0)).alias("scale"),
    )
    found = collect(by_hour.orderBy("hour"))
    return calibration.fade_per_hour(found["effect"], found["scale"], found["hour"] + 0.5)


def _sums_by_cluster(rows: DataFrame, own: DataFrame, fade_per_hour: float) -> DataFrame:
    """Of the kept decisions' touches: weight, weight x removal_effect and weight x scale, by cluster and cell."""
    kept = rows.where("treated").select("journey_id", "touch_id", "cell", "weight")
    scale = _scale(fade_per_hour).alias("scale")
    touches = own.select("journey_id", "touch_id", "cluster", "removal_effect", scale)
    weighted = {name: fixed_sum(F.col("weight") * F.col(name)).alias(name) for name in ("removal_effect", "scale")}
    return (
        touches.join(kept, ["journey_id", "touch_id"])
        .groupBy("cluster", "cell")
        .agg(fixed_sum(F.col("weight")).alias("weight"), *weighted.values())
    )


def _pooled(sums_by_cluster: DataFrame, sums: GroupSums, clusters: Sequence[int], conf: Config) -> calibration.Pooled:
    index = {cluster: c for c, cluster in enumerate(clusters)}  # an earlier night may know others
    found = collect(sums_by_cluster.where(F.col("cluster").isin(*clusters)))
    of = np.array([index[c] for c in found["cluster"].tolist()], dtype=np.int64)
    predicted_NC3 = np.zeros((bootstrap.NUM_CELLS, len(clusters), 3))
    for i, name in enumerate(("weight", "removal_effect", "scale")):
        predicted_NC3[found["cell"], of, i] = found[name]
    measured_NC4 = np.zeros((bootstrap.NUM_CELLS, len(clusters), 4))
    for g, cluster in enumerate(sums.cluster_G.tolist()):
        if cluster in index:
            measured_NC4[:, index[cluster]] += sums.sums_CGS[:, g]
    weights_RN = bootstrap.poisson_weights(conf.seed, conf.evaluation.bootstrap_replicates)
    return calibration.from_cells(measured_NC4, predicted_NC3, weights_RN)
