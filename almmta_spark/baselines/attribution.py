"""All baselines of a night in one frame: each method's claim, one set of rows."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.baselines import heuristics, markov, paths, rows, shapley
from almmta_spark.config import AttributionConfig


def _markov(training: DataFrame, conf: AttributionConfig) -> Column:
    removal = markov.removal_effects(markov.step_counts(training, conf.markov_order))
    conversions = training.agg(F.coalesce(F.sum("outcome"), F.lit(0)).alias("n")).first()
    assert conversions is not None
    credit = removal.credit(conversions["n"])
    return paths.claim("markov", {"order": conf.markov_order}, credit, training)


def _shapley(training: DataFrame, conf: AttributionConfig) -> Column:
    return paths.claim("shapley", {}, shapley.values(training), training)


FITTED: dict[str, Callable[[DataFrame, AttributionConfig], Column]] = {"markov": _markov, "shapley": _shapley}
"""Methods that learn a value a cluster from the training paths."""
METHODS = (*heuristics.WEIGHTS, *FITTED)


def attribution(
    journeys: DataFrame, propensities: DataFrame, training: DataFrame, conf: AttributionConfig
) -> DataFrame:
    """Rows of tables.ATTRIBUTION of conf.baselines for every touch of every journey.

    training: paths.training_paths, read by fitted methods only, two aggregations each.
    """
    claims = [
        FITTED[method](training, conf) if method in FITTED else heuristics.claim(method, conf.half_life_hours)
        for method in conf.baselines
    ]
    return rows.attribution(journeys, propensities, claims)
