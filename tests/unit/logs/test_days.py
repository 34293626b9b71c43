"""A day of exposures or signals by user: parts of the day, copies, sums, refused rows, and counts of them all."""

from datetime import timedelta

import pytest
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import JourneysConfig
from almmta_spark.logs import days
from almmta_spark.logs.days import LARGEST_SUM, Counted
from almmta_spark.logs.windows import Windows
from tests.hand_made import DAY_BEFORE, DS, INDEX_TS, before, frame, on_its_day

WINDOWS = Windows.of(DS, JourneysConfig(lookback_hours=36, pre_hours=30))
"""They begin at 12:00 and at 06:00."""
EXPOSURES = [
    *[on_its_day(1, 10, before(5))] * 3,
    on_its_day(1, 20, before(5)),
    on_its_day(1, 10, before(13)),
    on_its_day(2, 10, before(1)),
    *[(None, 10, before(5), DAY_BEFORE)] * 2,
    (1, 10, before(30), DAY_BEFORE),
]
SIGNALS = [
    on_its_day(1, "draft", before(5), 1.5),
    on_its_day(1, "draft", before(4), 2.25),
    on_its_day(1, "draft", before(20), 4.0),
    on_its_day(1, "draft", before(5), -1.0),
    on_its_day(1, "", before(5), 1.0),
]


def by_user(spark, table, rows, num_buckets=2):
    return days.by_user(days.with_status(frame(spark, table, rows, ds=True), table), table, WINDOWS, num_buckets)


def micros(hour):
    return int((INDEX_TS - timedelta(hours=24 - hour)).timestamp() * 1_000_000)


def test_a_users_touches_are_listed_by_part_newest_first_with_their_copies(spark):
    rows = by_user(spark, tables.EXPOSURES, EXPOSURES).where("reason is null").collect()
    found = {(r.user_id, r.part_ts): r for r in rows}
    at = {hour: (INDEX_TS - timedelta(hours=24 - hour)).replace(tzinfo=None) for hour in (6, 12)}
    assert set(found) == {(1, at[12]), (1, at[6]), (2, at[12])}
    both = found[1, at[12]]
    assert (both.num_rows, both.num_kept, sorted(both.item_id)) == (4, 4, [10, 20])
    assert dict(zip(both.item_id, both.copies, strict=True)) == {10: 3, 20: 1}
    assert both.touch_id == sorted(both.touch_id, reverse=True), (
        "both at one instant: the larger id counts as the newer"
    )
    assert found[1, at[6]].touch_ts == [before(13).replace(tzinfo=None)]


def test_values_of_a_signal_are_summed_by_part(spark):
    rows = by_user(spark, tables.SIGNALS, SIGNALS).where("reason is null").collect()
    assert sorted((r.signal, r.millionths, r.num_rows) for r in rows) == [
        ("draft", 3_750_000, 2),
        ("draft", 4_000_000, 1),
    ]


def test_a_sum_beyond_64_bits_stays_at_the_largest(spark):
    many = spark.range(10_000).select(
        F.lit(1).cast("bigint").alias("user_id"),
        F.lit("draft").alias("signal"),
        F.lit(before(5)).alias("event_ts"),
        F.lit(1e9).alias("value"),
        F.lit("used").alias("status"),
    )
    (row,) = days.by_user(many, tables.SIGNALS, WINDOWS, 2).collect()
    assert (row.millionths, row.num_rows) == (LARGEST_SUM, 10_000)


def test_every_row_is_counted_once_with_its_part_or_its_reason(spark):
    found = days.counted(by_user(spark, tables.EXPOSURES, EXPOSURES)) + days.counted(
        by_user(spark, tables.SIGNALS, SIGNALS)
    )
    assert sorted(found, key=str) == sorted(
        [
            Counted("exposures", micros(12), None, None, 5, 5),
            Counted("exposures", micros(6), None, None, 1, 1),
            Counted("exposures", None, None, "null_user_id", 2, 0),
            Counted("exposures", None, None, "event_outside_its_day", 1, 0),
            Counted("signals", micros(12), "draft", None, 2, 2),
            Counted("signals", micros(0), "draft", None, 1, 1),
            Counted("signals", None, None, "negative_value", 1, 1),
            Counted("signals", None, None, "null_signal", 1, 1),
        ],
        key=str,
    )
    assert days.from_json(days.to_json(found)) == sorted(found, key=lambda c: str(list(c)))


def test_refused_rows_come_back_as_often_as_they_were_logged(spark):
    rows = days.refused(by_user(spark, tables.EXPOSURES, EXPOSURES)).collect()
    assert sorted(r.reason for r in rows) == ["event_outside_its_day", "null_user_id", "null_user_id"]
    assert {r.row for r in rows if r.reason == "null_user_id"} == {
        '{"user_id":null,"item_id":10,"event_ts":"2026-01-14T19:00:00.000Z"}'
    }


@pytest.mark.parametrize(("table", "rows"), [(tables.EXPOSURES, EXPOSURES), (tables.SIGNALS, SIGNALS)])
def test_a_day_does_not_depend_on_the_order_of_its_rows(spark, table, rows):
    found = [sorted(map(str, by_user(spark, table, of, n).collect())) for of, n in ((rows, 2), (rows[::-1], 5))]
    assert found[0] == found[1]


@pytest.mark.parametrize(("hour", "part"), [(0, 0), (5.9, 0), (6, 6), (11.9, 6), (12, 12), (23.9, 12)])
def test_windows_hold_a_part_of_the_day_whole_or_not_at_all(hour, part):
    cuts = [c / 3.6e9 for c in WINDOWS.cuts]
    assert max(c for c in cuts if c <= hour) == part
    inside = WINDOWS.has_lookback(micros(part)), WINDOWS.has_lookback(micros(hour))
    assert inside[0] == inside[1]
