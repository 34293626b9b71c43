"""Journeys from hand-made days: windows, duplicates, caps, sums, and no shuffle of what lies in buckets."""

import re
from dataclasses import replace
from typing import NamedTuple

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark import spark_tables, tables
from almmta_spark.config import MOST_TOUCHPOINTS, JourneysConfig
from almmta_spark.journeys.build import build_journeys
from almmta_spark.logs.accounting import Account
from almmta_spark.logs.days import by_user
from almmta_spark.logs.ingest import accepted_users, ingest
from almmta_spark.logs.summary import IngestSummary
from almmta_spark.logs.windows import Windows
from tests.hand_made import CONF, DS, after, before, frame, logs, on_its_day

NIGHT = {
    "exposures": [
        on_its_day(1, 10, before(5)),
        on_its_day(1, 20, before(1.5)),
        on_its_day(1, 20, before(1.5)),
        on_its_day(1, 10, before(24)),
        on_its_day(2, 10, before(3)),
    ],
    "signals": [
        on_its_day(1, "camera", before(2), 1.0),
        on_its_day(1, "camera", before(20), 0.1),
        on_its_day(1, "camera", before(21), 0.2),
        on_its_day(1, "draft", before(2), 3.0),
        on_its_day(1, "draft", before(30), 5.0),
        on_its_day(1, "search", before(30), 1.0),
        on_its_day(3, "camera", before(2), 1.0),
    ],
    "uploads": [
        on_its_day(1, 72, after(2), [1.0, 0.0]),
        on_its_day(1, 71, after(1), None),
        on_its_day(3, 73, after(1), None),
    ],
    "users": [(1, [0.5, 1.0]), (2, [1.5, 2.0]), (3, [1.5, 2.0])],
}


class Ingested(NamedTuple):
    days: DataFrame
    uploads: DataFrame
    item_clusters: DataFrame
    users: DataFrame


def built(found, conf=CONF.journeys, **options):
    return build_journeys(*found, DS, conf, CONF.signals, **options)


@pytest.fixture(scope="module")
def ingested(spark):
    night = logs(spark, **NIGHT)
    found = ingest(night, DS, CONF)
    return Ingested(night.days, found.uploads, found.item_clusters, accepted_users(night.users, found.summary)), found


@pytest.fixture(scope="module")
def journeys(ingested):
    found = built(ingested[0])
    return found, found.table.collect()


@pytest.fixture(scope="module")
def night(ingested, journeys):
    found, rows = journeys
    return {r.user_id: r for r in rows}, found.accounts(ingested[1].summary)


def test_a_journey_holds_the_touches_of_the_window_oldest_first_and_once(night):
    rows, _ = night
    touches = rows[1].touches
    assert [(t.item_id, t.author_id, t.cluster) for t in touches] == [(10, 100, 1), (10, 100, 1), (20, 100, 2)]
    assert [t.age_hours for t in touches] == [24.0, 5.0, 1.5]
    assert [t.touch_ts for t in touches] == sorted(t.touch_ts for t in touches)


def test_ids_are_the_hashes_of_the_contract(spark, night):
    rows, _ = night
    one = spark.range(1).select(
        F.xxhash64(F.lit(1).cast("bigint"), F.lit(DS)).alias("journey_id"),
        F.xxhash64(F.lit(1).cast("bigint"), F.lit(20).cast("bigint"), F.lit(before(1.5))).alias("touch_id"),
    )
    assert tuple(one.first()) == (rows[1].journey_id, rows[1].touches[-1].touch_id)


def test_every_user_with_a_touch_has_one_journey_and_no_other_user_has(night):
    rows, _ = night
    assert set(rows) == {1, 2}
    assert (rows[1].outcome, rows[2].outcome) == (1, 0)
    assert rows[2].outcome_proxies == rows[2].intent_proxies == rows[2].uploads == []
    assert rows[1].covariates == [0.5, 1.0]


def test_signals_are_summed_by_name_and_window(night):
    rows, _ = night
    assert [tuple(s) for s in rows[1].outcome_proxies] == [("camera", 1.3), ("draft", 3.0)]
    assert [tuple(s) for s in rows[1].intent_proxies] == [("draft", 5.0), ("search", 1.0)]


def test_uploads_are_kept_oldest_first_with_their_content(night):
    rows, _ = night
    assert [(u.upload_id, u.embedding) for u in rows[1].uploads] == [(71, None), (72, [1.0, 0.0])]


def test_every_input_row_is_accounted_for(night):
    _, accounts = night
    exposures, signals, uploads, users = (accounts[n] for n in ("exposures", "signals", "uploads", "users"))
    assert (exposures.rows_in, exposures.used, exposures.deduplicated) == (5, 4, 1)
    assert (signals.rows_in, signals.used, signals.without_journey) == (7, 6, 1)
    assert (uploads.rows_in, uploads.used, uploads.without_journey) == (3, 2, 1)
    assert (users.rows_in, users.used, users.without_journey) == (3, 2, 1)


