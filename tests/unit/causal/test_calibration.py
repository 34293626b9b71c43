"""Clusters' shortfalls, pooled and spread back to touches, against closed forms and small simulated experiments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from almmta_spark.causal import calibration, jackknife
from almmta_spark.evaluation import bootstrap

pytestmark = pytest.mark.long

WEIGHTS = bootstrap.poisson_weights(0, 200)
CLUSTERS = 12
EFFECT, P_DELETED = 0.02, 0.1

finite = st.floats(-1, 1, allow_subnormal=False)
positive = st.floats(1e-3, 10)


def experiment(shift_C: np.ndarray, num_users: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums by cell of decisions about touches of a known effect, by which a model knows EFFECT alone; and the scale."""
    rng = np.random.default_rng(seed)
    cluster, kept = rng.integers(0, CLUSTERS, num_users), rng.random(num_users) < 0.5
    scale = P_DELETED * (1 - P_DELETED) * np.exp(-0.1 * rng.uniform(0, 10, num_users))
    without = P_DELETED - shift_C[cluster] * scale
    outcome = rng.random(num_users) < np.where(kept, P_DELETED + EFFECT, without)
    measured, predicted = np.zeros((256, CLUSTERS, 4)), np.zeros((256, CLUSTERS, 3))
    at = (rng.integers(0, 256, num_users), cluster)
    for i, values in enumerate((kept * outcome, kept, ~kept * outcome, ~kept)):
        np.add.at(measured[..., i], at, values)
    for i, values in enumerate((kept, kept * EFFECT, kept * scale)):
        np.add.at(predicted[..., i], at, values)
    return measured, predicted, scale


@given(st.lists(positive, min_size=1, max_size=8), positive)
def test_no_shortfall_changes_nothing(variances, prior_sd):
    pooled = calibration.pool(np.zeros(len(variances)), variances, prior_sd)
    assert not pooled.mean_C.any() and pooled.centre == 0 and pooled.between_sd == 0


@given(st.lists(st.tuples(finite, positive), min_size=1, max_size=8), st.floats(0, 10))
def test_a_pooled_shortfall_lies_between_the_clusters_own_and_the_centre(clusters, prior_sd):
    found, variance = map(np.array, zip(*clusters, strict=True))
    pooled = calibration.pool(found, variance, prior_sd)
    low, high = np.minimum(found, pooled.centre), np.maximum(found, pooled.centre)
    assert (low - 1e-12 <= pooled.mean_C).all() and (pooled.mean_C <= high + 1e-12).all()
    assert ((pooled.own_weight_C >= 0) & (pooled.own_weight_C <= 1)).all()
    assert (pooled.sd_C <= np.sqrt(variance + pooled.centre_sd**2) + 1e-12).all()


@given(st.lists(st.tuples(finite, positive), min_size=1, max_size=8), positive)
def test_a_cluster_without_decisions_is_worth_the_centre_and_moves_nobody(clusters, prior_sd):
    found, variance = map(np.array, zip(*clusters, strict=True))
    alone = calibration.pool(found, variance, prior_sd)
    beside = calibration.pool([*found, np.nan], [*variance, np.inf], prior_sd)
    np.testing.assert_allclose(beside.mean_C[:-1], alone.mean_C)
    assert beside.mean_C[-1] == pytest.approx(alone.centre)
    assert beside.sd_C[-1] == pytest.approx(np.hypot(alone.between_sd, alone.centre_sd))


def test_variance_between_clusters_is_dersimonian_and_lairds():
    """w = 1: Q = sum of squares about the mean = 50, tau^2 = (50 - 4) / (5 - 1) - with unit variances."""
    found = np.array([-5.0, 0, 0, 0, 5])
    pooled = calibration.pool(found, np.ones(5), prior_sd=1e6)
    assert pooled.between_sd**2 == pytest.approx(46 / 4)
    np.testing.assert_allclose(pooled.mean_C, found * 11.5 / 12.5)
    assert pooled.centre_sd == pytest.approx(np.sqrt(12.5 / 5))


def test_the_prior_draws_an_unsure_centre_to_none():
    sure, unsure = (calibration.pool([0.4, 0.4], [v, v], prior_sd=0.2).centre for v in (1e-6, 0.08))
    assert sure == pytest.approx(0.4, rel=1e-3) and unsure == pytest.approx(0.2)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_a_large_experiment_finds_what_the_model_misses_in_each_cluster(missing):
    shift_C = missing * (np.arange(CLUSTERS) % 3)
    measured, predicted, _ = experiment(shift_C, 2_000_000)
    pooled = calibration.from_cells(measured, predicted, WEIGHTS)
    np.testing.assert_allclose(pooled.mean_C, shift_C, atol=0.06)
    assert (np.abs(pooled.mean_C - shift_C) < 4 * pooled.sd_C).all()


def test_a_small_experiment_is_off_by_less_than_half_as_much_once_it_is_pooled():
    """Off by its clusters' standard error of about .28, over 20 experiments in which .1 is missing everywhere."""
    off = []
    for seed in range(20):
        pooled = calibration.from_cells(*experiment(np.full(CLUSTERS, 0.1), 20_000, seed)[:2], WEIGHTS)
        off.append([np.mean((pooled.mean_C - 0.1) ** 2), np.mean(pooled.sd_C**2)])
    error, stated = np.sqrt(np.mean(off, axis=0))
    own = np.sqrt(12 / 20_000 * 4 * 0.11 * 0.89) / 0.055
    assert error < own / 2 and stated == pytest.approx(error, rel=0.5)


def test_pooled_intervals_hold_the_truth_as_often_as_they_say():
    held = []
    for seed in range(40):
        shift_C = np.random.default_rng(100 + seed).normal(0.2, 0.2, CLUSTERS)
        pooled = calibration.from_cells(*experiment(shift_C, 100_000, seed)[:2], WEIGHTS)
        held.append(np.abs(pooled.mean_C - shift_C) < 1.96 * pooled.sd_C)
    assert 0.90 <= np.mean(held) <= 0.99


def test_the_jackknife_finds_in_the_members_shifts_how_sure_the_correction_is():
    pooled = calibration.Pooled(np.array([0.1, 0.2]), np.array([0.03, 0.0]), 0.15, 0.05, np.array([1.0, 0.0]), 0.1)
    found = calibration.correction([7, 9], pooled, 0.1, num_folds=5, repeats=2, seed=3)
    np.testing.assert_allclose(jackknife.variance(found.member_MC, 5), pooled.sd_C**2)
    np.testing.assert_allclose(found.member_MC.mean(axis=0), found.shift_C)
    assert found.member_MC.shape == (10, 2)


@given(st.floats(0, 0.5))
def test_the_rate_at_which_effects_fade_is_read_from_them(rate):
    age, scale = np.arange(24) + 0.5, np.linspace(1, 3, 24)
    assert calibration.fade_per_hour(0.01 * scale * np.exp(-rate * age), scale, age) == pytest.approx(rate, abs=1e-9)


def test_effects_that_grow_with_age_or_have_one_age_do_not_fade():
    assert calibration.fade_per_hour([1.0, 2.0], [1.0, 1.0], [0.5, 1.5]) == 0.0
    assert calibration.fade_per_hour([1.0, 0.0], [1.0, 1.0], [0.5, 1.5]) == 0.0
