"""How good last night's numbers are: roll-ups, grouped uplift and AUUC per bucket, truth metrics, diagnostics."""

from __future__ import annotations

import io
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame

from almmta_spark import runner, spark_tables, storage, tables
from almmta_spark.evaluation import stage
from almmta_spark.tables import Table

POOLED = (tables.ATTRIBUTION, tables.JOURNEYS, tables.PROPENSITIES, tables.JOURNEY_SCORES)


def run(night: runner.Night) -> None:
    attribution = night.read(tables.ATTRIBUTION)
    for table, rows in stage.rollups(attribution):
        night.write(rows, table)
    manifests = {m["stage"]: m for m in runner.manifests(night.spark, night.conf, night.ds)}
    found = stage.evaluate(
        _inputs(night),
        night.conf,
        row_counts=_row_counts(manifests.get("ingest", {})),
        history=manifests.get("train", {}).get("notes", {}).get("history", {}),
    )
    for table, frame in found.frames(night.spark):
        night.write(frame, table)
    for name, figure in found.figures.items():
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=120)
        storage.write_bytes(night.spark, storage.join(night.figures_folder(), name), png.getvalue())


def _inputs(night: runner.Night) -> stage.Inputs:
    pooled = night.pooled_nights(*POOLED)
    hours = night.conf.journeys
    has_experiment = all(night.has_input(tables.WITHHOLDINGS, d, hours.lookback_hours) for d in pooled)
    return stage.Inputs(
        attribution=night.read_nights(tables.ATTRIBUTION, pooled),
        journeys=night.read_nights(tables.JOURNEYS, pooled),
        propensities=night.read_nights(tables.PROPENSITIES, pooled),
        journey_scores=night.read_nights(tables.JOURNEY_SCORES, pooled),
        item_clusters=night.read(tables.ITEM_CLUSTERS),
        nights=pooled,
        withholdings=_days(night, tables.WITHHOLDINGS, pooled, hours.lookback_hours, 0.0) if has_experiment else None,
        uploads=_days(night, tables.UPLOADS, pooled, 0.0, hours.outcome_window_hours) if has_experiment else None,
        truth=_truth(night, tables.TRUTH_ATTRIBUTION, pooled),
        truth_clusters=_truth(night, tables.TRUTH_CLUSTERS, pooled[-1:]),
    )


def _days(night: runner.Night, table: Table, nights: list[str], back: float, ahead: float) -> DataFrame:
    """An input table's days that overlap any of the nights' windows, each day once."""
    days = sorted({d for ds in nights for d in spark_tables.window_days(table, ds, back, ahead)})
    return reduce(DataFrame.unionByName, [night.read_day(table, d) for d in days])


def _truth(night: runner.Night, table: Table, nights: list[str]) -> DataFrame | None:
    """The simulator's truth, where every night has it."""
    if not all(spark_tables.exists(night.spark, night.conf, table, d) for d in nights):
        return None
    return reduce(DataFrame.unionByName, [night.read_day(table, d) for d in nights])


def _row_counts(ingest: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """(rejected, all) rows of each input table, as ingest counted them."""
    counts = ingest.get("notes", {}).get("rows", {})
    return {name: (c["rejected"], c["rows_in"]) for name, c in counts.items()}


if __name__ == "__main__":
    runner.main("evaluate", run, __doc__)
