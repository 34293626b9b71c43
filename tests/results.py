"""The tables of the README's results, from the reports of `make run` and `make kuairand`: `python -m tests.results`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

REPORTS = {"default": Path("reports/run.json"), "hard": Path("reports/hard.json")}
METHODS = ("latent", "backdoor", "time_decay", "linear", "last_touch")
METRICS = ("within_journey_spearman", "relative_rmse", "magnitude_ratio")
HEADER = ("world", "method", "within-journey Spearman", "relative RMSE", "magnitude ratio", "AUUC by bucket, 0 to 4")

REAL_LOGS = Path("reports/kuairand.json")
NIGHTS_HEADER = ("night", "exposures in", "rejected", "deduplicated", "capped", "used", "journeys", "outcomes")


def known_truth() -> str:
    rows = []
    for world, path in REPORTS.items():
        (report,) = json.loads(path.read_text())["nights"]
        if report["world"] != world:
            raise ValueError(f"{path}: holds a night of world {report['world']}, not of {world}; run it again")
        truth = {(r["method"], r["metric"]): r["value"] for r in report["truth_metrics"]}
        for method in METHODS:
            cells = [f"{truth[method, metric]:.3f}" for metric in METRICS]
            rows.append([world, method, *cells, " ".join(_by_bucket(report, method))])
    return _table(HEADER, rows)


def _by_bucket(report: dict, method: str) -> list[str]:
    exact = [r for r in report["auuc_by_bucket"] if r["protocol"] == "exact" and r["method"] == method]
    by_bucket = sorted((r for r in exact if r["propensity_bucket"] >= 0), key=lambda r: r["propensity_bucket"])
    return [f"{r['auuc_normalised']:.3f}" for r in by_bucket]


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
    print(known_truth(), nights(json.loads(REAL_LOGS.read_text())), sep="\n\n")
