"""Exposures, signals and uploads as rows of one table, `events`; refused rows of any table as `rejected_rows`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.logs.accounting import CONFLICTING
from almmta_spark.logs.rules import OUTSIDE_WINDOW, USED, first_broken


def touch_id() -> Column:
    """xxhash64(user_id, item_id, event_ts): the key of a touch, the same in every table that has one."""
    return F.xxhash64("user_id", "item_id", "event_ts")


@dataclass(frozen=True)
class Known:
    """The items and users that events may name."""

    item_clusters: DataFrame
    users: DataFrame
    broadcast_items: bool
    broadcast_users: bool

    def look_up(self, rows: DataFrame) -> DataFrame:
        """Rows with author_id and cluster; used ones whose item or user is not known get that as their status.

        Cost: a map over rows where items and users are broadcast; where not, a shuffle of rows by that id.
        """
        items = self.item_clusters.select("item_id", "author_id", "cluster")
        users = self.users.select("user_id", F.lit(True).alias("user_known"))
        items = F.broadcast(items) if self.broadcast_items else items
        users = F.broadcast(users) if self.broadcast_users else users
        used = F.col("status") == USED
        unknown = [
            ("unknown_item", used & F.col("author_id").isNull()),
            ("unknown_user", used & F.col("user_known").isNull()),
        ]
        joined = rows.join(items, "item_id", "left").join(users, "user_id", "left")
        return joined.withColumn("status", first_broken(unknown, F.col("status"))).drop("user_known")


def as_events(exposures: DataFrame, signals: DataFrame, uploads: DataFrame) -> DataFrame:
    """Rows of the three tables, used ones only, as `events`. Cost: a map; no shuffle."""
    parts = {
        tables.EXPOSURES.name: exposures.where(F.col("status") == USED).withColumn("touch_id", touch_id()),
        tables.SIGNALS.name: signals.where(F.col("status") == USED),
        tables.UPLOADS.name: uploads,
    }
    return reduce(DataFrame.unionAll, [_shaped(df, source) for source, df in parts.items()])


def counted(rows: DataFrame, source: str, detail: Column | None = None) -> DataFrame:
    """source, status, detail, count. Cost: one aggregation; a few dozen groups."""
    detail = F.lit(None).cast("string") if detail is None else detail
    groups = rows.groupBy("status", detail.alias("detail")).agg(F.count(F.lit(1)).alias("count"))
    return groups.select(F.lit(source).alias("source"), "status", "detail", "count")


def rejected(rows: DataFrame, table: tables.Table) -> DataFrame:
    """The refused ones among rows with a status, as `rejected_rows`. Cost: a map."""
    refused = rows.where(~F.col("status").isin(USED, OUTSIDE_WINDOW))
    return _as_rejected(refused, table, F.col("status"))


def rejected_conflicts(rows: DataFrame, table: tables.Table) -> DataFrame:
    """Contradictory rows of a keyed table as `rejected_rows`."""
    return _as_rejected(rows, table, F.lit(CONFLICTING))


def no_rejections(like: DataFrame) -> DataFrame:
    """An empty `rejected_rows`."""
    return like.sparkSession.createDataFrame([], tables.REJECTED_ROWS.ddl)


def union(frames: Sequence[DataFrame]) -> DataFrame:
    """All rows of the frames, columns by name."""
    return reduce(DataFrame.unionByName, frames)


def _as_rejected(rows: DataFrame, table: tables.Table, reason: Column) -> DataFrame:
    row = F.to_json(F.struct(*table.column_names), {"ignoreNullFields": "false"})
    return rows.select(F.lit(table.name).alias("source"), reason.alias("reason"), row.alias("row"))


def _shaped(rows: DataFrame, source: str) -> DataFrame:
    """The columns of `events`; those the source does not have are null."""
    there = {**{name: F.col(name) for name in rows.columns}, "source": F.lit(source)}
    return rows.select(*[there.get(c.name, F.lit(None)).cast(c.type).alias(c.name) for c in tables.EVENTS.columns])
