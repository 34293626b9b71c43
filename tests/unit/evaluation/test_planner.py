"""What the planner promises, against experiments simulated as often as it takes."""

import numpy as np
import pytest

from almmta_spark.evaluation import planner, withholding
from almmta_spark.evaluation.planner import HoldOut

Z = 1.959964


def significant(kept, value, weight):
    """Whether a weighted contrast of two arms, of these values, is beyond Z robust standard errors from 0."""
    means, variance = [], 0.0
    for arm in (kept, ~kept):
        w, v = weight[arm], value[arm]
        means.append(np.average(v, weights=w))
        variance += np.sum((w * (v - means[-1])) ** 2) / w.sum() ** 2
    return abs(means[0] - means[1]) > Z * np.sqrt(variance)


def simulated_power(n, p_withheld, rate_kept, rate_withheld, weight_sd=0.0, predicted=None, repetitions=1500, seed=0):
    """Share of experiments with n decisions that see something; rates and predictions may be drawn per decision."""
    rng = np.random.default_rng(seed)
    seen = 0
    for _ in range(repetitions):
        kept, weight = rng.random(n) >= p_withheld, np.exp(weight_sd * rng.normal(size=n))
        tau = 0.0 if predicted is None else predicted(rng, n)
        rate = np.where(kept, rate_kept, rate_withheld if predicted is None else rate_kept - tau - rate_withheld)
        seen += significant(kept, (rng.random(n) < rate) - np.where(kept, tau, 0.0), weight)
    return seen / repetitions


@pytest.mark.parametrize(
    ("base_rate", "effect", "p_withheld", "power"),
    [(0.2, 0.04, 0.5, 0.8), (0.05, 0.03, 0.2, 0.8), (0.2, -0.04, 0.5, 0.9), (0.1, 0.04, 0.5, 0.5)],
)
def test_planned_decisions_see_the_effect_as_often_as_they_promise(base_rate, effect, p_withheld, power):
    n = planner.decisions_for_effect(HoldOut(base_rate, p_withheld), effect, power)
    found = simulated_power(n, p_withheld, base_rate, base_rate - effect)
    assert found == pytest.approx(power, abs=0.035)
    assert planner.power_of(HoldOut(base_rate, p_withheld), n, effect) == pytest.approx(power, abs=1e-3)


def test_unequal_weights_need_as_many_times_more_as_their_design_effect():
    weight = np.exp(0.8 * np.random.default_rng(1).normal(size=200_000))
    effect = planner.design_effect_of(weight)
    assert effect == pytest.approx(np.exp(0.8**2), rel=0.02)  # 1 + squared coefficient of variation
    n = planner.decisions_for_effect(HoldOut(0.2, design_effect=effect), 0.05)
    assert simulated_power(n, 0.5, 0.2, 0.15, weight_sd=0.8) == pytest.approx(0.8, abs=0.035)
    assert planner.design_effect_of([1, 1, 1, 1], user=[1, 1, 2, 2]) == 2.0


def test_a_direct_path_is_seen_beside_what_is_predicted_as_often_as_promised():
    predicted, direct, spread = 0.03, 0.05, 0.02
    n = planner.decisions_for_direct_path(HoldOut(0.2), direct, predicted, spread)
    found = simulated_power(n, 0.5, 0.2, direct, predicted=lambda rng, n: predicted + spread * rng.normal(size=n))
    assert found == pytest.approx(0.8, abs=0.035)
    nothing = simulated_power(n, 0.5, 0.2, 0.0, predicted=lambda rng, n: predicted + spread * rng.normal(size=n))
    assert nothing == pytest.approx(0.05, abs=0.02)


def test_amounts_are_planned_by_their_own_spread():
    plan = HoldOut(base_rate=12.0, outcome_sd=5.0)
    n = planner.decisions_for_effect(plan, 1.0)
    assert n == int(np.ceil((Z + 0.8416212) ** 2 * 4 * 25))


def test_the_diagnostic_uses_the_planners_formula():
    """An interval of half-width h from n decisions says their sd; as many as are needed then keep the promise."""
    replicates = np.random.default_rng(0).normal(0.002, 0.005, 4001)
    compared = withholding.comparison(np.full(4001, 0.004), replicates, 0.95, 10_000)
    sd = (compared.upper - compared.lower) / 2 / Z * np.sqrt(10_000)
    assert compared.decisions_needed == pytest.approx(planner.needed(0.004, sd, 0.95), rel=1e-6)
    drawn = np.random.default_rng(1).normal(0.004, sd / np.sqrt(compared.decisions_needed), 100_000)
    assert np.mean(np.abs(drawn) > Z * sd / np.sqrt(compared.decisions_needed)) == pytest.approx(0.8, abs=0.005)
    assert planner.needed_after(1000, 0.02, 0.0, 0.95) == planner.needed_after(1000, float("nan"), 0.01, 0.95) == 0


def test_the_command_line_says_how_many_and_what_those_given_can_see(capsys):
    arguments = "--base-rate .03 --effect .004 --direct .002 --predicted .004 --decisions 50000"
    planner.main(arguments.split())
    said = capsys.readouterr().out
    for n in (
        planner.decisions_for_effect(HoldOut(0.03), 0.004),
        planner.decisions_for_direct_path(HoldOut(0.03), 0.002, 0.004),
    ):
        assert f"{n:,} decisions   power 80%" in said
    assert f"50,000 decisions   power {planner.power_of(HoldOut(0.03), 50_000, 0.004):.0%}" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--base-rate 1.2 --effect .1", "base_rate must be in (0, 1)"),
        ("--base-rate .03 --effect .1", "rate in [0, 1]"),
        ("--base-rate .03 --effect 0", "must not be 0"),
        ("--base-rate .03", "--effect, --direct or both"),
        ("--base-rate .03 --effect .01 --power 1", "power must be in"),
    ],
)
def test_plans_that_cannot_be_are_refused(arguments, says, capsys):
    with pytest.raises(SystemExit):
        planner.main(arguments.split())
    assert says in capsys.readouterr().err
