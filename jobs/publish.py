"""Makes the night's tables visible, all at once, and logs the night to MLflow.

There: a parent run, a child run a stage, tables, figures, the review, the dataset, and the model with its aliases.

Reads what the night left behind and nothing else, so a night whose tracking server was down is logged later: the next
run of nightly does it, or this job run again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import functions as F

from almmta_spark import config, redaction, runner, storage, tables, tracking
from almmta_spark.inference.attribution import read_model
from almmta_spark.inference.udf import FittedModel
from almmta_spark.tables import Table
from almmta_spark.tracking import Run, Tracker

TOP_ROWS = 1000  # of roll-ups that have a row an item or author; the whole table stays in the warehouse
AGGREGATED = (
    *tables.ROLLUPS,
    tables.EXPOSURE_EFFICIENCY,
    tables.GROUPED_UPLIFT,
    tables.AUUC_BY_BUCKET,
    tables.TRUTH_METRICS,
    tables.GATE,
    tables.DIAGNOSTICS,
)


def run(night: runner.Night) -> None:
    """The night's small tables, figures and its own model -> one MLflow run; publishes the night's tables first.

    NotLogged where MLflow does not take it: the night is published, and waits to be logged (tracking.py).
    """
    settings = redaction.redacted(config.to_dict(night.conf))
    _publish(night, {"config_sha": config.digest(night.conf), "settings": settings})


def log_again(night: runner.Night) -> None:
    """The same of a published night that waits, with the settings that it ran with."""
    _publish(night, tracking.waits_with(night.spark, night.place.conf, night.ds))


def _publish(night: runner.Night, ran_with: Mapping[str, Any]) -> None:
    manifests = night.other_manifests()
    frames = {t.name: _small(night, t) for t in AGGREGATED}
    attribution = night.published(tables.ATTRIBUTION)
    if attribution is None:
        raise ValueError(f"table attribution: night ds={night.ds} is not published: run the stages before publish")
    own = night.conf.training.variants[0]
    candidate = read_model(night.spark, night.trained_model(own))
    judged = of_gate(manifests, night.ds)
    refuse_another_model(night, own, judged["speaks"]["model_version"])
    said = reviewed(manifests, night.ds)
    conf = night.place.conf
    tracking.wait(night.spark, conf, night.ds, ran_with)  # first: a death in between leaves no published night unlogged
    if night.claim is not None:  # before anything that needs the tracking server, which may be down
        night.claim.publish()
    night_tags = tracking.night_tags(ran_with["config_sha"], night.ds, manifests)
    tags = {**night_tags, "verdict": said["verdict"], **gate_tags(judged)}
    read_first = {"auuc_protocol": said["protocol"], "mlflow.note.content": said["summary"]}
    with tracking.taken(conf), _opened(night, {**tags, **read_first}) as (tracker, parent):
        parent.params(tracking.flat(ran_with["settings"]))
        parent.client.log_dict(parent.run_id, ran_with["settings"], "config.yaml")
        parent.metrics(headline(frames, own, said["protocol"]))
        parent.metrics({f"checks/{verdict}": n for verdict, n in said["checks"].items()})
        for name, frame in frames.items():
            parent.table(name, frame)
        _log_folder(night, parent, night.report_folder(), "")
        _log_folder(night, parent, night.figures_folder(), "figures")
        parent.dataset(tables.ATTRIBUTION, night.path(tables.ATTRIBUTION), attribution.rows, attribution.checksum)
        tracking.log_stages(tracker, parent, manifests, {"data_date": night.ds})
        version = _register(night, tracker, parent, tags, candidate)
        parent.end()
    tracking.waits_no_more(night.spark, conf, night.ds)
    night.note(mlflow={"uri": redaction.text(tracker.uri), "run_id": parent.run_id, "model_version": version})


@contextmanager
def _opened(night: runner.Night, tags: Mapping[str, str]) -> Iterator[tuple[Tracker, Run]]:
    """The night's run on the tracking server, in place of what an earlier try has left open."""
    tracker = Tracker.connect(night.place.conf)
    tracker.end_dead_runs(night.ds)
    with tracker.run(f"night {night.ds}", tags) as parent:
        yield tracker, parent


def refuse_another_model(night: runner.Night, variant: str, version: str) -> None:
    """ValueError where the table's rows come from another model than the one that the gate named: trained since, say.

    Cost: one row of the table, as a method has one model a night.
    """
    row = night.read(tables.ATTRIBUTION).where(F.col("method") == variant).select("model_version").first()
    found = row["model_version"] if row else "no model"
    if found != version:
        raise ValueError(
            f"table attribution: the {variant} rows of ds={night.ds} must come from the model that the gate named, "
            f"{version}, got {found}: run the night again from jobs/gate.py"
        )


