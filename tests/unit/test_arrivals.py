"""Late rows: told by when their files were written, whatever the order of runs."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from almmta_spark import arrivals, night_log, spark_tables, tables
from almmta_spark.config import Config

DS, DAY = "2026-01-15", "2026-01-14"
DAYS = {"exposures": [DAY], "uploads": [DS]}


@pytest.fixture
def conf(tmp_path):
    return replace(Config(), warehouse=str(tmp_path / "warehouse"))


def add(spark, conf, users, hours):
    """Another file of the day's exposures, written so many hours after the epoch of this test."""
    folder = Path(spark_tables.folder(conf, tables.EXPOSURES, DAY))
    there = set(folder.rglob("*.parquet"))
    rows = [(user, 1, datetime(2026, 1, 14, 12, tzinfo=UTC)) for user in users]
    spark.createDataFrame(rows, tables.EXPOSURES.ddl).coalesce(1).write.mode("append").parquet(str(folder))
    (new,) = set(folder.rglob("*.parquet")) - there
    written = (EPOCH + timedelta(hours=hours)).timestamp()
    os.utime(new, (written, written))


EPOCH = datetime(2026, 1, 16, tzinfo=UTC)


def test_rows_are_late_where_their_file_came_after_the_night_was_first_read(spark, conf):
    add(spark, conf, [1, 2, 3], hours=0)
    assert arrivals.late_rows(spark, conf, DAYS, EPOCH) == {"exposures": 0, "uploads": 0}
    add(spark, conf, [4, 5], hours=1)
    add(spark, conf, [6], hours=2)
    assert arrivals.late_rows(spark, conf, DAYS, EPOCH)["exposures"] == 3
    assert arrivals.late_rows(spark, conf, DAYS, EPOCH + timedelta(hours=1))["exposures"] == 1


def test_late_files_in_sub_folders_are_late_too(spark, conf):
    add(spark, conf, [1, 2], hours=1)
    day = Path(spark_tables.folder(conf, tables.EXPOSURES, DAY))
    (file,) = day.glob("*.parquet")
    for part in ("hour=00", "_temporary"):  # the second is hidden
        (day / part).mkdir()
        (day / part / file.name).write_bytes(file.read_bytes())
        assert arrivals.late_rows(spark, conf, DAYS, EPOCH)["exposures"] == 4
    assert spark_tables.read_day(spark, conf, tables.EXPOSURES, DAY).count() == 4


def test_the_first_reading_of_a_night_is_noted_once(conf):
    before = datetime.now(UTC)
    first = arrivals.first_read(None, conf, DS)
    assert before <= first <= datetime.now(UTC)
    assert arrivals.first_read(None, conf, DS) == first != arrivals.first_read(None, conf, DAY)
    assert night_log.latest(None, conf, DS) == night_log.Entry()  # no entry of the night's log


def test_a_night_made_anew_counts_as_never_read(conf):
    first = arrivals.first_read(None, conf, DS)
    arrivals.forget(None, conf, DS)
    assert arrivals.first_read(None, conf, DS) > first
