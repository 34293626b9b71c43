"""The tables of the README's results, from the reports of `make truth` and `make kuairand`: python -m tests.results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from almmta_spark.simulator.family import PREFIX
from almmta_spark.study import cells, records
from almmta_spark.study.goals import COVERAGE, RMSE
from almmta_spark.study.records import Found

TRUTH = Path("reports/truth.json")
WORLDS = ("default", "hard")
METRICS = ("within_journey_spearman", "relative_rmse", "magnitude_ratio")
HEADER = (
    *("world", "users", "seeds", "method", "within-journey Spearman", "relative RMSE", "magnitude ratio"),
    "AUUC by bucket, 0 to 4",
)
OTHERS_HEADER = (*HEADER[:3], *HEADER[4:7], "touches in the interval")

REAL_LOGS = Path("reports/kuairand.json")
NIGHTS_HEADER = ("night", "exposures in", "rejected", "deduplicated", "capped", "used", "journeys", "outcomes")


def known_truth(found: Found, worlds: Sequence[str] = WORLDS) -> str:
    """Methods against the exact effects: means over seeds ± their standard deviation, at the size most seeds have."""
    sizes = dict(cells.main_nights(found))
    rows = [
        [world, f"{n:,}", str(len(found.distinct("seed", world=world, n=n))), method, *_errors(found, world, n, method)]
        for world in worlds
        if (n := sizes.get(world))
        for method in cells.methods_of(found, world, n)
    ]
    return _table(HEADER, rows)


def other_worlds(found: Found) -> str:
    """`latent` in the worlds that `known_truth` leaves out, and in the middle of the family random:<k>."""
    sizes = {world: n for world, n in cells.main_nights(found) if world not in WORLDS}
    figures = {
        world: [found.mean(world, n, cells.OWN, m) for m in (*METRICS, COVERAGE)]
        for world, n in sizes.items()
        if found.mean(world, n, cells.OWN, RMSE)
    }
    family = [world for world in figures if world.startswith(PREFIX)]
    rows = [_of(found, [w], sizes[w], w, map(cells.cell, means)) for w, means in figures.items() if w not in family]
    if family:
        columns = zip(*(figures[world] for world in family), strict=True)
        medians = [f"{median(mean.value for mean in column if mean):.3f}" for column in columns]
        rows.append(_of(found, family, sizes[family[0]], f"{PREFIX}<k>, median of {len(family)}", medians))
    return _table(OTHERS_HEADER, rows)


def _of(found: Found, worlds: Sequence[str], n: int, name: str, cells_of: Iterable[str]) -> list[str]:
    return [name, f"{n:,}", str(max(len(found.distinct("seed", world=w, n=n)) for w in worlds)), *cells_of]


def _errors(found: Found, world: str, n: int, method: str) -> list[str]:
    buckets = sorted(b for b in found.distinct("bucket", world=world, n=n, metric=cells.AUUC) if b is not None)
    by_bucket = (found.mean(world, n, method, cells.AUUC, b) for b in buckets)
    areas = " ".join("-" if mean is None else f"{mean.value:.3f}" for mean in by_bucket)
    return [*(cells.cell(found.mean(world, n, method, metric)) for metric in METRICS), areas]


def nights(report: dict[str, Any]) -> str:
    """What each night of a run was made from."""
    return _table(NIGHTS_HEADER, [_night_cells(night) for night in report["nights"]])


def _night_cells(night: dict[str, Any]) -> list[str]:
    exposures = night["accounting"]["exposures"]
    counts = [exposures[name] for name in ("rows_in", "rejected", "deduplicated", "capped", "used")]
    return [night["ds"], *(f"{n:,}" for n in (*counts, night["journeys"], night["outcomes"]))]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


if __name__ == "__main__":
    truth = Found(records.read(TRUTH))
    print(known_truth(truth), other_worlds(truth), nights(json.loads(REAL_LOGS.read_text())), sep="\n\n")