def of_gate(manifests: Sequence[Mapping[str, Any]], ds: str) -> Mapping[str, Any]:
    """What jobs/gate.py noted of the night."""
    return _notes(manifests, "gate", f"night ds={ds} has had no gate, and no model speaks without one")


def gate_tags(judged: Mapping[str, Any]) -> dict[str, str]:
    """The decision, its reasons one a tag, and the model that speaks."""
    reasons = {f"gate_reason_{n}": reason for n, reason in enumerate(judged["gate_reasons"], start=1)}
    speaks = judged["speaks"]
    return {"gate": judged["gate"], **reasons, "model_version": speaks["model_version"], "model_ds": speaks["ds"]}


def reviewed(manifests: Sequence[Mapping[str, Any]], ds: str) -> Mapping[str, Any]:
    """What jobs/report.py noted of the night: its verdict in a word and in words, the protocol, counts of checks."""
    said: Mapping[str, Any] = _notes(manifests, "report", f"night ds={ds} has no report, which publish puts in front")[
        "said"
    ]
    return said


def _notes(manifests: Sequence[Mapping[str, Any]], stage: str, otherwise: str) -> Mapping[str, Any]:
    notes: list[Mapping[str, Any]] = [m["notes"] for m in manifests if m["stage"] == stage]
    if not notes:
        raise ValueError(f"{otherwise}: run jobs/{stage}.py before publish")
    return notes[-1]


def headline(frames: Mapping[str, pd.DataFrame], method: str, protocol: str) -> dict[str, float | None]:
    """Tens of numbers to watch: AUUC and Qini per bucket of the night's own method by the protocol; and truth.

    auuc/bucket_03, auuc/bucket_03_lower, ..., per 1,000 touches, as MLflow draws two decimals; the other methods and
    protocols are in the tables.
    """
    auuc, truth = frames["auuc_by_bucket"], frames["truth_metrics"]
    metrics: dict[str, float | None] = {}
    for row in auuc[(auuc.method == method) & (auuc.protocol == protocol)].itertuples():
        bucket = "all" if row.propensity_bucket < 0 else f"bucket_{row.propensity_bucket:02d}"
        for figure in ("auuc", "qini"):
            for side in ("", "_lower", "_upper"):
                value = getattr(row, f"{figure}{side}")
                metrics[f"{figure}/{bucket}{side}"] = None if value is None else 1000 * value
        metrics[f"auuc_normalised/{bucket}"] = row.auuc_normalised  # null but for the protocol that knows an oracle
    for row in truth[truth.method == method].itertuples():
        metrics[f"truth/{row.metric}"] = row.value
    return metrics


def _small(night: runner.Night, table: Table) -> pd.DataFrame:
    """An aggregated table: groups, never rows of the log; roll-ups cut to the largest sums."""
    frame = night.read(table)
    if table in tables.ROLLUPS:
        frame = frame.orderBy("method", frame.removal_effect_sum.desc(), table.key[0]).limit(TOP_ROWS)
    return frame.orderBy(*table.key).toPandas()


def _log_folder(night: runner.Night, parent: Run, folder: str, artifact_path: str) -> None:
    """The files that the night left in a folder, as artifacts."""
    with tempfile.TemporaryDirectory() as beside:
        for name in storage.names(night.spark, folder):
            content = storage.read_bytes(night.spark, storage.join(folder, name))
            assert content is not None
            (Path(beside) / name).write_bytes(content)
        parent.client.log_artifacts(parent.run_id, beside, artifact_path or None)


def _register(night: runner.Night, tracker: Tracker, parent: Run, tags: dict[str, Any], model: FittedModel) -> str:
    """The night's own model (the first variant) as a new version with the alias `champion` where it is that, and
    `candidate` unless a later night has one."""
    newest = tracker.pointed_at(tracking.model_name(night.place.conf), tracking.CANDIDATE).get("model_ds", "")
    aliases = [tracking.CANDIDATE] if newest <= night.ds else []
    if night.is_champion(model.variant, model.version):
        aliases.append(tracking.CHAMPION)
    with tempfile.TemporaryDirectory() as beside:
        for name, content in model.files.items():
            (Path(beside) / name).write_bytes(content)
        own = {"model_version": model.version, "model_ds": night.ds}
        return tracking.register_model(tracker, parent, night.conf, Path(beside), tags | own, aliases)


if __name__ == "__main__":
    runner.main("publish", run, __doc__)
