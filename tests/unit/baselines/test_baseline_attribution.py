"""All baselines together: one schema, and fitted ones that learn from the training rows alone."""

import json
from dataclasses import replace

import pytest
from pyspark.sql import functions as F

from almmta_spark import config, tables
from almmta_spark.baselines import attribution, paths
from almmta_spark.config import AttributionConfig
from tests import nights
from tests.unit.model.conftest import SPEC

CONF = AttributionConfig(baselines=config.BASELINES)
TRAINING = [([10, 11], 1), ([10], 0), ([12, 11], 1), ([10, 10, 12], 0)]


@pytest.fixture(scope="module")
def training(spark):
    return spark.createDataFrame(TRAINING, "path array<int>, outcome int")


@pytest.fixture(scope="module")
def night(spark):
    touches = [nights.touch(11, 100, 10, 12), nights.touch(12, 200, 11, 9), nights.touch(13, 300, 13, 3)]
    journeys = nights.journeys(spark, [nights.journey(1, touches, [(5, None)]), nights.journey(2, touches[:2])])
    return journeys, nights.propensities(spark, [1, 2], [10, 11, 12, 13], [0, 1, 2, 3])


@pytest.fixture(scope="module")
def rows(night, training):
    return attribution.attribution(*night, training, CONF).localCheckpoint()


def test_every_name_that_conf_allows_is_a_method_and_the_other_way_round():
    assert sorted(attribution.METHODS) == sorted(config.BASELINES)


def test_every_method_has_one_row_a_touch_in_the_tables_schema(rows):
    assert rows.columns == list(tables.ATTRIBUTION.column_names)
    counts = {r.method: r["count"] for r in rows.groupBy("method").count().collect()}
    assert counts == dict.fromkeys(config.BASELINES, 5)
    for row in rows.collect():
        assert row.credit == max(row.removal_effect, 0)
        assert 0 <= row.attribution_share <= 1


@pytest.mark.parametrize("method", ["markov", "shapley"])
def test_a_clusters_credit_is_spread_over_its_training_touches_and_adds_up_to_the_uploads(method, rows):
    effect = {r.cluster: r.removal_effect for r in rows.where(F.col("method") == method).collect()}
    assert effect[13] == 0.0  # training never saw it
    worth = effect | {12: (2 - 4 * effect[10] - 2 * effect[11]) / 2}  # what is left of two uploads
    assert worth[12] > 0 and effect[10] >= 0 and effect[11] > effect[10]
    if method == "shapley":
        assert worth == pytest.approx({10: 0.5 / 4, 11: 1.0 / 2, 12: 0.5 / 2, 13: 0.0})


def test_a_fitted_method_has_a_new_version_where_its_training_rows_differ(night, training, spark):
    def versions(rows):
        fitted = [attribution.FITTED[m](rows, CONF).dropFields("effect") for m in ("markov", "shapley")]
        return dict(night[0].limit(1).select(F.inline(F.array(*fitted))).collect())

    before, again = versions(training), versions(training.repartition(3))
    after = versions(spark.createDataFrame([*TRAINING, ([11], 1)], training.schema))
    assert again == before
    assert all(after[m] != before[m] for m in before)


def test_training_paths_are_the_real_touches_of_rows_that_are_not_held_out(spark):
    width = SPEC.max_touchpoints
    rows = [([2, 0, 1] + [0] * (width - 3), 3, 1.0, 0), ([4] * width, 1, 0.0, 0), ([1] * width, 2, 1.0, 1)]
    ddl = "cluster_index array<int>, num_touches int, outcome float, is_validation int"
    found = paths.training_paths(spark.createDataFrame(rows, ddl), replace(SPEC, clusters=(-3, 10, 11, 12, 40)))
    assert {json.dumps([r.path, r.outcome]) for r in found.collect()} == {"[[11, -3, 10], 1]", "[[40], 0]"}
