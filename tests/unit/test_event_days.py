"""Days kept for all nights: which version is a day's, what replaces it, what is cleared away. A warehouse on disk."""

import os
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from almmta_spark import event_days, manifest, spark_tables, tables
from almmta_spark.config import Config, IngestConfig
from almmta_spark.logs.days import Counted
from tests.hand_made import DAY_BEFORE, DS, before, frame

LATER = "2026-01-16"
DAYS = {"exposures": [DAY_BEFORE], "signals": [DAY_BEFORE]}


@pytest.fixture(params=[str, os.path.relpath], ids=["absolute", "relative"])
def conf(spark, tmp_path, request):
    warehouse = request.param(tmp_path / "it's a warehouse")
    conf = replace(Config(), warehouse=warehouse, ingest=IngestConfig(user_buckets=2))
    log(spark, conf, tables.EXPOSURES, "a", [(1, 10, before(3)), (2, 10, before(4)), (None, 10, before(4))])
    log(spark, conf, tables.SIGNALS, "a", [])
    return conf


def log(spark, conf, table, name, rows):
    folder = Path(spark_tables.folder(conf, table, DAY_BEFORE))
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(frame(spark, table, rows).toArrow(), folder / f"{name}.parquet")


def names(conf):
    return sorted(
        p.name for p in Path(spark_tables.folder(conf, tables.EVENT_DAYS, DAY_BEFORE)).iterdir() if p.is_dir()
    )


def test_a_day_is_written_by_the_first_night_that_needs_it_and_found_by_the_next(spark, conf):
    first = event_days.written(spark, conf, DS, DAYS)
    assert event_days.written(spark, conf, LATER, DAYS) == first
    assert [event_days.is_of(v, DS) for v in first] == [True, True] and not event_days.is_of(first[0], LATER)
    assert set(event_days.counted(first)) == {
        Counted("exposures", None, None, "null_user_id", 1, 0),
        Counted("exposures", int(before(24).timestamp()) * 1_000_000, None, None, 2, 2),
    }
    rows = event_days.read(spark, conf, first)
    assert {r.user_id for r in rows.where("reason is null").collect()} == {1, 2}
    assert event_days.read(spark, conf, [first[1]]).isEmpty(), "a day without signals is a day"


def test_late_rows_make_their_day_another_and_leave_the_others(spark, conf):
    exposures, signals = event_days.written(spark, conf, DS, DAYS)
    log(spark, conf, tables.EXPOSURES, "late", [(3, 10, before(5))])
    found = event_days.written(spark, conf, LATER, DAYS)
    assert found[1] == signals and event_days.is_of(found[0], LATER) and found[0].rows == exposures.rows + 1
    assert event_days.fingerprints(found)["signals"] == event_days.fingerprints([signals])["signals"]
    assert event_days.fingerprints(found) != event_days.fingerprints([exposures, signals])


def test_a_night_that_has_begun_reads_on_what_it_began_with_though_rows_come_late(spark, conf):
    began = event_days.written(spark, conf, DS, DAYS)
    wanted = event_days.fingerprints(began)
    log(spark, conf, tables.EXPOSURES, "late", [(3, 10, before(5))])
    assert event_days.with_fingerprints(spark, conf, DS, wanted) == began
    event_days.written(spark, conf, LATER, DAYS)
    assert event_days.with_fingerprints(spark, conf, DS, wanted) == began
    for version in began:
        Path(spark_tables.folder(conf, tables.EVENT_DAYS, DAY_BEFORE), f"version={version.version}.json").unlink()
    with pytest.raises(ValueError, match=r"table exposures: ds=2026-01-14 must be as it was when ingest ran"):
        event_days.with_fingerprints(spark, conf, DS, wanted)
    signals = event_days.with_fingerprints(spark, conf, DS, {"signals": wanted["signals"]})
    assert event_days.fingerprints(signals)["signals"] == wanted["signals"], "written again, the same"


def test_equal_rows_have_equal_fingerprints_whoever_wrote_them_and_other_code_writes_anew(spark, conf, monkeypatch):
    first = event_days.written(spark, conf, DS, DAYS)
    monkeypatch.setattr(manifest, "code_version", lambda: "other")
    again = event_days.written(spark, conf, LATER, DAYS)
    assert all(event_days.is_of(v, LATER) for v in again)
    assert event_days.fingerprints(first) == event_days.fingerprints(again)


def test_what_a_dead_run_of_the_night_left_is_cleared_and_what_others_may_be_at_is_not(spark, conf):
    for left in ("20260115_dead", "20260116_alive"):
        Path(spark_tables.folder(conf, tables.EVENT_DAYS, DAY_BEFORE), f"version={left}").mkdir(parents=True)
    event_days.written(spark, conf, DS, DAYS)
    assert "version=20260115_dead" not in names(conf) and "version=20260116_alive" in names(conf)


def test_a_replaced_version_stays_for_keep_nights_from_when_it_was_replaced(spark, conf):
    def written_long_ago(version):
        card = Path(spark_tables.folder(conf, tables.EVENT_DAYS, DAY_BEFORE), f"version={version.version}.json")
        os.utime(card, (1, 1))

    first, signals = event_days.written(spark, conf, DS, DAYS)
    written_long_ago(first), written_long_ago(signals)
    log(spark, conf, tables.EXPOSURES, "late", [(3, 10, before(5))])
    second, _ = event_days.written(spark, conf, LATER, DAYS)
    event_days.written(spark, conf, LATER, DAYS)
    every = {f"version={v.version}" for v in (first, second, signals)}
    assert every == set(names(conf)), "a night that began before may be reading the first"
    os.utime(Path(spark_tables.folder(conf, tables.EVENT_DAYS, DAY_BEFORE), f"version={first.version}.json"), (0, 0))
    written_long_ago(second)
    assert event_days.written(spark, conf, LATER, DAYS) == [second, signals]
    assert set(names(conf)) == every - {f"version={first.version}"}


def test_a_day_that_is_not_there_is_refused(spark, conf):
    with pytest.raises(ValueError, match="table exposures: needs ds=2026-01-13"):
        event_days.written(spark, conf, DS, {"exposures": ["2026-01-13"]})
