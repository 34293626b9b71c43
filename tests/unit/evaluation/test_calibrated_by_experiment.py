"""A simulated experiment in Spark: what is compared, when effects are corrected, and by how much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from almmta_spark.causal import calibration as core
from almmta_spark.config import Config, EvaluationConfig, TrainingConfig
from almmta_spark.evaluation import bootstrap, calibration, grouped, rollups, withholding
from tests.unit.evaluation.night import PLAN

CONF = Config(evaluation=EvaluationConfig(bootstrap_replicates=100), training=TrainingConfig(ensemble=PLAN))
CLUSTERS = (-3, 5, 40, 41)
"""Nobody decided about the last."""
SHIFT = np.array([0.0, 0.6, 1.2])
P_DELETED, FADE = 0.2, 0.1


def decisions(num_users: int, missing: float, seed: int = 0) -> pd.DataFrame:
    """One decision a user about a touch whose effect is the model's and, beside it, missing x SHIFT on the logit."""
    rng = np.random.default_rng(seed)
    found = pd.DataFrame({"journey_id": np.arange(num_users), "touch_id": np.arange(num_users) + 10**6})
    of = rng.integers(0, 3, num_users)
    found["cluster"] = np.array(CLUSTERS)[of].astype(np.int32)
    found["age_hours"] = rng.uniform(0, 24, num_users).astype(np.float32)
    found["treated"] = rng.random(num_users) < 0.5
    found["weight"] = rng.integers(1, 5, num_users) / 0.5
    fade = np.exp(-FADE * found.age_hours.astype(float))
    found["removal_effect"] = 0.3 * P_DELETED * (1 - P_DELETED) * fade
    found["p_outcome_deleted"] = P_DELETED
    beside = missing * SHIFT[of] * P_DELETED * (1 - P_DELETED) * fade
    p = np.where(found.treated, P_DELETED + found.removal_effect, P_DELETED - beside)
    found["value"] = (rng.random(num_users) < p).astype(float)
    found["cell"] = rng.integers(0, bootstrap.NUM_CELLS, num_users).astype(np.int32)
    return found


def inputs(spark, local):
    """Unit rows of the experiment, and attribution rows of two methods for the touches that were shown."""
    rows = spark.createDataFrame(local[["journey_id", "touch_id", "cluster", "treated", "weight", "value", "cell"]])
    rows = rows.withColumn("propensity_bucket", F.lit(0)).cache()
    columns = ["journey_id", "touch_id", "cluster", "age_hours", "removal_effect", "p_outcome_deleted"]
    shown = spark.createDataFrame(local.loc[local.treated, columns])
    other = shown.withColumns({"method": F.lit("other"), "removal_effect": F.lit(0.9)})
    return rows, shown.withColumn("method", F.lit("latent")).unionByName(other).cache()


def compared(spark, local, conf=CONF):
    rows, attribution = inputs(spark, local)
    sums = grouped.group_sums(rows, grouped.RANDOMISED)
    return calibration.compare_and_correct(rows, attribution, "latent", CLUSTERS, sums, conf)


@pytest.fixture(scope="module")
def large():
    return decisions(60_000, missing=1.0)


def test_a_large_experiment_corrects_each_cluster_by_what_is_missing_in_it(spark, large):
    found, added = compared(spark, large)
    assert found.distance > 0 and found.calls_for_correction and found.decisions == len(large)
    assert added.fade_per_hour == pytest.approx(FADE, abs=0.01)
    np.testing.assert_array_equal(added.cluster_C, CLUSTERS)
    assert (np.abs(added.shift_C[:3] - SHIFT) < 3 * added.shift_sd_C[:3]).all() and added.shift_sd_C[:3].max() < 0.2
    assert added.shift_C[1] < added.shift_C[3] + 0.3 and added.shift_sd_C[3] > added.shift_sd_C[:3].max()
    assert added.member_MC.shape == (PLAN.members, 4)


def test_the_correction_is_the_one_of_numpy_on_the_same_decisions(spark, large):
    _, added = compared(spark, large)
    scale = P_DELETED * (1 - P_DELETED) * np.exp(-added.fade_per_hour * large.age_hours.astype(float))
    measured, predicted = np.zeros((256, 4, 4)), np.zeros((256, 4, 3))
    at, kept = (large.cell, np.searchsorted(CLUSTERS, large.cluster)), large.treated
    for i, values in enumerate((kept * large.value, kept, ~kept * large.value, ~kept)):
        np.add.at(measured[..., i], at, values * large.weight)
    for i, values in enumerate((kept, kept * large.removal_effect, kept * scale)):
        np.add.at(predicted[..., i], at, values * large.weight)
    pooled = core.from_cells(measured, predicted, bootstrap.poisson_weights(CONF.seed, 100))
    np.testing.assert_allclose(added.shift_C, pooled.mean_C, atol=1e-6)
    np.testing.assert_allclose(added.shift_sd_C, pooled.sd_C, atol=1e-6)


def test_neither_the_order_of_rows_nor_another_method_changes_a_bit(spark, large):
    _, first = compared(spark, large)
    _, second = compared(spark, large.sample(frac=1.0, random_state=1))
    for name in ("shift_C", "shift_sd_C", "member_MC", "fade_per_hour"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize(("num_users", "missing"), [(60_000, 0.0), (1_000, 1.0)])
def test_effects_stay_where_nothing_is_missing_or_decisions_are_too_few(spark, num_users, missing):
    found, added = compared(spark, decisions(num_users, missing))
    assert added is None and not found.calls_for_correction
    assert (found.decisions < found.decisions_needed) == (num_users < 60_000)


def test_without_bootstrap_replicates_nothing_is_corrected(spark, large):
    conf = replace(CONF, evaluation=EvaluationConfig(bootstrap_replicates=0))
    assert compared(spark, large, conf)[1] is None


def test_an_interval_too_wide_to_tell_the_prediction_from_nothing_corrects_nothing():
    wide = withholding.Comparison(0.001, 0.004, 0.002, 0.006, 1000, 8000.0)
    assert wide.distance > 0 and not wide.calls_for_correction


def test_intervals_found_again_from_the_members_are_those_the_model_gave(small_night):
    columns = ["method", "touch_id", "removal_effect_lower", "removal_effect_upper"]
    attribution = small_night.inputs.attribution
    found = rollups.touch_intervals(attribution, PLAN, 0.95).select(columns)
    wanted = attribution.select(columns).toPandas().set_index(["method", "touch_id"]).sort_index()
    got = found.toPandas().set_index(["method", "touch_id"]).sort_index()
    pd.testing.assert_frame_equal(got, wanted, check_dtype=False, atol=1e-7)
