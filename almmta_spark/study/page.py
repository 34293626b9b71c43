"""reports/truth.md: the tables a reader wants, from records alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from almmta_spark.study import goals, specs
from almmta_spark.study.goals import RATIO, RMSE, SPEARMAN, Goal
from almmta_spark.study.records import Found, Mean, Record

OWN = "latent"
AUUC = "auuc_normalised_exact"
METRICS = {
    SPEARMAN: "within-journey Spearman",
    RMSE: "relative RMSE",
    RATIO: "magnitude ratio",
    "calibration_slope": "calibration slope",
    "null_share": "null share",
    AUUC: "AUUC, normalised",
    "upload_auc_randomised": "upload AUC, randomised",
    "upload_auc_logged": "upload AUC, logged",
}
"""Columns of the table of methods: the metric and its heading."""
ORDER = (
    *("latent", "paper", "paper_lambda_0", "paper_lambda_1", "paper_lambda_5"),
    *("doubly_robust", "balanced", "backdoor_ipw", "backdoor", "attention"),
    *("shapley", "markov", "time_decay", "position_based", "linear", "first_touch", "last_touch"),
)
_WORLDS = ("default", "hard", "unconfounded")


def page(records: Iterable[Record], facts: Sequence[str] = ()) -> str:
    """The whole page; facts: lines on how the records came about."""
    found = Found(sorted(records, key=lambda r: (_rank(_WORLDS, r.world), r.world, r.n, r.seed)))
    parts = [
        ["# Against the known truth", "", *_legend(), *(f"- {fact}" for fact in facts)],
        *(_methods(found, world, n) for world, n in main_nights(found)),
        _goals(found),
        *(_buckets(found, world, n) for world, n in main_nights(found)),
        _worlds(found),
        _settings(found),
        _curve(found),
        _stability(found),
        _diagnostics(found),
    ]
    return "\n".join("\n".join([*part, ""]) for part in parts if part)


def _legend() -> list[str]:
    return [
        "Simulated nights whose exact effects are known, through the same jobs as a real night. A cell is the mean",
        "over seeds, ± its standard deviation; [a, b] is the mean of the seeds' own bootstrap intervals. Metrics",
        "are against the exact effect of every touch (ETT). `make truth` writes this page and `truth.json` beside it.",
        "",
    ]


def main_nights(found: Found) -> Iterator[tuple[str, int]]:
    """Each world with the size that most seeds have, the largest of these."""
    for world in found.distinct("world"):
        seeds = {n: len(found.distinct("seed", world=world, n=n)) for n in found.distinct("n", world=world)}
        yield world, max(seeds, key=lambda n: (seeds[n], n))


def _methods(found: Found, world: str, n: int) -> list[str]:
    """Method x metric, and the goals in the last row."""
    shown = [m for m in METRICS if any(r.metric == m for r in found.records if (r.world, r.n) == (world, n))]
    rows = [
        [f"`{method}`", *(cell(found.mean(world, n, method, m)) for m in shown)]
        for method in methods_of(found, world, n)
    ]
    asked = {g.metric: str(g) for g in goals.GOALS if (g.world, g.n, g.method, g.each_bucket) == (world, n, OWN, False)}
    if any(m in asked for m in shown):
        rows.append([f"goal for `{OWN}`", *(asked.get(m, "") for m in shown)])
    note = ["", "Upload AUC on logs is not causal: it rewards reading the hidden intent off what was served."]
    table = _table(["method", *(METRICS[m] for m in shown)], rows)
    return [f"## {world}: {n:,} users, {_seeds(found, world, n)}", "", *table, *note]


def methods_of(found: Found, world: str, n: int) -> list[str]:
    """Methods with an error against the truth, ours first."""
    methods, _ = specs.split(found.distinct("method", world=world, n=n, metric=RMSE))
    return sorted(methods, key=lambda m: (_rank(ORDER, m), m))


def _seeds(found: Found, world: str, n: int) -> str:
    seeds = sorted(found.distinct("seed", world=world, n=n))
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _goals(found: Found) -> list[str]:
    """Every goal there are figures for, met or missed."""
    rows = [row for goal in goals.GOALS for row in _goal_rows(found, goal)]
    if not rows:
        return []
    head = ["world", "users", "figure", "reached", "goal", "verdict"]
    return ["## Goals", "", f"Source of the {goals.SOURCE}.", "", *_table(head, rows)]


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


def _buckets(found: Found, world: str, n: int) -> list[str]:
    """Normalised AUUC in each bucket with its interval, and what ours gains over the best other method there."""
    buckets = sorted(b for b in found.distinct("bucket", world=world, n=n, metric=AUUC) if b is not None)
    if not buckets:
        return []
    methods = [m for m in methods_of(found, world, n) if found.mean(world, n, m, AUUC)]
    rows = [[f"`{m}`", *(cell(found.mean(world, n, m, AUUC, b), ends=True) for b in buckets)] for m in methods]
    gains = [best_gain(found, world, n, b) for b in buckets]
    rows.append(
        [f"gain of `{OWN}` over the best other", *("" if g is None else f"{g[0]:+.3f} ({g[1]})" for g in gains)]
    )
    largest = max((g[0] for g in gains if g is not None), default=None)
    text = f"AUUC of the grouped uplift curve, normalised, exact protocol, by propensity bucket: {world}, {n:,} users."
    note = [] if largest is None else ["", f"Largest gain {largest:+.3f}; goal >= {goals.HEADLINE_GAIN:+g}."]
    head = ["method", *(f"bucket {b}" for b in buckets)]
    return [f"### {world}: AUUC by propensity bucket", "", text, "", *_table(head, rows), *note]


def best_gain(found: Found, world: str, n: int, bucket: int | None) -> tuple[float, str] | None:
    """Ours minus the best other method's normalised AUUC in a bucket, and that method."""
    means = {m: found.mean(world, n, m, AUUC, bucket) for m in methods_of(found, world, n)}
    values = {m: mean.value for m, mean in means.items() if mean is not None}
    own = values.pop(OWN, None)
    if own is None or not values:
        return None
    best = max(values, key=lambda m: values[m])
    return own - values[best], best


