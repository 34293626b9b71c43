"""Events to journeys: what one user consumed in the lookback window, and what followed.

Everything happens inside one partitioning by user_id: one exchange and one sort of the events, then windows, caps and
lists over the sorted rows. A touch that repeats another on (user_id, item_id, event_ts) counts once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pyspark.sql import Column, DataFrame, Observation, Window
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import JourneysConfig
from almmta_spark.logs.accounting import Account
from almmta_spark.logs.summary import IngestSummary
from almmta_spark.logs.windows import Windows

_MILLIONTHS = 1e6
"""Signal values are summed as integers of this unit: integer sums do not depend on the order of arrival."""


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
                capped=seen.get(f"{source}_capped", 0),
                without_journey=seen[f"{source}_without_journey"],
            )
        users = settled["users"]
        settled["users"] = replace(users, used=used["journeys"], without_journey=users.used - used["journeys"])
        return {name: counts.check(name) for name, counts in settled.items()}


def build_journeys(events: DataFrame, users: DataFrame, ds: str, conf: JourneysConfig) -> Journeys:
    """One journey per user with a touch in the lookback window.

    users: logs.accepted_users. Cost: one scan of events and of users, one shuffle of each by user_id (users: none where
    Spark broadcasts them), one sort. Memory: a task's sort spills; a user's lists are capped before they are collected,
    at max_touchpoints touches (the newest) and uploads (the oldest) and one sum per signal name and role.
    """
    windows = Windows.of(ds, conf)
    per_user = _per_user(_marked(events.repartition("user_id"), windows, conf.max_touchpoints), windows)
    seen, used = Observation(), Observation()
    counted = per_user.observe(seen, *_totals(F.size("touches") == 0))
    joined = counted.where(F.size("touches") > 0).join(users.select("user_id", "covariates"), "user_id")
    table = joined.withColumn("journey_id", journey_id(ds)).withColumn(
        "outcome", F.when(F.size("uploads") > 0, 1).otherwise(0)
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


def _marked(by_user: DataFrame, windows: Windows, max_touchpoints: int) -> DataFrame:
    """Events with phase (1: lookback, 0: before), capped, repeated, first of its group, and the group's sum.

    Cost: one sort by user within the partitions; no exchange.
    """
    is_touch = F.col("source") == "exposures"
    micros = F.unix_micros("event_ts")
    phased = (
        by_user.withColumn(
            "phase", F.when(F.col("source") == "signals", windows.in_lookback(F.col("event_ts")).cast("int"))
        )
        .withColumn("order", F.when(is_touch, -micros).when(F.col("source") == "uploads", micros))
        .withColumn("tie", F.when(is_touch, F.bitwise_not("touch_id")).otherwise(F.col("upload_id")))
        .withColumn("millionths", F.rint(F.col("value") * _MILLIONTHS).cast("bigint"))
    )
    group = Window.partitionBy("user_id", "source", "signal", "phase").orderBy("order", "tie")
    whole = group.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    same = (F.lag("tie").over(group) == F.col("tie")) & (F.lag("order").over(group) == F.col("order"))
    return (
        phased.withColumn("capped", F.dense_rank().over(group) > max_touchpoints)
        .withColumn("repeated", F.coalesce(same & is_touch, F.lit(False)))
        .withColumn("first", F.row_number().over(group) == 1)
        .withColumn("total", F.try_sum("millionths").over(whole))
    )


def _per_user(marked: DataFrame, windows: Windows) -> DataFrame:
    """One row a user: lists of touches, uploads and signal sums, and counts of the rows behind them.

    Cost: an aggregation within the partitions; no exchange.
    """
    is_touch, is_upload = F.col("source") == "exposures", F.col("source") == "uploads"
    repeated, capped = F.col("repeated"), F.col("capped")
    touch = F.struct(
        F.col("event_ts").alias("touch_ts"),
        *["touch_id", "item_id", "author_id", "cluster"],
        windows.age_hours(F.col("event_ts")).alias("age_hours"),
    )
    kept = ~repeated & ~capped
    signal = F.struct("signal", (F.coalesce("total", F.lit(2**63 - 1)) / _MILLIONTHS).alias("value"))
    return marked.groupBy("user_id").agg(
        _listed(is_touch & kept, touch).alias("touches"),
        _listed(is_upload & kept, F.struct("event_ts", "upload_id", "embedding")).alias("uploads"),
        _listed(F.col("first") & (F.col("phase") == 1), signal).alias("outcome_proxies"),
        _listed(F.col("first") & (F.col("phase") == 0), signal).alias("intent_proxies"),
        F.count_if(F.col("phase").isNotNull()).alias("num_signals"),
        F.count_if(is_touch).alias("num_exposures"),
        F.count_if(is_touch & repeated).alias("num_repeated"),
        F.count_if(is_touch & ~repeated & capped).alias("num_exposures_capped"),
        F.count_if(is_upload).alias("num_uploads"),
        F.count_if(is_upload & capped).alias("num_uploads_capped"),
    )


def _listed(condition: Column, value: Column) -> Column:
    """The values of the rows that meet the condition, ascending."""
    return F.sort_array(F.collect_list(F.when(condition, value)))


def _totals(no_journey: Column) -> list[Column]:
    """Sums over users of what _per_user counted."""

    def total(name: str, count: str, condition: Column | None = None) -> Column:
        counted = F.col(count) if condition is None else F.when(condition, F.col(count))
        return F.coalesce(F.sum(counted), F.lit(0)).alias(name)

    sources = ("exposures", "signals", "uploads")
    return [
        *[total(source, f"num_{source}") for source in sources],
        *[total(f"{source}_without_journey", f"num_{source}", no_journey) for source in sources],
        total("exposures_repeated", "num_repeated"),
        total("exposures_capped", "num_exposures_capped"),
        total("uploads_capped", "num_uploads_capped", ~no_journey),
    ]
