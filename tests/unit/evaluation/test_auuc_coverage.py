"""Intervals of AUUC hold the truth about as often as they say: 92 to 98 % of simulated repetitions."""

import numpy as np
import pytest

from almmta_spark.causal import ranking, uplift
from almmta_spark.evaluation import bootstrap, grouped

pytestmark = pytest.mark.long

REPETITIONS = 400
SCORE = np.array([3.0, 2.0, 1.0, 0.0])
SHARE = np.array([0.1, 0.2, 0.3, 0.4])
BASE = np.array([0.1, 0.3, 0.05, 0.2])
EFFECT = np.array([0.3, 0.05, 0.1, -0.05])


def true_auuc(p_treated):
    """Of a population of infinitely many rows."""
    treated, other = SHARE * p_treated, SHARE * (1 - p_treated)
    sums = np.stack([treated * (BASE + EFFECT), treated, other * BASE, other], axis=-1)
    x, y = ranking.curve(sums)
    return float(ranking.area(x, y)), float(ranking.area_above_random(x, y))


def covered(found, truth, name):
    return found[f"{name}_lower"] <= truth <= found[f"{name}_upper"]


@pytest.mark.parametrize("kind", ["binary", "count"])
@pytest.mark.parametrize(("users", "p_treated"), [(1500, 0.5), (6000, 0.2)])
def test_intervals_of_ranked_rows_cover(kind, users, p_treated):
    """Users have one to three rows and a taste that their rows share, so rows are not independent."""
    rng = np.random.default_rng(users)
    expected = np.array(true_auuc(p_treated))
    held = np.zeros(2)
    for repetition in range(REPETITIONS):
        rows = rng.integers(1, 4, users)
        user = np.repeat(np.arange(users), rows) + 10**6 * repetition
        level = np.repeat(rng.choice(4, users, p=SHARE), rows)
        treated = rng.random(len(user)) < p_treated
        rate = BASE[level] + EFFECT[level] * treated
        if kind == "binary":
            outcome = np.repeat(rng.random(users), rows) < rate
        else:
            outcome = rng.poisson(rate * np.repeat(rng.exponential(size=users), rows))
        found = ranking.evaluate({"s": SCORE[level]}, treated, outcome, user=user)["s"]
        held += [covered(found, truth, name) for truth, name in zip(expected, ("auuc", "qini"), strict=True)]
    assert (held / REPETITIONS >= 0.92).all() and (held / REPETITIONS <= 0.98).all(), held / REPETITIONS


def test_intervals_of_grouped_uplift_cover():
    """auuc_by_bucket's: groups of fixed population, a method's ranking of them held fixed, arms of unequal weights."""
    rng = np.random.default_rng(7)
    groups, users = 12, 4000
    base, effect = rng.uniform(0.05, 0.2, groups), rng.uniform(-0.02, 0.2, groups)
    score, population = rng.permutation(groups), rng.integers(50, 500, groups)
    truth = [float(figure(score, effect, population)) for figure in (uplift.auuc, uplift.qini)]
    weights = bootstrap.poisson_weights(0, 200)
    held = np.zeros(2)
    for repetition in range(REPETITIONS):
        group, kept = rng.integers(0, groups, users), rng.random(users) < 0.5
        outcome = (rng.random(users) < base[group] + effect[group] * kept).astype(float)
        weight = rng.integers(1, 6, users) / 0.5
        sums = grouped.added_up(
            grouped.RANDOMISED,
            np.zeros(users, dtype=np.int64),
            group,
            ranking.bootstrap.user_cell(np.arange(users) + 10**6 * repetition, 0),
            kept,
            np.ones(users, dtype=np.int64),
            weight * outcome,
            weight,
            outcome,
            outcome,
        )
        uplift_RG = sums.uplift(weights)
        for i, figure in enumerate((uplift.auuc, uplift.qini)):
            lower, upper = bootstrap.interval(figure(score, uplift_RG, population), 0.95)
            held[i] += lower <= truth[i] <= upper
    assert (held / REPETITIONS >= 0.92).all() and (held / REPETITIONS <= 0.98).all(), held / REPETITIONS
