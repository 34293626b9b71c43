"""The tables of truth.md that compare nights and fits: each function is one section, empty without its figures."""

from __future__ import annotations

import math
import statistics

from almmta_spark.study import goals, specs
from almmta_spark.study.cells import (
    AUUC,
    CALIBRATED,
    METRICS,
    ORDER,
    OWN,
    cell,
    has,
    main_nights,
    methods_of,
    rank,
    table,
)
from almmta_spark.study.goals import COVERAGE, RATIO, RMSE, SPEARMAN
from almmta_spark.study.parts import WORDS
from almmta_spark.study.records import Found, Mean


def upload_auc(found: Found) -> list[str]:
    """AUC of the chance of an upload under randomised exposure and on logs, and what ours gains on the best other."""
    rows = []
    for world, n in main_nights(found):
        means = {m: found.mean(world, n, m, "upload_auc_randomised") for m in methods_of(found, world, n)}
        values = {m: mean.value for m, mean in means.items() if mean is not None}
        if OWN not in values or len(values) < 2:
            continue
        best = max((m for m in values if m != OWN), key=lambda m: values[m])
        figures = [found.mean(world, n, m, "upload_auc_randomised") for m in (OWN, best)]
        above_chance = (values[OWN] - 0.5) / (values[best] - 0.5) - 1
        gain = [f"{values[OWN] / values[best] - 1:+.1%}", f"{above_chance:+.1%}"]
        possible = found.mean(world, n, "truth", "upload_auc_randomised")
        gap = f"{possible.value - values[OWN]:+.3f}" if possible else ""
        logged = found.mean(world, n, OWN, "upload_auc_logged")
        rows.append([world, *map(cell, figures), f"`{best}`", *gain, cell(possible), gap, cell(logged)])
    if not rows:
        return []
    head = ["world", f"`{OWN}`, randomised", "best other", "which", "gain", "gain above .5", "best possible", "gap"]
    head.append(f"`{OWN}`, logged")
    text = [
        "Under randomised exposure, where reading the hidden intent off what was served does not help; beside it on",
        "logs, where it does. The gain is relative, of the AUC and of what it has above chance. The best possible is",
        "what the exact P(Y | do(T), X) scores on the same users.",
    ]
    return ["## Upload AUC", "", *text, "", *table(head, rows)]


def intervals(found: Found) -> list[str]:
    """Coverage and width of the intervals, where there are any."""
    metrics = sorted(m for m in found.distinct("metric") if m.startswith("interval_"))
    rows = []
    for world, n in main_nights(found):
        for method in methods_of(found, world, n):
            if has(found, world, n, method, metrics):
                rows.append([world, f"`{method}`", *(cell(found.mean(world, n, method, m)) for m in metrics)])
    if not rows:
        return []
    head = ["world", "method", *(m.removeprefix("interval_").replace("_", " ") for m in metrics)]
    return [
        "## Intervals",
        "",
        "Nominal 95 %: the share of true effects inside, and how wide they are.",
        "",
        *table(head, rows),
    ]


def worlds(found: Found) -> list[str]:
    """Ours, as an experiment corrects it where one did, and the back door over all worlds."""
    nights = list(main_nights(found))
    if len(nights) < 2:
        return []
    metrics = (SPEARMAN, RMSE, RATIO, AUUC)
    rows = []
    for world, n in nights:
        for method in (OWN, CALIBRATED, "backdoor"):
            cells = [cell(found.mean(world, n, method, m)) for m in metrics]
            if any(cells):
                rows.append([world, f"{n:,}", f"`{method}`", *cells])
    return ["## All worlds", "", *table(["world", "users", "method", *(METRICS[m] for m in metrics)], rows)]


def family(found: Found) -> list[str]:
    """Median and worst over the worlds random:<k>, each the mean over its seeds."""
    family = [(world, n) for world, n in main_nights(found) if world.startswith("random:")]
    if not family:
        return []
    metrics = {SPEARMAN: min, RMSE: max, RATIO: None, COVERAGE: min}
    methods = sorted({m for world, n in family for m in methods_of(found, world, n)}, key=lambda m: (rank(ORDER, m), m))
    rows = []
    for method in methods:
        cells = []
        for metric, worst in metrics.items():
            means = [mean.value for world, n in family if (mean := found.mean(world, n, method, metric))]
            furthest = worst or (lambda values: max(values, key=lambda v: abs(math.log(v)) if v > 0 else math.inf))
            cells += [f"{statistics.median(means):.3f}", f"{furthest(means):.3f}"] if means else ["", ""]
        rows.append([f"`{method}`", *cells])
    asked = [str(goals.FAMILY[SPEARMAN]), "", str(goals.FAMILY[RMSE]), f"<= {goals.FAMILY_WORST_RMSE:g}"]
    rows.append([f"goal for `{OWN}`", *asked, str(goals.FAMILY[RATIO]), "", str(goals.FAMILY[COVERAGE]), ""])
    words = METRICS | {COVERAGE: "coverage of 95 % intervals"}
    head = ["method", *(f"{words[m]}, {which}" for m in metrics for which in ("median", "worst"))]
    return [f"## The family of {len(family)} random worlds", "", *table(head, rows)]


