"""The two figures of causal/README.md: the graph, and what becomes of the front door as the mediator's own noise goes.

Small simulations of the plain case (binary treatment and mediator); seconds, no Spark, no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import norm

from almmta_spark.causal.front_door import Effect, back_door, front_door
from almmta_spark.causal.sample import Sample

NOISE_SCALES = (1.5, 1.0, 0.7, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15)
ROWS = 20_000
_EFFECT_OF_MEDIATOR = 0.3
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#777777"


@dataclass(frozen=True)
class Point:
    """One simulated study."""

    noise: float
    """Standard deviation of what moves the mediator beside the treatment."""
    true_effect: float
    front_door: Effect | None
    """None where a level of the mediator has no rows in an arm: the estimator refuses."""
    back_door: Effect


def draw() -> dict[str, Figure]:
    """Figures by name."""
    return {"front_door_graph": graph(), "mediator_noise": vanishing_noise(studies())}


def studies(rows: int = ROWS, seed: int = 0) -> list[Point]:
    """T is driven by a hidden W, which adds .4 to P(Y = 1); M = 1{T + noise N(0, 1) > 1/2} adds .3.

    The smaller the noise, the nearer is M to a function of T: at 0 no row tells M from T (README, positivity).
    """
    rng = np.random.default_rng(seed)
    hidden = rng.random(rows) < 0.5
    treated = rng.random(rows) < 0.2 + 0.6 * hidden
    normal, uniform = rng.standard_normal(rows), rng.random(rows)
    points = []
    for noise in NOISE_SCALES:
        mediator = treated + noise * normal > 0.5
        outcome = uniform < 0.1 + _EFFECT_OF_MEDIATOR * mediator + 0.4 * hidden
        sample = Sample.of(treatment=treated, mediator=mediator, outcome=outcome)
        true_effect = _EFFECT_OF_MEDIATOR * float(2 * norm.cdf(0.5 / noise) - 1)
        points.append(Point(noise, true_effect, _unless_refused(front_door, sample), back_door(sample)))
    return points


def _unless_refused(estimator: Callable[[Sample], Effect], sample: Sample) -> Effect | None:
    try:
        return estimator(sample)
    except ValueError:
        return None


def vanishing_noise(points: list[Point]) -> Figure:
    """Estimates with 95 % intervals against the noise of the mediator, with the true effect."""
    figure = _figure(7.2, 4.2)
    axis = figure.add_subplot()
    noise = np.array([p.noise for p in points])
    axis.plot(noise, [p.true_effect for p in points], color="black", linewidth=1.6, label="true effect")
    _with_intervals(axis, noise, [p.back_door for p in points], _ORANGE, "s", "back door")
    _with_intervals(axis, noise, [p.front_door for p in points], _BLUE, "o", "front door")
    axis.set_xscale("log")
    axis.set_xticks(noise, [f"{value:g}" for value in noise])
    axis.minorticks_off()
    axis.invert_xaxis()
    axis.set_xlabel("standard deviation of the mediator's own noise (towards a deterministic mediator)")
    axis.set_ylabel("effect of the treatment on P(Y = 1)")
    axis.set_title("The front door needs a mediator that still varies once treatment is known", fontsize=11)
    axis.grid(color="#DDDDDD", linewidth=0.6)
    axis.legend(frameon=False)
    return figure


def _with_intervals(
    axis: Axes, noise: np.ndarray, effects: list[Effect | None], colour: str, marker: str, label: str
) -> None:
    known = [(x, e.effect, *e.interval()) for x, e in zip(noise, effects, strict=True) if e is not None]
    x, effect, lower, upper = np.array(known).T
    axis.errorbar(x, effect, [effect - lower, upper - effect], color=colour, marker=marker, capsize=3, label=label)


def graph() -> Figure:
    """W drives T and Y, T acts through M alone; what would break it is dashed."""
    figure = _figure(6.4, 3.2)
    axis = figure.add_subplot()
    where = {"W": (2.0, 1.5), "T": (0.5, 0.4), "M": (2.0, 0.4), "Y": (3.5, 0.4)}
    meaning = {"W": "hidden intent", "T": "touches", "M": "inspiration", "Y": "upload"}
    for name, (x, y) in where.items():
        style = "dashed" if name == "W" else "solid"
        axis.text(
            x, y, name, ha="center", va="center", fontsize=15,
            bbox={"boxstyle": "circle,pad=0.35", "facecolor": "white", "edgecolor": "black", "linestyle": style},
        )  # fmt: skip
        axis.text(x, y + (0.38 if name == "W" else -0.38), meaning[name], ha="center", va="center", fontsize=10)
    for start, end in (("W", "T"), ("W", "Y"), ("T", "M"), ("M", "Y")):
        _arrow(axis, where[start], where[end], "black", "solid", 0.0)
    _arrow(axis, where["T"], where["Y"], _ORANGE, "dashed", 0.45)
    _arrow(axis, where["W"], where["M"], _ORANGE, "dashed", 0.0)
    must_not = "dashed: must not be\nT → Y: only an experiment sees it\nW → M: the negative control looks for it"
    axis.text(2.0, -1.15, must_not, color=_ORANGE, ha="center", va="center", fontsize=9)
    axis.set_xlim(0, 4)
    axis.set_ylim(-1.35, 2.1)
    axis.axis("off")
    return figure


def _arrow(
    axis: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, style: str, bend: float
) -> None:
    arrow = {
        "arrowstyle": "-|>", "color": colour, "linestyle": style, "shrinkA": 20, "shrinkB": 20, "linewidth": 1.5,
        "connectionstyle": f"arc3,rad={bend}",
    }  # fmt: skip
    axis.annotate("", xy=end, xytext=start, arrowprops=arrow)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
