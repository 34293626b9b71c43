"""Ingest on hand-made dirt: what is refused and why, what is outside the night, and that nothing is lost silently."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from almmta_spark.config import IngestConfig
from almmta_spark.logs import days
from almmta_spark.logs.ingest import accepted_withholdings, ingest
from almmta_spark.logs.summary import IngestSummary
from almmta_spark.logs.windows import Windows
from tests.hand_made import CONF, DAY_BEFORE, DS, INDEX_TS, after, before, logs, on_its_day

LENIENT = replace(CONF, ingest=IngestConfig(max_rejected_rate=1.0))
TOUCH = on_its_day(1, 10, before(3))


def reasons(ingested):
    return Counter((r.source, r.reason) for r in ingested.rejected_rows.collect())


def test_every_bad_row_is_refused_with_its_reason(spark):
    nan, inf = float("nan"), float("inf")
    night = logs(
        spark,
        exposures=[
            TOUCH,
            (None, 10, before(3), DAY_BEFORE),
            (1, None, before(3), DAY_BEFORE),
            (1, 10, None, DAY_BEFORE),
            (1, 10, before(30), DAY_BEFORE),
            (1, 10, after(24 * 365), DAY_BEFORE),
            on_its_day(1, 999, before(3)),
            on_its_day(999, 10, before(3)),
        ],
        signals=[
            on_its_day(1, "camera", before(1), 1.0),
            (None, "camera", before(1), 1.0, DAY_BEFORE),
            on_its_day(1, None, before(1), 1.0),
            on_its_day(1, "  ", before(1), 1.0),
            on_its_day(1, "camera", before(1), None),
            on_its_day(1, "camera", before(1), nan),
            on_its_day(1, "camera", before(1), inf),
            on_its_day(1, "camera", before(1), -1.0),
            on_its_day(1, "camera", before(1), 1e10),
        ],
        uploads=[
            on_its_day(1, 7, after(1), [1.0, 0.0]),
            on_its_day(1, 8, after(1), None),
            on_its_day(1, None, after(1), [1.0, 0.0]),
            on_its_day(1, 9, after(1), [1.0, 0.0, 0.0]),
            on_its_day(1, 10, after(1), [1.0, nan]),
            on_its_day(1, 11, after(1), [1.0, None]),
            on_its_day(1, 12, after(1), [0.0, 0.0]),
        ],
        items=[
            (10, 100, 1, [0.1, 0.2]),
            (20, 100, 2, None),
            (30, 100, 1, [2.0, 2.0]),
            (40, 100, 1, [inf, 0.0]),
            (50, 100, 1, [1.0]),
            (60, 100, 1, [3e6, 1.0]),
            (70, 100, None, None),
            (80, None, 1, None),
            (None, 100, 1, None),
        ],
        users=[(1, [0.5, nan]), (2, [None, 2.0]), (3, [1.0]), (4, None), (None, [1.0, 2.0])],
    )
    ingested = ingest(night, DS, LENIENT)
    assert reasons(ingested) == {
        ("exposures", "null_user_id"): 1,
        ("exposures", "null_item_id"): 1,
        ("exposures", "null_event_ts"): 1,
        ("exposures", "event_outside_its_day"): 2,
        ("exposures", "unknown_item"): 1,
        ("exposures", "unknown_user"): 1,
        ("signals", "null_user_id"): 1,
        ("signals", "null_signal"): 2,
        ("signals", "null_value"): 1,
        ("signals", "non_finite_value"): 2,
        ("signals", "negative_value"): 1,
        ("signals", "value_too_large"): 1,
        ("uploads", "null_upload_id"): 1,
        ("uploads", "embedding_length"): 1,
        ("uploads", "embedding_not_finite"): 2,
        ("uploads", "embedding_constant"): 1,
        ("items", "embedding_constant"): 1,
        ("items", "embedding_not_finite"): 1,
        ("items", "embedding_length"): 1,
        ("items", "embedding_norm"): 1,
        ("items", "neither_cluster_nor_embedding"): 1,
        ("items", "null_author_id"): 1,
        ("items", "null_item_id"): 1,
        ("users", "covariates_length"): 1,
        ("users", "null_covariates"): 1,
        ("users", "null_user_id"): 1,
    }
    accounts = ingested.summary.accounts
    assert {name: (a.rows_in, a.used, a.num_rejected) for name, a in accounts.items()} == {
        "exposures": (8, 1, 7),
        "signals": (9, 1, 8),
        "uploads": (7, 2, 5),
        "items": (9, 2, 7),
        "users": (5, 2, 3),
    }
    refused = {r.row for r in ingested.rejected_rows.where("reason = 'unknown_user'").collect()}
    assert refused == {'{"user_id":999,"item_id":10,"event_ts":"2026-01-14T21:00:00.000Z"}'}


def test_windows_are_half_open_and_the_rest_of_the_day_is_outside(spark):
    tick = timedelta(microseconds=1)
    night = logs(
        spark,
        exposures=[
            on_its_day(1, 10, INDEX_TS - timedelta(hours=24)),
            on_its_day(1, 10, INDEX_TS - timedelta(hours=24) - tick),
            on_its_day(1, 10, INDEX_TS - tick),
            on_its_day(1, 10, INDEX_TS),
        ],
        uploads=[
            on_its_day(1, 1, INDEX_TS, None),
            on_its_day(1, 2, after(24), None),
            on_its_day(1, 3, before(0.5), None),
        ],
    )
    ingested = ingest(night, DS, CONF)
    touches = days.touches(night.days, Windows.of(DS, CONF.journeys))
    kept = sorted(r.event_ts for df in (touches, ingested.uploads) for r in df.collect())
    assert kept == [t.replace(tzinfo=None) for t in (INDEX_TS - timedelta(hours=24), INDEX_TS - tick, INDEX_TS)]
    assert ingested.summary.accounts["exposures"].outside_window == 2
    assert ingested.summary.accounts["uploads"].outside_window == 2


def test_a_signal_counts_only_in_the_windows_of_its_roles(spark):
    rows = [(name, before(hours)) for name in ("camera", "search", "draft", "new") for hours in (2, 30, 50)]
    night = logs(spark, exposures=[TOUCH], signals=[on_its_day(1, name, ts, 1.0) for name, ts in rows])
    ingested = ingest(night, DS, CONF)
    assert ingested.summary.accounts["signals"].outside_window == 7
    assert ingested.summary.unknown_signals == ("new",)
    assert ingested.summary.signal_rows == {"camera": 1, "draft": 2, "new": 1, "search": 1}


def test_a_signals_rows_are_those_of_the_right_windows(spark):
    """1, 2 and 4 rows 2, 30 and 50 hours before the night: the count says which were taken."""
    times = {2: 1, 30: 2, 50: 4}
    rows = [
        (name, before(h)) for name in ("camera", "search", "draft", "new") for h, n in times.items() for _ in range(n)
    ]
    ingested = ingest(logs(spark, exposures=[TOUCH], signals=[on_its_day(1, n, ts, 1.0) for n, ts in rows]), DS, CONF)
    assert ingested.summary.signal_rows == {"camera": 1, "draft": 3, "new": 1, "search": 2}
    assert ingested.summary.accounts["signals"].outside_window == 28 - 7


def test_repeated_snapshot_rows_count_once_and_contradictory_ones_are_all_refused(spark):
    night = logs(
        spark,
        exposures=[TOUCH, on_its_day(2, 20, before(3))],
        uploads=[on_its_day(1, 7, after(1), None)] * 2,
        items=[(10, 100, 1, None)] * 3 + [(20, 100, 2, None), (20, 100, 3, None)],
        users=[(1, [0.5, float("nan")])] * 2 + [(2, [1.0, 2.0]), (2, [1.0, 3.0]), (3, [0.0, 0.0])],
    )
    ingested = ingest(night, DS, LENIENT)
    accounts = ingested.summary.accounts
    assert [r.item_id for r in ingested.item_clusters.collect()] == [10]
    assert (accounts["items"].deduplicated, accounts["items"].rejected) == (2, {"conflicting_duplicates": 2})
    assert (accounts["users"].deduplicated, accounts["users"].rejected) == (1, {"conflicting_duplicates": 2})
    assert accounts["uploads"].deduplicated == 1
    assert accounts["exposures"].rejected == {"unknown_item": 1}
    assert reasons(ingested)["users", "conflicting_duplicates"] == 2


def test_large_snapshots_are_joined_by_shuffle_with_the_same_result(spark):
    night = logs(spark, exposures=[TOUCH, on_its_day(1, 999, before(3)), on_its_day(999, 10, before(3))])
    by_shuffle = replace(LENIENT, ingest=IngestConfig(max_rejected_rate=1.0, broadcast_rows=0))
    ingested = ingest(night, DS, by_shuffle)
    assert ingested.summary.accounts["exposures"].rejected == {"unknown_item": 1, "unknown_user": 1}
    assert ingested.summary.accounts["exposures"].used == 1
    assert reasons(ingested) == {("exposures", "unknown_item"): 1, ("exposures", "unknown_user"): 1}
    assert "ResolvedHint" not in ingested.rejected_rows._jdf.queryExecution().analyzed().toString()


def test_a_refused_touch_counts_as_often_as_it_was_logged(spark):
    night = logs(spark, exposures=[TOUCH, TOUCH, *[on_its_day(1, 999, before(3))] * 3])
    ingested = ingest(night, DS, LENIENT)
    account = ingested.summary.accounts["exposures"]
    assert (account.rows_in, account.used, account.rejected) == (5, 2, {"unknown_item": 3})
    assert reasons(ingested) == {("exposures", "unknown_item"): 3}


def test_withholdings_are_checked_like_exposures_and_kept_with_their_cluster(spark):
    decisions = [
        on_its_day(1, 10, before(3), True, None),
        on_its_day(2, 20, before(4), False, 0.5),
        on_its_day(2, 20, before(4), False, 0.5),
        on_its_day(2, 20, before(5), False, 1.0),
        on_its_day(2, 10, before(6), None, 0.5),
        on_its_day(2, 999, before(6), True, 0.5),
        on_its_day(1, 10, after(1), True, None),
        on_its_day(1, 20, before(7), True, None),
        on_its_day(1, 20, before(7), False, None),
    ]
    night = logs(spark, exposures=[TOUCH], withholdings=decisions)
    ingested = ingest(night, DS, LENIENT)
    account = ingested.summary.accounts["withholdings"]
    assert (account.rows_in, account.used, account.deduplicated, account.outside_window) == (9, 2, 1, 1)
    assert account.rejected == {
        "p_withheld_not_in_0_1": 1,
        "null_withheld": 1,
        "unknown_item": 1,
        "conflicting_duplicates": 2,
    }
    assert sum(n for (source, _), n in reasons(ingested).items() if source == "withholdings") == 5
    kept = accepted_withholdings(night.withholdings, ingested.item_clusters, night.users, DS, LENIENT, ingested.summary)
    assert sorted((r.user_id, r.item_id, r.withheld, r.cluster) for r in kept.collect()) == [
        (1, 10, True, 1),
        (2, 20, False, 2),
    ]


def test_too_many_rejected_rows_stop_the_night_and_say_which(spark):
    night = logs(spark, exposures=[TOUCH] * 9 + [on_its_day(1, 999, before(3))])
    with pytest.raises(ValueError, match=r"exposures: 1 of 10 rows rejected \(10.0%\).*5.0%.*unknown_item \(1\)"):
        ingest(night, DS, CONF)


def test_a_day_without_usable_exposures_is_refused(spark):
    with pytest.raises(ValueError, match="table exposures: no usable row in the 24 hours before ds=2026-01-15"):
        ingest(logs(spark, exposures=[on_its_day(1, 10, INDEX_TS)]), DS, CONF)


def test_ids_in_the_place_of_signal_names_are_refused(spark, monkeypatch):
    monkeypatch.setattr("almmta_spark.logs.days.MAX_SIGNAL_NAMES", 3)
    with pytest.raises(ValueError, match=r"signals\.signal must have at most 3 distinct names") as refused:
        logs(spark, exposures=[TOUCH], signals=[on_its_day(1, f"id{n}", before(1), 1.0) for n in range(5)])
    assert not any(f"id{n}" in str(refused.value) for n in range(5))


def test_a_night_without_signals_uploads_or_embeddings_is_ingested(spark):
    ingested = ingest(logs(spark, exposures=[TOUCH]), DS, CONF)
    assert ingested.summary.accounts["exposures"].used == 1 and ingested.uploads.count() == 0
    assert (ingested.summary.embedding_length, ingested.summary.covariate_length) == (0, 2)
    assert ingested.rejected_rows.count() == 0
    assert IngestSummary.from_dict(ingested.summary.to_dict()) == ingested.summary
