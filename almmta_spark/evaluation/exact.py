"""Errors against the simulator's exact effects: the truth_metrics table and what the figures of it draw."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal import jackknife
from almmta_spark.causal import truth as errors
from almmta_spark.causal.ratio import ratio
from almmta_spark.config import Config, EnsembleConfig
from almmta_spark.evaluation.auuc import Row, Scores, null_if_nan
from almmta_spark.evaluation.fixed_point import collect, fixed_sum
from almmta_spark.evaluation.grouped import same_keys
from almmta_spark.evaluation.rollups import member_sums

MAX_TOUCHES = 250_000
"""Touches of the sample on the driver: the error of a metric there is far below that of another fit."""
_SHARES = 1_000_000
_EFFECT = ("removal_effect", "removal_effect_lower", "removal_effect_upper")


@dataclass(frozen=True)
class TruthSample:
    """N touches with known effects, sorted by journey and touch; the estimates of every method beside them."""

    journey_N: NDArray[np.int64]
    cluster_N: NDArray[np.int64]
    bucket_N: NDArray[np.int64]
    ett_N: NDArray[np.float64]
    ate_x_N: NDArray[np.float64]
    estimate_N: Mapping[str, NDArray[np.float64]]
    estimate_ate_N: Mapping[str, NDArray[np.float64]]
    """Of the ATE-X: removal_effect_ate, or removal_effect of a method without one."""
    half_width_N: Mapping[str, NDArray[np.float64]]
    """Of the intervals about `estimate_N`, of the methods that have some."""


def sampled_truth(truth: DataFrame, seed: int) -> DataFrame:
    """All users of truth_attribution, or a hash sample with about MAX_TOUCHES touches. Whole users are taken or left,
    so journeys are whole. Cost: a count of truth."""
    share = min(1.0, MAX_TOUCHES / max(truth.count(), 1))
    draw = F.pmod(F.xxhash64(F.lit(seed), F.lit("truth"), "user_id"), F.lit(_SHARES))
    return truth.where(draw < F.lit(math.ceil(share * _SHARES)))


def truth_sample(attribution: DataFrame, sampled: DataFrame, methods: Sequence[str]) -> TruthSample:
    """Exact effects (sampled_truth) beside each method's estimates.

    Cost: one join of attribution with the sample. Collects at most about MAX_TOUCHES rows a method.
    """
    of_method = F.array_position(F.array(*[F.lit(m) for m in methods]), F.col("method")).alias("method")
    joined = attribution.where(F.col("method").isin(*methods)).join(
        sampled, same_keys(attribution, sampled, "user_id", "touch_id")
    )
    ate = F.coalesce("removal_effect_ate", "removal_effect").alias("removal_effect_ate")
    half = ((F.col("removal_effect_upper") - F.col("removal_effect_lower")) / 2).alias("half_width")
    touch = ("journey_id", "touch_id", "cluster", "propensity_bucket")
    found = collect(joined.select(*touch, of_method, "removal_effect", ate, half, "ett", "ate_x"))
    order = np.lexsort((found["touch_id"], found["journey_id"], found["method"]))
    rows = {name: values[order].reshape(len(methods), -1) for name, values in found.items()}
    assert (rows["touch_id"] == rows["touch_id"][0]).all(), "methods hold different touches"
    return TruthSample(
        rows["journey_id"][0],
        rows["cluster"][0],
        rows["propensity_bucket"][0],
        rows["ett"][0],
        rows["ate_x"][0],
        {m: rows["removal_effect"][i] for i, m in enumerate(methods)},
        {m: rows["removal_effect_ate"][i] for i, m in enumerate(methods)},
        {m: rows["half_width"][i] for i, m in enumerate(methods) if not np.isnan(rows["half_width"][i]).any()},
    )


@dataclass(frozen=True)
class ItemSums:
    """Sums over the sampled touches of each of I items, of one method with M fits."""

    item_I: NDArray[np.int64]
    cluster_I: NDArray[np.int64]
    touches_I: NDArray[np.int64]
    ett_I: NDArray[np.float64]
    effect_I: NDArray[np.float64]
    chances_I: NDArray[np.float64]
    """p_outcome."""
    member_MI: NDArray[np.float64]


def item_sums(
    attribution: DataFrame, sampled: DataFrame, methods: Sequence[str], plan: EnsembleConfig
) -> Mapping[str, ItemSums]:
    """Of the methods that have intervals. Cost: one join of attribution with the sample; an item's row each collected,
    at most about MAX_TOUCHES a method."""
    joined = attribution.where(F.col("method").isin(*methods)).join(
        sampled, same_keys(attribution, sampled, "user_id", "touch_id")
    )
    sums = joined.groupBy("method", "item_id", "cluster").agg(
        F.count(F.lit(1)).alias("touches"),
        fixed_sum(F.col("ett")).alias("ett"),
        fixed_sum(F.col("removal_effect")).alias("effect"),
        fixed_sum(F.col("p_outcome")).alias("chances"),
        *member_sums(plan, "member", lambda value: value),
    )
    found = collect(sums.orderBy("method", "item_id"))
    of = {m: {name: values[found["method"] == m] for name, values in found.items()} for m in methods}
    return {
        method: ItemSums(
            rows["item_id"],
            rows["cluster"],
            rows["touches"],
            rows["ett"],
            rows["effect"],
            rows["chances"],
            np.stack([rows[f"member_{m}"] for m in range(plan.members)]),
        )
        for method, rows in of.items()
    }


def group_interval_rows(sums: Mapping[str, ItemSums], conf: Config) -> Iterator[Row]:
    """Coverage and width of the intervals about clusters' and items' mean effects, as attribution_by_* has them.

    Over groups with evaluation.min_group_rows sampled touches, each counting once.
    """
    plan, level = conf.training.ensemble, conf.evaluation.interval
    for method, items in sums.items():
        for suffix, group_I in (("_cluster", items.cluster_I), ("_item", items.item_I)):
            _, position = np.unique(group_I, return_inverse=True)
            touches_G = np.bincount(position, weights=items.touches_I)
            kept = touches_G >= conf.evaluation.min_group_rows
            effect_G, ett_G, chance_G, *members_G = (
                (np.bincount(position, weights=values) / touches_G)[kept]
                for values in (items.effect_I, items.ett_I, items.chances_I, *items.member_MI)
            )
            unseen_G = plan.unseen_effect * chance_G
            half_G = jackknife.half_width(members_G, effect_G, plan.folds, level, plan.shared_error, unseen_G)
            metrics = errors.interval_metrics(effect_G, half_G, ett_G, level, suffix)
            for metric, value in metrics.items():
                yield {"method": method, "metric": metric, "value": null_if_nan(value), "n": int(kept.sum())}


def group_scores(sample: TruthSample, found: Scores) -> NDArray[np.float64]:
    """The exact effects as a score: mean ett of the sample's touches in each group, NaN where it has none."""
    position = found.position(sample.bucket_N, sample.cluster_N)
    total = np.bincount(position, weights=sample.ett_N, minlength=len(found.touches_G))
    count = np.bincount(position, minlength=len(found.touches_G))
    return ratio(total, count)


