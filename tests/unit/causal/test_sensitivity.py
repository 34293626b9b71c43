"""What a hidden cause or a direct path does to an effect: the formulas against the laws they are about, integrated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from almmta_spark.causal import sensitivity

X, WEIGHT = np.polynomial.hermite_e.hermegauss(41)
WEIGHT = WEIGHT / WEIGHT.sum()


def seen_and_true(g: float, beta: float, delta: float, rho: float, mu: float, mu_deleted: float):
    """p and p_deleted as the front door makes them of (T, X, M, Y), and the effect of the deletion.

    u is hidden, x = rho u + sqrt(1 - rho^2) x' is the mediator's noise; what u does beyond x is `rest`.
    """
    x, rest = X[:, None], math.sqrt(1 - rho**2) * X[None, :]
    weight = WEIGHT[:, None] * WEIGHT[None, :]
    p = (weight * expit(g + beta * (mu + x) + delta * (rho * x + rest))).sum()
    true = p - (weight * expit(g + beta * (mu_deleted + x) + delta * (rho * x + rest))).sum()
    m = mu_deleted + x  # the front door: m as without the touch, its chance of Y as with it, where m's noise is m - mu
    p_deleted = (weight * expit(g + beta * m + delta * (rho * (m - mu) + rest))).sum()
    return p, p_deleted, true


@pytest.mark.parametrize("rho", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("delta", [0.3, 1.0, -0.4])
@pytest.mark.parametrize(("g", "beta"), [(-5.0, 0.7), (-2.5, 0.9), (-4.0, 1.2)])
@pytest.mark.parametrize("moved", [0.05, 0.4])
def test_a_known_hidden_cause_is_taken_out_of_an_effect(rho, delta, g, beta, moved):
    p, p_deleted, true = seen_and_true(g, beta, delta, rho, 0.5, 0.5 - moved)
    found = sensitivity.confounded_effect(p, p_deleted, rho * delta / (beta + rho * delta))
    assert abs((p - p_deleted) / true - 1) > 0.03  # what the front door is off by
    assert found == pytest.approx(true, rel=0.02)


CHANCE = st.floats(0.001, 0.9)


@given(CHANCE, CHANCE, st.floats(0, 1))
def test_no_hidden_cause_leaves_an_effect_and_one_that_is_the_whole_slope_leaves_none(p, p_deleted, share):
    assert sensitivity.confounded_effect(p, p_deleted, 0.0) == pytest.approx(p - p_deleted, abs=1e-12)
    assert sensitivity.confounded_effect(p, p_deleted, 1.0) == pytest.approx(0, abs=1e-12)
    assert abs(sensitivity.confounded_effect(p, p_deleted, share)) <= abs(p - p_deleted) + 1e-12


@given(CHANCE, CHANCE, st.floats(-1, 1))
def test_a_direct_path_is_what_it_does_to_the_odds_without_the_touch(p, p_deleted, direct):
    found = sensitivity.with_direct_path(p, p_deleted, direct)
    assert logit(p - found) == pytest.approx(logit(p_deleted) - direct, abs=1e-6)


@given(st.floats(0, 5))
def test_the_robustness_value_solves_its_equation(bias):
    """bias = R^2 / sqrt(1 - R^2) x pi / sqrt(3) (Cinelli & Hazlett 2020)."""
    share = sensitivity.robustness_value(bias)
    assert 0 <= share < 1
    assert share / math.sqrt(1 - share) * math.pi / math.sqrt(3) == pytest.approx(bias, abs=1e-9)


def test_the_robustness_value_agrees_with_cinelli_and_hazletts_for_a_linear_model():
    """Their Darfur example: t = 4.18 at 783 degrees of freedom, partial f = .1495, RV = .139 (section 5.1)."""
    partial_f = 4.184 / math.sqrt(783)
    found = sensitivity.robustness_value(partial_f * math.pi / math.sqrt(3))
    assert found == pytest.approx(0.139, abs=1e-3)


def test_a_strength_is_read_off_a_falling_value():
    read = sensitivity.strength_until
    assert read([0, 1, 2], [10.0, 6.0, 0.0], 5.0) == pytest.approx(1 + 1 / 6)
    assert read([0, 1, 2], [10.0, 6.0, 4.0], 1.0) == 2  # never: the end
    assert read([0, 1, 2], [10.0, 6.0, 4.0], 11.0) == 0  # there from the beginning