def _worlds(found: Found) -> list[str]:
    """Ours and the back door over all worlds."""
    nights = list(main_nights(found))
    if len(nights) < 2:
        return []
    metrics = (SPEARMAN, RMSE, RATIO, AUUC)
    rows = []
    for world, n in nights:
        for method in (OWN, "backdoor"):
            cells = [cell(found.mean(world, n, method, m)) for m in metrics]
            if any(cells):
                rows.append([world, f"{n:,}", f"`{method}`", *cells])
    return ["## All worlds", "", *_table(["world", "users", "method", *(METRICS[m] for m in metrics)], rows)]


def _curve(found: Found) -> list[str]:
    """Relative RMSE against the number of users, where a world was run at more than one."""
    lines: list[str] = []
    for world in found.distinct("world"):
        sizes = sorted(found.distinct("n", world=world))
        if len(sizes) < 2:
            continue
        methods = dict.fromkeys(m for n in sizes for m in methods_of(found, world, n))
        rows = [[f"`{m}`", *(cell(found.mean(world, n, m, RMSE)) for n in sizes)] for m in methods]
        lines += ["", f"### {world}", "", *_table(["method", *(f"{n:,} users" for n in sizes)], rows)]
    return ["## Relative RMSE against the number of users", *lines] if lines else []


def _settings(found: Found) -> list[str]:
    """Methods with settings of their own beside the same without: what a part, or a setting, is worth."""
    metrics = (SPEARMAN, RMSE, RATIO, AUUC)
    rows = []
    for world, n in main_nights(found):
        _, changed = specs.split(found.distinct("method", world=world, n=n, metric=RMSE))
        for method in sorted(changed):
            cells = [cell(found.mean(world, n, method, m)) for m in metrics]
            rows.append([world, f"{n:,}", f"`{method.removesuffix(':')}`", *cells])
    if not rows:
        return []
    text = [
        "The settings after the colon changed, everything else as in the first row of the model; all of them fitted on",
        "the same examples and measured on one sample of journeys.",
    ]
    head = ["world", "users", "fit", *(METRICS[m] for m in metrics)]
    return ["## With and without", "", *text, "", *_table(head, rows)]


MOVES = {
    "moves/seed": "another seed of the fit",
    "moves/order": "another order of the rows",
    "moves/night": "the next night's logs",
    "moves/policy": "logs of another policy",
}
"""What stability is measured against, and in words."""


def _stability(found: Found) -> list[str]:
    """How far the clusters' mean effects move when what should not matter changes."""
    lines: list[str] = []
    for world in found.distinct("world"):
        for n in found.distinct("n", world=world):
            lines += _stability_table(found, world, n)
    if not lines:
        return []
    text = [
        "The same journeys scored by two fits. A figure is the root mean square over clusters of the change of their",
        "mean effect, as a share of the root mean square of these means: 0, nothing moves. The other policy is that of",
        "world `hard`, with the same strengths. With pairs drawn at another matching threshold the effects of a model",
        "that learns from pairs should hold too: where they move with it, pairs select on the outcome.",
    ]
    return ["## Stability", "", *text, *lines]


def _stability_table(found: Found, world: str, n: int) -> list[str]:
    metrics = [m for m in found.distinct("metric", world=world, n=n) if m.startswith("moves/")]
    shown = [m for m in MOVES if m in metrics] + sorted(m for m in metrics if m not in MOVES)
    methods = [m for m in found.distinct("method", world=world, n=n) if _has(found, world, n, m, shown)]
    if not shown:
        return []
    heads = [MOVES.get(m, m.removeprefix("moves/")) for m in shown]
    rows = [[f"`{m}`", *(cell(found.mean(world, n, m, what)) for what in shown)] for m in methods]
    return ["", f"{world}, {n:,} users:", "", *_table(["method", *heads], rows)]


def _has(found: Found, world: str, n: int, method: str, metrics: Iterable[str]) -> bool:
    """Whether the method has any of the figures."""
    return any(found.mean(world, n, method, m) for m in metrics)


def _diagnostics(found: Found) -> list[str]:
    """In how many of a world's nights each check warned."""
    nights = list(main_nights(found))
    checks = [m for m in found.distinct("metric") if m.startswith("fires/")]
    rows = []
    for check in sorted(checks):
        means = [found.mean(world, n, "night", check) for world, n in nights]
        if any(m and m.value for m in means):
            rows.append([check.removeprefix("fires/"), *(_share(m) for m in means)])
    if not rows:
        return []
    text = "Checks that need no truth, in how many of the nights they warn; those that never do are left out."
    return ["## Diagnostics", "", text, "", *_table(["check", *(world for world, _ in nights)], rows)]


def _share(mean: Mean | None) -> str:
    return "" if mean is None else f"{round(mean.value * mean.seeds)} of {mean.seeds}"


def cell(mean: Mean | None, ends: bool = False) -> str:
    """.912 ± .004 [.90, .92]; empty where there is no figure."""
    if mean is None:
        return ""
    spread = "" if math.isnan(mean.spread) else f" ± {mean.spread:.3f}"
    interval = f" [{mean.lower:.3f}, {mean.upper:.3f}]" if ends and not math.isnan(mean.lower) else ""
    return f"{mean.value:.3f}{spread}{interval}"


def _rank(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
