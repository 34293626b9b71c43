"""The interval from fits without a fold each, on an estimator whose variance is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from almmta_spark.causal import jackknife


def fits_without_folds(values_N: np.ndarray, folds: int, repeats: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Means without each fold, [repeats x folds], and whether each left the unit out, [repeats x folds, N]."""
    fold_RN = np.random.default_rng(seed).integers(0, folds, (repeats, len(values_N)))
    out_MN = (fold_RN[:, None, :] == np.arange(folds)[:, None]).reshape(-1, len(values_N))
    return (~out_MN * values_N).sum(1) / (~out_MN).sum(1), out_MN


@pytest.mark.parametrize(("folds", "repeats"), [(2, 8), (3, 5), (5, 2), (10, 1)])
def test_the_variance_of_a_mean_is_found(folds, repeats):
    """On average over 300 samples of 400 values of variance 4: .01, within five standard errors."""
    rng, found = np.random.default_rng(0), []
    for sample in range(300):
        members, _ = fits_without_folds(rng.normal(1, 2, 400), folds, repeats, sample)
        found.append(jackknife.variance(members, folds))
    assert np.mean(found) == pytest.approx(4 / 400, abs=5 * np.std(found) / 300**0.5)


@pytest.mark.parametrize(("folds", "repeats"), [(2, 8), (3, 5)])
def test_95_of_100_intervals_about_fits_that_did_not_see_a_unit_hold_the_truth(folds, repeats):
    rng, covered, trials = np.random.default_rng(1), 0, 1500
    for trial in range(trials):
        members, out_MN = fits_without_folds(rng.normal(0, 1, 200), folds, repeats, trial)
        centre = members[out_MN[:, 0]].mean()
        covered += abs(centre) <= jackknife.half_width(members, centre, folds, 0.95)
    assert 0.92 <= covered / trials <= 0.98


@given(
    st.lists(st.floats(-10, 10), min_size=6, max_size=6),
    st.floats(-3, 3),
    st.floats(-100, 100),
)
@settings(max_examples=50, deadline=None)
def test_the_width_scales_with_the_members_and_ignores_where_they_lie(values, scale, shift):
    plain = jackknife.half_width(values, 1.0, 2, 0.95)
    moved = jackknife.half_width(np.array(values) * scale + shift, 2.0, 2, 0.95)
    assert moved == pytest.approx(abs(scale) * plain, abs=1e-9)


def test_members_that_agree_leave_no_interval_and_further_dimensions_are_kept():
    assert not jackknife.half_width(np.ones((6, 3, 2)), np.ones((3, 2)), 3, 0.95).any()
    members = np.random.default_rng(2).normal(size=(6, 3, 2))
    one_by_one = [[jackknife.half_width(members[:, i, j], 0.0, 3, 0.9) for j in range(2)] for i in range(3)]
    np.testing.assert_allclose(jackknife.half_width(members, np.zeros((3, 2)), 3, 0.9), one_by_one)


def test_of_nothing_there_is_no_interval():
    assert jackknife.half_width(np.empty((6, 0)), np.empty(0), 3, 0.95).shape == (0,)


def test_the_width_is_students_quantile_times_the_errors_of_the_fits_their_mean_and_what_they_share():
    members = np.random.default_rng(3).normal(size=15)
    variance = jackknife.variance(members, 3) * (1 + 1 / 10) + (0.2 * 7.0) ** 2 + 0.5**2
    expected = t.ppf(0.95, 10) * variance**0.5
    assert jackknife.half_width(members, 7.0, 3, 0.9, shared_error=0.2, unseen_X=0.5) == pytest.approx(expected)
