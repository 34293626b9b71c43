"""What the tables of truth.md share: which nights, which methods, how a figure is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from almmta_spark.causal.calibration import SUFFIX
from almmta_spark.study import specs
from almmta_spark.study.goals import RATIO, RMSE, SPEARMAN
from almmta_spark.study.records import Found, Mean

OWN = "latent"
CALIBRATED = f"{OWN}{SUFFIX}"
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
    *(OWN, CALIBRATED, "paper", "paper_lambda_0", "paper_lambda_1", "paper_lambda_5"),
    *("doubly_robust", "balanced", "backdoor_ipw", "backdoor", "attention"),
    *("shapley_model", "shapley", "markov", "time_decay", "position_based", "linear", "first_touch", "last_touch"),
)


def main_nights(found: Found) -> Iterator[tuple[str, int]]:
    """Each world with the size that most seeds have, the largest of these."""
    for world in found.distinct("world"):
        seeds = {n: len(found.distinct("seed", world=world, n=n)) for n in found.distinct("n", world=world)}
        yield world, max(seeds, key=lambda n: (seeds[n], n))


def methods_of(found: Found, world: str, n: int) -> list[str]:
    """Methods with an error against the truth, ours first."""
    methods, _ = specs.split(found.distinct("method", world=world, n=n, metric=RMSE))
    return sorted(methods, key=lambda m: (rank(ORDER, m), m))


def seeds_of(found: Found, world: str, n: int) -> str:
    """Which seeds measured a world, in words."""
    seeds = sorted(found.distinct("seed", world=world, n=n))
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def has(found: Found, world: str, n: int, method: str, metrics: Iterable[str]) -> bool:
    """Whether the method has any of the figures."""
    return any(found.mean(world, n, method, m) for m in metrics)


def cell(mean: Mean | None, ends: bool = False) -> str:
    """.912 ± .004 [.90, .92]; empty where there is no figure."""
    if mean is None:
        return ""
    spread = "" if math.isnan(mean.spread) else f" ± {mean.spread:.3f}"
    interval = f" [{mean.lower:.3f}, {mean.upper:.3f}]" if ends and not math.isnan(mean.lower) else ""
    return f"{mean.value:.3f}{spread}{interval}"


def rank(order: Sequence[str], name: str) -> int:
    """Place in an order; what it does not name comes last."""
    return order.index(name) if name in order else len(order)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
