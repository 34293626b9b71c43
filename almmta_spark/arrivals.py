"""Rows that came late: in files that were written, or written again, after their night had first been read.

A night's first ingest leaves the time in <warehouse>/_nights/ds=D/first_read; no later run changes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from almmta_spark import night_log, spark_tables, storage, tables
from almmta_spark.config import Config
from almmta_spark.storage import Spark


def first_read(spark: Spark, conf: Config, ds: str) -> datetime:
    """When the night was first read: now, unless it has been before."""
    storage.put_new(spark, _url(conf, ds), datetime.now(UTC).isoformat().encode())
    text = storage.read_text(spark, _url(conf, ds))
    assert text is not None
    return datetime.fromisoformat(text)


def forget(spark: Spark, conf: Config, ds: str) -> None:
    """The night counts as never read."""
    storage.delete(spark, _url(conf, ds))


def late_rows(spark: SparkSession, conf: Config, days: Mapping[str, Sequence[str]], since: datetime) -> dict[str, int]:
    """Rows by input table, on those days, in files written after an instant.

    Cost: a listing of each day, and the Parquet footers of the late files alone.
    """
    return {name: _rows(spark, _late_files(spark, conf, name, of, since)) for name, of in days.items()}


def _late_files(spark: Spark, conf: Config, table: str, days: Sequence[str], since: datetime) -> list[str]:
    folders = [spark_tables.folder(conf, tables.BY_NAME[table], day) for day in days]
    millis = since.timestamp() * 1000
    return [
        storage.join(folder, *name.split("/"))
        for folder in folders
        for name, _, written in storage.files_below(spark, folder)
        if written > millis and not name.startswith(("_", "."))
    ]


def _rows(spark: SparkSession, files: Sequence[str]) -> int:
    return spark.read.parquet(*files).count() if files else 0


def _url(conf: Config, ds: str) -> str:
    return storage.join(night_log.folder(conf, ds), "first_read")
