"""Raw logs to training examples, beside what any such job needs: scan, shuffle and sort by user, write."""

from __future__ import annotations

import logging
from functools import partial, reduce
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from almmta_spark import runner, spark_tables, storage, tables
from almmta_spark.config import Config
from almmta_spark.simulator.write_logs import simulate
from jobs import build_examples, build_journeys, build_pairs, fit_propensity, ingest
from tests.bench.measure import DS, Record, seconds_of, settings

STAGES: dict[str, runner.Stage] = {
    "ingest": ingest.run,
    "build_journeys": build_journeys.run,
    "fit_propensity": fit_propensity.run,
    "build_pairs": build_pairs.run,
    "build_examples": build_examples.run,
}
_INPUTS = {
    "ingest": [],
    "build_journeys": [],
    "fit_propensity": [tables.JOURNEYS],
    "build_pairs": [tables.JOURNEYS],
    "build_examples": [tables.JOURNEYS, tables.PROPENSITIES],
}
"""Tables of the night that a stage reads; those that read what becomes of the raw logs have these."""
_KEYS = {"build_journeys": "user_id", "build_examples": "journey_id"}
"""By what a stage shuffles; the others need no shuffle of their input."""
_OUTPUTS = {
    "build_journeys": tables.JOURNEYS,
    "fit_propensity": tables.PROPENSITIES,
    "build_pairs": tables.MATCHED_PAIRS,
    "build_examples": tables.TRAINING_EXAMPLES,
}
_MAIN_INPUT = {"fit_propensity": "journeys", "build_pairs": "journeys"}


def write_logs(work: str, name: str, size: int) -> Record:
    """The input tables of a night with about `size` exposures, without the truth behind them."""
    conf = settings(work, name, size)
    spark = runner.session(conf, "bench")
    return {"exposures_wanted": size, "seconds": round(seconds_of(lambda: _write_logs(spark, conf)), 2)}


def night(work: str, name: str, size: int, warm_up: int) -> Record:
    """Seconds of each stage and of the bare operators, in one session, after a small night that warms the JVM up.

    The bare operators of a night run before and after the stages; the faster time counts. Those of a stage alone
    (`bare_seconds`) run after it.
    """
    conf = settings(work, name, size)
    spark = runner.session(conf, "bench")
    _warm_up(spark, settings(work, f"{name}-warm-up", warm_up))
    bare = [seconds_of(lambda: _bare(spark, conf))]
    manifests = [runner.run_stage(runner.Night(spark, conf, DS, name), run) for name, run in STAGES.items()]
    bare.append(seconds_of(lambda: _bare(spark, conf)))
    runner.log.info("bare operators: %s s", " and ".join(f"{s:.1f}" for s in bare))
    counts = {table: account["rows_in"] for table, account in manifests[0]["notes"]["rows"].items()}
    logs = sum(counts[table] for table in ("exposures", "signals", "uploads"))
    stages = [_stage(m, logs) | {"bare_seconds": round(_bare_of(spark, conf, m["stage"]), 3)} for m in manifests]
    return {
        "exposures": counts["exposures"],
        "log_rows": logs,
        "journeys": manifests[1]["outputs"]["journeys"]["rows"],
        "bare": _timed("bare", min(bare), logs) | {"runs": [round(s, 3) for s in bare]},
        "stages": stages,
    }


def _write_logs(spark: SparkSession, conf: Config) -> None:
    for table, day, rows in simulate(spark, conf.simulator, conf.seed, DS):
        spark_tables.write_input(rows, conf, table, day)


def _warm_up(spark: SparkSession, conf: Config) -> None:
    """Every code path once, unmeasured and unsaid."""
    runner.log.setLevel(logging.WARNING)
    _write_logs(spark, conf)
    _bare(spark, conf)
    for name, run in STAGES.items():
        runner.run_stage(runner.Night(spark, conf, DS, name), run)
    runner.log.setLevel(logging.INFO)


def _bare(spark: SparkSession, conf: Config) -> None:
    """The night's exposures, signals and uploads in one table, sorted by user and time: no rule, look-up or check."""
    by_user = _logs(spark, conf).repartition("user_id").sortWithinPartitions("user_id", "event_ts")
    by_user.write.mode("overwrite").parquet(_scratch(conf))


def _bare_of(spark: SparkSession, conf: Config, stage: str) -> float:
    """Seconds of what one stage cannot do without: scan of its inputs, shuffle and sort by its key, write of its rows.

    The rows written are those it made, read back from its table; the time to read them is taken off.
    """
    inputs = [spark_tables.read(spark, conf, table, DS) for table in _INPUTS[stage]] or [_logs(spark, conf)]
    key = _KEYS.get(stage)
    shuffled = [df.repartition(key).sortWithinPartitions(key) if key else df for df in inputs]
    made = spark_tables.read(spark, conf, _OUTPUTS[stage], DS) if stage in _OUTPUTS else _days(spark, conf)
    scanned = sum(seconds_of(partial(_consume, df)) for df in shuffled)
    read_back = seconds_of(lambda: _consume(made))
    written = seconds_of(lambda: made.write.mode("overwrite").parquet(_scratch(conf)))
    return scanned + max(0.0, written - read_back)


def _days(spark: SparkSession, conf: Config) -> DataFrame:
    """What ingest has made of exposures and signals."""
    return ingest.days_as_ingested(runner.Night(spark, conf, DS, "bench"))


def _logs(spark: SparkSession, conf: Config) -> DataFrame:
    hours = conf.journeys
    back = hours.lookback_hours
    frames = [
        spark_tables.read(spark, conf, tables.EXPOSURES, DS, hours_back=back),
        spark_tables.read(spark, conf, tables.SIGNALS, DS, hours_back=back + hours.pre_hours),
        spark_tables.read(spark, conf, tables.UPLOADS, DS, hours_ahead=hours.outcome_window_hours),
    ]
    named = zip(("exposures", "signals", "uploads"), frames, strict=True)
    return reduce(_union, [frame.drop("ds").withColumn("source", F.lit(source)) for source, frame in named])


def _consume(df: DataFrame) -> None:
    """Every row computed in full, nothing kept."""
    df.write.mode("overwrite").format("noop").save()


def _scratch(conf: Config) -> str:
    return storage.join(str(Path(conf.warehouse).parent), "bare")


def _union(a: DataFrame, b: DataFrame) -> DataFrame:
    return a.unionByName(b, allowMissingColumns=True)


def _stage(manifest: Record, logs: int) -> Record:
    """rows: of the stage's main input; for ingest and journeys the log rows, as for the bare operators."""
    name = manifest["stage"]
    table = _MAIN_INPUT.get(name, "journeys")
    rows = logs if name in ("ingest", "build_journeys") else manifest["inputs"][table]["rows"]
    written = {output: facts["rows"] for output, facts in manifest["outputs"].items()}
    return _timed(name, manifest["seconds"], rows) | {"rows_out": written}


def _timed(name: str, seconds: float, rows: int) -> Record:
    return {"stage": name, "seconds": round(seconds, 3), "rows": rows, "rows_per_second": round(rows / seconds)}
