"""The propensity models in NumPy: recovery, laws, and bits that do not depend on the batch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from almmta_spark.propensity import fit as propensity
from almmta_spark.propensity import weights


@pytest.fixture(scope="module")
def sample():
    """20,000 journeys whose clusters and number of touches follow known laws of X."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 3))
    beta = np.array([[0.5, 0.0, -0.5, -1.0], [0.8, -0.8, 0.0, 0.0], [0.0, 0.5, 0.5, -1.0], [0.0, 0.0, 0.0, 0.0]])
    p = propensity.softmax(propensity.linear(x, beta))
    number = 1 + rng.binomial(9, 1 / (1 + np.exp(-0.7 * x[:, 2])))
    counts = np.array([rng.multinomial(n, row) for n, row in zip(number, p, strict=True)])
    grid = np.arange(1, 11)
    law = binom.pmf(grid - 1, 9, 1 / (1 + np.exp(-0.7 * x[:, 2:])))
    truth = 1 - np.einsum("in,ink->ik", law, (1 - p[:, None, :]) ** grid[None, :, None])
    return x, counts, truth


def test_propensities_recover_the_law_they_were_drawn_from(sample):
    x, counts, truth = sample
    model = propensity.fit(x[:10_000], counts[:10_000], l2=1e-4)
    found = model.propensity(x[10_000:])
    assert np.abs(found - truth[10_000:]).mean() < 0.02
    assert np.corrcoef(found.ravel(), truth[10_000:].ravel())[0, 1] > 0.99


def test_propensities_are_calibrated_on_journeys_the_fit_did_not_see(sample):
    x, counts, _ = sample
    found = propensity.fit(x[:10_000], counts[:10_000], l2=1e-4).propensity(x[10_000:])
    held = counts[10_000:] > 0
    for low, high in ((0.0, 0.3), (0.3, 0.6), (0.6, 0.8), (0.8, 1.0)):
        inside = (found >= low) & (found < high)
        assert abs(found[inside].mean() - held[inside].mean()) < 0.02


def test_a_rows_bits_do_not_depend_on_the_rows_beside_it(sample):
    x, counts, _ = sample
    model = propensity.fit(x[:3000], counts[:3000], l2=1e-3)
    whole = model.propensity(x[:100])
    parts = np.concatenate([model.propensity(x[:7]), model.propensity(x[7:8]), model.propensity(x[8:100])])
    assert (whole == parts).all()


def test_a_model_survives_json_to_the_last_bit(sample):
    x, counts, _ = sample
    model = propensity.fit(x[:2000], counts[:2000], l2=1e-3)
    again = propensity.PropensityModel.from_json(model.to_json())
    assert (again.propensity(x[:50]) == model.propensity(x[:50])).all()


def test_unknown_covariates_count_as_the_mean(sample):
    x, counts, _ = sample
    model = propensity.fit(x[:2000], counts[:2000], l2=1e-3)
    unknown = np.full((1, 3), np.nan)
    assert np.allclose(model.propensity(unknown), model.propensity(model.mean_D[None]))


def test_statistics_ignore_unknown_values_and_leave_constants_alone():
    mean_D, scale_D = propensity.statistics(np.array([[1.0, 5.0, np.nan], [3.0, 5.0, np.inf]]))
    assert mean_D.tolist() == [2.0, 5.0, 0.0] and scale_D.tolist() == [1.0, 1.0, 1.0]


def test_the_touch_gradient_is_the_derivative_of_its_loss():
    rng = np.random.default_rng(1)
    x, counts = rng.normal(size=(200, 2)), rng.integers(0, 3, (200, 3))
    best = propensity.fit_touches(x, counts, l2=0.1)
    assert np.abs(_numerical_gradient(best, x, counts, 0.1)).max() < 1e-4


def _numerical_gradient(beta, x, counts, l2, eps=1e-6):
    def loss(b):
        p = propensity.softmax(propensity.linear(x, b))
        return -(counts * np.log(p)).sum() / len(x) + 0.5 * l2 * (b[1:] ** 2).sum()

    gradient = np.zeros_like(beta)
    for index in np.ndindex(*beta.shape):
        step = np.zeros_like(beta)
        step[index] = eps
        gradient[index] = (loss(beta + step) - loss(beta - step)) / (2 * eps)
    return gradient


@given(st.integers(1, 6), st.lists(st.floats(1e-4, 1 - 1e-4), min_size=30, max_size=200))
@settings(max_examples=40, deadline=None)
def test_buckets_ascend_with_the_propensity_and_stay_in_range(num_buckets, values):
    p = np.array(sorted(values))
    bins, counts = np.unique(weights.logit_bin(p), return_counts=True)
    cuts = weights.bucket_cuts(dict(zip(bins.tolist(), counts.tolist(), strict=True)), num_buckets)
    found = weights.bucket(p, cuts)
    assert len(cuts) == num_buckets - 1 and (np.diff(found) >= 0).all()
    assert found.min() >= 0 and found.max() <= num_buckets - 1


def test_quantile_buckets_hold_equal_shares():
    p = np.random.default_rng(0).beta(2, 5, 50_000)
    bins, counts = np.unique(weights.logit_bin(p), return_counts=True)
    cuts = weights.bucket_cuts(dict(zip(bins.tolist(), counts.tolist(), strict=True)), 5)
    assert np.allclose(np.bincount(weights.bucket(p, cuts)) / len(p), 0.2, atol=0.01)


def test_stabilised_weights_balance_a_confounded_exposure():
    rng = np.random.default_rng(0)
    x = rng.normal(size=40_000)
    p = 1 / (1 + np.exp(-x))
    exposed = rng.random(40_000) < p
    w = weights.stabilized_weight(exposed, p, exposed.mean())
    assert abs(x[exposed].mean() - x[~exposed].mean()) > 0.7
    assert abs(np.average(x[exposed], weights=w[exposed]) - np.average(x[~exposed], weights=w[~exposed])) < 0.1
    assert w.mean() == pytest.approx(1, abs=0.05)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_stabilised_weights_average_to_one_under_their_own_law(p, marginal):
    held = weights.stabilized_weight(np.array([True]), np.array([p]), np.array([marginal]))[0]
    not_held = weights.stabilized_weight(np.array([False]), np.array([p]), np.array([marginal]))[0]
    assert p * held + (1 - p) * not_held == pytest.approx(1.0)
