"""Areas under grouped uplift curves, by hand."""

import numpy as np
import pytest

from almmta_spark.causal import uplift

EQUAL = [1, 1]


def test_curve_steps_through_the_groups_best_first():
    x, y = uplift.uplift_curve([1.0, 2.0], [0.0, 0.4], EQUAL)
    np.testing.assert_allclose(x, [0, 0.5, 1])
    np.testing.assert_allclose(y, [0, 0.2, 0.2])


def test_areas_of_two_equal_groups():
    score, effect = [2.0, 1.0], [0.4, 0.0]
    assert uplift.auuc(score, effect, EQUAL) == pytest.approx(0.15)
    assert uplift.auuc_random(effect, EQUAL) == pytest.approx(0.1)
    assert uplift.qini(score, effect, EQUAL) == pytest.approx(0.05)
    assert uplift.auuc_normalised(score, effect, EQUAL) == 1.0


def test_the_reversed_oracle_is_minus_one():
    assert uplift.auuc([1.0, 2.0], [0.4, 0.0], EQUAL) == pytest.approx(0.05)
    assert uplift.auuc_normalised([1.0, 2.0], [0.4, 0.0], EQUAL) == pytest.approx(-1.0)


def test_groups_count_by_their_population():
    x, y = uplift.uplift_curve([2.0, 1.0], [0.8, 0.0], [1, 3])
    np.testing.assert_allclose(x, [0, 0.25, 1])
    np.testing.assert_allclose(y, [0, 0.2, 0.2])
    assert uplift.auuc([2.0, 1.0], [0.8, 0.0], [1, 3]) == pytest.approx(0.175)


def test_equal_scores_are_one_step_and_rank_like_chance():
    assert uplift.qini([5.0, 5.0], [0.4, 0.0], EQUAL) == pytest.approx(0.0, abs=1e-15)
    x, _ = uplift.uplift_curve([5.0, 5.0, 1.0], [0.4, 0.0, 0.1], [1, 1, 2])
    np.testing.assert_allclose(x, [0, 0.5, 1])


def test_negative_uplifts_bend_the_curve_down():
    _, y = uplift.uplift_curve([3.0, 2.0, 1.0], [0.3, 0.0, -0.3], [1, 1, 1])
    np.testing.assert_allclose(y, [0, 0.1, 0.1, 0.0], atol=1e-15)
    assert uplift.auuc([3.0, 2.0, 1.0], [0.3, 0.0, -0.3], [1, 1, 1]) == pytest.approx(0.2 / 3)


def test_normalised_is_undefined_where_all_uplifts_are_equal():
    assert np.isnan(uplift.auuc_normalised([1.0, 2.0, 3.0], [0.1, 0.1, 0.1], [3, 1, 7]))
    assert np.isnan(uplift.auuc_normalised([1.0, 2.0], [0.0, 0.0], EQUAL))


def test_replicates_are_the_same_as_one_call_each():
    rng = np.random.default_rng(0)
    score, effects, population = rng.normal(size=6), rng.normal(size=(4, 6)), rng.integers(1, 9, 6)
    for figure in (uplift.auuc, uplift.qini):
        each = [figure(score, row, population) for row in effects]
        np.testing.assert_allclose(figure(score, effects, population), each)
    normalised = uplift.auuc_normalised(score, effects, population, oracle_G=effects[0])
    assert normalised[0] == pytest.approx(float(uplift.auuc_normalised(score, effects[0], population)))


@pytest.mark.parametrize(
    ("score", "population", "message"),
    [([1.0, np.nan], [1, 1], "finite"), ([1.0, 2.0], [1, 0], "population"), ([1.0, 2.0], [1], "disagree")],
)
def test_what_cannot_be_ranked_is_refused(score, population, message):
    with pytest.raises(ValueError, match=message):
        uplift.auuc(score, [0.1, 0.2], population)
