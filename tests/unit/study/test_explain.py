"""The figures of the page on the front door say what the page says."""

import numpy as np

from almmta_spark.study import explain


def test_the_front_door_finds_the_effect_until_the_mediator_is_all_but_fixed_and_then_says_so():
    points = explain.studies()
    widths = []
    for point in points:
        assert not point.back_door.interval()[0] <= point.true_effect <= point.back_door.interval()[1]
        if point.front_door is not None:
            lower, upper = point.front_door.interval(0.999)
            assert lower <= point.true_effect <= upper
            widths.append(upper - lower)
    assert len(widths) >= 6 and np.all(np.diff(widths) > 0) and widths[-1] > 3 * widths[0]


def test_both_figures_are_drawn_and_named():
    figures = explain.draw()
    assert set(figures) == {"front_door_graph", "mediator_noise"}
    (axis,) = figures["mediator_noise"].axes
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["true effect", "back door", "front door"]
