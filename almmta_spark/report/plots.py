"""The review's figures as matplotlib draws them, for notebooks: contents in, a Figure out; nothing is read or shown.

Methods differ in their marks too, not in colour alone. Effects and areas are per 1,000 touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, date2num
from matplotlib.figure import Figure

from almmta_spark.evaluation import drawing
from almmta_spark.report.contents import ALL_BUCKETS, Contents
from almmta_spark.report.trends import trends

_NAMES = {"cluster": "cluster", "author_id": "author", "item_id": "item"}


def areas(contents: Contents, protocol: str) -> Figure:
    """AUUC with its interval by one protocol, a panel a propensity bucket (all first), a line a method."""
    rows = contents.tonight.auuc
    rows = rows[(rows.protocol == protocol) & rows.auuc.notna()]
    buckets = sorted(rows.propensity_bucket.unique())
    methods = [m for m in contents.methods if (rows.method == m).any()]
    figure, axes = drawing.panels(max(len(buckets), 1), f"AUUC by propensity bucket, protocol: {_words(protocol)}")
    for i, (axis, bucket) in enumerate(zip(axes, buckets, strict=False)):
        of = rows[rows.propensity_bucket == bucket].set_index("method").reindex(methods)
        name = "all buckets" if bucket == ALL_BUCKETS else f"bucket {bucket}"
        axis.set_title(f"{name} ({int(of.n.max()):,} rows)", fontsize=10)
        axis.set_xlabel("uploads per 1,000 touches")
        _forest(axis, of, "auuc", range(len(methods)), methods if i % 3 == 0 else [""] * len(methods))
    return figure


def causes(contents: Contents, key: str) -> Figure:
    """The groups that cause most and least a touch, with intervals; key: cluster, author_id or item_id."""
    ends = contents.extremes[key]
    figure, axes = drawing.panels(2, f"{_NAMES[key].capitalize()}s by their effect, method {contents.method}", width=5)
    axes[1].sharex(axes[0])
    for axis, rows, title in zip(axes, (ends.top, ends.bottom), ("cause most", "cause least"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(f"uploads caused per 1,000 touches, {contents.level:.0%} interval")
        axis.axvline(0, color=drawing.GREY, linewidth=0.8)
        _forest(axis, rows, "removal_effect_mean", [0] * len(rows), [f"{_NAMES[key]} {group}" for group in rows[key]])
    return figure


def over_nights(contents: Contents) -> Figure:
    """Every figure that a night is watched by, over the nights that are published, with intervals where it has some."""
    days = date2num([date.fromisoformat(night.ds) for night in contents.nights])
    shown = trends(contents)
    figure, axes = drawing.panels(len(shown), f"Nights until {contents.tonight.ds}")
    for axis, trend in zip(axes, shown, strict=True):
        known = [(day, p) for day, p in zip(days, trend.points, strict=True) if p is not None]
        value, lower, upper = np.array([(p.value, p.lower, p.upper) for _, p in known], float).reshape(-1, 3).T
        error = None if np.isnan(lower).any() else [value - lower, upper - value]
        axis.errorbar([day for day, _ in known], value, error, capsize=3, **drawing.line(0, 0) | {"markevery": 1})
        axis.set_title(f"{trend.label}, {f'uploads {trend.unit} touches' if trend.unit else 'a night'}", fontsize=9)
        axis.set_xticks(days[:: -(-len(days) // 4)])
        axis.xaxis.set_major_formatter(DateFormatter("%d %b"))
    return drawing.finish(figure, axes, legend=False)


def _forest(axis: Axes, rows: pd.DataFrame, figure: str, series: Sequence[int], names: Sequence[str]) -> None:
    """A value with its interval a line, the first at the top, in the colour and mark of its series."""
    drawing.tidy(axis)
    value, lower, upper = (1000 * rows[name].to_numpy(float) for name in (figure, f"{figure}_lower", f"{figure}_upper"))
    for place, (of, x, low, high) in enumerate(zip(series, value, lower, upper, strict=True)):
        style = drawing.line(of, 0) | {"linestyle": "", "markersize": 6, "markevery": 1}
        error = None if np.isnan([low, high]).any() else [[x - low], [high - x]]
        axis.errorbar([x], [place], xerr=error, capsize=3, elinewidth=1.2, **style)
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.set_ylim(len(names) - 0.5, -0.5)


def _words(protocol: str) -> str:
    return protocol.replace("_", " ") + (" (not causal)" if protocol.startswith("observational") else "")
