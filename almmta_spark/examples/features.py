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


def features(
    journeys: DataFrame,
    propensities: DataFrame,
    items: DataFrame,
    spec: ExampleSpec,
    touch_lists: DataFrame | None = None,
) -> DataFrame:
    """journey_id, user_id and COLUMNS, as training_examples has them; touches padded with 0 at the end.

    touch_lists: touch_embedding and further columns by journey_id, where the caller has more to say of touches; the
    further ones come last. Cost: one join of journeys with propensities by journey_id; the rest is row by row inside
    Spark. Where the spec says touch_embeddings, also what contents_of costs, and one shuffle by journey_id.
    """
    lying = propensities.select(
        "journey_id",
        F.col("cluster").alias("clusters"),
        F.col("propensity_bucket").alias("buckets"),
        "stabilized_weight",
    )
    joined = journeys.join(lying, "journey_id")
    if touch_lists is None and spec.touch_embeddings:
        touch_lists = touch_contents(journeys, items, spec)
    if touch_lists is None:
        joined = joined.withColumn("touch_embedding", no_content())
    else:
        joined = joined.join(touch_lists, "journey_id")
    further = [] if touch_lists is None else [c for c in touch_lists.columns if c not in ("journey_id", COLUMNS[-1])]
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
        *further,
    )


def touch_contents(journeys: DataFrame, items: DataFrame, spec: ExampleSpec) -> DataFrame:
    """touch_embedding by journey_id: contents of its touches, oldest first."""
    touches = journeys.select("journey_id", F.posexplode("touches").alias("position", "touch"))
    joined = with_content(touches.select("journey_id", "position", "touch.item_id"), items, spec)
    return joined.groupBy("journey_id").agg(flattened(in_order(F.col("content")), spec).alias("touch_embedding"))


def with_content(touches: DataFrame, items: DataFrame, spec: ExampleSpec) -> DataFrame:
    """The touches with their items' embedding as content, zeros where there is none. Cost: one join with items."""
    zeros = F.array_repeat(F.lit(0.0).cast("float"), spec.embedding_length)
    contents = items.select("item_id", F.col("embedding").alias("content"))
    return touches.join(contents, "item_id", "left").withColumn("content", F.coalesce("content", zeros))


def flattened(contents: Column, spec: ExampleSpec) -> Column:
    """A journey's contents, one list a touch, as L x E floats with zeros at the end."""
    return padded(F.flatten(contents), spec.max_touchpoints * spec.embedding_length, "float")


def no_content() -> Column:
    """touch_embedding where models are given none."""
    return F.array(F.lit(0.0).cast("float"))


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
