"""What changed since the night before, and over the nights that are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from almmta_spark.report.contents import ALL_BUCKETS, Contents, NightFigures
from almmta_spark.report.verdict import PASS, checks, split


@dataclass(frozen=True)
class Point:
    """A figure and its interval, where it has one."""

    value: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Trend:
    """One figure over the nights, oldest first; None where a night has none."""

    label: str
    unit: str
    points: tuple[Point | None, ...]
    counted: bool = False
    """Whole numbers."""

    @property
    def tonight(self) -> Point | None:
        return self.points[-1]

    @property
    def before(self) -> Point | None:
        """Of the night before."""
        return self.points[-2] if len(self.points) > 1 else None

    @property
    def earlier(self) -> list[float]:
        return [p.value for p in self.points[:-1] if p is not None]

    @property
    def change(self) -> float | None:
        """Since the night before, as a share of what it was; None where there is nothing to compare."""
        if self.tonight is None or self.before is None or not self.before.value:
            return None
        return self.tonight.value / self.before.value - 1

    @property
    def unusual(self) -> bool:
        """Outside all that at least five earlier nights have shown."""
        seen = self.earlier
        return self.tonight is not None and len(seen) >= 5 and not min(seen) <= self.tonight.value <= max(seen)


Figure = Callable[[NightFigures], Point | None]


@dataclass(frozen=True)
class Moved:
    """A cluster whose interval of tonight has nothing in common with that of the night before."""

    cluster: int
    before: Point
    now: Point


def trends(contents: Contents) -> list[Trend]:
    """The figures that a night is watched by."""
    protocol = contents.protocol
    own = contents.method
    counts: tuple[tuple[str, Figure], ...] = (
        ("Users with a journey", lambda n: _used(n, "users")),
        ("Touches attributed", lambda n: _sum(n, "exposures")),
        ("Uploads that followed", lambda n: _used(n, "uploads")),
    )
    measures: tuple[tuple[str, str, Figure], ...] = (
        ("Uploads caused by touches", "", lambda n: _sum(n, "removal_effect_sum")),
        ("Effect of a touch", "per 1,000", _mean_effect),
        (f"AUUC, {protocol}", "per 1,000", lambda n: _area(n, own, protocol, "auuc")),
        (f"Qini, {protocol}", "per 1,000", lambda n: _area(n, own, protocol, "qini")),
    )
    nights = contents.nights
    return [
        *(Trend(label, "", tuple(map(of, nights)), counted=True) for label, of in counts),
        *(Trend(label, unit, tuple(map(of, nights))) for label, unit, of in measures),
        Trend("Checks that warn or fail", "", tuple(_warnings(n, own) for n in nights), counted=True),
    ]


def verdict_changes(contents: Contents) -> list[tuple[str, str, str]]:
    """(Check, verdict of the night before, tonight's) of those that differ; empty without a night before."""
    if contents.before is None:
        return []
    now, then = ({c.name: c.verdict for c in checks(night.checks)} for night in (contents.tonight, contents.before))
    return [(name, then[name], now[name]) for name in now if name in then and now[name] != then[name]]


def moved_clusters(contents: Contents) -> list[Moved]:
    """The largest moves first, per 1,000 touches; empty without a night before or without intervals."""
    both = _both_nights(contents)
    points = [Moved(int(r.cluster), _point(r, "_then"), _point(r, "_now")) for r in both.itertuples()]
    apart = [m for m in points if _apart(m.before, m.now)]
    return sorted(apart, key=lambda m: -abs(m.now.value - m.before.value))


def movement(contents: Contents) -> float | None:
    """Change of the clusters' mean effects since the night before, as a share of their size: sum |d| / sum |then|."""
    both = _both_nights(contents)
    size = both.removal_effect_mean_then.abs().sum() if len(both) else 0.0
    if not size:
        return None
    return float((both.removal_effect_mean_now - both.removal_effect_mean_then).abs().sum() / size)


def _both_nights(contents: Contents) -> pd.DataFrame:
    """Clusters of both nights, a row each, columns with _then and _now."""
    before = contents.before
    then = contents.tonight.clusters.iloc[:0] if before is None else before.clusters
    return then.merge(contents.tonight.clusters, on="cluster", suffixes=("_then", "_now"), validate="one_to_one")


def _point(row: object, suffix: str) -> Point:
    names = ("removal_effect_mean", "removal_effect_mean_lower", "removal_effect_mean_upper")
    value, lower, upper = (1000 * float(getattr(row, name + suffix)) for name in names)
    return Point(value, lower, upper)


def _apart(a: Point, b: Point) -> bool:
    ends = [a.lower, a.upper, b.lower, b.upper]
    assert a.lower is not None and a.upper is not None and b.lower is not None and b.upper is not None
    return bool(np.isfinite(np.array(ends, float)).all()) and (a.upper < b.lower or b.upper < a.lower)


def _used(night: NightFigures, table: str) -> Point | None:
    counts = night.accounting.get(table)
    return None if counts is None else Point(float(counts["used"]))


def _sum(night: NightFigures, column: str) -> Point | None:
    return Point(float(night.clusters[column].sum())) if len(night.clusters) else None


def _mean_effect(night: NightFigures) -> Point | None:
    touches, effects = _sum(night, "exposures"), _sum(night, "removal_effect_sum")
    return None if touches is None or effects is None else Point(1000 * effects.value / touches.value)


def _area(night: NightFigures, method: str, protocol: str, figure: str) -> Point | None:
    of = night.auuc
    rows = of[(of.method == method) & (of.protocol == protocol) & (of.propensity_bucket == ALL_BUCKETS)]
    if rows.empty or pd.isna(rows[figure].iloc[0]):
        return None
    value, *ends = (1000 * float(rows[name].iloc[0]) for name in (figure, f"{figure}_lower", f"{figure}_upper"))
    return Point(value, *(None if np.isnan(end) else end for end in ends))


def _warnings(night: NightFigures, method: str) -> Point:
    methods: Sequence[str] = list(night.auuc.method.unique())
    own, _ = split(checks(night.checks), methods, method)
    return Point(float(sum(c.verdict != PASS for c in own)))
