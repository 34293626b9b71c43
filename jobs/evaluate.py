"""How good last night's numbers are: roll-ups, worth of exposures, uplift and AUUC, truth metrics, diagnostics."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import reduce
from typing import Any

from matplotlib.figure import Figure
from pyspark.sql import DataFrame

from almmta_spark import runner, storage, tables
from almmta_spark.evaluation import stage
from almmta_spark.tables import Table
from jobs.experiment import POOLED, experiment


def run(night: runner.Night) -> None:
    """attribution and what judges it -> roll-ups, exposure_efficiency, the evaluation's tables and figures."""
    attribution = night.read(tables.ATTRIBUTION)
    for table, rows in stage.rollups(attribution, night.conf):
        night.write(rows, table)
    efficiency, drawn = stage.exposure_efficiency(
        attribution, _truth(night, tables.TRUTH_ATTRIBUTION, [night.ds]), night.conf
    )
    night.write(stage.to_frame(night.spark, tables.EXPOSURE_EFFICIENCY, efficiency), tables.EXPOSURE_EFFICIENCY)
    trained = night.notes_of("train")
    found = stage.evaluate(
        inputs(night),
        night.conf,
        row_counts=row_counts(night.notes_of("ingest")),
        history=trained.get("history", {}),
        claims=claims(trained) if speaks_itself(night) else {},
        worth=efficiency,
    )
    for table, frame in found.frames(night.spark):
        night.write(frame, table)
    write_figures(night, {**found.figures, **drawn})


def write_figures(night: runner.Night, figures: Mapping[str, Figure]) -> None:
    """In the place of the night's earlier ones: a rerun may draw fewer, and publish logs what lies there."""
    storage.delete(night.spark, night.figures_folder())
    for name, figure in figures.items():
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=120)
        storage.write_bytes(night.spark, storage.join(night.figures_folder(), name), png.getvalue())


def inputs(night: runner.Night) -> stage.Inputs:
    """The pooled nights' tables; the experiment where every one of them has one."""
    nights = night.pooled_nights(*POOLED)
    attribution, journeys, propensities, scores, _ = (night.read_nights(table, nights) for table in POOLED)
    randomised = experiment(night, nights)
    return stage.Inputs(
        attribution=attribution,
        journeys=journeys,
        propensities=propensities,
        journey_scores=scores,
        pairs=night.read_nights(tables.MATCHED_PAIRS, nights),
        decisions=None if randomised is None else randomised.decisions,
        uploads=None if randomised is None else randomised.uploads,
        refused_decisions=0 if randomised is None else randomised.num_refused,
        truth=_truth(night, tables.TRUTH_ATTRIBUTION, nights),
        truth_clusters=_truth(night, tables.TRUTH_CLUSTERS, nights[-1:]),
        truth_randomised=_truth(night, tables.TRUTH_RANDOMISED, nights),
    )


def _truth(night: runner.Night, table: Table, nights: list[str]) -> DataFrame | None:
    """The simulator's truth, where every night has it."""
    if not all(night.has_input(table, d) for d in nights):
        return None
    return reduce(DataFrame.unionByName, [night.read_day(table, d) for d in nights])


def speaks_itself(night: runner.Night) -> bool:
    """Whether it is the night's own model that speaks: the placebos were fitted to judge that one."""
    served = night.served(night.conf.training.variants[0])
    return served is None or served[0] == night.ds


def claims(trained: Mapping[str, Any]) -> dict[str, float]:
    """Mean |removal_effect| of held-out touches by the night's own model (first) and by each placebo, where known."""
    models = [*list(trained.get("models", {}).items())[:1], *trained.get("placebos", {}).items()]
    name = "held_out_mean_abs_effect"
    return {model: metrics[name] for model, metrics in models if name in metrics}


def row_counts(ingested: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(rejected, all) rows of each input table, as ingest counted them."""
    counts = ingested.get("rows", {})
    return {name: (c["rejected"], c["rows_in"]) for name, c in counts.items()}


if __name__ == "__main__":
    runner.main("evaluate", run, __doc__)
