"""The review's figures as matplotlib draws them, for notebooks: contents in, a Figure out; nothing is read or shown.

Own method first, in blue; methods differ in their marks too. Effects and areas are per 1,000 touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure

from almmta_spark.evaluation import drawing
from almmta_spark.report.contents import ALL_BUCKETS, Contents
from almmta_spark.report.trends import Trend, trends

_LABELS = {"cluster": "cluster", "author_id": "author", "item_id": "item"}


def areas(contents: Contents, protocol: str) -> Figure:
    """AUUC with its interval, a panel a propensity bucket (all first), a line a method; by one protocol."""
    rows = contents.tonight.auuc
    rows = rows[(rows.protocol == protocol) & rows.auuc.notna()]
    buckets = sorted(rows.propensity_bucket.unique())
    methods = [m for m in contents.methods if (rows.method == m).any()]
    figure, axes = drawing.panels(max(len(buckets), 1), f"AUUC by propensity bucket, protocol: {_words(protocol)}")
    for axis, bucket in zip(axes, buckets, strict=False):
        of = rows[rows.propensity_bucket == bucket].set_index("method").reindex(methods)
        _forest(axis, of, "auuc", methods)
        name = "all buckets" if bucket == ALL_BUCKETS else f"bucket {bucket}"
        axis.set_title(f"{name} ({int(of.n.max()):,} rows)", fontsize=10)
        axis.set_xlabel("uploads per 1,000 touches")
    return drawing.finish(figure, axes, legend=False)


def causes(contents: Contents, key: str) -> Figure:
    """The groups that cause most and least a touch, with intervals; key: cluster, author_id or item_id."""
    ends = contents.extremes[key]
    figure, axes = drawing.panels(2, f"{_LABELS[key].capitalize()}s by their effect, method {contents.method}", width=5)
    for axis, rows, title in zip(axes, (ends.top, ends.bottom), ("cause most", "cause least"), strict=True):
        named = [f"{_LABELS[key]} {group}" for group in rows[key]]
        _forest(axis, rows, "removal_effect_mean", named, marks=False)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(f"uploads caused per 1,000 touches, {contents.level:.0%} interval")
    return drawing.finish(figure, axes, legend=False)


def over_nights(contents: Contents) -> Figure:
    """Every figure that a night is watched by, over the nights that are published, with intervals where it has some."""
    days = [date.fromisoformat(night.ds) for night in contents.nights]
    shown = trends(contents)
    figure, axes = drawing.panels(len(shown), f"Nights until {contents.tonight.ds}")
    for axis, trend in zip(axes, shown, strict=True):
        known = [(day, p) for day, p in zip(days, trend.points, strict=True) if p is not None]
        value, lower, upper = np.array([(p.value, p.lower, p.upper) for _, p in known], float).reshape(-1, 3).T
        error = None if np.isnan(lower).any() else [value - lower, upper - value]
        axis.errorbar([day for day, _ in known], value, error, capsize=3, **drawing.line(0, 0) | {"markevery": 1})
        axis.set_title(trend.label, fontsize=10)
        axis.set_ylabel(_unit(trend))
        axis.set_xticks(days[:: max(len(days) // 4, 1)])
        axis.xaxis.set_major_formatter(DateFormatter("%d %b"))
    return drawing.finish(figure, axes, legend=False)


def _unit(trend: Trend) -> str:
    return f"uploads {trend.unit} touches" if trend.unit else "a night"


def _forest(axis: Axes, rows: pd.DataFrame, figure: str, names: Sequence[str], marks: bool = True) -> None:
    """A value with its interval a line, the first at the top; marks: each line with a colour and mark of its own."""
    value, lower, upper = (1000 * rows[name].to_numpy(float) for name in (figure, f"{figure}_lower", f"{figure}_upper"))
    for i, (x, low, high) in enumerate(zip(value, lower, upper, strict=True)):
        style = drawing.line(i if marks else 0, 0) | {"linestyle": "", "markersize": 6, "markevery": 1}
        error = None if np.isnan([low, high]).any() else [[x - low], [high - x]]
        axis.errorbar([x], [i], xerr=error, capsize=3, elinewidth=1.2, **style)
    axis.axvline(0, color=drawing.GREY, linewidth=0.8)
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.invert_yaxis()


def _words(protocol: str) -> str:
    return protocol.replace("_", " ") + (" (not causal)" if protocol.startswith("observational") else "")
