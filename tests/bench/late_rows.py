"""Logs that come late: delivered night by night, rows of some days one or two nights late and some of these twice."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from almmta_spark import config, event_days, manifest, reruns, runner, spark_tables, tables
from almmta_spark.config import Config
from almmta_spark.night_log import Claim
from almmta_spark.simulator.write_logs import simulate
from tests.bench.measure import ROOT, Record

FIRST = "2026-01-15"
LOOKBACK_DAYS = 7
DELIVERED = (tables.EXPOSURES, tables.SIGNALS, tables.UPLOADS)
LATENESS = 2
"""Nights that the latest rows come late."""
_THOUSANDTHS_LATE = {1: 20, 2: 10}
_THOUSANDTHS_TWICE = 10


# ---- logs that come late --------------------------------------------------------------------------------------------


def settings(warehouse: str, num_users: int, num_nights: int, *overrides: str) -> Config:
    """conf/local.yaml with a lookback of LOOKBACK_DAYS, and the logs that the nights from FIRST on read."""
    conf = config.load(
        ROOT / "conf" / "local.yaml",
        [
            f"warehouse={warehouse}",
            f"journeys.lookback_hours={24 * LOOKBACK_DAYS}",
            f"lateness_nights={LATENESS}",
            f"simulator.num_users={num_users}",
            *("simulator.truth_share=0", "simulator.withholding_share=0", "simulator.randomised_users=0"),
            *overrides,
        ],
    )
    days_back = len(spark_tables.days_between(FIRST, conf.journeys.lookback_hours, 0.0))
    return replace(conf, simulator=replace(conf.simulator, num_nights=num_nights + days_back))


def nights(num_nights: int) -> list[str]:
    return [spark_tables.shift(FIRST, n) for n in range(num_nights)]


def write_logs(spark: SparkSession, conf: Config, last: str) -> None:
    """All that will ever be logged, under <warehouse>/../all."""
    for table, day, rows in simulate(spark, conf.simulator, conf.seed, last):
        if table in tables.INPUTS:
            spark_tables.write_input(rows, _all_logs(conf), table, day)


def deliver(spark: SparkSession, conf: Config, ds: str, late_days: Collection[str] = ()) -> list[str]:
    """Adds to the warehouse what arrives between the night before and this one. Returns the earlier days that grew.

    late_days: days of which rows come late; what is not there yet of other days comes whole.
    """
    logs, grown = _all_logs(conf), set()
    for table in (*DELIVERED, tables.ITEMS, tables.USERS):
        there = spark_tables.input_days(spark, conf, table)
        for day in (d for d in spark_tables.input_days(spark, logs, table) if d <= ds):
            nights_late = (spark_tables.index_ts(ds) - spark_tables.index_ts(day)).days if day in there else 0
            comes_late = day in late_days and table in DELIVERED and nights_late <= LATENESS
            if day in there and not comes_late:
                continue
            rows = spark_tables.read_day(spark, logs, table, day).drop("ds")
            rows = rows.where(_arrives(table, nights_late)) if comes_late else rows
            rows.coalesce(1).write.mode("append").parquet(spark_tables.folder(conf, table, day))
            grown |= {day} & set(there)
    return sorted(grown)


def _arrives(table: tables.Table, delay: int) -> Column:
    """Whether a row arrives so many nights late; some that do so by one night come again with those by two."""
    draw = F.pmod(F.xxhash64(F.lit("late"), *table.column_names), F.lit(1000))
    ends = {n: sum(_THOUSANDTHS_LATE[m] for m in range(1, n + 1)) for n in range(LATENESS + 1)}
    if delay == 0:
        return draw >= ends[LATENESS]
    again = draw < (_THOUSANDTHS_TWICE if delay == 2 else 0)
    return ((draw >= ends[delay - 1]) & (draw < ends[delay])) | again


def _all_logs(conf: Config) -> Config:
    return replace(conf, warehouse=str(Path(conf.warehouse).parent / "all"))


# ---- nights ---------------------------------------------------------------------------------------------------------


def run(
    spark: SparkSession, conf: Config, ds: str, stages: Mapping[str, runner.Stage], later: Sequence[str] = ()
) -> list[str]:
    """A night as jobs/nightly runs it, with these stages. Returns those that ran."""
    with Claim(spark, conf, ds) as claim:
        reruns.begin(spark, conf, ds, later)
        of_stages = [runner.Night(spark, conf, ds, name, claim) for name in stages]
        ran = [n.stage for n in of_stages if runner.run_if_changed(n, stages[n.stage])]
        claim.publish()
        reruns.end(spark, conf, ds)
    return ran


def due_nights(spark: SparkSession, conf: Config, ds: str, stages: Mapping[str, runner.Stage]) -> dict[str, list[str]]:
    """What jobs/nightly runs before this night: the stages of each that ran."""
    due, ran = reruns.due(spark, conf, ds), dict[str, list[str]]()

    def again(night: str) -> None:
        ran[night] = run(spark, conf, night, stages, [n for n in (*due, ds) if n > night])

    failed = reruns.run(spark, conf, due, again)
    assert not failed, failed
    return ran


def night_after_night(
    spark: SparkSession,
    conf: Config,
    wanted: Sequence[str],
    stages: Mapping[str, runner.Stage],
    late_days: Collection[str],
) -> Iterator[Record]:
    """Delivers and runs one night after the other, each after those that late rows have changed: what each has done."""
    for ds in wanted:
        grown = deliver(spark, conf, ds, late_days)
        again = due_nights(spark, conf, ds, stages)
        ran = {**again, ds: run(spark, conf, ds, stages)}
        yield {
            "night": ds,
            "days_grown": grown,
            "nights_again": list(again),
            "ran": ran,
            "written": days_written(spark, conf, ds),
        }


def days_written(spark: SparkSession, conf: Config, ds: str) -> list[str]:
    """`source day` of what the night itself has written to event_days."""
    found = []
    for source, of_day in spark_tables.meta(spark, conf, tables.ACCEPTED_UPLOADS, ds)["event_days"].items():
        versions = [event_days.find(spark, conf, tables.BY_NAME[source], day) for day in of_day]
        found += [f"{source} {v.ds}" for v in versions if v is not None and event_days.is_of(v, ds)]
    return sorted(found)


def logs_alone(conf: Config, to: str) -> Config:
    """A warehouse with the input tables of this one, as they are, and nothing that a night made of them."""
    for table in tables.INPUTS:
        source = Path(conf.warehouse, table.name)
        if source.is_dir():
            shutil.copytree(source, Path(to, table.name))
    return replace(conf, warehouse=to)


def digests(spark: SparkSession, conf: Config, ds: str) -> dict[str, str]:
    """SHA-256 of the sorted rows of each table that the night has made."""
    made = [name for m in manifest.manifests(spark, conf, ds) for name in m["outputs"]]
    return {name: rows_digest(spark_tables.read(spark, conf, tables.BY_NAME[name], ds)) for name in sorted(made)}


def rows_digest(df: DataFrame) -> str:
    """64 bytes a row on the driver."""
    rows = df.select(F.sha2(F.to_json(F.struct(*df.columns), {"ignoreNullFields": "false"}), 256).alias("row"))
    return hashlib.sha256("".join(sorted(r.row for r in rows.toLocalIterator())).encode()).hexdigest()
