"""A night in MLflow: one parent run, a child run a stage, figures, tables, the dataset and the registered model.

Everything is taken from what the night left in the warehouse (manifests, aggregated tables, model folders), so logging
can be repeated. A published night waits, with the settings it ran with, in <warehouse>/_unlogged/ds=D.json until MLflow
has it: where its tracking server is down the night is not lost, and the next run of nightly logs it.
No user ids are written: the attribution table is logged as a dataset (location, schema, counts, digest).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from almmta_spark import redaction, storage, tables
from almmta_spark.config import Config
from almmta_spark.storage import Spark

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

CANDIDATE, CHAMPION = "candidate", "champion"
RETRIES = "3"
"""Of a call to a tracking server, within a quarter of a minute, unless MLFLOW_HTTP_REQUEST_MAX_RETRIES says otherwise.
MLflow's own 7 take minutes for each call, and the night is logged later all the same."""
_ABOUT = "A run a night: its description is the verdict, its artifact `report.html` the review."
_MLFLOW_TYPES = {"bigint": "long", "int": "integer", "double": "double", "float": "float", "string": "string"}


class NotLogged(ConnectionError):
    """MLflow has not taken the night's log."""


def shown(uri: str) -> str:
    """A tracking URI to print and to keep: no credentials; a store under the working directory relative to it."""
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and path.is_relative_to(Path.cwd()):
        return f"sqlite:///{path.relative_to(Path.cwd())}"
    return redaction.text(uri)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys, for MLflow params."""
    out: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        out.update(flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: str(value)[:500]})
    return out


def _root(conf: Config) -> str:
    return conf.warehouse if "://" in conf.warehouse else str(Path(conf.warehouse).resolve().parent)


def _uri(conf: Config) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or conf.tracking.uri.format(root=_root(conf))


def _experiment(conf: Config) -> str:
    return f"almmta/{conf.env}/nightly"


def _make_store(path: Path) -> None:
    """A new SQLite store with MLflow's tables, there whole or not at all.

    MLflow makes them in place, by hundreds of statements, and cannot open what is left where it is killed among them.
    """
    import mlflow

    if path.exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        mlflow.MlflowClient(f"sqlite:///{made}").search_experiments(max_results=1)
        storage.put_new(None, str(path), made.read_bytes())  # else another night was quicker


@contextmanager
def taken(conf: Config) -> Iterator[None]:
    """NotLogged where the block's calls to MLflow, its store or its artifacts fail, whatever the reason."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = " ".join(redaction.text(str(error)).split())
        reason = reason if len(reason) <= 240 else f"{reason[:120]} ... {reason[-120:]}"  # its cause stands at the end
        raise NotLogged(f"MLflow at {shown(_uri(conf))} has not taken the night's log ({reason})") from error


# ---- nights that wait -----------------------------------------------------------------------------------------------


def wait(spark: Spark, conf: Config, ds: str, said: Mapping[str, Any]) -> None:
    """From here on the night waits to be logged, with what it says of its settings."""
    storage.write_text(spark, _waiting(conf, ds), json.dumps(said, indent=1, sort_keys=True))


def waiting(spark: Spark, conf: Config) -> list[str]:
    """Published nights that MLflow does not have yet, ascending."""
    names = storage.names(spark, storage.join(conf.warehouse, "_unlogged"))
    return [n[3:-5] for n in names if n.startswith("ds=") and n.endswith(".json")]


def waits_with(spark: Spark, conf: Config, ds: str) -> dict[str, Any]:
    """What a waiting night says of its settings. ValueError where it does not wait."""
    text = storage.read_text(spark, _waiting(conf, ds))
    if text is None:
        raise ValueError(f"night ds={ds} does not wait to be logged: run jobs/publish.py to log it again")
    said: dict[str, Any] = json.loads(text)
    return said


def waits_no_more(spark: Spark, conf: Config, ds: str) -> None:
    """MLflow has the night."""
    storage.delete(spark, _waiting(conf, ds))


def _waiting(conf: Config, ds: str) -> str:
    return storage.join(conf.warehouse, "_unlogged", f"ds={ds}.json")


# ---- in MLflow ------------------------------------------------------------------------------------------------------


