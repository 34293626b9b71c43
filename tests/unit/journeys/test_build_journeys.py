"""Journeys from hand-made events: windows, duplicates, caps, sums, and one shuffle by user."""

import re
from dataclasses import replace

import pytest
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import JourneysConfig
from almmta_spark.journeys.build import build_journeys
from almmta_spark.logs.accounting import Account
from almmta_spark.logs.ingest import accepted_users, ingest
from almmta_spark.logs.summary import IngestSummary
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


@pytest.fixture(scope="module")
def ingested(spark):
    night = logs(spark, **NIGHT)
    found = ingest(night, DS, CONF)
    return found.events, accepted_users(night.users, found.summary), found.summary


@pytest.fixture(scope="module")
def journeys(ingested):
    events, users, _ = ingested
    found = build_journeys(events, users, DS, CONF.journeys)
    return found, found.table.collect()


@pytest.fixture(scope="module")
def night(ingested, journeys):
    found, rows = journeys
    return {r.user_id: r for r in rows}, found.accounts(ingested[2])


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
    summary = ingested[2]
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
    uploads = frame(
        spark,
        tables.EVENTS,
        [(1, "uploads", after(n), None, None, None, None, None, None, n, None) for n in range(6, 0, -1)],
    )
    values = {"source": F.lit("exposures"), "event_ts": F.col("ts"), "author_id": F.lit(1), "cluster": F.lit(1)}
    known = {**{n: F.col(n) for n in ("user_id", "item_id", "touch_id")}, **values}
    events = touches.select(*[known.get(c.name, F.lit(None)).cast(c.type).alias(c.name) for c in tables.EVENTS.columns])
    users = frame(spark, tables.USERS, [(1, [0.5])])
    journeys = build_journeys(events.unionByName(uploads), users, DS, JourneysConfig(max_touchpoints=4))
    (row,) = journeys.table.collect()
    newest = touches.orderBy(F.desc("ts"), F.desc("touch_id")).limit(4).collect()
    assert [t.touch_id for t in reversed(row.touches)] == [r.touch_id for r in newest]
    assert [u.upload_id for u in row.uploads] == [1, 2, 3, 4]
    books = {
        "exposures": Account(100_000, 100_000),
        "signals": Account(0, 0),
        "uploads": Account(6, 6),
        "users": Account(1, 1),
    }
    accounts = journeys.accounts(IngestSummary(books, 0, 1, "given", {}, ()))
    assert (accounts["exposures"].used, accounts["exposures"].capped) == (4, 99_996)
    assert (accounts["uploads"].used, accounts["uploads"].capped) == (4, 2)


def test_the_result_does_not_depend_on_how_events_are_partitioned(ingested, journeys):
    events, users, _ = ingested
    other = build_journeys(events.orderBy(F.desc("event_ts")).coalesce(1), users, DS, CONF.journeys).table
    assert sorted(other.collect()) == sorted(journeys[1])


def test_events_are_shuffled_once_by_user_and_never_again(spark):
    events = frame(spark, tables.EVENTS, [(1, "exposures", before(1), 5, 10, 1, 1, None, None, None, None)])
    users = frame(spark, tables.USERS, [(1, [0.5])])
    limit = spark.conf.get("spark.sql.autoBroadcastJoinThreshold")
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    try:
        table = build_journeys(events, users, DS, CONF.journeys).table
        plan = table._jdf.queryExecution().executedPlan().toString()
    finally:
        spark.conf.set("spark.sql.autoBroadcastJoinThreshold", limit)
    exchanges = re.findall(r"Exchange (\w+)\(([^,]*)", plan)
    assert [(kind, key.split("#")[0]) for kind, key in exchanges] == [("hashpartitioning", "user_id")] * 2, plan
