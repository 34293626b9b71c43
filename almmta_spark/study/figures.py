"""Figures of many fits: numbers in, a matplotlib Figure out. Effects are shown per 1,000 touches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from almmta_spark.evaluation import drawing
from almmta_spark.study.goals import RMSE, SPEARMAN
from almmta_spark.study.records import Found

Floats = NDArray[np.float64]


def dynamics(panels: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    """Held-out loss by epoch, one panel a loss, one line a fit."""
    figure, axes = drawing.panels(len(panels), title)
    for axis, (loss, curves) in zip(axes, panels.items(), strict=True):
        for i, (fit, values) in enumerate(curves.items()):
            axis.plot(np.arange(1, len(values) + 1), values, label=fit, **drawing.line(i, len(values)))
        axis.set_title(loss, fontsize=10)
        axis.set_xlabel("epoch")
        axis.set_ylabel("held-out loss, nats per journey")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(fontsize=7, frameon=False)
    return drawing.finish(figure, axes, legend=False)


def across_seeds(fits: Mapping[str, Mapping[int, Floats]], truth_K: Floats, title: str) -> Figure:
    """Clusters' mean effects by each seed's fit, one panel a method, clusters sorted by the truth."""
    order = np.argsort(-truth_K, kind="stable")
    position = np.arange(len(order))
    figure, axes = drawing.panels(len(fits), title)
    for axis, (method, by_seed) in zip(axes, fits.items(), strict=True):
        axis.step(position, 1000 * truth_K[order], where="mid", color="black", linewidth=1.8, label="truth")
        for i, (seed, mean_K) in enumerate(by_seed.items()):
            style = drawing.line(i, 0) | {"linestyle": "", "markevery": 1}
            axis.plot(position, 1000 * mean_K[order], label=f"seed {seed}", alpha=0.8, **style)
        axis.set_title(method, fontsize=10)
        axis.set_xlabel("treatment cluster, by its true effect")
        axis.set_ylabel("uploads per 1,000 touches")
    return drawing.finish(figure, axes)


@dataclass(frozen=True)
class Sweep:
    """One setting and the errors of the fits at each of its values."""

    setting: str
    method: str
    values: Sequence[float]
    errors: Sequence[Mapping[str, float]]
    log: bool = False


SHOWN = {SPEARMAN: "within-journey Spearman", RMSE: "relative RMSE"}


def sensitivity(sweeps: Sequence[Sweep], title: str) -> Figure:
    """Both errors against each setting, one panel a setting; the axis of a learning rate is logarithmic."""
    figure, axes = drawing.panels(len(sweeps), title)
    for axis, sweep in zip(axes, sweeps, strict=True):
        for i, (metric, name) in enumerate(SHOWN.items()):
            errors = [float(e[metric]) for e in sweep.errors]
            axis.plot(sweep.values, errors, label=name, **drawing.line(i, 0) | {"markevery": 1})
        if sweep.log:
            axis.set_xscale("log")
        axis.set_xticks(sweep.values, [f"{value:g}" for value in sweep.values], fontsize=8)
        axis.set_title(sweep.method, fontsize=10)
        axis.set_xlabel(sweep.setting)
        axis.set_ylabel("figure against the truth")
        axis.set_ylim(bottom=0)
    return drawing.finish(figure, axes)


@dataclass(frozen=True)
class Journey:
    """The touches of one journey: K of them, oldest first."""

    age_hours: Floats
    cluster: NDArray[np.int64]
    truth: Floats
    effects: Mapping[str, Floats]
    """By method."""
    lower: Floats | None = None
    upper: Floats | None = None
    """Interval of the first method, where the night has them."""

    @classmethod
    def of(cls, found: Mapping[str, NDArray[Any]], methods: Sequence[str]) -> Journey:
        """From exact.one_journey."""
        ends = [found[f"{methods[0]}{side}"] for side in ("_lower", "_upper")]
        lower, upper = (None, None) if np.isnan(ends).any() else ends
        effects = {method: found[method] for method in methods}
        return cls(found["age_hours"], found["cluster"], found["ett"], effects, lower, upper)


def journey(of: Journey, title: str) -> Figure:
    """Each touch of one user's journey with its effect (its interval) and the truth; time runs to the right."""
    figure, (axis,) = drawing.panels(1, title, width=9)
    position = np.arange(len(of.truth))
    axis.axhline(0, color=drawing.GREY, linewidth=0.8)
    for i, (method, effect) in enumerate(of.effects.items()):
        shift = 0.15 * (i - (len(of.effects) - 1) / 2)
        style = drawing.line(i, 0) | {"linestyle": "", "markersize": 7, "markevery": 1}
        axis.plot(position + shift, 1000 * effect, label=method, **style)
        if i == 0 and of.lower is not None and of.upper is not None:
            ends = (1000 * of.lower, 1000 * of.upper)
            axis.vlines(position + shift, *ends, color=drawing.COLOURS[0], linewidth=1.6, label="95 % interval")
    axis.plot(position, 1000 * of.truth, "_", color="black", markersize=26, markeredgewidth=1.8, label="truth")
    names = [f"{age:.1f} h before\ncluster {c}" for age, c in zip(of.age_hours, of.cluster, strict=True)]
    axis.set_xticks(position, names, fontsize=8)
    axis.set_xlabel("touch, oldest first")
    axis.set_ylabel("change of the chance of an upload, per 1,000")
    return drawing.finish(figure, [axis])


def error_against_n(found: Found, methods: Sequence[str], title: str) -> Figure | None:
    """Relative RMSE against the number of users, one panel a world; None where no world has more than one size."""
    worlds = {w: sorted(found.distinct("n", world=w, metric=RMSE)) for w in found.distinct("world", metric=RMSE)}
    worlds = {world: sizes for world, sizes in worlds.items() if len(sizes) > 1}
    if not worlds:
        return None
    figure, axes = drawing.panels(len(worlds), title)
    for axis, (world, sizes) in zip(axes, worlds.items(), strict=True):
        for i, method in enumerate(methods):
            means = {n: mean for n in sizes if (mean := found.mean(world, n, method, RMSE))}
            values = [m.value for m in means.values()]
            spread = np.nan_to_num([m.spread for m in means.values()])
            style = drawing.line(i, 0) | {"markevery": 1}
            axis.errorbar(list(means), values, yerr=spread, capsize=3, label=method, **style)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(sizes))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticks(sizes, [f"{n:,}" for n in sizes], fontsize=8)
        axis.set_ylim(bottom=0)
        axis.set_title(world, fontsize=10)
        axis.set_xlabel("users")
        axis.set_ylabel("relative RMSE (± sd over seeds)")
    return drawing.finish(figure, axes)
