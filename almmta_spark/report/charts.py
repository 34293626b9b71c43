"""Small drawings as inline SVG: an interval in a table's cell, a figure over nights, a journey as a time line.

Numbers in, Markup out. What a drawing shows also stands beside it as text, so bars and sparklines are hidden from
screen readers; a time line carries its own description. Colours are told apart by shape as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from almmta_spark.evaluation.drawing import COLOURS
from almmta_spark.report.contents import Journey, Touch
from almmta_spark.report.numbers import decimals, number
from almmta_spark.report.trends import Point

INK, QUIET, FAINT = "#1b1f24", "#59636e", "#c9d1d9"
OWN = COLOURS[0]
_SHAPES = ("circle", "square", "triangle", "diamond")


@dataclass(frozen=True)
class Scale:
    """Values from low to high over `width` pixels, with `pad` pixels free at either end."""

    low: float
    high: float
    width: float
    pad: float = 6.0

    def at(self, value: float) -> float:
        """Where a value lies, in the units of width; outside of [low, high] it lies outside."""
        return self.pad + (value - self.low) / (self.high - self.low) * (self.width - 2 * self.pad)


def scale(values: Iterable[float | None], width: float, pad: float = 6.0, zero: bool = True) -> Scale:
    """All known values, and 0 where it is asked for or nothing is known; never empty."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    held = [0.0, *known] if zero or not known else known
    low, high = min(held), max(held)
    return Scale(low, high if high > low else low + 1, width, pad)


def interval_bar(point: Point | None, on: Scale, series: int = 0, height: float = 16) -> Markup:
    """A dot with its interval, and 0 where the scale reaches it; series (0: own) has a colour and a shape."""
    middle = height / 2
    reached = on.low <= 0 <= on.high
    zero = _line(on.at(0), 1, on.at(0), height - 1, QUIET, 1) if reached else Markup("")
    drawn = (
        zero if point is None else zero + _whisker(point, on, middle, series) + _dot(on.at(point.value), middle, series)
    )
    return _svg(on.width, height, drawn)


def sparkline(points: Sequence[Point | None], days: Sequence[int], width: float = 168, height: float = 34) -> Markup:
    """A figure over nights at their days, the last one marked; nights without it leave a gap.

    Drawn from the lowest to the highest end, not from 0: it shows change, and the numbers stand beside it.
    """
    known = [(day, p) for day, p in zip(days, points, strict=True) if p is not None]
    if not known:
        return _svg(width, height, Markup(""))
    ends = [v for _, p in known for v in (p.value, p.lower, p.upper) if v is not None]
    flat = max(ends) == min(ends)
    y = Scale(min(ends) - flat, max(ends) + flat, height, 5)
    x = Scale(days[0] - (days[0] == days[-1]), days[-1], width, 5)

    def place(day: int, value: float) -> str:
        return f"{x.at(day):.1f},{height - y.at(value):.1f}"

    drawn = Markup("")
    for run in _runs(days, points):
        with_ends = [(d, p.lower, p.upper) for d, p in run if p.lower is not None and p.upper is not None]
        if len(with_ends) == len(run) > 1:
            band = [place(d, low) for d, low, _ in with_ends] + [place(d, up) for d, _, up in reversed(with_ends)]
            drawn += Markup('<polygon points="{}" fill="{}" fill-opacity=".16"/>').format(" ".join(band), OWN)
        line = " ".join(place(d, p.value) for d, p in run)
        drawn += Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="1.5"/>').format(line, OWN)
    day, last = known[-1]
    return _svg(width, height, drawn + _dot(x.at(day), height - y.at(last.value), 0, 3.4))


def _runs(days: Sequence[int], points: Sequence[Point | None]) -> list[list[tuple[int, Point]]]:
    """Stretches of nights that have the figure, cut where one lacks it."""
    runs: list[list[tuple[int, Point]]] = [[]]
    for day, point in zip(days, points, strict=True):
        if point is None:
            runs.append([])
        else:
            runs[-1].append((day, point))
    return [run for run in runs if run]


