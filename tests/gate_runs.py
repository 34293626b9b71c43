"""Nights on which the gate has something to say: `make gate`. Everything real, from logs to MLflow.

One platform, five nights: the first has no champion, the next is as healthy as it, and then something goes wrong each
night. A candidate that the gate refuses does not speak, the champion does. Writes what the gate said, why, and whose
model the night's attribution rows carry to reports/gate.{json,md}; ends with an error where a night went otherwise
than it should.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from almmta_spark import config, manifest, runner, spark_tables, tables
from almmta_spark.config import Config
from jobs import nightly, simulate
from tests import spoilt

USERS = 8000
SETTINGS = (
    "warehouse=runs/gate/warehouse",
    "report_file=",
    "env=gate",
    f"simulator.num_users={USERS}",
    "simulator.base_rate=0.1",
    "simulator.randomised_users=0",
    "training.num_ranks=1",
    "training.batch_size=256",
    "model.signed=false",
    "training.variants=[latent]",
    "training.ensemble.repeats=1",
    "attribution.baselines=[last_touch]",
)
FOLDER = Path("reports")


def as_it_is(spark: SparkSession, conf: Config, ds: str) -> None:
    """The logs as the world wrote them."""


@dataclass(frozen=True)
class Case:
    ds: str
    what: str
    passes: bool
    world: str = "default"
    spoil: Callable[[SparkSession, Config, str], None] = as_it_is


CASES = (
    Case("2026-01-15", "healthy, the first night: there is no champion", True),
    Case("2026-01-18", "healthy", True),
    Case("2026-01-21", "permuted proxies: they are joined to the wrong users", False, spoil=spoilt.permute_proxies),
    Case("2026-01-24", "planted leak: uploads raise all proxies, and no anchor is declared", False, "leak_y_noanchor"),
    Case("2026-01-27", "collapsed overlap: who sees what follows from the covariates", False, "collapsed"),
)
"""Three days apart, so that no day of logs is of two nights."""


def main(cases: Sequence[Case] = CASES, settings: Iterable[str] = SETTINGS, folder: Path = FOLDER) -> list[str]:
    """Runs the nights and writes the report; what went otherwise than it should. What is done is not done again."""
    conf = config.load("conf/local.yaml", list(settings))
    spark = runner.session(conf, "gate")
    folder.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    for case in cases:
        found.append(run(spark, conf, case))
        (folder / "gate.json").write_text(json.dumps(found, indent=1) + "\n")
        (folder / "gate.md").write_text(page(found))
    return [wrong for case, night in zip(cases, found, strict=True) if (wrong := otherwise(case, night, cases[0].ds))]


def run(spark: SparkSession, base: Config, case: Case) -> dict[str, Any]:
    """One night, from its logs on; what the gate said of it and who spoke."""
    conf = replace(base, simulator=replace(base.simulator, world=case.world))
    if manifest.read(spark, conf, case.ds, "ingest") is None:  # else an earlier run was stopped after it
        runner.run_stage(runner.Night(spark, conf, case.ds, "simulate"), simulate.run)
        case.spoil(spark, conf, case.ds)
    done = nightly.run_night(spark, conf, case.ds)
    attribution = spark_tables.read(spark, conf, tables.ATTRIBUTION, case.ds).where("method = 'latent'")
    versions = [r["model_version"] for r in attribution.select("model_version").distinct().collect()]
    checks = spark_tables.read(spark, conf, tables.GATE, case.ds).orderBy("name").collect()
    trained = manifest_of(spark, conf, case.ds, "train")["models"]["latent"]["model_version"]
    return {
        "ds": case.ds,
        "what": case.what,
        "world": case.world,
        **done["gate"],
        "candidate": trained,
        "model_versions_of_attribution": versions,
        "verdict": manifest_of(spark, conf, case.ds, "report")["said"]["verdict"],
        "seconds": done["seconds"],
        "checks": [{name: r[name] for name in ("name", "value", "threshold", "verdict", "refuses")} for r in checks],
    }


def manifest_of(spark: SparkSession, conf: Config, ds: str, stage: str) -> Mapping[str, Any]:
    """A stage's notes."""
    return next(m["notes"] for m in runner.manifests(spark, conf, ds) if m["stage"] == stage)


def otherwise(case: Case, night: Mapping[str, Any], first: str) -> str:
    """What is wrong with a night; empty: it went as it should."""
    if (night["gate"] == "passed") != case.passes:
        return f"{case.ds} ({case.what}): {night['gate']}"
    spoke = night["speaks"]["model_version"]
    if night["model_versions_of_attribution"] != [spoke]:
        return f"{case.ds}: rows of {night['model_versions_of_attribution']}, {spoke} was to speak"
    if (spoke == night["candidate"]) != case.passes:
        return f"{case.ds}: {'the champion' if case.passes else 'the candidate'} spoke"
    return ""


def page(found: Sequence[Mapping[str, Any]]) -> str:
    """reports/gate.md."""
    lines = [
        "# The gate on five nights",
        "",
        f"`make gate`: {USERS:,} users a night, every part real; all checks are in gate.json.",
        "",
        "| night | what it is | gate | whose model speaks | refused for | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for night in found:
        refused = ", ".join(f"`{c['name']}` {_short(c['value'])}" for c in night["checks"] if c["refuses"])
        speaks = "its own" if night["speaks"]["ds"] == night["ds"] else f"the champion of {night['speaks']['ds']}"
        cells = (night["ds"], night["what"], night["gate"], speaks, refused or "-", f"{night['seconds']:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    for night in found:
        if night["gate_reasons"]:
            lines += ["", f"## {night['ds']}: {night['what']}", "", *(f"- {why}" for why in night["gate_reasons"])]
    return "\n".join([*lines, ""])


def _short(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    runner.set_up_logging()
    sys.exit("\n".join(main()) or None)
