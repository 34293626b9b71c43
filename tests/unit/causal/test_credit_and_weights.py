"""Credit, shares and inverse-propensity weights."""

import numpy as np
import pytest

from almmta_spark.causal import credit, weights


def test_a_discouraging_touch_earns_no_credit():
    np.testing.assert_array_equal(credit.credit([0.2, -0.1, 0.0]), [0.2, 0.0, 0.0])


def test_shares_add_up_within_each_journey():
    share = credit.attribution_share([3.0, 0.0, 1.0, 5.0, 0.0], [7, -1, 7, 8, -1])
    np.testing.assert_allclose(share, [0.75, 0.0, 0.25, 1.0, 0.0])


def test_negative_credit_is_refused():
    with pytest.raises(ValueError, match="credit"):
        credit.attribution_share([-1.0], [0])


def test_stabilized_weights_balance_a_confounded_treatment():
    rng = np.random.default_rng(0)
    x = rng.normal(size=40_000)
    propensity = 1 / (1 + np.exp(-x))
    treated = rng.random(40_000) < propensity
    w = weights.stabilized_weight(treated, propensity)
    assert abs(x[treated].mean() - x[~treated].mean()) > 0.7
    assert abs(np.average(x[treated], weights=w[treated]) - np.average(x[~treated], weights=w[~treated])) < 0.1
    assert w.mean() == pytest.approx(1, abs=0.05)


def test_constant_propensity_gives_weights_of_one():
    np.testing.assert_allclose(weights.stabilized_weight([1, 0, 0, 0], [0.25] * 4), 1.0)


def test_propensities_of_zero_and_one_are_refused():
    with pytest.raises(ValueError, match="min_propensity"):
        weights.stabilized_weight([1, 0], [1.0, 0.5])


def test_effective_sample_size_by_hand():
    assert weights.effective_sample_size([1, 1, 1]) == 3
    assert weights.effective_sample_size([1, 1, 2]) == pytest.approx(16 / 6)
    assert weights.effective_sample_size([]) == 0


def test_clipping_changes_values_and_drops_none():
    np.testing.assert_array_equal(weights.clip([0.5, 20.0], 10), [0.5, 10.0])
