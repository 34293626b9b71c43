"""A night's attribution: journeys and propensities through a saved model, once, then exploded into tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from almmta_spark import storage, tables
from almmta_spark.config import AttributionConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.examples.features import features
from almmta_spark.inference import udf
from almmta_spark.inference.udf import FittedModel
from almmta_spark.tables import Table

FILES = ("model.json", "weights.pt")
BATCHES_PER_TASK = 2
MAX_TASKS = 10_000
"""A shuffle has blocks in proportion to the square of its tasks, so large nights get longer tasks, not more."""


def read_model(spark: SparkSession, folder: str) -> FittedModel:
    """A model as training left it in a folder (local or any Hadoop URL). ValueError where there is none.

    Memory: the files' bytes, on the driver and broadcast to each executor, which then need no access to the folder.
    """
    files = {name: _bytes(spark, storage.join(folder, name)) for name in FILES}
    info = json.loads(files["model.json"])
    spec = ExampleSpec.from_dict(info["spec"])
    return FittedModel(info["variant"], info["digest"], spec, files, info.get("metrics", {}))


def _bytes(spark: SparkSession, url: str) -> bytes:
    content = storage.read_bytes(spark, url)
    if content is None:
        raise ValueError(f"there is no model file {url}: run the job train for this night first")
    return content


def score(
    journeys: DataFrame,
    propensities: DataFrame,
    items: DataFrame,
    models: Sequence[FittedModel],
    conf: AttributionConfig,
    level: float = 0.95,
    seen: bool = True,
) -> DataFrame:
    """One row a journey and model: its touches and, in the same order, what each one's deletion does.

    Persisted by the caller. Columns: journey_id, user_id, outcome, is_validation, touches, the columns of udf.SCHEMA.
    models: of one night's examples, so of one spec, else ValueError. level: of the intervals; seen: whether the models
    may have learned from these users.

    Rows are spread by journey_id over a number of tasks that follows from their number alone, and sorted in each, so
    models see the same batches on every cluster. Cost, whatever the number of models: a count and two scans of
    journeys, three shuffles by journey_id (the one before the models into num_tasks); one pass of each model.
    """
    spark, spec = journeys.sparkSession, models[0].spec
    strangers = [model.variant for model in models if model.spec != spec]
    if strangers:
        raise ValueError(
            f"models of one night must have learned from the same training_examples, {', '.join(strangers)} and "
            f"{models[0].variant} have not: run the job train for this night again"
        )
    rows = features(journeys, propensities, items, spec)  # no effect reads the outcome, leak_gain does
    tasks = num_tasks(journeys.count(), conf.rows_per_batch)
    scorer = udf.Scorer(spark.sparkContext.broadcast(list(models)), conf.rows_per_batch, level, seen)
    # A key of its own: Spark drops a repartition by what a join has partitioned already, and then merges partitions.
    spread = rows.repartition(tasks, F.xxhash64(F.lit("score"), F.col("journey_id")))
    scores = spread.sortWithinPartitions("journey_id").mapInArrow(scorer, udf.SCHEMA)
    return (
        journeys.select("journey_id", "user_id", "outcome", "touches")
        .join(propensities.select("journey_id", "is_validation"), "journey_id")
        .join(scores, "journey_id")
    )


def num_tasks(num_journeys: int, rows_per_batch: int) -> int:
    """Tasks that the model runs in: BATCHES_PER_TASK batches each, more where that would be over MAX_TASKS."""
    return min(max(1, -(-num_journeys // (BATCHES_PER_TASK * rows_per_batch))), MAX_TASKS)


def unknown_propensities(journeys: DataFrame, spec: ExampleSpec) -> DataFrame:
    """Stand-ins for users whose exposure nobody chose (drawn uniformly): bucket 0, weight 1, held out of every fit."""
    clusters = F.array(*map(F.lit, spec.clusters))

    def each(value: Column) -> Column:
        return F.array_repeat(value, len(spec.clusters))

    return journeys.select(
        "journey_id",
        "user_id",
        F.lit(0).alias("fold"),
        F.lit(1).alias("is_validation"),
        clusters.alias("cluster"),
        F.transform(clusters, lambda c: F.exists("touches", lambda t: t["cluster"] == c)).alias("exposed"),
        each(F.lit(None).cast("float")).alias("propensity"),
        each(F.lit(0)).alias("propensity_bucket"),
        each(F.lit(1.0).cast("float")).alias("stabilized_weight"),
    )


# ---- tables from a scored frame: no shuffle --------------------------------------------------------------------------


def attribution_rows(scored: DataFrame) -> DataFrame:
    """`attribution`: a row for every touch of every journey."""
    touches = scored.select("*", F.posexplode("touches").alias("position", "touch"))
    removal_effect, credit = _at("removal_effect"), F.greatest(_at("removal_effect"), F.lit(0.0))
    total = F.aggregate("removal_effect", F.lit(0.0), lambda s, x: s + F.greatest(x, F.lit(0.0)))
    values = {f: F.col(f"touch.{f}") for f in ("touch_id", "item_id", "author_id", "cluster", "touch_ts", "age_hours")}
    values |= {
        "removal_effect": removal_effect,
        "removal_effect_lower": _at("removal_effect_lower"),
        "removal_effect_upper": _at("removal_effect_upper"),
        "removal_effect_members": _at("removal_effect_members"),
        "removal_effect_ate": _at("removal_effect_ate"),
        "credit": credit,
        "attribution_share": F.when(total > 0, credit / total).otherwise(F.lit(0.0)),
        "p_outcome_deleted": _at("p_outcome_deleted"),
        "propensity_bucket": _at("propensity_bucket"),
    }
    return _as_declared(touches.withColumns({f"_{k}": v for k, v in values.items()}), tables.ATTRIBUTION, values.keys())


def journey_scores(scored: DataFrame, sample: str = "logged") -> DataFrame:
    """`journey_scores`: a row for every journey; sample is logged or randomised."""
    return _as_declared(scored.withColumn("sample", F.lit(sample)), tables.JOURNEY_SCORES)


def _at(column: str) -> Column:
    return F.get(column, F.col("position"))


def _as_declared(df: DataFrame, table: Table, computed: Any = ()) -> DataFrame:
    names = ((c, f"_{c.name}" if c.name in computed else c.name) for c in table.columns)
    return df.select(*[F.col(name).cast(c.type).alias(c.name) for c, name in names])
