"""What must hold of the figures of any ranked rows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from almmta_spark.causal import ranking

ROWS = st.lists(
    st.tuples(st.integers(-5, 5), st.booleans(), st.integers(0, 3), st.integers(1, 4), st.integers(0, 9)),
    min_size=1,
    max_size=40,
)
UNHURRIED = settings(deadline=None, max_examples=60)


def columns(rows):
    return tuple(np.array(c) for c in zip(*rows, strict=True))


def figures(score, treated, outcome, weight, user, share="all"):
    return ranking.evaluate({"s": score}, treated, outcome, weight, user, replicates=10, share=share)["s"]


@UNHURRIED
@given(ROWS, st.randoms(use_true_random=False), st.sampled_from(ranking.SHARES))
def test_order_of_rows_leaves_every_bit(rows, random, share):
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert figures(*columns(shuffled), share) == figures(*columns(rows), share)


@UNHURRIED
@given(ROWS)
def test_an_increasing_transformation_of_the_score_leaves_every_bit(rows):
    score, *others = columns(rows)
    for increasing in (lambda s: 3 * s + 1, lambda s: s**3, np.exp, lambda s: np.log(s + 6)):
        assert figures(increasing(score), *others) == figures(score, *others)


@UNHURRIED
@given(ROWS, st.integers(2, 6))
def test_so_does_one_of_scores_that_are_cut(rows, max_steps):
    score, treated, outcome, weight, user = columns(rows)
    found = [
        ranking.evaluate({"s": s}, treated, outcome, weight, user, replicates=0, max_steps=max_steps)["s"]
        for s in (score, np.exp(score))
    ]
    assert found[0] == found[1] and found[0]["num_steps"] <= max_steps


@UNHURRIED
@given(ROWS, st.sampled_from(ranking.SHARES))
def test_another_score_beside_it_changes_nothing(rows, share):
    score, treated, outcome, weight, user = columns(rows)
    scores = {"other": -score, "s": score, "equal": np.zeros(len(score))}
    found = ranking.evaluate(scores, treated, outcome, weight, user, replicates=10, share=share)
    assert found["s"] == figures(*columns(rows), share)


@UNHURRIED
@given(ROWS)
def test_figures_are_all_null_or_consistent(rows):
    found = figures(*columns(rows))
    if found["uplift"] is None:
        assert found["undefined_reason"] and found["auuc"] is None and found["qini"] is None
    else:
        assert abs(found["auuc"] - found["qini"] - found["uplift"] / 2) < 1e-12
