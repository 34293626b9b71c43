"""The end of a night: what a person reads on the terminal, and the same as JSON in conf.report_file."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from almmta_spark import night_log, redaction, runner, spark_metrics, spark_tables, storage, tables, tracking
from almmta_spark.config import Config


def own_processes() -> list[psutil.Process]:
    """This process and all its children."""
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


@contextmanager
def peak_memory(
    interval: float = 1.0,
    counts: Callable[[psutil.Process], bool] = lambda process: True,
    among: Callable[[], Iterable[psutil.Process]] = own_processes,
    each: Callable[[float], None] = lambda gb: None,
) -> Iterator[dict[str, float]]:
    """Peak of some processes together, or of those of them that count, while the block runs: proportional set size, in
    GB, sampled. among: looked up anew each time; this process and all its children unless said otherwise. each: is
    told every sample."""
    seen = {"peak_gb": 0.0}
    done = threading.Event()

    def sample() -> None:
        while not done.wait(interval):
            gb = _bytes(among(), counts) / 1e9
            seen["peak_gb"] = max(seen["peak_gb"], gb)
            each(gb)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _bytes(processes: Iterable[psutil.Process], counts: Callable[[psutil.Process], bool]) -> int:
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss if counts(process) else 0
        except psutil.Error:  # it ended between the listing and the look
            continue
    return total


_AGAINST_TRUTH = ("within_journey_spearman", "relative_rmse", "magnitude_ratio", "calibration_slope")


def collect(
    spark: SparkSession, conf: Config, ds: str, memory: Mapping[str, float], skipped: Collection[str] = ()
) -> dict[str, Any]:
    """The night as one JSON-able dictionary: stages, counts, truth metrics, AUUC per bucket, MLflow run.

    skipped: stages of which this run made use as an earlier one had left them.
    """
    manifests = runner.manifests(spark, conf, ds)
    notes: dict[str, Any] = {}
    for manifest in manifests:
        notes.update(manifest["notes"])
    stages = [
        {
            "stage": m["stage"],
            "seconds": m["seconds"],
            "skipped": m["stage"] in skipped,
            "rows_in": {name: i["rows"] for name, i in m["inputs"].items() if "rows" in i},
            "rows_out": {name: o["rows"] for name, o in m["outputs"].items()},
            "spark": m.get("spark", {}),
        }
        for m in manifests
    ]
    journeys = spark_tables.read(spark, conf, tables.JOURNEYS, ds).agg(F.count("*"), F.sum("outcome")).first()
    assert journeys is not None
    mlflow = notes.get("mlflow")
    return {
        "ds": ds,
        "env": conf.env,
        "world": conf.simulator.world if spark_tables.exists(spark, conf, tables.TRUTH_ATTRIBUTION, ds) else None,
        "seconds": round(sum(s["seconds"] for s in stages if not s["skipped"]), 1),
        "peak_memory_gb": round(memory.get("peak_gb", 0.0), 2),
        "stages": stages,
        "journeys": journeys[0],
        "outcomes": journeys[1],
        "accounting": notes.get("accounting"),
        "late": notes.get("late", {}),
        "truth_metrics": _records(spark, conf, tables.TRUTH_METRICS, ds),
        "auuc_by_bucket": _records(spark, conf, tables.AUUC_BY_BUCKET, ds),
        "diagnostics": _records(spark, conf, tables.DIAGNOSTICS, ds),
        "gate": {name: notes[name] for name in ("gate", "gate_reasons", "speaks", "champion", "no_champion")}
        if "gate" in notes
        else None,
        "mlflow": {**mlflow, "uri": tracking.shown(mlflow["uri"])} if mlflow else None,
    }


def write(spark: SparkSession, conf: Config, nights: Sequence[Mapping[str, Any]]) -> None:
    """The nights of one run, and what importers counted in the logs they were made from, in conf.report_file."""
    if conf.report_file:
        path = Path(conf.report_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"imports": imports(spark, conf), "nights": list(nights)}, indent=1) + "\n")


def imports(spark: SparkSession, conf: Config) -> dict[str, Any]:
    """<warehouse>/_import/<importer>.json by importer; empty where the warehouse was not imported."""
    folder = storage.join(conf.warehouse, "_import")
    names = [name for name in storage.names(spark, folder) if name.endswith(".json") and not name.startswith(".")]
    texts = {name.removesuffix(".json"): storage.read_text(spark, storage.join(folder, name)) for name in names}
    return {name: json.loads(text) for name, text in texts.items() if text}


def show(conf: Config, night: Mapping[str, Any]) -> None:
    """Prints the night."""
    print(redaction.text("\n".join(_lines(conf, night))))


def _lines(conf: Config, night: Mapping[str, Any]) -> list[str]:
    lines = ["", f"Night {night['ds']}: {night['seconds']:.0f} s, peak memory {night['peak_memory_gb']:.1f} GB", ""]
    lines += _stages(night["stages"])
    if night["accounting"]:
        lines += ["", "Rows in, and where they went; late: of all, those in files that came after the first run"]
        lines += _table(pd.DataFrame([_account(night, table) for table in night["accounting"]]))
    if night["truth_metrics"]:
        metrics = pd.DataFrame(night["truth_metrics"]).pivot(index="method", columns="metric", values="value")
        known = [m for m in _AGAINST_TRUTH if m in metrics]
        if known:
            against = metrics[known].dropna(how="all").reset_index()
            lines += ["", f"Against the known truth (world {night['world']})", *_table(against)]
    if night["auuc_by_bucket"]:
        auuc = pd.DataFrame(night["auuc_by_bucket"])
        shown = {"exact": "auuc_normalised"} | dict.fromkeys(tables.PROTOCOLS[1:], "qini")
        for protocol, figure in shown.items():
            rows = auuc[(auuc.protocol == protocol) & auuc[figure].notna()]
            if len(rows):
                note = "; not causal" if protocol.startswith("observational") else ""
                lines += ["", f"{figure} per propensity bucket, {protocol} protocol{note} (bucket -1: all)"]
                lines += _table(rows.pivot(index="method", columns="propensity_bucket", values=figure).reset_index())
    if night["gate"]:
        judged, speaks = night["gate"], night["gate"]["speaks"]
        lines += ["", f"Gate: {judged['gate']}; model {speaks['model_version'][:12]} of {speaks['ds']} speaks"]
        lines += [f"  {reason}" for reason in judged["gate_reasons"]]
    warnings = [d for d in night["diagnostics"] or [] if d["verdict"] != "pass"]
    if warnings:
        lines += ["", "Warnings"]
        lines += [f"  {d['name']} = {_number(d['value'])} ({d['verdict']}): {d['advice']}" for d in warnings]
    log = night_log.folder(conf, night["ds"])
    lines += ["", f"Tables   {conf.warehouse}/<table>/ds={night['ds']}/ (versions named in {log}/)"]
    if any(stage["stage"] == "report" for stage in night["stages"]):
        lines.append(f"Review   {conf.warehouse}/_reports/ds={night['ds']}/report.html")
    if conf.report_file:
        lines.append(f"Report   {conf.report_file}")
    if night["mlflow"]:
        uri = night["mlflow"]["uri"]
        look = f": `make ui STORE={uri}`" if uri.startswith("sqlite:") else ""
        lines.append(f"MLflow   run {night['mlflow']['run_id']} in {uri}{look}")
    else:
        lines.append("MLflow   did not take this night's log: the next run of nightly, or jobs/publish.py, logs it")
    return lines


def _stages(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each stage took and wrote; of one that was skipped, what it had written."""
    lines = [f"  {'stage':<16}{'seconds':>9}{'tasks':>8}{'shuffled':>10}{'spilled':>10}{'skew':>6}  rows written"]
    for stage in stages:
        out = ", ".join(f"{name} {rows:,}" for name, rows in stage["rows_out"].items())
        took = "  skipped" if stage["skipped"] else f"{stage['seconds']:>9.1f}"
        lines.append(f"  {stage['stage']:<16}{took}{_cost(stage):<34}  {out}".rstrip())
    return lines


