"""Figures draw what they are given, and are legible files."""

import io

import numpy as np
import pytest

from almmta_spark.evaluation import exact, figures, grouped
from almmta_spark.evaluation.overlap import Overlap


def uplift_rows(buckets=(0, 1), methods=("latent", "linear")):
    rng = np.random.default_rng(0)
    uplift = {(b, c): float(rng.normal(0.01, 0.01)) for b in buckets for c in range(8)}
    return [
        {
            "propensity_bucket": b,
            "cluster": c,
            "method": m,
            "score": u + float(rng.normal(0, 0.005)),
            "uplift": None if c == 7 else u,
            "touches": 10 + c,
        }
        for m in methods
        for (b, c), u in uplift.items()
    ]


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    return buffer.getvalue()


def labels(axis):
    return axis.get_legend_handles_labels()[1]


def test_uplift_curves_have_a_panel_a_bucket_and_a_line_a_method_and_the_oracle():
    figure = figures.uplift_curves(uplift_rows(), "title")
    drawn = [a for a in figure.axes if a.get_visible()]
    assert [a.get_title() for a in drawn] == ["bucket 0", "bucket 1"]
    assert set(labels(drawn[0])) == {"oracle", "random", "latent", "linear"}
    oracle, random, *methods = drawn[0].lines
    for line in (random, *methods):  # all curves end at the same total, the oracle lies above
        assert line.get_ydata()[-1] == pytest.approx(oracle.get_ydata()[-1])
        at = line.get_xdata()
        assert (np.interp(at, oracle.get_xdata(), oracle.get_ydata()) >= line.get_ydata() - 1e-9).all()
    assert png(figure).startswith(b"\x89PNG")


def test_methods_differ_in_more_than_colour():
    methods = tuple("abcdef")
    axis = figures.uplift_curves(uplift_rows(methods=methods), "title").axes[0]
    lines = [line for line in axis.lines if line.get_label() in methods]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == len(methods)
    assert len({line.get_color() for line in lines}) == len(methods)


def test_no_measured_group_still_gives_a_figure():
    rows = [r | {"uplift": None} for r in uplift_rows()]
    assert png(figures.uplift_curves(rows, "nothing")).startswith(b"\x89PNG")


def test_overlap_histograms_add_up_to_one_for_each_arm():
    bins = np.array([-9, -8, -3, -8, -2])
    exposed = np.array([True, True, True, False, False])
    found = Overlap(np.zeros(5, int), exposed, bins, np.array([1, 2, 1, 6, 2]), {})
    (axis,) = [a for a in figures.overlap(found, "overlap").axes if a.get_visible()]
    assert set(labels(axis)) == {"exposed", "not exposed"}
    for steps in axis.patches:
        assert steps.get_data().values.sum() == pytest.approx(1)


def test_estimated_against_true_shows_bins_and_the_diagonal():
    rng = np.random.default_rng(1)
    truth = rng.normal(0, 0.01, 500)
    bins = exact.effect_bins(truth + rng.normal(0, 0.002, 500), truth, num_bins=10)
    assert len(bins["estimate"]) == 10 and (np.diff(bins["estimate"]) > 0).all()
    assert (bins["truth_p10"] <= bins["truth_p90"]).all()
    figure = figures.estimated_vs_true({"latent": bins, "linear": bins}, "title")
    assert [a.get_title() for a in figure.axes if a.get_visible()] == ["latent", "linear"]


def test_clusters_are_sorted_by_their_true_effect():
    effects = {"cluster": np.array([5, 6, 7]), "truth": np.array([0.1, 0.3, 0.2]), "latent": np.array([0.2, 0.2, 0.2])}
    figure = figures.effects_by_cluster(effects, "title")
    (axis,) = figure.axes
    assert [t.get_text() for t in axis.get_xticklabels()] == ["6", "7", "5"]


def test_training_curves_draw_every_loss_and_nothing_else():
    epochs = [{"epoch": i, "train_loss": 1.0 / i, "held_out_loss": 1.1 / i, "rows": 10} for i in range(1, 5)]
    (axis,) = [a for a in figures.training_curves({"latent": epochs}, "title").axes if a.get_visible()]
    assert set(labels(axis)) == {"train_loss", "held_out_loss"}
    np.testing.assert_array_equal(axis.lines[0].get_xdata(), [1, 2, 3, 4])


def test_what_is_not_causal_says_so_below_the_curves():
    figure = figures.uplift_curves(uplift_rows(), "title", grouped.NOT_CAUSAL)
    assert " ".join(figure.get_supxlabel().split()) == grouped.NOT_CAUSAL
    assert not figures.uplift_curves(uplift_rows(), "title").get_supxlabel()
    assert png(figure).startswith(b"\x89PNG")


def test_clusters_stand_by_their_truth_with_the_intervals_of_the_first_method_alone():
    rollup = {
        "method": np.array(["latent", "latent", "latent", "backdoor", "backdoor"], object),
        "cluster": np.array([1, 2, 3, 2, 1]),
        "removal_effect_mean": np.array([0.001, 0.004, 9.0, 0.008, 0.002]),
        "removal_effect_mean_lower": np.array([0.000, 0.003, 9.0, np.nan, np.nan]),
        "removal_effect_mean_upper": np.array([0.002, 0.006, 9.0, np.nan, np.nan]),
    }
    figure = figures.intervals_by_cluster(rollup, {1: 0.0012, 2: 0.005}, ["latent", "backdoor"], "title")
    (axis,) = [a for a in figure.axes if a.get_visible()]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["2", "1"]  # cluster 3 has no known truth
    own, other = axis.containers
    assert own.lines[0].get_ydata().tolist() == pytest.approx([4.0, 1.0])
    assert np.concatenate([s[:, 1] for s in own.lines[2][0].get_segments()]) == pytest.approx([3.0, 6.0, 0.0, 2.0])
    assert other.lines[0].get_ydata().tolist() == pytest.approx([8.0, 2.0]) and not other.has_yerr
    assert set(labels(axis)) == {"truth", "latent", "backdoor"} and "per 1,000" in axis.get_ylabel()
