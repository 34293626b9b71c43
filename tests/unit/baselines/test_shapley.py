"""Shapley values of cluster sets against the definition, written out over all coalitions."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almmta_spark.baselines import shapley


def frame(spark, rows):
    return spark.createDataFrame(rows, "path array<int>, outcome int")


def by_definition(rows):
    """sum over S of |S|! (K - |S| - 1)! / K! (v(S + c) - v(S)), v(S) = uploads of journeys within S."""
    players = sorted({c for path, outcome in rows if outcome for c in path})

    def v(coalition):
        return sum(outcome for path, outcome in rows if set(path) <= set(coalition))

    def value(c):
        others = [p for p in players if p != c]
        return sum(
            math.factorial(size) * math.factorial(len(others) - size) / math.factorial(len(players))
            * (v((*coalition, c)) - v(coalition))
            for size in range(len(players))
            for coalition in itertools.combinations(others, size)
        )  # fmt: skip

    return {c: value(c) for c in players}


def test_four_of_a_alone_and_six_of_a_then_b(spark):
    """{a: 4, a > b: 6} (issue 4): 7 and 3."""
    a, b = 0, 1
    paths = frame(spark, [([a], 1)] * 4 + [([a, b], 1)] * 6)
    assert shapley.values(paths) == pytest.approx({a: 7, b: 3})


def test_each_upload_counts_and_values_are_shared_in_their_place(spark):
    a, b = 0, 1
    paths = spark.createDataFrame(
        [([a, a], 4, 1.0), ([a, b, a], 6, 0.5), ([b], 0, 0.0)], "path array<int>, outcome int, value double"
    )
    assert shapley.values(paths.drop("value")) == pytest.approx({a: 7, b: 3})
    assert shapley.values(paths) == pytest.approx({a: 1.25, b: 0.25})


@settings(deadline=None, max_examples=5)
@given(
    st.lists(st.tuples(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(0, 1)), min_size=5, max_size=20)
)
def test_values_equal_the_definition_and_add_up_to_the_uploads(spark, rows):
    found = shapley.values(frame(spark, rows))
    assert found == pytest.approx(by_definition(rows))
    assert sum(found.values()) == pytest.approx(sum(outcome for _, outcome in rows))