def test_accounts_that_do_not_add_up_are_an_assertion(ingested, journeys):
    summary = ingested[1].summary
    wrong = replace(summary.accounts["exposures"], rows_in=6, used=6)
    with pytest.raises(AssertionError, match="exposures"):
        journeys[0].accounts(replace(summary, accounts={**summary.accounts, "exposures": wrong}))


def test_a_hot_user_is_capped_to_the_newest_touches_and_the_oldest_uploads(spark):
    """1e5 exposures of one user, three a millisecond, so that the cap falls inside a tie."""
    micros = F.lit(int(before(3).timestamp() * 1e6)) + F.floor(F.col("id") / 3) * 1000
    hot = spark.range(100_000).select(
        F.lit(1).cast("bigint").alias("user_id"),
        (F.col("id") % 3).alias("item_id"),
        F.timestamp_micros(micros).alias("ts"),
    )
    touches = hot.withColumn("touch_id", F.xxhash64("user_id", "item_id", "ts"))
    exposures = hot.withColumnRenamed("ts", "event_ts").withColumn("status", F.lit("used"))
    days = by_user(exposures, tables.EXPOSURES, Windows.of(DS, CONF.journeys), 2)
    uploads = frame(spark, tables.UPLOADS, [(1, n, after(n), None) for n in range(6, 0, -1)])
    items = frame(spark, tables.ITEM_CLUSTERS, [(n, 1, 1, None) for n in range(3)])
    users = frame(spark, tables.USERS, [(1, [0.5])])
    journeys = built(Ingested(days, uploads, items, users), JourneysConfig(max_touchpoints=4))
    (row,) = journeys.table.collect()
    newest = touches.orderBy(F.desc("ts"), F.desc("touch_id")).limit(4).collect()
    assert [t.touch_id for t in reversed(row.touches)] == [r.touch_id for r in newest]
    assert [u.upload_id for u in row.uploads] == [1, 2, 3, 4]
    books = {
        "exposures": Account(100_000, MOST_TOUCHPOINTS, capped=100_000 - MOST_TOUCHPOINTS),
        "signals": Account(0, 0),
        "uploads": Account(6, 6),
        "users": Account(1, 1),
    }
    accounts = journeys.accounts(IngestSummary(books, 0, 1, "given", {}, ()))
    assert (accounts["exposures"].used, accounts["exposures"].capped) == (4, 99_996)
    assert (accounts["uploads"].used, accounts["uploads"].capped) == (4, 2)


def test_the_result_does_not_depend_on_how_days_are_partitioned(ingested, journeys):
    shuffled = ingested[0].days.orderBy(F.desc("num_rows"), F.desc("part_ts")).coalesce(1)
    assert sorted(built(ingested[0]._replace(days=shuffled)).table.collect()) == sorted(journeys[1])


def test_items_too_many_to_broadcast_are_joined_with_the_same_result(ingested, journeys):
    found = built(ingested[0], broadcast_items=False)
    assert sorted(found.table.collect()) == sorted(journeys[1])
    assert found.accounts(ingested[1].summary) == journeys[0].accounts(ingested[1].summary)


def test_days_in_buckets_are_not_shuffled_again(spark, ingested, journeys, tmp_path):
    """Users and the night's uploads come to them."""
    conf = replace(CONF, warehouse=str(tmp_path))
    parts = ingested[0].days.repartition(3, "user_id")
    done = spark_tables.write_buckets(parts, conf, tables.EVENT_DAYS, DS, "v", 3, lambda back: {"n": back.count()})
    days = spark_tables.read_buckets(spark, conf, tables.EVENT_DAYS, [done], 3)
    limit = spark.conf.get("spark.sql.autoBroadcastJoinThreshold")
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    try:
        table = built(ingested[0]._replace(days=days)).table
        plan = table._jdf.queryExecution().executedPlan().toString()
        rows = table.collect()
    finally:
        spark.conf.set("spark.sql.autoBroadcastJoinThreshold", limit)
    assert done.meta == {"n": done.rows} and sorted(rows) == sorted(journeys[1])
    scan = plan.index("almmta_read_")
    merging = plan[: plan.rindex("SortMergeJoin", 0, scan)]
    above = [line for line in plan[len(merging) : scan].splitlines() if "Exchange" in line]
    assert "Bucketed: true" in plan and not above, plan
    exchanged = re.findall(r"Exchange hashpartitioning\(([^,]*)", plan)
    assert {key.split("#")[0] for key in exchanged} <= {"user_id", "upload_id"}, plan
