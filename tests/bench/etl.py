"""Raw logs to training examples, beside what any such job needs: scan, shuffle and sort by user, write."""

from __future__ import annotations

import logging
from functools import reduce
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
_MAIN_INPUT = {"build_journeys": "events", "fit_propensity": "journeys", "build_pairs": "journeys"}


def write_logs(work: str, name: str, size: int) -> Record:
    """The input tables of a night with about `size` exposures, without the truth behind them."""
    conf = settings(work, name, size)
    spark = runner.session(conf, "bench")
    return {"exposures_wanted": size, "seconds": round(seconds_of(lambda: _write_logs(spark, conf)), 2)}


def night(work: str, name: str, size: int, warm_up: int) -> Record:
    """Seconds of each stage and of the bare operators, in one session, after a small night that warms the JVM up.

    The bare operators run before and after the stages; the faster time counts.
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
    stages = [_stage(manifest, logs) for manifest in manifests]
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
    hours = conf.journeys
    back = hours.lookback_hours
    frames = [
        spark_tables.read(spark, conf, tables.EXPOSURES, DS, hours_back=back),
        spark_tables.read(spark, conf, tables.SIGNALS, DS, hours_back=back + hours.pre_hours),
        spark_tables.read(spark, conf, tables.UPLOADS, DS, hours_ahead=hours.outcome_window_hours),
    ]
    named = zip(("exposures", "signals", "uploads"), frames, strict=True)
    every = reduce(_union, [frame.drop("ds").withColumn("source", F.lit(source)) for source, frame in named])
    by_user = every.repartition("user_id").sortWithinPartitions("user_id", "event_ts")
    by_user.write.mode("overwrite").parquet(storage.join(str(Path(conf.warehouse).parent), "bare"))


def _union(a: DataFrame, b: DataFrame) -> DataFrame:
    return a.unionByName(b, allowMissingColumns=True)


def _stage(manifest: Record, logs: int) -> Record:
    """rows: of the stage's main input; for ingest the log rows, as for the bare operators."""
    name = manifest["stage"]
    table = _MAIN_INPUT.get(name, "journeys")
    rows = logs if name == "ingest" else manifest["inputs"][table]["rows"]
    written = {output: facts["rows"] for output, facts in manifest["outputs"].items()}
    return _timed(name, manifest["seconds"], rows) | {"rows_out": written}


def _timed(name: str, seconds: float, rows: int) -> Record:
    return {"stage": name, "seconds": round(seconds, 3), "rows": rows, "rows_per_second": round(rows / seconds)}