def night_run(conf: Config, ds: str) -> MlflowRun:
    """The newest whole run of a night, to be read. ValueError where the night has not been logged."""
    import mlflow

    client = mlflow.MlflowClient(_uri(conf))
    found = client.get_experiment_by_name(_experiment(conf))
    wanted = f"tags.data_date = '{ds}' and tags.verdict != '' and attributes.status = 'FINISHED'"  # stages have none
    order = ["attributes.start_time DESC"]
    runs = client.search_runs([found.experiment_id], wanted, max_results=1, order_by=order) if found else []
    if not runs:
        raise ValueError(f"experiment {_experiment(conf)} has no run of night ds={ds}: run jobs/publish.py")
    return runs[0]


@dataclass(frozen=True)
class Tracker:
    """The night's experiment on the tracking server."""

    client: MlflowClient
    experiment_id: str
    uri: str

    @classmethod
    def connect(cls, conf: Config) -> Tracker:
        """The experiment almmta/<env>/nightly, made where it is not there yet."""
        import mlflow

        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", RETRIES)
        uri = _uri(conf)
        if uri.startswith("sqlite:///"):
            _make_store(Path(uri.removeprefix("sqlite:///").partition("?")[0]))
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient(uri)
        name = _experiment(conf)
        found = client.get_experiment_by_name(name)
        artifacts = None if uri.startswith("http") else Path(conf.tracking.artifacts.format(root=_root(conf))).as_uri()
        if found is None:
            return cls(client, client.create_experiment(name, artifacts, {"mlflow.note.content": _ABOUT}), uri)
        return cls(client, found.experiment_id, uri)

    def end_dead_runs(self, ds: str) -> None:
        """Ends, as killed, a night's runs that are still open: whoever holds its claim knows that nobody is at them."""
        open_runs = f"tags.data_date = '{ds}' and attributes.status = 'RUNNING'"
        for run in self.client.search_runs([self.experiment_id], open_runs):
            self.client.set_terminated(run.info.run_id, "KILLED")

    @contextmanager
    def run(
        self, name: str, tags: Mapping[str, str], parent: str | None = None, start: int | None = None
    ) -> Iterator[Run]:
        """A run that ends FINISHED, or FAILED where the block raises."""
        all_tags = {**tags, "mlflow.runName": name, **({"mlflow.parentRunId": parent} if parent else {})}
        run = self.client.create_run(self.experiment_id, start_time=start, tags=all_tags, run_name=name)
        try:
            yield Run(self.client, run.info.run_id)
        except BaseException:
            with suppress(Exception):  # the server may be what has failed: then the night's next run ends this one
                self.client.set_terminated(run.info.run_id, "FAILED")
            raise

    def pointed_at(self, model: str, alias: str) -> Mapping[str, str]:
        """Tags of the version that an alias points at; empty where it points at none."""
        from mlflow.exceptions import MlflowException

        try:
            tags: Mapping[str, str] = self.client.get_model_version_by_alias(model, alias).tags
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return {}
            raise
        return tags


@dataclass(frozen=True)
class Run:
    """One run in MLflow, open."""

    client: MlflowClient
    run_id: str

    def params(self, values: Mapping[str, str]) -> None:
        """Logs them in one call."""
        from mlflow.entities import Param

        self.client.log_batch(self.run_id, params=[Param(k, v) for k, v in sorted(values.items())])

    def metrics(self, values: Mapping[str, float | None], step: int = 0, timestamp: int = 0) -> None:
        """Undefined figures (None, NaN) are left out: MLflow has no null."""
        from mlflow.entities import Metric

        known = [Metric(k, float(v), timestamp, step) for k, v in sorted(values.items()) if v is not None and v == v]
        if known:
            self.client.log_batch(self.run_id, metrics=known)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Logs a small table as tables/NAME.csv."""
        self.client.log_text(self.run_id, frame.to_csv(index=False), f"tables/{name}.csv")

    def dataset(self, table: tables.Table, location: str, rows: int, digest: str) -> None:
        """A table of the warehouse as an MLflow dataset; the rows stay where they are."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        columns = [
            {"name": c.name, "type": _MLFLOW_TYPES.get(c.type, "datetime"), "required": not c.nullable}
            for c in table.columns
        ]
        entry = Dataset(
            name=table.name,
            digest=digest[:36],
            source_type="spark",
            source=json.dumps({"path": location}),
            schema=json.dumps({"mlflow_colspec": columns}),
            profile=json.dumps({"num_rows": rows}),
        )
        self.client.log_inputs(self.run_id, [DatasetInput(entry, [InputTag("mlflow.data.context", "attribution")])])

    def end(self, at: int | None = None) -> None:
        """Marks the run finished, at a time in milliseconds or now."""
        self.client.set_terminated(self.run_id, "FINISHED", at)


