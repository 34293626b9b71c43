"""Errors against exact effects: fast code against scipy and by hand."""

import numpy as np
import pytest
from scipy import stats

from almmta_spark.causal import truth


def journeys(seed: int, ties: bool):
    rng = np.random.default_rng(seed)
    journey = rng.permutation(np.repeat(rng.choice(10**12, 60, replace=False) - 5 * 10**11, rng.integers(1, 9, 60)))
    values = rng.normal(size=(2, len(journey)))
    return journey, *(np.round(values, 0) if ties else values)


@pytest.mark.parametrize("ties", [False, True])
def test_within_journey_spearman_is_scipys_journey_by_journey(ties):
    journey, estimate, exact = journeys(1, ties)
    by_journey = truth.spearman_by_journey(estimate, exact, journey)
    expected = []
    for j in np.unique(journey):
        e, t = estimate[journey == j], exact[journey == j]
        varies = len(t) > 1 and np.ptp(t) > 0
        expected.append(np.nan if not varies else stats.spearmanr(e, t)[0] if np.ptp(e) > 0 else 0.0)
    np.testing.assert_allclose(by_journey, expected, atol=1e-12)
    assert truth.within_journey_spearman(estimate, exact, journey) == pytest.approx(np.nanmean(expected))
    assert np.isnan(expected).any() and (~np.isnan(expected)).sum() > 20


def test_average_ranks_are_scipys():
    rng = np.random.default_rng(2)
    value = rng.integers(0, 5, 200).astype(float)
    np.testing.assert_array_equal(truth.average_ranks(value, np.zeros(200)), stats.rankdata(value))
    assert truth.average_ranks([], []).size == 0


def test_overall_spearman_is_scipys():
    _, estimate, exact = journeys(3, ties=True)
    assert truth.overall_spearman(estimate, exact) == pytest.approx(stats.spearmanr(estimate, exact)[0])


def test_the_order_of_touches_does_not_change_the_spearman():
    journey, estimate, exact = journeys(4, ties=True)
    order = np.random.default_rng(0).permutation(len(journey))
    before = truth.within_journey_spearman(estimate, exact, journey)
    assert truth.within_journey_spearman(estimate[order], exact[order], journey[order]) == before


def test_a_method_that_does_not_rank_earns_nothing():
    assert truth.within_journey_spearman([1, 1, 1, 1], [1, 2, 1, 2], [0, 0, 1, 1]) == 0.0


def test_journeys_without_anything_to_rank_do_not_count():
    assert truth.within_journey_spearman([1, 2, 9, 3, 1], [1, 2, 5, 0, 0], [0, 0, 1, 2, 2]) == 1.0
    assert np.isnan(truth.within_journey_spearman([1.0], [2.0], [0]))


def test_magnitudes_by_hand():
    estimate, exact = np.array([2.0, 4.0, 0.0]), np.array([1.0, 2.0, 0.0])
    assert truth.magnitude_ratio(estimate, exact) == 2.0
    assert truth.calibration_slope(estimate, exact) == pytest.approx(0.5)
    assert truth.relative_rmse(estimate, exact) == pytest.approx(1.0)
    assert truth.relative_rmse(0 * exact, exact) == 1.0
    assert truth.relative_rmse(exact, exact) == 0.0


def test_null_share_compares_touches_that_do_nothing_with_the_others():
    assert truth.null_share([0.1, -0.3, 1.0, -1.0], [False, False, True, True]) == pytest.approx(0.2)
    assert np.isnan(truth.null_share([1.0, 2.0], [True, True]))


def test_undefined_figures_are_nan_and_not_a_number_by_accident():
    assert np.isnan(truth.magnitude_ratio([1.0], [0.0]))
    assert np.isnan(truth.calibration_slope([1.0, 1.0], [0.0, 1.0]))
    assert np.isnan(truth.relative_rmse([1.0], [0.0]))


def test_every_metric_is_there_under_its_suffix():
    names = truth.against_truth([1.0, 2.0], [1.0, 2.0], [0, 0], suffix="_ate")
    assert set(names) == {
        f"{m}_ate"
        for m in (
            "within_journey_spearman",
            "overall_spearman",
            "magnitude_ratio",
            "calibration_slope",
            "relative_rmse",
        )
    }


def test_coverage_and_width_of_intervals_and_the_one_width_that_would_do():
    truth_N, estimate_N, half_N = [1.0, 1.0, -1.0, 1.0], [1.5, 1.0, -1.1, 3.0], [0.4, 0.0, 0.2, 2.0]
    found = truth.interval_metrics(estimate_N, half_N, truth_N, 0.5, "_item")
    assert found["interval_coverage_item"] == 0.75
    assert found["interval_width_item"] == pytest.approx(0.65)
    assert found["interval_width_oracle_item"] == pytest.approx(0.3)
    assert all(np.isnan(v) for v in truth.interval_metrics([], [], [], 0.95).values())
