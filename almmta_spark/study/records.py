"""The flat records of reports/truth.json, from a night's small tables, and their means over seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

NIGHT = "night"
"""The method of records that are of the night as a whole."""
CODE = "code/"
"""Before the digest of the code that measured a night: its record's metric; the value is the seconds it took."""
_PROTOCOL_FIGURES = (
    ("exact", "auuc_normalised"),
    ("exact", "qini"),
    ("randomised", "qini"),
    ("observational", "qini"),
)

Row = Mapping[str, Any]


@dataclass(frozen=True, order=True)
class Key:
    """One simulated night of the study."""

    world: str
    n: int
    """Users."""
    seed: int
    """Of the world's constants, of its users, and of the fits."""

    def __str__(self) -> str:
        return f"{self.world}, {self.n:,} users, seed {self.seed}"


@dataclass(frozen=True)
class Record:
    """One figure of one night."""

    world: str
    n: int
    seed: int
    method: str
    metric: str
    bucket: int | None
    """Propensity bucket; None: over all of them."""
    value: float | None
    """None where the figure is undefined."""
    lower: float | None = None
    upper: float | None = None
    """Ends of the figure's own interval, where it has one."""

    @property
    def key(self) -> Key:
        return Key(self.world, self.n, self.seed)


def of_night(key: Key, truth_metrics: Iterable[Row], auuc: Iterable[Row], diagnostics: Iterable[Row]) -> list[Record]:
    """A night's truth_metrics, auuc_by_bucket and diagnostics, one record a figure.

    AUUC figures are named <figure>_<protocol>; a diagnostic is two records of the method `night`: its value as
    diagnostic/<name>, and whether it warns (1 or 0) as fires/<name>.
    """
    rows = [*_truth_figures(truth_metrics), *_auuc_figures(auuc), *_diagnostic_figures(diagnostics)]
    return [Record(key.world, key.n, key.seed, *row) for row in rows]


_Figure = tuple[str, str, int | None, float | None, float | None, float | None]


def _truth_figures(rows: Iterable[Row]) -> Iterator[_Figure]:
    for row in rows:
        yield row["method"], row["metric"], None, row["value"], None, None


def _auuc_figures(rows: Iterable[Row]) -> Iterator[_Figure]:
    for row in rows:
        bucket = None if row["propensity_bucket"] < 0 else int(row["propensity_bucket"])
        for protocol, figure in _PROTOCOL_FIGURES:
            if row["protocol"] == protocol:
                ends = (row[f"{figure}{side}"] for side in ("", "_lower", "_upper"))
                yield row["method"], f"{figure}_{protocol}", bucket, *ends  # type: ignore[misc]


def _diagnostic_figures(rows: Iterable[Row]) -> Iterator[_Figure]:
    for row in rows:
        yield NIGHT, f"diagnostic/{row['name']}", None, row["value"], None, None
        yield NIGHT, f"fires/{row['name']}", None, float(row["verdict"] != "pass"), None, None


@dataclass(frozen=True)
class Mean:
    """A figure over seeds."""

    value: float
    spread: float
    """Standard deviation over seeds; NaN with one seed."""
    lower: float
    upper: float
    """Means of the seeds' own interval ends; NaN where a seed has none."""
    seeds: int


def mean(records: Iterable[Record]) -> Mean | None:
    """Mean and spread over the records' seeds; None where no record has a value."""
    known = [r for r in records if r.value is not None and not math.isnan(r.value)]
    if not known:
        return None
    values = [r.value for r in known if r.value is not None]
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return Mean(statistics.fmean(values), spread, *_ends(known), len(values))


def _ends(records: Sequence[Record]) -> tuple[float, float]:
    lower, upper = ([getattr(r, side) for r in records] for side in ("lower", "upper"))
    if any(end is None for end in (*lower, *upper)):
        return math.nan, math.nan
    return statistics.fmean(lower), statistics.fmean(upper)


class Found:
    """Records, looked up by what they are of."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = list(records)
        self._by_figure: dict[tuple[Any, ...], list[Record]] = {}
        for r in self.records:
            self._by_figure.setdefault((r.world, r.n, r.method, r.metric, r.bucket), []).append(r)

    def mean(self, world: str, n: int, method: str, metric: str, bucket: int | None = None) -> Mean | None:
        """Over the seeds that have it."""
        return mean(self._by_figure.get((world, n, method, metric, bucket), []))

    def of_seeds(self, world: str, n: int, method: str, metric: str, bucket: int | None = None) -> dict[int, Record]:
        """The figure's record by seed."""
        return {r.seed: r for r in self._by_figure.get((world, n, method, metric, bucket), [])}

    def distinct(self, field: str, **of: Any) -> list[Any]:
        """Values of a field, in the order in which they come, among the records with the given fields."""
        kept = (r for r in self.records if all(getattr(r, k) == v for k, v in of.items()))
        return list(dict.fromkeys(getattr(r, field) for r in kept))


def completed(new: Iterable[Record], earlier: Iterable[Record]) -> list[Record]:
    """The new records, and the earlier ones of nights and methods that the new ones are not of.

    The code that measured them stays beside them: a night of both has two records CODE.
    """
    new = list(new)
    nights, methods = {r.key for r in new}, {(r.key, r.method) for r in new}
    kept = [r for r in earlier if (r.key, r.method) not in methods]
    half_new = {r.key for r in kept if r.key in nights}
    kept += [r for r in earlier if r.key in half_new and r.method == NIGHT and r.metric.startswith(CODE)]
    return list(dict.fromkeys([*new, *kept]))


def write(records: Iterable[Record], path: Path) -> None:
    """One record a line, so that a difference between two versions reads as one."""
    lines = ",\n".join(json.dumps(asdict(r)) for r in sorted(records, key=_order))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[\n{lines}\n]\n")


def read(path: Path) -> list[Record]:
    """ValueError, naming the file, where it does not hold records."""
    names = {f.name for f in fields(Record)}
    raw = json.loads(path.read_text())
    if not isinstance(raw, list) or any(not isinstance(r, dict) or set(r) != names for r in raw):
        raise ValueError(f"{path}: must be a list of records with the keys {', '.join(sorted(names))}: make truth anew")
    return [Record(**r) for r in raw]


def _order(record: Record) -> tuple[Any, ...]:
    bucket = -1 if record.bucket is None else record.bucket
    return record.world, record.n, record.seed, record.method, record.metric, bucket
