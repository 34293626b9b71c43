"""The evaluation of a night: DataFrames in, small tables and figures out. No I/O, no model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from almmta_spark import tables
from almmta_spark.config import Config
from almmta_spark.evaluation import (
    auuc,
    diagnostics,
    efficiency,
    exact,
    figures,
    grouped,
    matching,
    negative_control,
    overlap,
    predictions,
    sensitivity,
    subsets,
    withholding,
)
from almmta_spark.evaluation.auuc import Row
from almmta_spark.evaluation.doubly_robust import doubly_robust_rows
from almmta_spark.evaluation.fixed_point import collect
from almmta_spark.evaluation.rollups import rollup
from almmta_spark.tables import Table


@dataclass(frozen=True)
class Inputs:
    """What evaluation reads. Nights may be pooled: output tables then carry a column ds."""

    attribution: DataFrame
    journeys: DataFrame
    propensities: DataFrame
    journey_scores: DataFrame
    pairs: DataFrame | None = None
    """matched_pairs; None: what uploads resemble is not looked at."""
    decisions: DataFrame | None = None
    """Randomised decisions that ingest accepted, one a key, with cluster and ds; None: no experiment."""
    uploads: DataFrame | None = None
    """Uploads that ingest accepted in the nights' outcome windows, with ds; needed with decisions."""
    refused_decisions: int = 0
    """Rows of withholdings that ingest refused: contradictory, impossible, or of nobody known."""
    truth: DataFrame | None = None
    """truth_attribution of the nights (simulator only)."""
    truth_clusters: DataFrame | None = None
    truth_randomised: DataFrame | None = None
    """The exact P(Y | do(T), X) of the simulator's uniformly drawn journeys."""

    def __post_init__(self) -> None:
        if self.decisions is not None and self.uploads is None:
            raise ValueError(
                "table withholdings needs the uploads of the outcome windows beside it (users without a journey count "
                "too): pass Inputs.uploads"
            )


@dataclass(frozen=True)
class Evaluation:
    """Rows for the four tables, as dicts of their columns, and the night's figures by file name."""

    grouped_uplift: list[Row]
    auuc_by_bucket: list[Row]
    truth_metrics: list[Row]
    diagnostics: list[Row]
    figures: dict[str, Figure] = field(default_factory=dict)

    @property
    def rows(self) -> list[tuple[Table, list[Row]]]:
        return [
            (tables.GROUPED_UPLIFT, self.grouped_uplift),
            (tables.AUUC_BY_BUCKET, self.auuc_by_bucket),
            (tables.TRUTH_METRICS, self.truth_metrics),
            (tables.DIAGNOSTICS, self.diagnostics),
        ]

    def frames(self, spark: SparkSession) -> list[tuple[Table, DataFrame]]:
        """The four tables as one-partition DataFrames."""
        return [(table, to_frame(spark, table, rows)) for table, rows in self.rows]


def evaluate(
    inputs: Inputs,
    conf: Config,
    row_counts: Mapping[str, tuple[int, int]] | None = None,
    history: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    claims: Mapping[str, float] | None = None,
    worth: Sequence[Row] = (),
) -> Evaluation:
    """Everything this page's tables say about the night's attributions.

    row_counts: (rejected, all) rows per input table; history: epochs of each trained model, for the training curves;
    claims: mean |removal_effect| of the night's own model, then of its placebos; worth: rows of exposure_efficiency.
    Cost: four scans of attribution and three joins with truth_attribution, one explosion of propensities to journeys x
    clusters rows (three times, aggregated in place), a fit on a sample of journeys (doubly_robust.py), four scans of
    journey_scores, one of them joined with journeys, and what matching.lifts costs. On the driver: groups x NUM_CELLS
    sums a protocol, and at most exact.MAX_TOUCHES touches a method where there is truth.
    """
    found = auuc.scores(inputs.attribution)
    sample = _truth_sample(inputs, found, conf)
    predicted = predictions.predictions(inputs.journey_scores)
    fits = predictions.model_fits(predicted)
    lying = overlap.overlap(inputs.propensities, conf.propensity)
    sums, checks = _protocols(inputs, found, conf, models=sorted(set(fits) & set(found.by_method)))
    uplift_rows: list[Row] = []
    auuc_rows: list[Row] = []
    for of_protocol in sums:
        scored = _scores_of_known_effects(inputs) if of_protocol.protocol is grouped.EXACT else found
        measured = auuc.measure(scored, of_protocol, conf.evaluation, conf.seed)
        methods = dict(scored.by_method)
        if sample is not None and of_protocol.protocol is not grouped.EXACT:
            methods[auuc.TRUTH_METHOD] = exact.group_scores(sample, found)
        uplift_rows += auuc.grouped_rows(scored, measured, methods, conf.evaluation.interval)
        auuc_rows += auuc.auuc_rows(scored, measured, methods, conf.evaluation.interval)
    truth_rows = [] if sample is None else list(_truth_rows(inputs, sample, conf))
    checks += diagnostics.coverage_checks(found.partial)
    checks += night_checks(inputs, fits, lying, conf, row_counts, claims, worth)
    checks += _clip_sweep(inputs, found, auuc_rows, conf)
    if inputs.pairs is not None:
        own = conf.training.variants[0]
        lifts = matching.lifts(inputs.attribution, inputs.pairs, own, conf.evaluation, conf.seed)
        checks += diagnostics.match_checks(lifts)
    return Evaluation(
        uplift_rows,
        auuc_rows,
        truth_rows + list(predictions.upload_auc_rows(predicted)) + _best_upload_auc(inputs),
        [check.row() for check in checks],
        _figures(uplift_rows, lying, sample, history or {}),
    )