def truth_metric_rows(sample: TruthSample, null_clusters: NDArray[Any] | None, level: float) -> Iterator[Row]:
    """Every metric of METHOD.md section 6 for every method; null_clusters: those of strength 0, where known; level:
    that of the intervals, where a method has some."""
    for method, estimate in sample.estimate_N.items():
        metrics = errors.against_truth(estimate, sample.ett_N, sample.journey_N)
        ate = sample.estimate_ate_N[method]
        metrics |= errors.against_truth(ate, sample.ate_x_N, sample.journey_N, suffix="_ate")
        if null_clusters is not None:
            metrics["null_share"] = errors.null_share(estimate, ~np.isin(sample.cluster_N, null_clusters))
        if method in sample.half_width_N:
            metrics |= errors.interval_metrics(estimate, sample.half_width_N[method], sample.ett_N, level)
        for metric, value in metrics.items():
            yield {"method": method, "metric": metric, "value": null_if_nan(value), "n": len(estimate)}


def cluster_effects(sample: TruthSample) -> Mapping[str, NDArray[Any]]:
    """Mean effect per touch of each cluster: `cluster`, `truth`, and one entry a method."""
    clusters, position = np.unique(sample.cluster_N, return_inverse=True)
    count = np.bincount(position)
    columns = {"truth": sample.ett_N, **sample.estimate_N}
    means = {name: np.bincount(position, weights=values) / count for name, values in columns.items()}
    return {"cluster": clusters, **means}


def one_journey(
    attribution: DataFrame, truth: DataFrame, methods: Sequence[str], min_touches: int
) -> Mapping[str, NDArray[Any]]:
    """The first journey, by its id, that ended in an upload after at least so many touches of known effect.

    Its touches, oldest first: age_hours, cluster, ett, and of each method its effect, its lower and its upper end
    (NaN: none), as `method`, `method_lower`, `method_upper`. ValueError where there is no such journey. Cost: two joins
    of attribution's uploads with truth; one journey on the driver.
    """
    own = attribution.where(F.col("method").isin(*methods) & (F.col("outcome") == 1))
    known = own.join(truth.select("user_id", "touch_id", "ett"), ["user_id", "touch_id"])
    long = known.groupBy("journey_id").agg(F.countDistinct("touch_id").alias("n")).where(F.col("n") >= min_touches)
    first = long.orderBy("journey_id").first()
    if first is None:
        raise ValueError(f"no journey with an upload has {min_touches} touches of known effect: simulate more users")
    of = known.where(F.col("journey_id") == first["journey_id"]).orderBy(F.desc("age_hours"), "touch_id")
    rows: pd.DataFrame = of.select("method", "age_hours", "cluster", "ett", *_EFFECT).toPandas()
    found = {name: rows[rows.method == methods[0]][name].to_numpy() for name in ("age_hours", "cluster", "ett")}
    for method in methods:
        for name in _EFFECT:
            side = name.removeprefix("removal_effect")
            found[f"{method}{side}"] = rows[rows.method == method][name].to_numpy(float)
    return found


def effect_bins(estimate_N: NDArray[np.float64], truth_N: NDArray[np.float64], num_bins: int = 20) -> dict[str, Any]:
    """Touches in equal-sized bins of the estimate: its mean, and mean, 10th and 90th percentile of the truth."""
    order = np.argsort(estimate_N, kind="stable")
    bins = [b for b in np.array_split(order, num_bins) if len(b)]
    return {
        "estimate": np.array([estimate_N[b].mean() for b in bins]),
        "truth": np.array([truth_N[b].mean() for b in bins]),
        "truth_p10": np.array([np.quantile(truth_N[b], 0.1) for b in bins]),
        "truth_p90": np.array([np.quantile(truth_N[b], 0.9) for b in bins]),
    }
