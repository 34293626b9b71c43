"""The nightly review as one HTML page, from the night's small tables and those of the nights before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from pyspark.sql import functions as F

from almmta_spark import runner, spark_tables, storage, tables
from almmta_spark.report import page, read
from almmta_spark.report.contents import Contents, Gate, NightFigures
from almmta_spark.report.verdict import verdict

EARLIER_NIGHTS = 28
FILE = "report.html"
OVERLAP = "overlap.png"
_OF_EVERY_NIGHT = (tables.AUUC_BY_BUCKET, tables.DIAGNOSTICS, tables.ATTRIBUTION_BY_CLUSTER)


def run(night: runner.Night) -> None:
    """Writes the page of a night from its tables. Cost: scans of small tables, and of the journeys it draws."""
    found = contents(night)
    storage.write_text(night.spark, storage.join(night.report_folder(), FILE), page.html(found))
    said = verdict(found)
    night.note(review=said.headline)
    summary, counts = page.summary_note(said), dict(page.counts(said))
    night.note(said={"verdict": said.verdict, "protocol": found.protocol, "summary": summary, "checks": counts})


def contents(night: runner.Night) -> Contents:
    """Cost: small tables of at most EARLIER_NIGHTS nights, and the scans of report.read."""
    conf, method = night.conf, night.conf.training.variants[0]
    nights = figures(night, method)
    versions = nights[-1].clusters.model_version
    if versions.empty:
        raise ValueError(
            f"table attribution_by_cluster: ds={night.ds} must hold training.variants' first method, {method}, got "
            "none of its rows: run the night again from jobs/attribute.py"
        )
    attribution = night.read(tables.ATTRIBUTION)
    return Contents(
        env=conf.env,
        method=method,
        model_version=versions.iloc[0],
        gate=said_by_gate(night),
        level=conf.evaluation.interval,
        lookback_hours=conf.journeys.lookback_hours,
        nights=nights,
        extremes={t.key[0]: read.extremes(night.read(t), t, method) for t in reversed(tables.ROLLUPS)},
        efficiency=night.read(tables.EXPOSURE_EFFICIENCY).toPandas(),
        truth=night.read(tables.TRUTH_METRICS).toPandas(),
        rejection_reasons=night.notes_of("build_journeys").get("rejection_reasons", {}),
        late=night.notes_of("ingest").get("late", {}),
        warnings=warnings(night.notes_of("ingest"), night.notes_of("build_examples")),
        journeys=read.chosen(read.sampled_journeys(attribution, method, conf.seed)),
        overlap_picture=storage.read_bytes(night.spark, storage.join(night.figures_folder(), OVERLAP)),
    )


def said_by_gate(night: runner.Night) -> Gate:
    """As jobs/gate.py noted it. ValueError where the night has had no gate."""
    noted = night.notes_of("gate")
    if not noted:
        raise ValueError(f"night ds={night.ds} has had no gate: run jobs/gate.py, and the stages after it, first")
    return Gate(tuple(noted["gate_reasons"]), noted["speaks"]["ds"], noted["champion"], noted["no_champion"])


def figures(night: runner.Night, method: str) -> tuple[NightFigures, ...]:
    """Of the night and of those before it for which every table is published, oldest first."""
    days = [spark_tables.shift(night.ds, -n) for n in reversed(range(1, EARLIER_NIGHTS + 1))]
    there = [d for d in days if all(night.published(table, d) for table in _OF_EVERY_NIGHT)]
    nights = [*there, night.ds]
    auuc, checks, clusters = (night.read_nights(table, nights) for table in _OF_EVERY_NIGHT)
    areas, rows, own = (df.toPandas() for df in (auuc, checks, clusters.where(F.col("method") == method)))
    noted = {d: night.notes_of("build_journeys", d).get("accounting", {}) for d in nights}
    return tuple(NightFigures(d, _of(areas, d), _of(rows, d), _of(own, d), noted[d]) for d in nights)


def warnings(ingested: Mapping[str, Any], trained: Mapping[str, Any]) -> tuple[str, ...]:
    """What ingest and training noted in words."""
    words = {"Unknown signals": ingested.get("unknown_signals"), "Nights not pooled": trained.get("nights_not_pooled")}
    return tuple(f"{name}: {text}." for name, text in words.items() if text)


def _of(frame: pd.DataFrame, ds: str) -> pd.DataFrame:
    return frame[frame.ds == ds].drop(columns="ds").reset_index(drop=True)


if __name__ == "__main__":
    runner.main("report", run, __doc__)
