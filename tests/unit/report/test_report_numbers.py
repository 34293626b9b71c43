"""Numbers as the page writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almmta_spark.report import numbers


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [(17784.4, 0, "17,784"), (-0.25, 2, "−0.25"), (None, 2, "–"), (float("nan"), 2, "–"), (-0.0001, 2, "0.00")],
)
def test_a_number_is_written_for_people(value, places, text):
    assert numbers.number(value, places) == text


def test_a_change_has_its_sign():
    assert [numbers.percent(v, 1, sign=True) for v in (0.0312, -0.0312, 0.0)] == ["+3.1 %", "−3.1 %", "0.0 %"]


def test_half_an_interval_is_none():
    assert numbers.interval(-1.0, 2.5, 1) == "−1.0 to 2.5"
    assert numbers.interval(None, 2.5, 1) == numbers.interval(float("nan"), 2.5, 1) == ""


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=6))
def test_the_largest_of_a_column_shows_three_digits(values):
    places = numbers.decimals(values)
    digits = numbers.number(max(values), places).replace(",", "").replace(".", "").lstrip("0")
    assert 0 <= places <= 4
    assert len(digits) >= 3 or places == 4
    assert places == 0 or len(digits) <= 4  # 9.999 is written 10.00
