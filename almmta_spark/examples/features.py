"""Journeys as the fixed-length numeric columns a model reads; training and inference use the same."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.example_spec import ExampleSpec, Signal
from almmta_spark.examples.spec import standardised

COLUMNS = (
    "outcome",
    "outcome_proxies",
    "intent_proxies",
    "covariates",
    "num_touches",
    "cluster_index",
    "item_id",
    "author_id",
    "age_hours",
    "propensity_bucket",
    "touch_weight",
    "touch_embedding",
)


def features(journeys: DataFrame, propensities: DataFrame, items: DataFrame, spec: ExampleSpec) -> DataFrame:
    """journey_id, user_id and COLUMNS, as training_examples has them; touches padded with 0 at the end.

    Cost: one join of journeys with propensities by journey_id; the rest is row by row inside Spark. Where the spec says
    touch_embeddings, also a join of the touches with items, and one shuffle of their contents by journey_id.
    """
    lying = propensities.select(
        "journey_id",
        F.col("cluster").alias("clusters"),
        F.col("propensity_bucket").alias("buckets"),
        "stabilized_weight",
    )
    joined = journeys.join(lying, "journey_id")
    if spec.touch_embeddings:
        joined = joined.join(touch_contents(journeys, items, spec), "journey_id")
    else:
        joined = joined.withColumn("touch_embedding", F.array(F.lit(0.0).cast("float")))
    at = F.transform("touches", lambda t: F.array_position("clusters", t["cluster"]).cast("int"))
    known = F.array(*map(F.lit, spec.clusters))

    def listed(values: Column, kind: str) -> Column:
        return padded(values.cast(f"array<{kind}>"), spec.max_touchpoints, kind)

    return joined.withColumn("at", at).select(
        "journey_id",
        "user_id",
        F.col("outcome").cast("float").alias("outcome"),
        signal_values("outcome_proxies", spec.outcome_proxies).alias("outcome_proxies"),
        signal_values("intent_proxies", spec.intent_proxies).alias("intent_proxies"),
        standardised(F.col("covariates"), spec.covariate_mean, spec.covariate_scale).alias("covariates"),
        F.size("touches").alias("num_touches"),
        listed(F.transform("touches", lambda t: F.array_position(known, t["cluster"]) - 1), "int").alias(
            "cluster_index"
        ),
        listed(F.col("touches.item_id"), "bigint").alias("item_id"),
        listed(F.col("touches.author_id"), "bigint").alias("author_id"),
        listed(F.col("touches.age_hours"), "float").alias("age_hours"),
        listed(F.transform("at", lambda i: F.element_at("buckets", i)), "int").alias("propensity_bucket"),
        listed(F.transform("at", lambda i: F.element_at("stabilized_weight", i)), "float").alias("touch_weight"),
        "touch_embedding",
    )


def touch_contents(journeys: DataFrame, items: DataFrame, spec: ExampleSpec) -> DataFrame:
    """Contents of a journey's touches, oldest first, flattened and padded: L x E floats, 0 for what has no content."""
    zeros = F.array_repeat(F.lit(0.0).cast("float"), spec.embedding_length)
    touches = journeys.select("journey_id", F.posexplode("touches").alias("position", "touch"))
    contents = items.select("item_id", "embedding")
    joined = touches.join(contents, F.col("touch.item_id") == contents.item_id, "left")
    flat = F.flatten(in_order(F.coalesce("embedding", zeros)))
    length = spec.max_touchpoints * spec.embedding_length
    return joined.groupBy("journey_id").agg(padded(flat, length, "float").alias("touch_embedding"))


def in_order(value: Column) -> Column:
    """Aggregate: the values of a journey's exploded touches, in order of their position."""
    ordered = F.sort_array(F.collect_list(F.struct("position", value.alias("value"))))
    return F.transform(ordered, lambda one: one["value"])


def signal_values(column: str, signals: Sequence[Signal]) -> Column:
    """One float a signal, in order, 0 where it did not happen; binary ones are cut to 0 or 1. [0] without signals."""
    by_name = F.map_from_entries(column)

    def value(signal: Signal) -> Column:
        summed = F.coalesce(F.try_element_at(by_name, F.lit(signal.name)), F.lit(0.0))
        return F.when(summed > 0, 1.0).otherwise(0.0) if signal.kind == "binary" else summed

    return F.array(*([value(s) for s in signals] or [F.lit(0.0)])).cast("array<float>")


def padded(values: Column, length: int, kind: str) -> Column:
    """The list, filled with 0 up to length; a longer one is an error of the caller and keeps its length."""
    return F.concat(values, F.array_repeat(F.lit(0).cast(kind), length - F.size(values)))
