"""The withholding experiment of the nights to pool, as ingest accepted it, and the night's own effects corrected by it.

Not a stage of the night: attribute and evaluate ask for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark import runner, tables
from almmta_spark.causal.calibration import Correction
from almmta_spark.evaluation import calibration, grouped
from almmta_spark.evaluation.auuc import null_if_nan
from almmta_spark.logs.summary import IngestSummary
from jobs.ingest import accepted_decisions

POOLED = (tables.ATTRIBUTION, tables.JOURNEYS, tables.PROPENSITIES, tables.JOURNEY_SCORES, tables.ACCEPTED_UPLOADS)
"""Tables that evaluation reads of every pooled night."""


@dataclass(frozen=True)
class Experiment:
    """Of nights that all have one."""

    decisions: DataFrame
    uploads: DataFrame
    """Of the outcome windows, with ds."""
    num_refused: int
    """Rows of withholdings that ingest refused: contradictory, impossible, or of nobody known."""


def experiment(night: runner.Night, nights: Sequence[str]) -> Experiment | None:
    """None where a night has none. Cost: the nights' metadata; the rest is lazy."""
    of_nights = {d: replace(night, ds=d) for d in nights}
    if not all(_has_experiment(of_night) for of_night in of_nights.values()):
        return None
    decisions = [accepted_decisions(of_night) for of_night in of_nights.values()]
    decided = [rows.withColumn("ds", F.lit(d)) for d, rows in zip(nights, decisions, strict=True) if rows is not None]
    return Experiment(
        reduce(DataFrame.unionByName, decided),
        night.read_nights(tables.ACCEPTED_UPLOADS, nights),
        sum(map(_refused, of_nights.values())),
    )


def correction(night: runner.Night, own: DataFrame, method: str, clusters: Sequence[int]) -> Correction | None:
    """What the pooled nights' experiment adds to a method's effects of this night; own: its rows of attribution.

    None, after one look at the night's metadata, where there is no experiment. Cost: evaluation.calibration's, and the
    experiment's rows in memory.
    """
    if not _has_experiment(night):
        return None
    nights = night.pooled_nights(*POOLED)
    found = experiment(night, nights)
    if found is None:
        return None
    earlier = nights[:-1]
    of_nights = [own.withColumn("ds", F.lit(night.ds))]
    of_nights += [night.read_nights(tables.ATTRIBUTION, earlier)] if earlier else []
    conf = night.conf
    rows = grouped.randomised_rows(
        found.decisions,
        night.read_nights(tables.JOURNEYS, nights),
        night.read_nights(tables.PROPENSITIES, nights),
        found.uploads,
        conf.evaluation.p_withheld,
        conf.seed,
    )
    rows = rows.where("propensity_bucket is not null").persist()
    try:
        sums = grouped.group_sums(rows, grouped.RANDOMISED)
        attribution = reduce(DataFrame.unionByName, of_nights)
        compared, added = calibration.compare_and_correct(rows, attribution, method, clusters, sums, conf)
    finally:
        rows.unpersist()
    figures = {name: null_if_nan(value) for name, value in asdict(compared).items()}
    night.note(experiment={"method": method, **figures, "corrected": added is not None})
    return added


def _has_experiment(night: runner.Night) -> bool:
    return tables.WITHHOLDINGS.name in _ingested(night).accounts


def _refused(night: runner.Night) -> int:
    return _ingested(night).accounts[tables.WITHHOLDINGS.name].num_rejected


def _ingested(night: runner.Night) -> IngestSummary:
    return IngestSummary.from_dict(night.meta(tables.ACCEPTED_UPLOADS))
