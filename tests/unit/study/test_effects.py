"""How alike two fits are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from almmta_spark.study import effects

CLUSTER = np.array([7, 7, 3, 3, 5])


def test_equal_fits_are_stable_and_do_not_move():
    fit = np.array([0.1, 0.2, 0.3, 0.5, 0.9])
    assert effects.seed_stability([fit, fit], CLUSTER) == {
        "seed_stability": pytest.approx(1),
        "seed_stability_cluster": pytest.approx(1),
    }
    assert effects.movement(fit, fit, CLUSTER) == 0


def test_touches_may_change_places_where_clusters_keep_theirs():
    first, second = np.array([0.1, 0.2, 0.3, 0.5, 0.9]), np.array([0.2, 0.1, 0.5, 0.3, 0.9])
    found = effects.seed_stability([first, second], CLUSTER)
    assert found["seed_stability"] < 1
    assert found["seed_stability_cluster"] == pytest.approx(1)


def test_stability_is_the_mean_over_pairs_of_fits():
    up, down = np.arange(5.0), -np.arange(5.0)
    assert effects.seed_stability([up, up, down], CLUSTER)["seed_stability"] == pytest.approx((1 - 1 - 1) / 3)


def test_movement_is_of_the_cluster_means_in_units_of_their_size():
    first = np.array([1.0, 3.0, 2.0, 2.0, 1.0])  # means: 3: 2, 5: 1, 7: 2
    second = np.array([3.0, 1.0, 2.0, 2.0, 4.0])
    assert effects.movement(first, second, CLUSTER) == pytest.approx(np.sqrt(9 / 9))


@given(st.floats(0.1, 3), st.integers(0, 100))
def test_effects_all_larger_by_a_factor_move_by_it_and_rank_the_same(factor, seed):
    fit = np.random.default_rng(seed).normal(size=5)
    assert effects.movement(fit, factor * fit, CLUSTER) == pytest.approx(abs(factor - 1))
    assert effects.seed_stability([fit, factor * fit], CLUSTER)["seed_stability"] == pytest.approx(1)


def test_the_truth_itself_has_no_error_and_the_oracles_area():
    truth = np.array([0.1, 0.2, 0.3, 0.5, 0.9])
    found = effects.against_truth(truth, truth, np.array([0, 0, 0, 1, 1]), CLUSTER)
    assert found["relative_rmse"] == 0
    assert found["magnitude_ratio"] == found["auuc_normalised_exact"] == pytest.approx(1)
    reversed_ = effects.against_truth(-truth, truth, np.array([0, 0, 0, 1, 1]), CLUSTER)
    assert reversed_["auuc_normalised_exact"] == pytest.approx(-1)