def _cost(stage: Mapping[str, Any]) -> str:
    """Tasks, bytes shuffled and spilled, skew, in 34 columns; empty where the stage did not run, or not in Spark."""
    cost = stage["spark"]
    if stage["skipped"] or not cost.get("tasks"):
        return ""
    skew = "-" if cost["skew"] is None else f"{cost['skew']:.1f}"
    sizes = [spark_metrics.size(of(cost)) for of in (spark_metrics.shuffled, spark_metrics.spilled)]
    return f"{cost['tasks']:>8,}{sizes[0]:>10}{sizes[1]:>10}{skew:>6}"


def _account(night: Mapping[str, Any], table: str) -> dict[str, Any]:
    """Where a table's rows went, and how many of all came late."""
    return {"table": table, **night["accounting"][table], "late": night["late"].get(table, 0)}


def _table(frame: pd.DataFrame) -> list[str]:
    text = frame.to_string(index=False, float_format=lambda v: f"{v:.3f}", na_rep="-")
    return [f"  {line}" for line in text.splitlines()]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def _records(spark: SparkSession, conf: Config, table: tables.Table, ds: str) -> list[dict[str, Any]] | None:
    """A small aggregated table as records; None where the night has none."""
    if not spark_tables.exists(spark, conf, table, ds):
        return None
    frame: pd.DataFrame = spark_tables.read(spark, conf, table, ds).orderBy(*table.key).toPandas()  # small
    return json.loads(frame.to_json(orient="records"))