def timeline(journey: Journey, hours: float, description: str, width: float = 620, plot: float = 110) -> Markup:
    """Touches at their hours before the night, numbered oldest first, each as high as its effect, with its interval.

    Percentage points of the chance of an upload. Numbers that would cover each other go to a lower lane.
    """
    left, right, top = 44.0, 32.0, 12.0
    points = [in_points(t) for t in journey.touches]
    y = scale([v for p in points for v in (p.value, p.lower, p.upper)], plot, 4)
    base = top + plot
    xs = [left + (1 - t.age_hours / hours) * (width - left - right) for t in journey.touches]
    of_touch = lanes(xs, 15)
    height = base + 33 + 12 * max(of_touch, default=0)

    def up(value: float) -> float:
        return base - y.at(value)

    places = decimals([y.low, y.high], 2)
    drawn = _line(left, up(0), width - right, up(0), INK, 1) + _text(left - 6, up(0) + 4, "0", "end")
    for end in (y.low, y.high):
        if abs(up(end) - up(0)) >= 13:  # else its label would cover that of 0
            drawn += _line(left, up(end), width - right, up(end), FAINT, 1)
            drawn += _text(left - 6, up(end) + 4, number(end, places), "end")
    for age in _hour_ticks(hours):
        x = left + (1 - age / hours) * (width - left - right)
        drawn += _line(x, base, x, base + 4, QUIET, 1)
        drawn += _text(x, height - 3, f"{number(-age)} h" if age else "midnight", "middle")
    for i, (x, point, lane) in enumerate(zip(xs, points, of_touch, strict=True), start=1):
        drawn += _line(x, up(0), x, up(point.value), OWN, 2)
        if point.lower is not None and point.upper is not None:
            drawn += _line(x, up(point.lower), x, up(point.upper), OWN, 1)
            for end in (point.lower, point.upper):
                drawn += _line(x - 3, up(end), x + 3, up(end), OWN, 1)
        drawn += _dot(x, up(point.value), 0) + _text(x, base + 15 + 12 * lane, str(i), "middle", INK)
    return _svg(width, height, drawn, description)


Curve = Sequence[tuple[float, Point]]
"""Shares, ascending, each with a figure and its interval."""


def curves(drawn: Sequence[Curve], description: str, width: float = 360, height: float = 220) -> Markup:
    """Figures against a share of all, a line each with marks of its own; the first has the band of its interval."""
    left, right, top, bottom = 44.0, 10.0, 8.0, 34.0
    ends = [
        v for i, curve in enumerate(drawn) for _, p in curve for v in ((p.value,) if i else (p.value, p.lower, p.upper))
    ]
    y = scale(ends, height - top - bottom, 4)
    furthest = max((share for curve in drawn for share, _ in curve), default=0) or 1.0

    def across(share: float) -> float:
        return left + share / furthest * (width - left - right)

    def up(value: float) -> float:
        return height - bottom - y.at(value)

    picture = Markup("")
    for value in round_ticks(y.low, y.high):
        colour = INK if value == 0 else FAINT
        picture += _line(left, up(value), width - right, up(value), colour, 1)
        picture += _text(left - 6, up(value) + 4, number(value, decimals([value], 1)), "end")
    for share in round_ticks(0, furthest):
        picture += _line(across(share), height - bottom, across(share), height - bottom + 4, QUIET, 1)
        picture += _text(across(share), height - bottom + 16, f"{100 * share:.0f} %", "middle")
    picture += _text(left + (width - left - right) / 2, height - 3, "share of the exposures", "middle")
    own = drawn[0] if drawn else ()
    band = [(across(x), up(p.lower), up(p.upper)) for x, p in own if p.lower is not None and p.upper is not None]
    if len(band) == len(own):
        picture += _band(band)
    for i, curve in reversed(list(enumerate(drawn))):  # the first on top
        places = [(across(share), up(p.value)) for share, p in curve]
        dash = Markup(' stroke-dasharray="5 3"') if i else Markup("")
        line = Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="1.6"{}/>')
        picture += line.format(" ".join(f"{a:.1f},{b:.1f}" for a, b in places), COLOURS[i % len(COLOURS)], dash)
        picture += Markup("").join(_dot(a, b, i, 3.4) for a, b in places[1:])
    return _svg(width, height, picture, description)