def night_checks(
    inputs: Inputs,
    fits: Mapping[str, predictions.ModelFit],
    lying: overlap.Overlap,
    conf: Config,
    row_counts: Mapping[str, tuple[int, int]] | None = None,
    claims: Mapping[str, float] | None = None,
    worth: Sequence[Row] = (),
) -> list[diagnostics.Check]:
    """Checks of the night's data and of its models that need no protocol; the arguments are those of evaluate."""
    return [
        *diagnostics.overlap_checks(lying.buckets),
        *diagnostics.model_checks(fits),
        *diagnostics.leak_checks(fits, anchored=any(s.anchor for s in conf.signals.values())),
        *diagnostics.negative_control_checks(
            negative_control.negative_controls(inputs.journey_scores, inputs.journeys)
        ),
        *diagnostics.mediator_overlap_checks(overlap.mediator_overlap(inputs.journey_scores)),
        *diagnostics.placebo_checks(claims or {}, diagnostics.counted(fits)[1]),
        *diagnostics.outcome_checks(fits),
        *diagnostics.rejected_checks(row_counts or {}, conf.ingest.max_rejected_rate),
        *_refutations(inputs, conf, worth),
    ]


def _refutations(inputs: Inputs, conf: Config, worth: Sequence[Row]) -> list[diagnostics.Check]:
    """Checks of the night's own model that need no further fit."""
    own = conf.training.variants[0]
    sensitive = sensitivity.measure(inputs.attribution, inputs.journey_scores, own, worth)
    agreeing = subsets.agreement(inputs.attribution, own, conf.training.ensemble)
    checks = [] if sensitive is None else list(diagnostics.sensitivity_checks(sensitive))
    return checks + ([] if agreeing is None else list(diagnostics.subset_checks(agreeing)))


def _clip_sweep(
    inputs: Inputs, found: auuc.Scores, auuc_rows: Sequence[Row], conf: Config
) -> Iterator[diagnostics.Check]:
    """How far the observational AUUC of the night's own model moves under each clip of evaluation.clip_sweep."""
    own = conf.training.variants[0]
    of_all = {"propensity_bucket": auuc.ALL_BUCKETS, "method": own, "protocol": grouped.OBSERVATIONAL.name}
    as_it_is = next((row for row in auuc_rows if of_all.items() <= row.items()), None)
    if as_it_is is None:
        return
    for clip in conf.evaluation.clip_sweep:
        rows = grouped.observational_rows(inputs.journeys, inputs.propensities, conf.seed, clip)
        measured = auuc.measure(found, grouped.group_sums(rows, grouped.OBSERVATIONAL), conf.evaluation, conf.seed)
        scored = {own: found.by_method[own]}
        clipped = next(auuc.auuc_rows(found, measured, scored, conf.evaluation.interval))
        yield diagnostics.clip_check(clip, as_it_is, clipped)


def _best_upload_auc(inputs: Inputs) -> list[Row]:
    """upload_auc_randomised of the truth itself: what no interventional model can exceed but by chance."""
    if inputs.truth_randomised is None:
        return []
    best = predictions.as_scores(inputs.truth_randomised, auuc.TRUTH_METHOD, predictions.RANDOMISED)
    return list(predictions.upload_auc_rows(predictions.predictions(best)))


def rollups(attribution: DataFrame, conf: Config) -> list[tuple[Table, DataFrame]]:
    """attribution_by_item, _by_author and _by_cluster of one night's attribution."""
    plan, level = conf.training.ensemble, conf.evaluation.interval
    return [(table, rollup(attribution, table, plan, level)) for table in tables.ROLLUPS]


def exposure_efficiency(
    attribution: DataFrame, truth: DataFrame | None, conf: Config
) -> tuple[list[Row], dict[str, Figure]]:
    """Rows of tables.EXPOSURE_EFFICIENCY of one night's attribution, and their figure by file name."""
    rows = efficiency.exposure_efficiency(attribution, truth, conf)
    title = "Uploads beyond the present policy, if further exposures went to the top of a ranking"
    return rows, {"exposure_efficiency.png": figures.exposure_efficiency(rows, conf.training.variants[0], title)}


def to_frame(spark: SparkSession, table: Table, rows: Iterable[Row]) -> DataFrame:
    """Small rows as a DataFrame in the table's schema, ordered by its key."""
    ordered = sorted(rows, key=lambda row: tuple(row[k] for k in table.key))
    values = [tuple(row[name] for name in table.column_names) for row in ordered]
    return spark.createDataFrame(values, table.ddl).coalesce(1)


