"""Partial correlation from sums of products, against regression residuals."""

import math

import numpy as np
import pytest

from almmta_spark.causal.partial_correlation import partial_correlation_t


def gram(*columns: np.ndarray) -> np.ndarray:
    rows = np.column_stack([np.ones(len(columns[0])), *columns])
    return rows.T @ rows


def test_it_is_the_correlation_of_regression_residuals():
    rng = np.random.default_rng(0)
    control = rng.normal(size=(500, 2))
    a, b = control @ [1.0, -2.0] + rng.normal(size=500), control @ [0.5, 1.0] + rng.normal(size=500)
    b += 0.2 * a
    design = np.column_stack([np.ones(500), control])
    residual = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (a, b)]
    expected = np.corrcoef(*residual)[0, 1]
    r, t = partial_correlation_t(gram(*control.T, a, b))
    assert r == pytest.approx(expected, abs=1e-10)
    assert t == pytest.approx(expected * math.sqrt(495 / (1 - expected**2)), rel=1e-9)


def test_a_common_cause_that_is_held_constant_leaves_no_correlation():
    rng = np.random.default_rng(1)
    cause = rng.normal(size=20_000)
    a, b = cause + rng.normal(size=20_000), cause + rng.normal(size=20_000)
    assert abs(partial_correlation_t(gram(cause, a, b))[1]) < 4
    assert partial_correlation_t(gram(a, b))[1] > 50


def test_a_control_given_twice_counts_once():
    rng = np.random.default_rng(2)
    x, a, b = rng.normal(size=(3, 300))
    assert partial_correlation_t(gram(x, 3 * x, a, b))[0] == pytest.approx(partial_correlation_t(gram(x, a, b))[0])


def test_what_does_not_vary_beyond_the_controls_has_no_correlation():
    x = np.arange(10.0)
    assert math.isnan(partial_correlation_t(gram(x, 2 * x + 1, x**2))[1])
    assert math.isnan(partial_correlation_t(gram(x[:3], x[:3] ** 2, x[:3] ** 3))[1])
