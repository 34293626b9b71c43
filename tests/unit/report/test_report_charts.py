"""Drawings: where things stand, and that they are well-formed."""

from itertools import pairwise
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from almmta_spark.report import charts
from almmta_spark.report.trends import Point
from tests.unit.report.nights import journey

finite = st.floats(-1e6, 1e6)


def circle(svg):
    (found,) = ElementTree.fromstring(svg).iter("circle")
    return float(found.get("cx")), float(found.get("cy"))


@given(st.lists(st.one_of(st.none(), finite), max_size=8), st.floats(60, 600))
def test_a_scale_holds_0_and_all_its_values_in_order(values, width):
    on = charts.scale(values, width)
    places = [on.at(v) for v in sorted([0.0, *(v for v in values if v is not None)])]
    assert all(a <= b for a, b in pairwise(places))
    assert places[0] >= on.pad - 1e-6 and places[-1] <= width - on.pad + 1e-6


def test_an_interval_bar_stands_where_its_scale_says():
    on = charts.scale([-1.0, 3.0], 100)
    bar = charts.interval_bar(Point(1.0, 0.0, 2.0), on)
    assert circle(bar)[0] == on.at(1.0) == 50
    ends = {float(line.get("x1")) for line in ElementTree.fromstring(bar).iter("line")}
    assert {on.at(0.0), on.at(2.0)} <= ends


def test_a_scale_without_0_begins_at_the_lowest_value_and_marks_no_0():
    on = charts.scale([2.0, 4.0], 100, zero=False)
    assert (on.at(2.0), on.at(4.0)) == (6, 94)
    drawn = ElementTree.fromstring(charts.interval_bar(Point(3.0, 2.0, 4.0), on))
    assert len(list(drawn.iter("line"))) == 3 and circle(charts.interval_bar(Point(3.0), on))[0] == 50


def test_without_an_interval_or_a_value_only_what_is_known_is_drawn():
    on = charts.scale([0.0, 1.0], 100)
    assert len(list(ElementTree.fromstring(charts.interval_bar(Point(1.0), on)).iter("line"))) == 1
    assert not list(ElementTree.fromstring(charts.interval_bar(None, on)).iter("circle"))


def test_methods_differ_in_shape_and_not_in_colour_alone():
    on = charts.scale([0.0, 1.0], 100)
    drawn = [charts.interval_bar(Point(0.5), on, series) for series in range(8)]
    shapes = [tuple(e.tag for e in ElementTree.fromstring(bar)) + tuple(_corners(bar)) for bar in drawn]
    colours = {e.get("fill") for bar in drawn for e in ElementTree.fromstring(bar) if e.get("fill")}
    assert len(set(shapes)) == 4 and len(colours) == 8
    assert all(a != b for a, b in pairwise(shapes))


def _corners(svg):
    return [len(e.get("points").split()) for e in ElementTree.fromstring(svg).iter("polygon")] + [
        e.get("points") for e in ElementTree.fromstring(svg).iter("polygon")
    ]


def test_a_night_without_the_figure_leaves_a_gap_in_the_sparkline():
    points = [Point(1.0, 0.5, 1.5), Point(2.0, 1.5, 2.5), None, Point(3.0, 2.5, 3.5), Point(2.0, 1.0, 3.0)]
    whole = ElementTree.fromstring(charts.sparkline(points, [1, 2, 3, 4, 5]))
    assert len(list(whole.iter("polyline"))) == 2 and len(list(whole.iter("polygon"))) == 2
    assert circle(charts.sparkline(points, [1, 2, 3, 4, 5]))[0] == 163  # the last night stands at the right


def test_a_figure_that_never_changes_is_drawn_in_the_middle():
    svg = charts.sparkline([Point(7.0), Point(7.0)], [1, 2], height=40)
    assert circle(svg)[1] == 20


@given(st.lists(st.floats(0, 600), max_size=24))
def test_labels_keep_their_distance_as_long_as_there_are_lanes(places):
    places = sorted(places)
    lanes = charts.lanes(places, 15)
    for lane in (0, 1):
        own = [p for p, at in zip(places, lanes, strict=True) if at == lane]
        assert all(b - a >= 15 for a, b in pairwise(own))


@given(finite, st.floats(1e-3, 1e6))
def test_ticks_are_few_round_and_inside(low, width):
    ticks = charts.round_ticks(low, low + width)
    assert len(ticks) <= 5 and all(low - 1e-6 * width <= t <= low + 1.000001 * width for t in ticks)
    steps = {float(f"{b - a:.3g}") for a, b in pairwise(ticks)}
    assert all(f"{step:e}"[:3] in ("1.0", "2.0", "2.5", "5.0") for step in steps)
    if low <= 0 <= low + width:
        assert 0 in ticks


def test_curves_rise_from_nothing_and_the_first_has_a_band_and_the_solid_line():
    own = [(0.0, Point(0.0, 0.0, 0.0)), (0.1, Point(30.0, 20.0, 40.0)), (0.5, Point(50.0, 30.0, 70.0))]
    other = [(0.0, Point(0.0, 0.0, 0.0)), (0.1, Point(10.0, 5.0, 15.0)), (0.5, Point(20.0, 10.0, 30.0))]
    root = ElementTree.fromstring(charts.curves([own, other], "Two curves"))
    lines = list(root.iter("polyline"))
    assert [bool(line.get("stroke-dasharray")) for line in lines] == [True, False]  # the own is drawn last, on top
    places = [tuple(map(float, p.split(","))) for p in lines[1].get("points").split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places) and places[0][1] > places[1][1] > places[2][1]
    (band,) = [p for p in root.iter("polygon") if p.get("fill-opacity")]
    assert len(band.get("points").split()) == 6 and len(list(root.iter("circle"))) == 2
    assert {"0 %", "40 %", "0", "60", "share of the exposures"} <= {t.text for t in root.iter("text")}


def test_without_intervals_curves_have_no_band():
    plain = [(0.0, Point(0.0)), (0.5, Point(3.0))]
    assert not list(ElementTree.fromstring(charts.curves([plain], "One curve")).iter("polygon"))
    assert ElementTree.fromstring(charts.curves([], "Nothing")).get("aria-label") == "Nothing"


def test_a_time_line_runs_from_the_oldest_touch_to_midnight_and_says_what_it_shows():
    svg = charts.timeline(journey(0.02, 0.01, -0.004), 24.0, "Three touches & more")
    root = ElementTree.fromstring(svg)
    dots = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter("circle")]
    assert [x for x, _ in dots] == sorted(x for x, _ in dots) and len(dots) == 3
    assert dots[0][1] < dots[1][1] < dots[2][1]  # higher up, the larger the effect
    texts = [t.text for t in root.iter("text")]
    assert {"1", "2", "3", "midnight", "−24 h"} <= set(texts)
    assert (root.get("role"), root.get("aria-label")) == ("img", "Three touches & more")
