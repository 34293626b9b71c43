"""The outcome half of the doubly robust contrast, and what the two halves do for each other."""

import numpy as np
import pytest

from almmta_spark.causal import outcome_regression

EFFECT = 0.5


def confounded(rows, curved, seed=0):
    """One cluster, exposed with a chance that X moves; the outcome is a line in X or a parabola, plus the effect."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.7, 1.7, size=(rows, 2))
    shape = x[:, 0] ** 2 if curved else x[:, 0]
    propensity = 1 / (1 + np.exp(-shape))
    exposed = rng.random(rows) < propensity
    outcome = shape + EFFECT * exposed + 0.5 * rng.normal(size=rows)
    return x, propensity, exposed, outcome


def contrast(value, exposed, weight):
    return np.average(value[exposed], weights=weight[exposed]) - np.average(value[~exposed], weights=weight[~exposed])


def doubly_robust(x, exposed, outcome, weight):
    row, cluster = np.arange(len(x)), np.zeros(len(x), dtype=np.int64)
    mu = outcome_regression.fit(x, outcome, row, cluster, exposed).predict(x, row, cluster)
    residual = outcome - np.where(exposed, mu[:, 1], mu[:, 0])
    return (mu[:, 1] - mu[:, 0]).mean(), (mu[:, 1] - mu[:, 0]).mean() + contrast(residual, exposed, weight)


def test_right_weights_repair_a_wrong_regression():
    x, propensity, exposed, outcome = confounded(40_000, curved=True)
    weight = np.where(exposed, 1 / propensity, 1 / (1 - propensity))
    regression_alone, both = doubly_robust(x, exposed, outcome, weight)
    assert abs(regression_alone - EFFECT) > 0.2 and both == pytest.approx(EFFECT, abs=0.04)


def test_a_right_regression_repairs_wrong_weights():
    x, _, exposed, outcome = confounded(40_000, curved=False)
    weight = np.ones(len(x))
    _, both = doubly_robust(x, exposed, outcome, weight)
    assert abs(contrast(outcome, exposed, weight) - EFFECT) > 0.2 and both == pytest.approx(EFFECT, abs=0.03)


def test_clusters_have_lines_of_their_own_and_missing_covariates_their_mean():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 1))
    x[::10] = np.nan
    row, cluster = np.repeat(np.arange(2000), 2), np.tile([-3, 40], 2000)
    exposed = rng.random(4000) < 0.5
    outcome = 1 + 2 * np.nan_to_num(x[:, 0])
    model = outcome_regression.fit(x, outcome, row, cluster, exposed)
    np.testing.assert_allclose(model.cluster_K, [-3, 40])
    at = np.array([0, 1, 1]), np.array([-3, 40, 7])
    found = model.predict(np.array([[np.nan], [0.5]]), *at)
    np.testing.assert_allclose(found, [[1, 1], [2, 2], [2, 2]], atol=0.1)  # the last is of no cluster seen


def test_an_arm_without_rows_takes_the_mean_of_all():
    model = outcome_regression.fit(
        np.zeros((4, 1)), np.array([0.0, 1, 1, 0]), np.arange(4), np.zeros(4, dtype=np.int64), np.ones(4, dtype=bool)
    )
    np.testing.assert_allclose(model.predict(np.zeros((1, 1)), np.array([0]), np.array([0])), [[0.5, 0.5]])
