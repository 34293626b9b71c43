"""Small hand-made input tables for the tests of the pipeline's stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from almmta_spark import tables
from almmta_spark.config import Config, IngestConfig, SignalConfig
from almmta_spark.logs import days
from almmta_spark.logs.ingest import Logs
from almmta_spark.logs.windows import Windows
from almmta_spark.tables import Table

DS = "2026-01-15"
DAY_BEFORE = "2026-01-14"
INDEX_TS = datetime(2026, 1, 15, tzinfo=UTC)

CONF = replace(
    Config(),
    ingest=IngestConfig(user_buckets=2),
    signals={
        "camera": SignalConfig(("outcome_proxy",)),
        "search": SignalConfig(("intent_proxy",)),
        "draft": SignalConfig(("outcome_proxy", "intent_proxy")),
    },
)


def before(hours: float) -> datetime:
    """That many hours before index_ts."""
    return INDEX_TS - timedelta(hours=hours)


def after(hours: float) -> datetime:
    return INDEX_TS + timedelta(hours=hours)


def frame(spark: SparkSession, table: Table, rows: Sequence[tuple[Any, ...]], ds: bool = False) -> DataFrame:
    """Rows of a table, nulls allowed; with ds, each row's last value is its folder's date."""
    ddl = ", ".join(f"{c.name} {c.type}" for c in table.columns) + (", ds string" if ds else "")
    return spark.createDataFrame(list(rows), ddl)


def on_its_day(*row: Any) -> tuple[Any, ...]:
    """The row with the date of its event_ts appended."""
    ts = next(v for v in row if isinstance(v, datetime))
    return (*row, ts.strftime(tables.DS_FORMAT))


def logs(
    spark: SparkSession,
    exposures: Sequence[tuple[Any, ...]] = (),
    signals: Sequence[tuple[Any, ...]] = (),
    uploads: Sequence[tuple[Any, ...]] = (),
    items: Sequence[tuple[Any, ...]] = ((10, 100, 1, None), (20, 100, 2, None)),
    users: Sequence[tuple[Any, ...]] = ((1, [0.5, 1.0]), (2, [1.5, 2.0])),
    withholdings: Sequence[tuple[Any, ...]] | None = None,
) -> Logs:
    """A night's input; event rows carry their folder's date last."""
    by_user = days_of(spark, exposures, signals)
    withheld = None if withholdings is None else frame(spark, tables.WITHHOLDINGS, withholdings, ds=True)
    return Logs(
        days=by_user,
        counted=days.counted(by_user),
        uploads=frame(spark, tables.UPLOADS, uploads, ds=True),
        items=frame(spark, tables.ITEMS, items),
        users=frame(spark, tables.USERS, users),
        withholdings=withheld,
    )


def days_of(spark: SparkSession, exposures: Sequence[tuple[Any, ...]], signals: Sequence[tuple[Any, ...]]) -> DataFrame:
    """`event_days` of rows that carry their folder's date last."""
    parts = []
    for table, rows in ((tables.EXPOSURES, exposures), (tables.SIGNALS, signals)):
        with_status = days.with_status(frame(spark, table, rows, ds=True), table)
        parts.append(days.by_user(with_status, table, Windows.of(DS, CONF.journeys), CONF.ingest.user_buckets))
    return parts[0].unionByName(parts[1])
