"""The results table of the README, from the reports that `make run` writes: `python -m tests.results`."""

from __future__ import annotations

import json
from pathlib import Path

REPORTS = {"default": Path("reports/run.json"), "hard": Path("reports/hard.json")}
METHODS = ("latent", "backdoor", "time_decay", "linear", "last_touch")
METRICS = ("within_journey_spearman", "relative_rmse", "magnitude_ratio")
HEADER = "| world | method | within-journey Spearman | relative RMSE | magnitude ratio | AUUC by bucket, 0 to 4 |"


def table() -> str:
    lines = [HEADER, "|---|---|---|---|---|---|"]
    for world, path in REPORTS.items():
        report = json.loads(path.read_text())
        if report["world"] != world:
            raise ValueError(f"{path}: holds a night of world {report['world']}, not of {world}; run it again")
        truth = {(r["method"], r["metric"]): r["value"] for r in report["truth_metrics"]}
        for method in METHODS:
            cells = [f"{truth[method, metric]:.3f}" for metric in METRICS]
            lines.append("| " + " | ".join([world, method, *cells, " ".join(_by_bucket(report, method))]) + " |")
    return "\n".join(lines)


def _by_bucket(report: dict, method: str) -> list[str]:
    exact = [r for r in report["auuc_by_bucket"] if r["protocol"] == "exact" and r["method"] == method]
    by_bucket = sorted((r for r in exact if r["propensity_bucket"] >= 0), key=lambda r: r["propensity_bucket"])
    return [f"{r['auuc_normalised']:.3f}" for r in by_bucket]


if __name__ == "__main__":
    print(table())
