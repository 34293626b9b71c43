"""reports/truth.md: the tables a reader wants, from records alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from almmta_spark.study import goals, sections
from almmta_spark.study.cells import (
    AUUC,
    CALIBRATED,
    METRICS,
    OWN,
    cell,
    main_nights,
    methods_of,
    rank,
    seeds_of,
    table,
)
from almmta_spark.study.goals import Gain, Goal
from almmta_spark.study.records import CODE, Found, Record

_WORLDS = ("default", "hard", "unconfounded")
PAPER = "paper"


def page(records: Iterable[Record]) -> str:
    """The whole page."""
    found = _ordered(records)
    parts = [
        ["# Against the known truth", "", *_legend(), *_measured_by(found)],
        *(_methods(found, world, n) for world, n in main_nights(found)),
        _goals(found),
        *(_buckets(found, world, n) for world, n in main_nights(found)),
        sections.upload_auc(found),
        sections.intervals(found),
        sections.worlds(found),
        sections.family(found),
        sections.with_and_without(found),
        sections.curve(found),
        sections.stability(found),
        sections.diagnostics(found),
    ]
    return _joined(parts)


def summary(records: Iterable[Record]) -> str:
    """What to look at first: the goals, and ours beside the back door in every world (methods, where there is one)."""
    found = _ordered(records)
    nights = list(main_nights(found))
    return _joined([sections.worlds(found) or _methods(found, *nights[0]), _goals(found)])


def _ordered(records: Iterable[Record]) -> Found:
    return Found(sorted(records, key=lambda r: (rank(_WORLDS, r.world), r.world, r.n, r.seed)))


def _joined(parts: Iterable[Sequence[str]]) -> str:
    return "\n".join("\n".join([*part, ""]) for part in parts if part)


def _legend() -> list[str]:
    return [
        "Simulated nights whose exact effects are known, through the same jobs as a real night. A cell is the mean",
        "over seeds, ± its standard deviation; [a, b] is the mean of the seeds' own bootstrap intervals. Metrics",
        "are against the exact effect of every touch (ETT). `make truth` writes this page and `truth.json` beside it.",
        "",
    ]


def _measured_by(found: Found) -> list[str]:
    """Which code measured which nights."""
    lines = []
    for metric in sorted(m for m in found.distinct("metric") if m.startswith(CODE)):
        nights = [r for r in found.records if r.metric == metric]
        worlds = dict.fromkeys(f"{r.world}, {r.n:,} users" for r in nights)
        lines.append(f"- code {metric.removeprefix(CODE)}: {len(nights)} nights ({'; '.join(worlds)})")
    return lines


def _methods(found: Found, world: str, n: int) -> list[str]:
    """Method x metric, and the goals in the last row."""
    shown = [m for m in METRICS if found.distinct("method", world=world, n=n, metric=m)]
    if not methods_of(found, world, n):
        return []
    rows = [
        [f"`{method}`", *(cell(found.mean(world, n, method, m)) for m in shown)]
        for method in methods_of(found, world, n)
    ]
    asked = {g.metric: str(g) for g in goals.GOALS if (g.world, g.n, g.method, g.each_bucket) == (world, n, OWN, False)}
    if any(m in asked for m in shown):
        rows.append([f"goal for `{OWN}`", *(asked.get(m, "") for m in shown)])
    note = ["", "Upload AUC on logs is not causal: it rewards reading the hidden intent off what was served."]
    head = ["method", *(METRICS[m] for m in shown)]
    return [f"## {world}: {n:,} users, {seeds_of(found, world, n)}", "", *table(head, rows), *note]


def _goals(found: Found) -> list[str]:
    """Every goal there are figures for, met or missed."""
    rows = [row for goal in goals.GOALS for row in _goal_rows(found, goal)]
    rows += [row for gain in goals.GAINS for row in _gain_rows(found, gain)]
    if not rows:
        return []
    head = ["world", "users", "figure", "reached", "goal", "verdict"]
    return ["## Goals", "", f"Source of the {goals.SOURCE}.", "", *table(head, rows)]


def _goal_rows(found: Found, goal: Goal) -> Iterator[list[str]]:
    buckets = [None]
    if goal.each_bucket:
        of = found.distinct("bucket", world=goal.world, n=goal.n, method=goal.method, metric=goal.metric)
        buckets = sorted(b for b in of if b is not None)
    for bucket in buckets:
        mean = found.mean(goal.world, goal.n, goal.method, goal.metric, bucket)
        if mean is not None:
            figure = METRICS.get(goal.metric, goal.metric) + ("" if bucket is None else f", bucket {bucket}")
            verdict = "met" if goal.met(mean.value) else "missed"
            yield [goal.world, f"{goal.n:,}", figure, cell(mean), str(goal), verdict]


def _gain_rows(found: Found, gain: Gain) -> Iterator[list[str]]:
    ends = [found.mean(gain.world, gain.n, method, gain.metric) for method in (gain.larger, gain.smaller)]
    if all(ends):
        reached = gain.of(ends[0].value, ends[1].value)  # type: ignore[union-attr]
        verdict = "met" if reached >= gain.least else "missed"
        figure = f"{METRICS[gain.metric]}, {gain.words}"
        yield [gain.world, f"{gain.n:,}", figure, gain.text(reached), f">= {gain.text(gain.least)}", verdict]


def _buckets(found: Found, world: str, n: int) -> list[str]:
    """Normalised AUUC in each bucket with its interval, and what ours gains over the best other method there."""
    buckets = sorted(b for b in found.distinct("bucket", world=world, n=n, metric=AUUC) if b is not None)
    if not buckets:
        return []
    methods = [m for m in methods_of(found, world, n) if found.mean(world, n, m, AUUC)]
    rows = [[f"`{m}`", *(cell(found.mean(world, n, m, AUUC, b), ends=True) for b in buckets)] for m in methods]
    largest = None
    for words, baselines in (("other", False), ("baseline", True)):
        gains = [best_gain(found, world, n, b, baselines) for b in buckets]
        cells = ("" if g is None else f"{g[0]:+.3f} ({g[1]})" for g in gains)
        rows.append([f"gain of `{OWN}` over the best {words}", *cells])
        largest = max((g[0] for g in gains if g is not None), default=None)
    text = f"AUUC of the grouped uplift curve, normalised, exact protocol, by propensity bucket: {world}, {n:,} users."
    size = "" if largest is None else f" Largest gain {largest:+.3f}; goal >= {goals.HEADLINE_GAIN:+g}."
    note = ["", f"Baselines know of no mediator: neither ours nor the paper's.{size}"]
    head = ["method", *(f"bucket {b}" for b in buckets)]
    return [f"### {world}: AUUC by propensity bucket", "", text, "", *table(head, rows), *note]


def best_gain(
    found: Found, world: str, n: int, bucket: int | None, baselines: bool = False
) -> tuple[float, str] | None:
    """Ours minus the best other method's normalised AUUC in a bucket, and that method; of baselines alone if asked."""
    means = {m: found.mean(world, n, m, AUUC, bucket) for m in methods_of(found, world, n)}
    values = {m: mean.value for m, mean in means.items() if mean is not None}
    own, _ = values.pop(OWN, None), values.pop(CALIBRATED, None)
    if baselines:
        values = {m: value for m, value in values.items() if not m.startswith(PAPER)}
    if own is None or not values:
        return None
    best = max(values, key=lambda m: values[m])
    return own - values[best], best
