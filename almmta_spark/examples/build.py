"""The training table: features of every journey, with its best content match."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import Config
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.examples.features import features, in_order, padded
from almmta_spark.examples.layout import laid_out, num_groups
from almmta_spark.journeys.split import is_validation

COUNTS = ("item_touches", "author_touches")


def build_examples(
    journeys: DataFrame, propensities: DataFrame, pairs: DataFrame, items: DataFrame, spec: ExampleSpec, conf: Config
) -> DataFrame:
    """training_examples of the pooled nights, laid out for the loader.

    Cost: joins of journeys with propensities and with the (few) matched uploads by journey_id, one shuffle into row
    groups; the joins of features and touch_counts.
    """
    held_out = is_validation(conf.seed, conf.examples.validation_share)
    rows = features(journeys, propensities, items, spec).withColumn("is_validation", held_out)
    counted = rows.join(touch_counts(journeys, held_out), "journey_id")
    matched = counted.join(upload_contents(journeys, best_match(pairs, spec), spec), "journey_id", "left")
    no_negatives = F.array_repeat(F.lit(-1), max(1, spec.num_hard_negatives))
    complete = matched.select(
        *rows.columns,
        *[padded(F.col(name), spec.max_touchpoints, "int").alias(name) for name in COUNTS],
        F.coalesce("match_position", F.lit(-1)).alias("match_position"),
        F.coalesce("match_score", F.lit(0.0)).alias("match_score"),
        F.coalesce("has_upload_embedding", F.lit(0)).alias("has_upload_embedding"),
        F.coalesce("upload_embedding", _zeros(max(1, spec.embedding_length))).alias("upload_embedding"),
        F.coalesce("negative_cluster_index", no_negatives).alias("negative_cluster_index"),
    )
    typed = complete.select(*[F.col(c.name).cast(c.type).alias(c.name) for c in tables.TRAINING_EXAMPLES.columns])
    num_rows = spec.num_training + spec.num_validation
    groups = num_groups(
        num_rows, conf.examples.num_row_groups, conf.examples.max_row_group_rows, conf.training.num_ranks
    )
    return laid_out(typed, num_rows, groups, conf.seed)


def best_match(pairs: DataFrame, spec: ExampleSpec) -> DataFrame:
    """The best pair of each journey: its touch's position, score and hard negatives (-1 where there are fewer)."""
    best = pairs.groupBy("journey_id").agg(
        F.max(F.struct("match_score", "touch_position", "upload_id", "negative_cluster")).alias("best")
    )
    width = max(1, spec.num_hard_negatives)
    known = F.array(*map(F.lit, spec.clusters))
    index = F.transform("best.negative_cluster", lambda c: F.array_position(known, c).cast("int") - 1)
    fill = F.array_repeat(F.lit(-1), width - F.size("best.negative_cluster"))
    return best.select(
        "journey_id",
        F.col("best.touch_position").alias("match_position"),
        F.col("best.match_score").alias("match_score"),
        F.col("best.upload_id").alias("matched_upload_id"),
        F.concat(index, fill).alias("negative_cluster_index"),
    )


def upload_contents(journeys: DataFrame, best: DataFrame, spec: ExampleSpec) -> DataFrame:
    """Journeys with an upload that has content: the content of the matched upload, of the first where none matched."""
    with_content = F.filter("uploads", lambda u: u["embedding"].isNotNull())
    uploaded = journeys.where(F.size(with_content) > 0).select("journey_id", with_content.alias("uploads"))
    joined = uploaded.join(best, "journey_id", "left")
    matched = F.get(F.filter("uploads", lambda u: u["upload_id"] == F.col("matched_upload_id")), F.lit(0))
    content = F.coalesce(matched["embedding"], F.get("uploads", F.lit(0))["embedding"])
    return joined.select(
        *[c for c in best.columns if c != "matched_upload_id"],
        F.lit(1).alias("has_upload_embedding"),
        (content if spec.embedding_length else _zeros(1)).alias("upload_embedding"),
    )


def touch_counts(journeys: DataFrame, held_out: Column) -> DataFrame:
    """How many touches of training journeys each touch's item and author have, as lists.

    Cost: two counts over the touches and two joins with them, then one shuffle by journey_id.
    """
    touches = journeys.select(
        "journey_id", held_out.alias("held_out"), F.posexplode("touches").alias("position", "touch")
    ).select("journey_id", "held_out", "position", "touch.item_id", "touch.author_id")
    counted = touches
    for kind in ("item", "author"):
        counts = touches.where("held_out = 0").groupBy(f"{kind}_id").agg(F.count("*").alias(f"{kind}_touches"))
        counted = counted.join(counts, f"{kind}_id", "left")
    lists = [in_order(F.coalesce(name, F.lit(0)).cast("int")).alias(name) for name in COUNTS]
    return counted.groupBy("journey_id").agg(*lists)


def _zeros(length: int) -> Column:
    return F.array_repeat(F.lit(0.0).cast("float"), length)
