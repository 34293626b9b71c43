"""How every figure here is drawn: panels, lines and what is left away, so that all look alike.

Colours are Okabe & Ito's, told apart by people who see red and green alike; every line also has a marker of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#444444")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#777777"
_COLUMNS = 3


def line(i: int, points: int) -> dict[str, Any]:
    """Colour, marker and dash of the i-th line: told apart without colour too."""
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[i % len(MARKERS)],
        "markersize": 4,
        "markevery": max(points // 8, 1),
        "linewidth": 1.4,
        "linestyle": ("-", "--", "-.")[i % 3],
    }


def panels(number: int, title: str, width: float = 4.2) -> tuple[Figure, list[Axes]]:
    """A figure of that many panels, three in a row, each `width` inches wide."""
    columns = min(number, _COLUMNS)
    rows = -(-number // columns)
    figure = Figure(figsize=(width * columns + 0.4, 3.4 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[number:]:
        spare.set_visible(False)
    return figure, axes[:number]


def finish(figure: Figure, axes: Sequence[Axes], legend: bool = True) -> Figure:
    """The figure tidied; legend: one for all panels, below them."""
    for i, axis in enumerate(axes):
        tidy(axis)
        if i % _COLUMNS:
            axis.set_ylabel("")
    if legend and axes:
        handles, labels = axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(
                handles, labels, loc="outside lower center", ncols=min(len(labels), 5), fontsize=9, frameon=False
            )
    return figure


def tidy(axis: Axes) -> None:
    """An axis without box: a light grid behind the data, plain numbers."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
