"""last_touch, linear, time_decay: fixed rules that hand the realised outcome out over the journey's touches.

removal_effect = share x outcome is what these methods claim: the touch caused that part of the upload, and touches of
journeys without an upload caused nothing. They see neither covariates nor confounders.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark import tables

Weight = Callable[[Column, Column, Column, float], Column]
"""(age_hours, newest age of the journey, whether it is the newest touch, half_life_hours) -> weight >= 0."""

WEIGHTS: dict[str, Weight] = {
    "last_touch": lambda age, newest_age, is_newest, half_life: is_newest.cast("double"),
    "linear": lambda age, newest_age, is_newest, half_life: F.lit(1.0),
    "time_decay": lambda age, newest_age, is_newest, half_life: F.pow(
        F.lit(2.0), (newest_age - age) / F.lit(half_life)
    ),
}


def attribution(
    journeys: DataFrame, propensities: DataFrame, methods: Sequence[str], half_life_hours: float
) -> DataFrame:
    """Rows of tables.ATTRIBUTION of the given heuristics for every touch of every journey.

    Cost: one join by journey for the bucket; the rest is per row (touches are oldest first, so the last is newest).
    """
    unknown = sorted(set(methods) - set(WEIGHTS))
    if unknown:
        raise ValueError(f"attribution.baselines: {unknown[0]!r} is not one of {', '.join(WEIGHTS)}")
    rows = [_shares(method, half_life_hours) for method in methods]
    buckets = propensities.select("journey_id", F.map_from_arrays("cluster", "propensity_bucket").alias("buckets"))
    exploded = (
        journeys.join(buckets, "journey_id")
        .withColumn("method_rows", F.array(*rows))
        .select("journey_id", "user_id", "outcome", "touches", "buckets", F.inline("method_rows"))
        .select("*", F.posexplode("share").alias("position", "touch_share"))
        .withColumn("touch", F.get("touches", F.col("position")))
    )
    effect = F.col("touch_share") * F.col("outcome")
    unknown_value = F.lit(None).cast("double")
    columns = {
        "touch_id": F.col("touch.touch_id"),
        "item_id": F.col("touch.item_id"),
        "author_id": F.col("touch.author_id"),
        "cluster": F.col("touch.cluster"),
        "touch_ts": F.col("touch.touch_ts"),
        "age_hours": F.col("touch.age_hours"),
        "removal_effect": effect,
        "credit": effect,
        "attribution_share": effect,  # the credits of a journey add up to its outcome, 0 or 1
        "propensity_bucket": F.element_at("buckets", F.col("touch.cluster")),
    }
    known = {"journey_id", "user_id", "outcome", "method", "model_version"}
    return exploded.select(
        *[columns.get(c, F.col(c) if c in known else unknown_value).alias(c) for c in tables.ATTRIBUTION.column_names]
    )


def version(method: str, half_life_hours: float) -> str:
    """Digest of the method's name and of the parameters it has, in the place of a model's."""
    parameters = {"half_life_hours": half_life_hours} if method == "time_decay" else {}
    return hashlib.sha256(json.dumps([method, parameters], sort_keys=True).encode()).hexdigest()


def _shares(method: str, half_life_hours: float) -> Column:
    """struct<method, model_version, share: the touches' weights over their sum> of the journey in `touches`."""
    touches, last = F.col("touches"), F.size("touches") - 1
    newest_age = F.get(touches, last)["age_hours"]
    weights = F.transform(
        touches, lambda touch, i: WEIGHTS[method](touch["age_hours"], newest_age, i == last, half_life_hours)
    )
    total = F.aggregate(weights, F.lit(0.0), lambda sum_, weight: sum_ + weight)
    share = F.transform(weights, lambda weight: weight / total)
    return F.struct(
        F.lit(method).alias("method"),
        F.lit(version(method, half_life_hours)).alias("model_version"),
        share.alias("share"),
    )
