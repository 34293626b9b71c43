"""What must hold of any front-door estimate from cells, whatever the table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almmta_spark.causal import front_door
from almmta_spark.causal.exclusion import check_exclusion
from almmta_spark.causal.sample import Sample

UNHURRIED = settings(deadline=None, max_examples=25)
CELL = st.tuples(st.integers(1, 6), st.integers(0, 6))  # rows, rows with outcome 1 (as many as there are)
TABLES = st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4)  # arms 0 and 1 of each mediator level
ATES = ("difference_in_means", "back_door", "front_door")


def columns(table):
    cells = [(t, m, *cell) for m, arms in enumerate(table) for t, cell in enumerate(arms)]
    treatment = np.concatenate([np.full(n, t) for t, _, n, _ in cells])
    mediator = np.concatenate([np.full(n, m) for _, m, n, _ in cells])
    outcome = np.concatenate([np.arange(n) < events for _, _, n, events in cells])
    return treatment, mediator, outcome.astype(float)


def figures(effects):
    return [
        (e.effect, e.se) for e in (*(getattr(effects, name) for name in ATES), effects.front_door_ett)
    ]  # fmt: skip


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@UNHURRIED
@given(TABLES, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(table, random):
    t, m, y = columns(table)
    order = list(range(len(t)))
    random.shuffle(order)
    before, after = Sample.of(t, m, y), Sample.of(t[order], m[order], y[order])
    close(figures(front_door.effects(before)), figures(front_door.effects(after)))
    one, other = check_exclusion(before), check_exclusion(after)
    close((one.chi2, one.df, one.past.se), (other.chi2, other.df, other.past.se))


@UNHURRIED
@given(TABLES, st.permutations("dcba"))
def test_the_names_of_levels_do_not_matter(table, names):
    t, m, y = columns(table)
    renamed = Sample.of(t, np.array(names)[m], y)
    close(figures(front_door.effects(Sample.of(t, m, y))), figures(front_door.effects(renamed)))


@UNHURRIED
@given(TABLES)
def test_swapping_the_arms_turns_the_average_effects_around(table):
    t, m, y = columns(table)
    one, other = front_door.effects(Sample.of(t, m, y)), front_door.effects(Sample.of(1 - t, m, y))
    for name in ATES:
        close(
            (getattr(one, name).effect, getattr(one, name).se), (-getattr(other, name).effect, getattr(other, name).se)
        )


@UNHURRIED
@given(TABLES, st.floats(0.5, 20), st.floats(-20, 20))
def test_effects_are_in_units_of_the_outcome(table, scale, shift):
    t, m, y = columns(table)
    one, other = front_door.effects(Sample.of(t, m, y)), front_door.effects(Sample.of(t, m, scale * y + shift))
    np.testing.assert_allclose(scale * np.array(figures(one)), figures(other), rtol=1e-7, atol=1e-9)


@UNHURRIED
@given(TABLES)
def test_a_mediator_that_tells_nothing_carries_nothing(table):
    t, _, y = columns(table)
    effects = front_door.effects(Sample.of(t, np.zeros_like(t), y))
    assert effects.front_door.effect == pytest.approx(0, abs=1e-12)
    assert effects.front_door_ett.effect == pytest.approx(0, abs=1e-12)


@UNHURRIED
@given(TABLES)
def test_what_goes_past_is_the_mean_of_the_effects_within_levels(table):
    t, m, y = columns(table)
    found = check_exclusion(Sample.of(t, m, y))
    law = [np.bincount(m[t == arm], minlength=len(table)) / (t == arm).sum() for arm in (0, 1)]
    share = (1 - t.mean()) * law[1] + t.mean() * law[0]
    assert found.past.effect == pytest.approx(share @ [level.effect for level in found.levels], abs=1e-9)
