"""Removal effects against published small cases, and against slow solves of chains without the cluster."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almmta_spark.baselines import markov
from almmta_spark.baselines.markov import START, Step

A, B, C = 1, 2, 3


def frame(spark, rows):
    return spark.createDataFrame(rows, "path array<int>, outcome int")


def counted(rows, order=1):
    """The steps of a list of (path, outcome), outcome 0 or 1 and worth 1, counted one by one."""
    counts = {}
    for path, outcome in rows:
        states = [tuple(path[max(i - order, 0) : i]) for i in range(len(path) + 1)]
        for origin, to in zip(states, [*states[1:], None], strict=True):
            key = (origin, to, to is None and outcome > 0)
            counts[key] = counts.get(key, 0) + 1
    return [Step(*key, count, float(count) if key[2] else 0.0) for key, count in counts.items()]


def test_three_journeys_of_three_channels(spark):
    """C1 > C2 > C3 converting, C1 and C2 > C3 not (issue 4, after ChannelAttribution's and R's textbook example)."""
    paths = frame(spark, [([A, B, C], 1), ([A], 0), ([B, C], 0)])
    found = markov.removal_effects(markov.step_counts(paths, order=1))
    assert found.p_conversion == pytest.approx(1 / 3)
    assert found.effect == pytest.approx({A: 0.5, B: 1.0, C: 1.0})
    assert found.credit(1) == pytest.approx({A: 0.2, B: 0.4, C: 0.4})


def test_a_cluster_after_itself_is_a_step_like_any_other(spark):
    """A>B>A>B>B>A, A>B>B>A>A, A>A all converting (issue 4): removal 1 and .5, credit 2 and 1."""
    paths = frame(spark, [([A, B, A, B, B, A], 1), ([A, B, B, A, A], 1), ([A, A], 1)])
    found = markov.removal_effects(markov.step_counts(paths, order=1))
    assert found.effect == pytest.approx({A: 1.0, B: 0.5})
    assert found.credit(3) == pytest.approx({A: 2.0, B: 1.0})


@pytest.mark.parametrize("order", [1, 2, 3])
def test_each_conversion_counts_and_a_journey_without_one_counts_once(spark, order):
    several = frame(spark, [([A, B, A], 3), ([B, C], 0), ([C], 2)])
    single = [([A, B, A], 1)] * 3 + [([B, C], 0)] + [([C], 1)] * 2
    found = markov.removal_effects(markov.step_counts(several, order))
    assert found == markov.removal_effects(counted(single, order))
    assert found.p_conversion == pytest.approx(5 / 6)
    assert sum(found.credit(5).values()) == pytest.approx(5)


def test_values_are_credited_where_they_were_earned(spark):
    """A earns 10 of 40, B 30, in journeys of their own; conversions are two against one."""
    rows = [([A], 1, 5.0), ([A], 1, 5.0), ([B], 1, 30.0), ([C], 0, 0.0)]
    steps = markov.step_counts(spark.createDataFrame(rows, "path array<int>, outcome int, value double"), 1)
    assert markov.removal_effects(steps).credit(3) == pytest.approx({A: 2, B: 1, C: 0})
    earned = markov.removal_effects(steps, of_values=True)
    assert earned.p_conversion == pytest.approx(40 / 4)
    assert earned.credit(40.0) == pytest.approx({A: 10, B: 30, C: 0})


def test_a_touch_that_only_ever_repeats_itself_converts_as_often_as_its_journeys(spark):
    """A>A>A converting and A>A not: the self-loop is left with probability 2/5, half of the time by converting."""
    found = markov.removal_effects(markov.step_counts(frame(spark, [([A, A, A], 1), ([A, A], 0)]), order=1))
    assert found.p_conversion == pytest.approx(0.5) and found.effect == pytest.approx({A: 1.0})


@pytest.mark.parametrize("order", [1, 2, 3])
def test_steps_counted_in_spark_are_those_counted_one_by_one(spark, order):
    rng = np.random.default_rng(order)
    rows = [(rng.integers(0, 3, rng.integers(1, 6)).tolist(), int(rng.integers(0, 2))) for _ in range(50)]
    in_spark = markov.step_counts(frame(spark, rows), order)
    assert sorted(in_spark, key=repr) == sorted(counted(rows, order), key=repr)


JOURNEYS = st.lists(st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 1)), min_size=1)


@settings(deadline=None, max_examples=60)
@given(JOURNEYS, st.integers(1, 3))
def test_removal_equals_solving_the_chain_again_with_the_clusters_rows_emptied(rows, order):
    steps = counted(rows, order)
    found = markov.removal_effects(steps)
    states = sorted({s.origin for s in steps})
    leaving = {state: sum(s.count for s in steps if s.origin == state) for state in states}

    def p_conversion(removed: int | None) -> float:
        left = [s for s in states if not s or s[-1] != removed]
        q, r = np.zeros((len(left), len(left))), np.zeros(len(left))
        for s in steps:
            if s.origin in left and s.to in left:
                q[left.index(s.origin), left.index(s.to)] += s.count / leaving[s.origin]
            if s.origin in left and s.converted:
                r[left.index(s.origin)] += s.count / leaving[s.origin]
        return float(np.linalg.solve(np.eye(len(left)) - q, r)[left.index(START)])

    whole = p_conversion(None)
    assert found.p_conversion == pytest.approx(whole, abs=1e-9)
    assert whole == pytest.approx(np.mean([outcome for _, outcome in rows]))  # the chain's own mean is the data's
    for cluster, effect in found.effect.items():
        assert effect * whole == pytest.approx(whole - p_conversion(cluster), abs=1e-9)
        assert -1e-9 <= effect <= 1 + 1e-9


def test_where_nobody_converts_there_is_nothing_to_credit():
    found = markov.removal_effects(counted([([A, B], 0), ([B], 0)]))
    assert (found.p_conversion, found.effect) == (0.0, {A: 0.0, B: 0.0})
    assert found.credit(0) == {A: 0.0, B: 0.0}


def test_too_many_states_are_refused_with_the_key_to_change(monkeypatch):
    monkeypatch.setattr(markov, "MAX_STATES", 3)
    with pytest.raises(ValueError, match=r"attribution\.markov_order must leave at most 3 states to solve for, got 4"):
        markov.removal_effects(counted([([A, B, C], 1)]))


@pytest.mark.parametrize("order", [2, 3])
def test_no_more_steps_than_fit_reach_the_driver_and_the_error_names_the_key(spark, order, monkeypatch):
    rows = [([A, B, C, A], 1), ([C, B, A], 0)]
    steps = len(counted(rows, order))
    monkeypatch.setattr(markov, "MAX_STEPS", steps)
    assert len(markov.step_counts(frame(spark, rows), order)) == steps
    monkeypatch.setattr(markov, "MAX_STEPS", steps - 1)
    says = rf"attribution\.markov_order must leave at most {steps - 1} .*at order {order}"
    with pytest.raises(ValueError, match=says):
        markov.step_counts(frame(spark, rows), order)