def _scores_of_known_effects(inputs: Inputs) -> auuc.Scores:
    """Scores over the touches the exact uplift is over: which touches were sampled then moves no group's rank."""
    assert inputs.truth is not None
    keys = grouped.same_keys(inputs.attribution, inputs.truth, "user_id", "touch_id")
    return auuc.scores(inputs.attribution.join(inputs.truth.select(*keys), keys, "left_semi"))


def _protocols(
    inputs: Inputs, found: auuc.Scores, conf: Config, models: Sequence[str]
) -> tuple[list[grouped.GroupSums], list[diagnostics.Check]]:
    """The sums of every protocol there are data for, and the checks of the withholding experiment."""
    sums: list[grouped.GroupSums] = []
    checks: list[diagnostics.Check] = []
    if inputs.truth is not None:
        touches = inputs.attribution.where(inputs.attribution.method == next(iter(found.by_method)))
        rows = grouped.exact_rows(touches, inputs.truth, conf.seed)
        sums.append(grouped.group_sums(rows, grouped.EXACT))
    if inputs.decisions is not None:
        experiment, checks = _experiment(inputs, conf, models, found)
        sums.append(experiment)
    for protocol, unit_rows in (
        (grouped.OBSERVATIONAL, grouped.observational_rows),
        (grouped.DOUBLY_ROBUST, doubly_robust_rows),
    ):
        sums.append(grouped.group_sums(unit_rows(inputs.journeys, inputs.propensities, conf.seed), protocol))
    return sums, checks


def _experiment(
    inputs: Inputs, conf: Config, models: Sequence[str], found: auuc.Scores
) -> tuple[grouped.GroupSums, list[diagnostics.Check]]:
    """The experiment is small beside the log (its users alone): kept in memory over its three uses."""
    assert inputs.decisions is not None and inputs.uploads is not None
    rows = grouped.randomised_rows(
        inputs.decisions,
        inputs.journeys,
        inputs.propensities,
        inputs.uploads,
        conf.evaluation.p_withheld,
        conf.seed,
    ).persist()
    try:
        num_decisions = rows.count() + inputs.refused_decisions
        usable = rows.where("propensity_bucket is not null")
        sums = grouped.group_sums(usable, grouped.RANDOMISED)
        compared = withholding.compare(usable, inputs.attribution, models, sums, conf.evaluation, conf.seed)
    finally:
        rows.unpersist()
    used = sums.rows_G.sum() / num_decisions if num_decisions else float("nan")
    return sums, list(diagnostics.withholding_checks(compared, used, found.by_method))


def _truth_sample(inputs: Inputs, found: auuc.Scores, conf: Config) -> exact.TruthSample | None:
    if inputs.truth is None:
        return None
    sampled = exact.sampled_truth(inputs.truth, conf.seed)
    return exact.truth_sample(inputs.attribution, sampled, list(found.by_method))


def _truth_rows(inputs: Inputs, sample: exact.TruthSample, conf: Config) -> Iterator[Row]:
    yield from exact.truth_metric_rows(sample, _null_clusters(inputs), conf.evaluation.interval)
    if sample.half_width_N and inputs.truth is not None:
        sampled, methods = exact.sampled_truth(inputs.truth, conf.seed), sorted(sample.half_width_N)
        sums = exact.item_sums(inputs.attribution, sampled, methods, conf.training.ensemble)
        yield from exact.group_interval_rows(sums, conf)


def _null_clusters(inputs: Inputs) -> NDArray[Any] | None:
    """Clusters that inspire nobody (a row a cluster on the driver)."""
    if inputs.truth_clusters is None:
        return None
    found = collect(inputs.truth_clusters.select("cluster", "strength"))
    return np.unique(found["cluster"][found["strength"] == 0])


def _figures(
    uplift_rows: Sequence[Row],
    lying: overlap.Overlap,
    sample: exact.TruthSample | None,
    history: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, Figure]:
    drawn = {"overlap.png": figures.overlap(lying, "Overlap: propensity of exposed and unexposed pairs")}
    for protocol in dict.fromkeys(row["protocol"] for row in uplift_rows):
        rows = [r for r in uplift_rows if r["protocol"] == protocol]
        title = f"Uplift over treatment clusters, {rows[0]['estimand']} [{protocol}]"
        caution = grouped.NOT_CAUSAL if protocol in grouped.OBSERVATIONAL_NAMES else ""
        drawn[f"uplift_{protocol}.png"] = figures.uplift_curves(rows, title, caution)
    if sample is not None:
        bins = {m: exact.effect_bins(estimate, sample.ett_N) for m, estimate in sample.estimate_N.items()}
        drawn["estimated_vs_true.png"] = figures.estimated_vs_true(bins, "Estimated and true effects of touches (ETT)")
        by_cluster = exact.cluster_effects(sample)
        drawn["effects_by_cluster.png"] = figures.effects_by_cluster(by_cluster, "Mean effect of a touch, by cluster")
    if history:
        drawn["training_curves.png"] = figures.training_curves(history, "Training")
    return drawn
