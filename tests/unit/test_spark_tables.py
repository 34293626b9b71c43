"""Reading and publishing tables on storage."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from chispa import assert_df_equality

from almmta_spark import night_log, spark_tables, tables
from almmta_spark.config import Config

DS = "2026-01-15"


@pytest.fixture
def conf(tmp_path: Path) -> Config:
    return replace(Config(), warehouse=str(tmp_path / "warehouse"))


def exposures(spark, *ids):
    rows = [(user, user * 10, datetime(2026, 1, 14, 12, 0, tzinfo=UTC)) for user in ids]
    return spark.createDataFrame(rows, tables.EXPOSURES.ddl)


def rejected(spark, *reasons):
    return spark.createDataFrame([("exposures", r, "{}") for r in reasons], tables.REJECTED_ROWS.ddl)


def test_a_written_night_reads_back_equal(spark, conf):
    df = rejected(spark, "a", "b")
    done = spark_tables.write(df, conf, tables.REJECTED_ROWS, DS, meta={"why": 1})
    assert done.rows == 2
    assert_df_equality(
        spark_tables.read(spark, conf, tables.REJECTED_ROWS, DS), df, ignore_row_order=True, ignore_nullable=True
    )
    assert spark_tables.meta(spark, conf, tables.REJECTED_ROWS, DS) == {"why": 1}


def test_a_rerun_replaces_and_equal_rows_have_equal_checksums(spark, conf):
    first = spark_tables.write(rejected(spark, "a", "b", "c"), conf, tables.REJECTED_ROWS, DS)
    again = spark_tables.write(rejected(spark, "c", "b", "a").repartition(3, "reason"), conf, tables.REJECTED_ROWS, DS)
    other = spark_tables.write(rejected(spark, "c", "b", "d"), conf, tables.REJECTED_ROWS, DS)
    assert first.checksum == again.checksum != other.checksum
    assert spark_tables.read(spark, conf, tables.REJECTED_ROWS, DS).count() == 3


def test_rows_that_come_in_pairs_count_in_the_checksum(spark, conf):
    one = spark_tables.write(rejected(spark, "a", "a", "b"), conf, tables.REJECTED_ROWS, DS)
    two = spark_tables.write(rejected(spark, "c", "c", "b"), conf, tables.REJECTED_ROWS, DS)
    assert one.rows == two.rows and one.checksum != two.checksum


def test_a_night_whose_check_fails_is_not_published(spark, conf):
    def check():
        raise AssertionError("rows do not add up")

    spark_tables.write(rejected(spark, "a"), conf, tables.REJECTED_ROWS, DS)
    with pytest.raises(AssertionError, match="add up"):
        spark_tables.write(rejected(spark, "b"), conf, tables.REJECTED_ROWS, DS, check=check)
    assert [r.reason for r in spark_tables.read(spark, conf, tables.REJECTED_ROWS, DS).collect()] == ["a"]


def test_a_failed_write_leaves_the_published_night_and_no_leftovers(spark, conf):
    spark_tables.write(rejected(spark, "a"), conf, tables.REJECTED_ROWS, DS)
    broken = rejected(spark, "b").selectExpr("source", "raise_error('disk gone') as reason", "row")
    with pytest.raises(Exception, match=r"disk gone|void"):
        spark_tables.write(
            broken.selectExpr("source", "cast(reason as string) reason", "row"), conf, tables.REJECTED_ROWS, DS
        )
    assert [r.reason for r in spark_tables.read(spark, conf, tables.REJECTED_ROWS, DS).collect()] == ["a"]
    versions = [p for p in Path(spark_tables.folder(conf, tables.REJECTED_ROWS, DS)).iterdir() if p.is_dir()]
    assert len(versions) == 1


def test_readers_follow_the_log_not_the_folder(spark, conf):
    done = spark_tables.write(rejected(spark, "a"), conf, tables.REJECTED_ROWS, DS)
    half = Path(spark_tables.folder(conf, tables.REJECTED_ROWS, DS)) / "version=half"
    rejected(spark, "x").write.parquet(str(half))
    assert spark_tables.read(spark, conf, tables.REJECTED_ROWS, DS).count() == 1
    assert night_log.versions(spark, conf, DS) == {"rejected_rows": done.version}


def test_tables_written_under_a_claim_are_drafts_until_it_publishes_them_together(spark, conf):
    spark_tables.write(rejected(spark, "old"), conf, tables.REJECTED_ROWS, DS)
    with night_log.Claim(spark, conf, DS) as claim:
        spark_tables.write(rejected(spark, "new"), conf, tables.REJECTED_ROWS, DS, claim=claim)
        spark_tables.write(spark.createDataFrame([], tables.JOURNEYS.ddl), conf, tables.JOURNEYS, DS, claim=claim)
        drafts = {DS: claim.draft}

        def reasons(**seen):
            return [r.reason for r in spark_tables.read(spark, conf, tables.REJECTED_ROWS, DS, **seen).collect()]

        assert reasons() == ["old"] and reasons(drafts=drafts) == ["new"]
        assert not spark_tables.exists(spark, conf, tables.JOURNEYS, DS)
        claim.publish()
        assert reasons() == ["new"] and spark_tables.exists(spark, conf, tables.JOURNEYS, DS)


def test_files_that_do_not_read_back_as_declared_are_not_published(spark, conf, monkeypatch):
    """A disk that swaps a file for another one between the write and the check."""
    read = spark_tables._verified

    def swapped(spark, table, ds, target, written):
        rejected(spark, "swapped").selectExpr("source", "1 as reason", "row").write.mode("overwrite").parquet(target)
        return read(spark, table, ds, target, written)

    monkeypatch.setattr(spark_tables, "_verified", swapped)
    with pytest.raises(OSError, match=r"table rejected_rows: wrote .* but read back .*'reason': 'int'.*: run again"):
        spark_tables.write(rejected(spark, "a"), conf, tables.REJECTED_ROWS, DS)
    assert not spark_tables.exists(spark, conf, tables.REJECTED_ROWS, DS)


def test_a_null_where_none_may_be_is_not_published(spark, conf):
    df = spark.createDataFrame([("exposures", None, "{}")], "source string, reason string, row string")
    with pytest.raises(AssertionError, match="reason"):
        spark_tables.write(df, conf, tables.REJECTED_ROWS, DS)
    assert not spark_tables.exists(spark, conf, tables.REJECTED_ROWS, DS)


def test_an_unpublished_night_names_table_and_night(spark, conf):
    with pytest.raises(ValueError, match=r"journeys: night ds=2026-01-15 has not been published"):
        spark_tables.read(spark, conf, tables.JOURNEYS, DS)


def test_an_input_window_reads_the_days_it_overlaps(spark, conf):
    for day in ("2026-01-13", "2026-01-14", "2026-01-15"):
        spark_tables.write_input(exposures(spark, int(day[-2:])), conf, tables.EXPOSURES, day)
    back = spark_tables.read(spark, conf, tables.EXPOSURES, DS, hours_back=30)
    assert sorted((r.user_id, r.ds) for r in back.collect()) == [(13, "2026-01-13"), (14, "2026-01-14")]
    ahead = spark_tables.read(spark, conf, tables.EXPOSURES, DS, hours_ahead=24)
    assert [r.user_id for r in ahead.collect()] == [15]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ("select 1L user_id, 2L item_id", r"exposures: column event_ts \(timestamp\) is missing"),
        ("select '1' user_id, 2L item_id, timestamp'2026-01-14' event_ts", r"user_id must be bigint, is string"),
        ("select 1L user_id, 2L item_id, timestamp_ntz'2026-01-14' event_ts", r"event_ts must be timestamp"),
    ],
)
def test_missing_and_retyped_columns_are_named(spark, conf, frame, says):
    spark.sql(frame).write.parquet(spark_tables.folder(conf, tables.EXPOSURES, DS))
    with pytest.raises(ValueError, match=says):
        spark_tables.read(spark, conf, tables.EXPOSURES, DS)


def test_narrower_ids_are_widened_and_extra_columns_ignored(spark, conf):
    spark.sql("select 1 user_id, 2 item_id, timestamp'2026-01-14' event_ts, 'x' extra").write.parquet(
        spark_tables.folder(conf, tables.EXPOSURES, DS)
    )
    assert spark_tables.read(spark, conf, tables.EXPOSURES, DS).dtypes[:3] == [
        ("user_id", "bigint"),
        ("item_id", "bigint"),
        ("event_ts", "timestamp"),
    ]


def test_a_day_without_data_is_an_error_and_an_empty_folder_is_not(spark, conf):
    with pytest.raises(ValueError, match=r"uploads: needs ds=2026-01-15"):
        spark_tables.read(spark, conf, tables.UPLOADS, DS)
    Path(spark_tables.folder(conf, tables.UPLOADS, DS)).mkdir(parents=True)
    assert spark_tables.read(spark, conf, tables.UPLOADS, DS).count() == 0


def test_a_snapshot_is_the_newest_that_does_not_tell_the_future(spark, conf):
    for day in ("2026-01-10", "2026-01-12", "2026-01-16"):
        frame = spark.createDataFrame([(int(day[-2:]), [0.0])], tables.USERS.ddl)
        spark_tables.write_input(frame, conf, tables.USERS, day)
    assert spark_tables.read_snapshot(spark, conf, tables.USERS, "2026-01-14").first().user_id == 12
    with pytest.raises(ValueError, match="users: a snapshot with ds <= 2026-01-01"):
        spark_tables.read_snapshot(spark, conf, tables.USERS, "2026-01-01")


def test_pooled_nights_carry_their_ds(spark, conf):
    days = ("2026-01-14", "2026-01-15")
    for day in days:
        spark_tables.write(rejected(spark, day), conf, tables.REJECTED_ROWS, day)
    pooled = spark_tables.read_nights(spark, conf, tables.REJECTED_ROWS, days)
    assert sorted((r.reason, r.ds) for r in pooled.collect()) == [(d, d) for d in days]
