"""Figures of a night: numbers in, a matplotlib Figure out; no table is read here and nothing is shown or saved."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import NDArray

from almmta_spark.causal import uplift as curves
from almmta_spark.evaluation import drawing
from almmta_spark.evaluation.overlap import BINS_PER_LOGIT, Overlap

_ENDS = ("", "_lower", "_upper")


def uplift_curves(rows: Sequence[Mapping[str, Any]], title: str, caution: str = "") -> Figure:
    """One panel a propensity bucket; rows: those of grouped_uplift of one protocol. The oracle ranks by the uplift.

    caution: what not to read into it, written below."""
    measured = [r for r in rows if r["uplift"] is not None]
    buckets = sorted({r["propensity_bucket"] for r in measured})
    methods = sorted({r["method"] for r in measured})
    figure, axes = drawing.panels(max(len(buckets), 1), title)
    for axis, bucket in zip(axes, buckets, strict=False):
        for i, method in enumerate(methods):
            of = [r for r in measured if r["propensity_bucket"] == bucket and r["method"] == method]
            score, uplift, touches = (np.array([r[c] for r in of], float) for c in ("score", "uplift", "touches"))
            if i == 0:
                x, y = curves.uplift_curve(uplift, uplift, touches)
                axis.plot(x, 1000 * y, color="black", linewidth=1.6, label="oracle")
                axis.plot([0, 1], [0, 1000 * y[-1]], color=drawing.GREY, linestyle=":", linewidth=1.2, label="random")
            if len(of):
                x, y = curves.uplift_curve(score, uplift, touches)
                axis.plot(x, 1000 * y, label=method, **drawing.line(i, len(x)))
        axis.set_title(f"bucket {bucket}", fontsize=10)
        axis.set_xlabel("share of exposed touches, best first")
        axis.set_ylabel("uploads per 1,000 touches")
    if caution:
        figure.supxlabel("\n".join(textwrap.wrap(caution, 40 + 45 * min(len(axes), 3))), fontsize=9)
    return drawing.finish(figure, axes)


def overlap(found: Overlap, title: str) -> Figure:
    """Propensity histograms of exposed and unexposed (journey, cluster) pairs, one panel a bucket, on a logit scale."""
    buckets = np.unique(found.bucket_H)
    figure, axes = drawing.panels(max(len(buckets), 1), title)
    for axis, bucket in zip(axes, buckets, strict=False):
        for i, (exposed, label) in enumerate([(True, "exposed"), (False, "not exposed")]):
            of = (found.bucket_H == bucket) & (found.exposed_H == exposed)
            if not of.any():
                continue
            bins = np.arange(found.bin_H[of].min(), found.bin_H[of].max() + 2)
            density = np.zeros(len(bins) - 1)
            density[found.bin_H[of] - bins[0]] = found.count_H[of] / found.count_H[of].sum()
            style: dict[str, Any] = {
                "color": drawing.COLOURS[i],
                "linewidth": 1.8,
                "linestyle": "-" if exposed else "--",
            }
            axis.stairs(density, bins / BINS_PER_LOGIT, label=label, fill=False, **style)
        _probability_ticks(axis)
        axis.set_title(f"bucket {bucket}", fontsize=10)
        axis.set_xlabel("propensity")
        axis.set_ylabel("share of pairs")
    return drawing.finish(figure, axes)


def estimated_vs_true(bins_by_method: Mapping[str, Mapping[str, NDArray[np.float64]]], title: str) -> Figure:
    """Mean true effect (and its 10-90 % band) over bins of the estimate, one panel a method: exact.effect_bins."""
    figure, axes = drawing.panels(max(len(bins_by_method), 1), title)
    for i, (axis, (method, bins)) in enumerate(zip(axes, bins_by_method.items(), strict=False)):
        x, y, low, high = (1000 * bins[c] for c in ("estimate", "truth", "truth_p10", "truth_p90"))
        axis.fill_between(
            x,
            low,
            high,
            color=drawing.COLOURS[i % len(drawing.COLOURS)],
            alpha=0.2,
            linewidth=0,
            label="10-90 % of touches",
        )
        axis.plot(
            x, y, label="mean true effect", color=drawing.COLOURS[i % len(drawing.COLOURS)], marker="o", markersize=4
        )
        ends = [min(x.min(), low.min()), max(x.max(), high.max())]
        axis.plot(ends, ends, color="black", linestyle=":", linewidth=1.2, label="estimate = truth")
        axis.set_title(method, fontsize=10)
        axis.set_xlabel("estimated effect, per 1,000 touches")
        axis.set_ylabel("true effect, per 1,000 touches")
        axis.legend(fontsize=8, frameon=False)
    return drawing.finish(figure, axes, legend=False)


def effects_by_cluster(effects: Mapping[str, NDArray[Any]], title: str) -> Figure:
    """Mean effect per touch of each cluster, clusters sorted by the truth: exact.cluster_effects."""
    order = np.argsort(-effects["truth"], kind="stable")
    position = np.arange(len(order))
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    axis.step(position, 1000 * effects["truth"][order], where="mid", color="black", linewidth=1.8, label="truth")
    for i, method in enumerate(m for m in effects if m not in ("cluster", "truth")):
        style: dict[str, Any] = {
            "color": drawing.COLOURS[i % len(drawing.COLOURS)],
            "marker": drawing.MARKERS[i % len(drawing.MARKERS)],
        }
        axis.plot(position, 1000 * effects[method][order], linestyle="", markersize=5, alpha=0.9, label=method, **style)
    axis.set_xlabel("treatment cluster, by its true effect")
    axis.set_ylabel("uploads per 1,000 touches")
    axis.xaxis.set_major_locator(FixedLocator(position.tolist()) if len(position) <= 60 else MaxNLocator(20))
    if len(position) <= 60:
        axis.set_xticks(position, [str(c) for c in effects["cluster"][order]], fontsize=7)
    figure.suptitle(title, fontsize=12)
    return drawing.finish(figure, [axis])


def intervals_by_cluster(
    rollup: Mapping[str, NDArray[Any]], truth: Mapping[int, float], methods: Sequence[str], title: str
) -> Figure:
    """Clusters with a known truth, sorted by it: the intervals of the first method's mean effects, the others' means.

    rollup: columns of attribution_by_cluster.
    """
    order = sorted(truth, key=lambda cluster: -truth[cluster])
    position = np.arange(len(order))
    figure, (axis,) = drawing.panels(1, title, width=10)
    axis.step(position, [1000 * truth[c] for c in order], where="mid", color="black", linewidth=1.6, label="truth")
    for i, method in enumerate(methods):
        of = np.asarray(rollup["method"]) == method
        at = {int(cluster): k for k, cluster in zip(np.flatnonzero(of), rollup["cluster"][of], strict=True)}
        rows = [at[c] for c in order]
        mean, lower, upper = (1000 * np.asarray(rollup[f"removal_effect_mean{end}"], float)[rows] for end in _ENDS)
        error = None if i or np.isnan(lower).any() else [mean - lower, upper - mean]
        style = drawing.line(i, 0) | {"linestyle": "", "markersize": 5, "markevery": 1}
        axis.errorbar(position, mean, error, capsize=2, elinewidth=1.2, label=method, **style)
    axis.set_xticks(position, [str(c) for c in order], fontsize=7)
    axis.set_xlabel("treatment cluster, by its true effect")
    axis.set_ylabel("uploads per 1,000 touches")
    return drawing.finish(figure, [axis])


def exposure_efficiency(rows: Sequence[Mapping[str, Any]], own: str, title: str) -> Figure:
    """One panel a level; rows: those of exposure_efficiency; the band is the interval of `own`, the night's model."""
    levels = list(dict.fromkeys(r["level"] for r in rows))
    figure, axes = drawing.panels(max(len(levels), 1), title)
    rankings = sorted({r["ranking"] for r in rows}, key=lambda name: (name != own, name))
    for axis, level in zip(axes, levels, strict=True):
        for i, ranking in enumerate(rankings):
            of = sorted((r for r in rows if (r["level"], r["ranking"]) == (level, ranking)), key=lambda r: r["share"])
            columns = ("share", "extra_uploads", "extra_uploads_lower", "extra_uploads_upper", "true_extra_uploads")
            x, y, low, high, true = (np.array([0.0, *(r[c] for r in of)], float) for c in columns)
            axis.plot(100 * x, y, label=ranking, **drawing.line(i, len(x)))
            if ranking == own:
                axis.fill_between(100 * x, low, high, color=drawing.COLOURS[i], alpha=0.2, linewidth=0)
                if not np.isnan(true).any():
                    axis.plot(100 * x, true, label=f"{own}, truth", color="black", linestyle=":", linewidth=1.6)
        axis.set_title(f"by {level}", fontsize=10)
        axis.set_xlabel("% of exposures given to the top")
        axis.set_ylabel("extra uploads")
    return drawing.finish(figure, axes)