def mark(series: int) -> Markup:
    """The colour and shape of a series, for a legend."""
    return _svg(14, 14, _dot(7, 7, series))


def round_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten from low to high, at most as many as asked for."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(s * power for s in (1, 2, 2.5, 5, 10, 20) if (high - low) / (s * power) <= most - 1)
    return [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _band(places: Sequence[tuple[float, float, float]]) -> Markup:
    corners = [(x, low) for x, low, _ in places] + [(x, upper) for x, _, upper in reversed(places)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return Markup('<polygon points="{}" fill="{}" fill-opacity=".16"/>').format(points, OWN)


def in_points(touch: Touch) -> Point:
    """A touch's effect on the chance, in percentage points."""
    lower, upper = (None if end is None else 100 * end for end in (touch.lower, touch.upper))
    return Point(100 * touch.effect, lower, upper)


def lanes(places: Sequence[float], gap: float, most: int = 3) -> list[int]:
    """For labels at these places, in order: the first lane whose last label is a gap away or more, else the last."""
    last = [-math.inf] * most
    chosen = []
    for place in places:
        free = [lane for lane in range(most) if abs(place - last[lane]) >= gap]
        chosen.append(free[0] if free else most - 1)
        last[chosen[-1]] = place
    return chosen


def _hour_ticks(hours: float) -> list[float]:
    step = next(s for s in (1, 2, 3, 6, 12, 24, 48, 24 * 7, math.inf) if hours / s <= 8)
    return [0.0] if math.isinf(step) else [float(age) for age in range(0, int(hours) + 1, int(step))]


def _whisker(point: Point, on: Scale, middle: float, series: int) -> Markup:
    if point.lower is None or point.upper is None:
        return Markup("")
    a, b = on.at(point.lower), on.at(point.upper)
    colour = COLOURS[series % len(COLOURS)]
    ends = _line(a, middle - 3, a, middle + 3, colour, 1.4) + _line(b, middle - 3, b, middle + 3, colour, 1.4)
    return _line(a, middle, b, middle, colour, 1.4) + ends


def _dot(x: float, y: float, series: int, size: float = 4.0) -> Markup:
    colour, shape = COLOURS[series % len(COLOURS)], _SHAPES[series % len(_SHAPES)]
    if shape == "circle":
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="{}"/>').format(x, y, size, colour)
    corners = {
        "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        "triangle": ((0, -1.2), (1.1, 0.9), (-1.1, 0.9)),
        "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    }[shape]
    points = " ".join(f"{x + size * 0.85 * dx:.1f},{y + size * 0.85 * dy:.1f}" for dx, dy in corners)
    return Markup('<polygon points="{}" fill="{}"/>').format(points, colour)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> Markup:
    line = '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{}"/>'
    return Markup(line).format(x1, y1, x2, y2, colour, width)


def _text(x: float, y: float, text: str, anchor: str, colour: str = QUIET) -> Markup:
    whole = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="{}" font-size="11">{}</text>'
    return Markup(whole).format(x, y, anchor, colour, text)


def _svg(width: float, height: float, drawn: Markup, description: str = "") -> Markup:
    """With a description it is an image to a screen reader, without one it is not there."""
    told = Markup('role="img" aria-label="{}"').format(description) if description else Markup('aria-hidden="true"')
    box = '<svg viewBox="0 0 {0:g} {1:g}" width="{0:g}" height="{1:g}" {2}>{3}</svg>'
    return Markup(box).format(width, height, told, drawn)
