"""Days by user to journeys: what one user consumed in the lookback window, and what followed.

Days lie in buckets by user already (event_days.py): a user's are grouped where they lie, one sort and no exchange, and
users and the new uploads come to them. Touches are then looked up, put in order and capped, a batch of users at a time
(touches.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Observation, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from almmta_spark import tables
from almmta_spark.config import JourneysConfig, SignalConfig
from almmta_spark.journeys import touches as of_users
from almmta_spark.logs import rules
from almmta_spark.logs.accounting import Account
from almmta_spark.logs.days import LARGEST_SUM, MILLIONTHS, TOUCH
from almmta_spark.logs.summary import IngestSummary
from almmta_spark.logs.windows import Windows


@dataclass(frozen=True)
class Journeys:
    """The lazy journeys table, and what is counted while it is written."""

    table: DataFrame
    _per_user: Observation
    _per_journey: Observation

    def accounts(self, ingested: IngestSummary) -> dict[str, Account]:
        """Where every input row went; call it once the table has been written (it waits for that).

        AssertionError where the rows do not add up.
        """
        seen, used = self._per_user.get, self._per_journey.get
        settled = dict(ingested.accounts)
        for source in ("exposures", "signals", "uploads"):
            before = settled[source]
            assert seen[source] == before.used, f"{source}: ingest accepted {before.used}, journeys saw {seen[source]}"
            settled[source] = replace(
                before,
                used=used[source],
                deduplicated=before.deduplicated + seen.get(f"{source}_repeated", 0),
                capped=before.capped + seen.get(f"{source}_capped", 0),
                without_journey=seen[f"{source}_without_journey"],
            )
        users = settled["users"]
        settled["users"] = replace(users, used=used["journeys"], without_journey=users.used - used["journeys"])
        return {name: counts.check(name) for name, counts in settled.items()}


def build_journeys(
    days: DataFrame,
    uploads: DataFrame,
    item_clusters: DataFrame,
    users: DataFrame,
    ds: str,
    conf: JourneysConfig,
    signals: Mapping[str, SignalConfig],
    broadcast_items: bool = True,
) -> Journeys:
    """One journey per user with a touch of a known item in the lookback window.

    days: `event_days`; uploads: `accepted_uploads`; users: logs.accepted_users. Cost: one scan and one sort of days, by
    user, a shuffle of them only where they do not lie in buckets; a shuffle of uploads and of users (users: none where
    Spark broadcasts them). Items are broadcast, or else joined, which shuffles the touches twice. Memory: a task's sort
    spills; a user's lists are capped before they are collected, at MOST_TOUCHPOINTS touches a part of a day and
    max_touchpoints uploads (the oldest) and one sum per signal name and role.
    """
    windows = Windows.of(ds, conf)
    by_user = _by_user(days, windows, signals)
    known = days.sparkSession.sparkContext.broadcast(of_users.KnownItems.of(item_clusters)) if broadcast_items else None
    looked_up = by_user if broadcast_items else _with_items(by_user, item_clusters)
    joined = looked_up.join(users.select("user_id", "covariates"), "user_id", "left").join(
        _uploads_by_user(uploads, conf.max_touchpoints), "user_id", "full_outer"
    )
    cap = conf.max_touchpoints
    per_user = _with_touches(
        joined, partial(of_users.with_touches, items=known, index=windows.index, max_touchpoints=cap)
    )
    seen, used = Observation(), Observation()
    counted = per_user.observe(seen, *_totals(F.size("touches") == 0))
    table = counted.where(F.size("touches") > 0).withColumns(
        {"journey_id": journey_id(ds), "outcome": F.when(F.size("uploads") > 0, 1).otherwise(0)}
    )
    sums = [
        F.count(F.lit(1)).alias("journeys"),
        F.coalesce(F.sum(F.size("touches")), F.lit(0)).alias("exposures"),
        F.coalesce(F.sum("num_signals"), F.lit(0)).alias("signals"),
        F.coalesce(F.sum(F.size("uploads")), F.lit(0)).alias("uploads"),
    ]
    typed = [F.col(c.name).cast(c.type).alias(c.name) for c in tables.JOURNEYS.columns]
    return Journeys(table.observe(used, *sums).select(*typed), seen, used)


def journey_id(ds: str) -> Column:
    """xxhash64(user_id, ds)."""
    return F.xxhash64(F.col("user_id"), F.lit(ds))


def _by_user(days: DataFrame, windows: Windows, signals: Mapping[str, SignalConfig]) -> DataFrame:
    """user_id, the lists of TOUCH, outcome_proxies, intent_proxies, num_signals of each user with any of them.

    Cost: one sort by user, window and signal; both groupings need no other.
    """
    part_ts, is_touch = F.col("part_ts"), F.col("source") == tables.EXPOSURES.name
    in_lookback, in_pre = windows.in_lookback(part_ts), windows.in_pre(part_ts)
    as_proxy = in_lookback & rules.has_role(signals, "outcome_proxy")
    as_intent = in_pre & rules.has_role(signals, "intent_proxy")
    inside = F.when(is_touch, in_lookback).otherwise(as_proxy | as_intent)
    wanted = days.where(F.col("reason").isNull() & inside).withColumn("is_proxy", in_lookback)
    total = F.coalesce(F.try_sum("millionths"), F.lit(LARGEST_SUM))
    summed = wanted.groupBy("user_id", "is_proxy", "signal").agg(
        total.alias("total"),
        F.sum("num_rows").alias("num_rows"),
        *[F.flatten(F.collect_list(name)).alias(name) for name in TOUCH],
    )
    named = F.col("signal").isNotNull()
    signal = F.struct("signal", (F.col("total") / MILLIONTHS).alias("value"))
    return summed.groupBy("user_id").agg(
        *[F.flatten(F.collect_list(F.when(~named, F.col(name)))).alias(name) for name in TOUCH],
        _listed(named & F.col("is_proxy"), signal).alias("outcome_proxies"),
        _listed(named & ~F.col("is_proxy"), signal).alias("intent_proxies"),
        F.coalesce(F.sum(F.when(named, F.col("num_rows"))), F.lit(0)).alias("num_signals"),
    )


def _with_items(by_user: DataFrame, item_clusters: DataFrame) -> DataFrame:
    """Users with lists of their touches of known items, author_id and cluster among them; null where there are none.

    Cost: two shuffles of the touches, by item and by user.
    """
    items = item_clusters.select("item_id", *of_users.ITEM)
    found = by_user.select("user_id", F.inline(F.arrays_zip(*TOUCH))).join(items, "item_id")
    lists = found.groupBy("user_id").agg(*[F.collect_list(c).alias(c) for c in (*TOUCH, *of_users.ITEM)])
    return by_user.drop(*TOUCH).join(lists, "user_id", "left")


def _uploads_by_user(uploads: DataFrame, max_uploads: int) -> DataFrame:
    """user_id, uploads (the oldest max_uploads, oldest first), num_uploads, num_uploads_capped. Cost: a shuffle."""
    oldest_first = Window.partitionBy("user_id").orderBy("event_ts", "upload_id")
    ranked = uploads.withColumn("capped", F.row_number().over(oldest_first) > max_uploads)
    return ranked.groupBy("user_id").agg(
        _listed(~F.col("capped"), F.struct("event_ts", "upload_id", "embedding")).alias("uploads"),
        F.count(F.lit(1)).alias("num_uploads"),
        F.count_if("capped").alias("num_uploads_capped"),
    )


def _with_touches(joined: DataFrame, function: Callable[..., Iterable[pa.RecordBatch]]) -> DataFrame:
    """Users with `touches` and COUNTS in place of the lists. Cost: one pass through Python, a batch at a time."""
    none = F.array().cast(T._parse_datatype_string(tables.JOURNEYS.type_of("uploads")))
    filled = joined.withColumn("uploads", F.coalesce("uploads", none)).na.fill(
        0, ["num_signals", "num_uploads", "num_uploads_capped"]
    )
    lists = {*TOUCH, *of_users.ITEM}
    kept = [field for field in filled.schema if field.name not in lists]
    counts = [T.StructField(name, T.LongType()) for name in of_users.COUNTS]
    touches = T.StructField("touches", T._parse_datatype_string(tables.JOURNEYS.type_of("touches")))
    schema = T.StructType([*kept, *counts, touches])
    return filled.mapInArrow(partial(function, names=schema.names), schema)


def _listed(condition: Column, value: Column) -> Column:
    """The values of the rows that meet the condition, ascending."""
    return F.sort_array(F.collect_list(F.when(condition, value)))


def _totals(no_journey: Column) -> list[Column]:
    """Sums over users of their counts."""

    def total(name: str, count: str, condition: Column | None = None) -> Column:
        counted = F.col(count) if condition is None else F.when(condition, F.col(count))
        return F.coalesce(F.sum(counted), F.lit(0)).alias(name)

    sources = ("exposures", "signals", "uploads")
    return [
        *[total(source, f"num_{source}") for source in sources],
        *[total(f"{source}_without_journey", f"num_{source}", no_journey) for source in sources],
        total("exposures_repeated", "num_repeated"),
        total("exposures_capped", "num_capped"),
        total("uploads_capped", "num_uploads_capped", ~no_journey),
    ]