def training_curves(history: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> Figure:
    """One panel a model; history: its entries, one an epoch. Every number whose name ends in `loss` is a line."""
    figure, axes = drawing.panels(max(len(history), 1), title)
    for axis, (variant, epochs) in zip(axes, history.items(), strict=False):
        names = [n for n in (epochs[0] if epochs else {}) if n.endswith("loss")]
        for i, name in enumerate(names):
            values = [float(e[name]) if e.get(name) is not None else np.nan for e in epochs]
            axis.plot(np.arange(1, len(values) + 1), values, label=name, **drawing.line(i, len(values)))
        axis.set_title(variant, fontsize=10)
        axis.set_xlabel("epoch")
        axis.set_ylabel("loss")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if names:
            axis.legend(fontsize=8, frameon=False)
    return drawing.finish(figure, axes, legend=False)


def _probability_ticks(axis: Axes) -> None:
    """At most six round probabilities on an axis of logits."""
    low, high = axis.get_xlim()
    round_ones = np.array([k * 10.0**e for e in (-4, -3, -2) for k in (1, 2, 3, 5, 7)] + [k / 20 for k in range(2, 20)])
    at = np.log(round_ones / (1 - round_ones))
    inside = np.flatnonzero((at >= low) & (at <= high))
    kept = inside[:: max(-(-len(inside) // 6), 1)]
    axis.set_xticks(at[kept], [f"{p:g}" for p in round_ones[kept]])
