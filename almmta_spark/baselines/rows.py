"""What a baseline claims of each touch, as rows of `attribution`: one schema, whatever the method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark import tables


def claim(method: str, parameters: Mapping[str, Any], effect: Column) -> Column:
    """struct<method, model_version, effect: removal_effect of each entry of the journey's `touches`>."""
    return F.struct(
        F.lit(method).alias("method"), F.lit(version(method, parameters)).alias("model_version"), effect.alias("effect")
    )


def version(method: str, parameters: Mapping[str, Any]) -> str:
    """Digest of the method's name and of the parameters it has, fitted ones too, in the place of a model's."""
    return hashlib.sha256(json.dumps([method, dict(parameters)], sort_keys=True).encode()).hexdigest()


def attribution(journeys: DataFrame, propensities: DataFrame, claims: Sequence[Column]) -> DataFrame:
    """Rows of tables.ATTRIBUTION of the given claims for every touch of every journey.

    Cost: one join by journey for the bucket, whatever the number of methods; the rest is per row.
    """
    buckets = propensities.select("journey_id", F.map_from_arrays("cluster", "propensity_bucket").alias("buckets"))
    exploded = (
        journeys.join(buckets, "journey_id")
        .withColumn("claims", F.array(*claims))
        .select("journey_id", "user_id", "outcome", "touches", "buckets", F.inline("claims"))
        .withColumn("total_credit", F.aggregate("effect", F.lit(0.0), lambda s, x: s + F.greatest(x, F.lit(0.0))))
        .select("*", F.posexplode("effect").alias("position", "removal_effect"))
        .withColumn("touch", F.get("touches", F.col("position")))
    )
    credit = F.greatest("removal_effect", F.lit(0.0))
    columns = {f: F.col(f"touch.{f}") for f in ("touch_id", "item_id", "author_id", "cluster", "touch_ts", "age_hours")}
    columns |= {
        "credit": credit,
        "attribution_share": F.when(F.col("total_credit") > 0, credit / F.col("total_credit")).otherwise(F.lit(0.0)),
        "propensity_bucket": F.element_at("buckets", F.col("touch.cluster")),
    }
    known = {"journey_id", "user_id", "outcome", "method", "model_version", "removal_effect"}
    columns |= {name: F.col(name) for name in known}
    return exploded.select(
        *[columns.get(c.name, F.lit(None).cast(c.type)).alias(c.name) for c in tables.ATTRIBUTION.columns]
    )
