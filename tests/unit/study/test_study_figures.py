"""Figures of many fits: what is drawn, from hand-made numbers."""

import numpy as np
import pytest

from almmta_spark.study import figures
from almmta_spark.study.records import Found, Record

TRUTH = np.array([0.001, 0.004, 0.0])


def panels(figure):
    return [axis for axis in figure.axes if axis.get_visible()]


def labels(axis):
    return axis.get_legend_handles_labels()[1]


def test_dynamics_draw_a_panel_a_loss_and_a_line_a_fit():
    figure = figures.dynamics({"outcome": {"all parts": [3, 2, 1], "without": [3, 3, 2]}, "proxies": {"all": [1]}}, "t")
    first, second = panels(figure)
    assert [line.get_ydata().tolist() for line in first.lines] == [[3, 2, 1], [3, 3, 2]]
    assert (first.get_title(), labels(second)) == ("outcome", ["all"])
    assert "nats" in first.get_ylabel()


def test_clusters_stand_in_the_order_of_the_truth_for_every_seed():
    figure = figures.across_seeds({"latent": {0: TRUTH, 1: 2 * TRUTH}, "backdoor": {0: TRUTH}}, TRUTH, "t")
    first, second = panels(figure)
    assert labels(first) == ["truth", "seed 0", "seed 1"]
    assert first.lines[2].get_ydata().tolist() == [8, 2, 0]
    assert len(second.lines) == 2


def test_sensitivity_shows_both_errors_and_a_rate_on_a_logarithmic_axis():
    errors = [
        {"within_journey_spearman": 0.9, "relative_rmse": 0.3},
        {"within_journey_spearman": 0.8, "relative_rmse": 0.5},
    ]
    figure = figures.sensitivity(
        [figures.Sweep("rate", "latent", [0.01, 0.1], errors, log=True), figures.Sweep("q", "paper", [0, 1], errors)],
        "t",
    )
    first, second = panels(figure)
    assert [line.get_ydata().tolist() for line in first.lines] == [[0.9, 0.8], [0.3, 0.5]]
    assert (first.get_xscale(), second.get_xscale()) == ("log", "linear")


@pytest.mark.parametrize("known", [True, False])
def test_a_journey_shows_each_touch_with_its_interval_where_there_is_one(known):
    ends = (TRUTH - 0.001, TRUTH + 0.001) if known else (None, None)
    journey = figures.Journey(
        np.array([9.0, 4.0, 1.0]), np.array([3, 1, 2]), TRUTH, {"latent": TRUTH, "backdoor": -TRUTH}, *ends
    )
    (axis,) = panels(figures.journey(journey, "t"))
    assert labels(axis) == (["latent", "95 % interval"] if known else ["latent"]) + ["backdoor", "truth"]
    assert axis.get_xticklabels()[0].get_text() == "9.0 h before\ncluster 3"


def record(n, seed, value, method="latent", world="default"):
    return Record(world, n, seed, method, "relative_rmse", None, value)


def test_the_error_is_drawn_against_n_where_there_are_several_sizes():
    rows = [record(5000, 0, 0.5), record(5000, 1, 0.7), record(60_000, 0, 0.2), record(60_000, 0, 0.9, world="hard")]
    figure = figures.error_against_n(Found(rows), ["latent", "backdoor"], "t")
    (axis,) = panels(figure)
    assert axis.get_title() == "default"
    assert axis.lines[0].get_ydata().tolist() == pytest.approx([0.6, 0.2])


def test_one_size_is_no_curve():
    assert figures.error_against_n(Found([record(5000, 0, 0.5)]), ["latent"], "t") is None