def with_and_without(found: Found) -> list[str]:
    """Methods with settings of their own beside the same without: what a part, or a setting, is worth."""
    metrics = (SPEARMAN, RMSE, RATIO, AUUC)
    rows = []
    for world, n in main_nights(found):
        _, changed = specs.split(found.distinct("method", world=world, n=n, metric=RMSE))
        for method in sorted(changed):
            cells = [cell(found.mean(world, n, method, m)) for m in metrics]
            words = "as it is" if method.endswith(":") else WORDS.get(method, "")
            rows.append([world, f"`{method.removesuffix(':')}`", words, *cells, _dearer(found, world, n, method)])
    if not rows:
        return []
    text = [
        "The settings after the colon changed, everything else as in the model as it is; all of them fitted on the",
        "same examples, one fit each, and measured on one sample of journeys. Last column: the change of the relative",
        "RMSE.",
    ]
    head = ["world", "fit", "", *(METRICS[m] for m in metrics), "change"]
    return ["## With and without", "", *text, "", *table(head, rows)]


def _dearer(found: Found, world: str, n: int, method: str) -> str:
    """By how much the relative RMSE is above that of the model as it is."""
    base = found.mean(world, n, specs.unchanged(method.partition(":")[0]), RMSE)
    mean = found.mean(world, n, method, RMSE)
    return "" if mean is None or base is None or method.endswith(":") else f"{mean.value / base.value - 1:+.0%}"


def curve(found: Found) -> list[str]:
    """Relative RMSE against the number of users, where a world was run at more than one."""
    lines: list[str] = []
    for world in found.distinct("world"):
        sizes = sorted(found.distinct("n", world=world))
        if len(sizes) < 2:
            continue
        methods = dict.fromkeys(m for n in sizes for m in methods_of(found, world, n))
        rows = [[f"`{m}`", *(cell(found.mean(world, n, m, RMSE)) for n in sizes)] for m in methods]
        lines += ["", f"### {world}", "", *table(["method", *(f"{n:,} users" for n in sizes)], rows)]
    return ["## Relative RMSE against the number of users", *lines] if lines else []


MOVES = {
    "moves/seed": "another seed of the fit",
    "moves/order": "another order of the rows",
    "moves/night": "the next night's logs",
    "moves/policy": "logs of another policy",
}
"""What stability is measured against, and in words."""


def stability(found: Found) -> list[str]:
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
        "world `hard` (of `default` where the night is of `hard`), with the same strengths. Pairs: those whose",
        "similarity is above another quantile than .7; where effects move with it, pairs select on the outcome.",
    ]
    return ["## Stability", "", *text, *lines]


def _stability_table(found: Found, world: str, n: int) -> list[str]:
    """What every model has, then what only those that learn from pairs have."""
    metrics = [m for m in found.distinct("metric", world=world, n=n) if m.startswith("moves/")]
    lines: list[str] = []
    for shown in ([m for m in MOVES if m in metrics], sorted(m for m in metrics if m not in MOVES)):
        methods = [m for m in found.distinct("method", world=world, n=n) if has(found, world, n, m, shown)]
        heads = [MOVES.get(m, m.removeprefix("moves/")) for m in shown]
        rows = [[f"`{m}`", *(cell(found.mean(world, n, m, what)) for what in shown)] for m in methods]
        lines += ["", *table([f"{world}, {n:,} users", *heads], rows)] if rows else []
    return lines


def diagnostics(found: Found) -> list[str]:
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
    return ["## Diagnostics", "", text, "", *table(["check", *(world for world, _ in nights)], rows)]


def _share(mean: Mean | None) -> str:
    return "" if mean is None else f"{round(mean.value * mean.seeds)} of {mean.seeds}"