def log_stages(tracker: Tracker, parent: Run, manifests: Iterable[Mapping[str, Any]], tags: Mapping[str, str]) -> None:
    """A child run a stage, with the times at which it ran."""
    for manifest in manifests:
        start = int(datetime.fromisoformat(manifest["started"]).timestamp() * 1000)
        end = start + int(manifest["seconds"] * 1000)
        with tracker.run(str(manifest["stage"]), tags, parent.run_id, start) as child:
            rows = {f"rows_out/{name}": out["rows"] for name, out in manifest["outputs"].items()}
            numbers = {k: v for k, v in manifest["notes"].items() if isinstance(v, (int, float))}
            cost = {f"spark/{name}": number for name, number in manifest.get("spark", {}).items()}
            child.metrics({"seconds": manifest["seconds"], **rows, **cost, **numbers}, timestamp=end)
            for variant, history in manifest["notes"].get("history", {}).items():
                log_history(child, variant, history)
            child.client.log_dict(child.run_id, dict(manifest), "manifest.json")
            child.end(end)


def log_history(child: Run, variant: str, history: Sequence[Mapping[str, Any]]) -> None:
    """Training curves: one step an epoch."""
    for epoch, record in enumerate(history):
        numbers = {f"{variant}/{k}": v for k, v in record.items() if isinstance(v, (int, float)) and k != "epoch"}
        child.metrics(numbers, step=int(record.get("epoch", epoch)))


def model_name(conf: Config) -> str:
    """Of the registered model."""
    return f"{conf.tracking.registered_model}_{conf.env}"


def register_model(
    tracker: Tracker, parent: Run, conf: Config, folder: Path, tags: Mapping[str, str], aliases: Sequence[str]
) -> str:
    """Logs the model with its signature, registers it and points the aliases at it. Returns the version.

    Models-from-code: the artifact holds weights.pt (loaded with weights_only=True), model.json and a source file,
    never a pickle.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema

    numbers, integers = Array(DataType.double), Array(DataType.long)
    needed = {"covariates": numbers, "cluster": integers, "age_hours": numbers}
    touches = {"item_id": integers, "author_id": integers, "embedding": Array(numbers)}
    optional = {"user_id": DataType.long, **touches}
    columns: dict[str, Any] = {**needed, **optional}
    inputs = Schema([ColSpec(kind, name, required=name in needed) for name, kind in columns.items()])
    effects = ("removal_effect", "removal_effect_lower", "removal_effect_upper")
    outputs = Schema([ColSpec(DataType.double, "p_outcome"), *[ColSpec(numbers, effect) for effect in effects]])
    name = model_name(conf)
    from almmta_spark.inference import serving

    with mlflow.start_run(run_id=parent.run_id):
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(serving.__file__),
            artifacts={"model": str(folder)},
            signature=ModelSignature(inputs, outputs),
            pip_requirements=["almmta_spark", "torch"],
            registered_model_name=name,
        )
    version = str(info.registered_model_version)
    for alias in aliases:
        tracker.client.set_registered_model_alias(name, alias, version)
    for key, value in tags.items():
        tracker.client.set_model_version_tag(name, version, key, value)
    return version


def night_tags(config_sha: str, ds: str, manifests: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What a night is found by."""
    prints = {name: i["fingerprint"] for m in manifests for name, i in m["inputs"].items() if "fingerprint" in i}
    digest = hashlib.sha256(json.dumps(prints, sort_keys=True).encode()).hexdigest()
    return {
        "data_date": ds,
        "config_sha": config_sha,
        "input_manifest_sha": digest,
    }
