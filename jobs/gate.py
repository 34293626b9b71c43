"""Judges the candidate, the model trained tonight, and names the model that speaks for the night: it or the champion.

The champion is the newest model of an earlier night that passed. A first night has none: its candidate speaks whatever
the gate says, since nobody else can, and what the gate says stands at the top of the report.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark import runner, tables
from almmta_spark.evaluation import bootstrap, gate, stage
from almmta_spark.inference import attribution as inference
from almmta_spark.inference.udf import FittedModel
from almmta_spark.logs import clusters
from almmta_spark.logs.summary import IngestSummary
from jobs.evaluate import claims, row_counts


def run(night: runner.Night) -> None:
    """The candidate, and the champion where there is one, on the night's journeys -> table gate, and who speaks."""
    own, must_pass = night.conf.training.variants[0], night.conf.gate.must_pass
    candidate = inference.read_model(night.spark, night.trained_model(own))
    champion, why_none = find_champion(night, candidate)
    checks = judged(night, candidate, champion[1] if champion else None)
    decision = gate.decide(night.notes_of("build_journeys").get("accounting", {}), checks, must_pass)
    ds, speaks = champion if champion and not decision.passed else (night.ds, candidate)
    night.write(stage.to_frame(night.spark, tables.GATE, gate.gate_rows(checks, must_pass)), tables.GATE)
    night.serve(own, ds, speaks.version, decision.passed)
    night.note(
        gate="passed" if decision.passed else "refused",
        gate_reasons=list(decision.reasons),
        speaks={"ds": ds, "model_version": speaks.version},
        champion=champion[0] if champion else None,
        no_champion=why_none,
    )


def find_champion(night: runner.Night, candidate: FittedModel) -> tuple[tuple[str, FittedModel] | None, str]:
    """The night that trained the champion and its model, where one can speak for tonight, else why none can."""
    found = night.champion(candidate.variant)
    if found is None:
        return None, "no earlier night has passed"
    ds, folder = found
    if IngestSummary.from_dict(night.meta(tables.ACCEPTED_UPLOADS)).clusters == clusters.FITTED:
        return None, f"clusters are fitted anew each night, so that of {ds} knows others (give items.cluster)"
    model = inference.read_model(night.spark, folder)
    misfit = model.spec.misfits(candidate.spec)
    return (None, f"that of {ds} cannot speak for tonight, since {misfit}") if misfit else ((ds, model), "")


def judged(night: runner.Night, candidate: FittedModel, champion: FittedModel | None) -> list[gate.Check]:
    """Both on one sample of the night's journeys. Cost: a pass of each over gate.journeys of them at most."""
    conf = night.conf
    journeys, propensities, items = map(night.read, (tables.JOURNEYS, tables.PROPENSITIES, tables.ITEM_CLUSTERS))
    drawn = bootstrap.sampled(F.col("user_id"), conf.seed, journeys.count(), conf.gate.journeys)
    sample, lying = journeys.where(drawn), propensities.where(drawn)
    level = conf.evaluation.interval
    models = {candidate.variant: candidate, **({gate.CHAMPION: champion} if champion else {})}
    scored = [
        inference.score(sample, lying, items, [model], conf.attribution, level).withColumn("method", F.lit(method))
        for method, model in models.items()
    ]
    both = reduce(DataFrame.unionByName, scored).persist()
    try:
        inputs = stage.Inputs(
            attribution=inference.attribution_rows(both.where(F.col("method") == candidate.variant)),
            journeys=sample,
            propensities=lying,
            journey_scores=inference.journey_scores(both),
        )
        trained, ingested = night.notes_of("train"), night.notes_of("ingest")
        return gate.candidate_checks(inputs, conf, row_counts(ingested), claims(trained))
    finally:
        both.unpersist()


if __name__ == "__main__":
    runner.main("gate", run, __doc__)
