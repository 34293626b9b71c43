"""Attribution rows of every touch of the night by every method, and what evaluation needs of each journey."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark import runner, tables
from almmta_spark.baselines import attribution as baselines
from almmta_spark.baselines.paths import training_paths
from almmta_spark.causal.calibration import SUFFIX
from almmta_spark.evaluation.rollups import touch_intervals
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.inference import attribution as inference
from almmta_spark.inference.calibrated import corrected
from almmta_spark.inference.udf import FittedModel
from almmta_spark.journeys.build import build_journeys
from almmta_spark.logs.days import by_user
from almmta_spark.logs.ingest import accepted_users
from almmta_spark.logs.rules import USED
from almmta_spark.logs.summary import IngestSummary
from almmta_spark.logs.windows import Windows
from jobs.experiment import correction
from jobs.ingest import users_not_after


def run(night: runner.Night) -> None:
    """journeys, propensities, item_clusters and the trained models -> attribution, journey_scores."""
    conf, level = night.conf.attribution, night.conf.evaluation.interval
    journeys, propensities = night.read(tables.JOURNEYS), night.read(tables.PROPENSITIES)
    items = night.read(tables.ITEM_CLUSTERS)
    drawn = randomised_journeys(night)
    models = speaking_models(night)
    scored = of_all(models, lambda alike: inference.score(journeys, propensities, items, alike, conf, level)).persist()
    rows, scores = [inference.attribution_rows(scored)], [inference.journey_scores(scored)]
    rows += calibrated(night, scored.where(F.col("method") == models[0].variant), models[0])
    if drawn is not None:
        stand_ins = inference.unknown_propensities(drawn, models[0].spec)
        unseen = of_all(models, lambda alike: inference.score(drawn, stand_ins, items, alike, conf, level, seen=False))
        scores.append(inference.journey_scores(unseen, "randomised"))
    if conf.baselines:
        spec = ExampleSpec.from_dict(night.meta(tables.TRAINING_EXAMPLES)["spec"])
        training = training_paths(night.read(tables.TRAINING_EXAMPLES), spec)
        rows.append(baselines.attribution(journeys, propensities, training, conf))
    night.write(reduce(DataFrame.unionByName, rows), tables.ATTRIBUTION)
    night.write(reduce(DataFrame.unionByName, scores), tables.JOURNEY_SCORES)
    scored.unpersist()


def speaking_models(night: runner.Night) -> list[FittedModel]:
    """The night's own model or, where the gate refused it, the champion; then the models that are compared with it."""
    own, *compared = night.conf.training.variants
    folders = [night.served_model(own), *map(night.trained_model, compared)]
    return [inference.read_model(night.spark, folder) for folder in folders]


def of_all(models: Sequence[FittedModel], score: Callable[[Sequence[FittedModel]], DataFrame]) -> DataFrame:
    """Scores of all models: in one pass, or in two where a champion reads journeys as its own night's spec says."""
    own, *compared = models
    apart = bool(compared) and own.spec != compared[0].spec
    return reduce(DataFrame.unionByName, [score(alike) for alike in ([[own], compared] if apart else [models])])


def calibrated(night: runner.Night, scored: DataFrame, model: FittedModel) -> list[DataFrame]:
    """Rows of the night's own model (the first), its effects corrected by the experiment where that calls for it."""
    found = correction(night, inference.attribution_rows(scored), model.variant, model.spec.clusters)
    if found is None:
        return []
    rows = inference.attribution_rows(corrected(scored, found, model.variant + SUFFIX))
    return [touch_intervals(rows, night.conf.training.ensemble, night.conf.evaluation.interval)]


def randomised_journeys(night: runner.Night) -> DataFrame | None:
    """Journeys of the simulator's uniformly drawn sequences, built as logged ones are; None where it drew none."""
    if not night.has_input(tables.RANDOMISED_EXPOSURES, night.ds):
        return None
    ingested = IngestSummary.from_dict(night.meta(tables.ACCEPTED_UPLOADS))
    users = accepted_users(night.read_snapshot(tables.USERS, users_not_after(night)), ingested)
    items, uploads = night.read(tables.ITEM_CLUSTERS), night.read(tables.RANDOMISED_UPLOADS)
    exposures = night.read(tables.RANDOMISED_EXPOSURES).withColumn("status", F.lit(USED))
    windows = Windows.of(night.ds, night.conf.journeys)
    days = by_user(exposures, tables.EXPOSURES, windows, night.conf.ingest.user_buckets)
    return build_journeys(days, uploads, items, users, night.ds, night.conf.journeys, night.conf.signals).table


if __name__ == "__main__":
    runner.main("attribute", run, __doc__)
