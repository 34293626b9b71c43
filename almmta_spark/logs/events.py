"""Rows of events that name items and users, looked up; refused rows of any table as `rejected_rows`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.logs.accounting import CONFLICTING
from almmta_spark.logs.rules import OUTSIDE_WINDOW, USED, first_broken

UNKNOWN = ("unknown_item", "unknown_user")
"""Reasons of rows that name an item or a user that the night's snapshots do not know, or not as a valid row."""


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
        lacks = [used & F.col("author_id").isNull(), used & F.col("user_known").isNull()]
        joined = rows.join(items, "item_id", "left").join(users, "user_id", "left")
        return joined.withColumn("status", first_broken(list(zip(UNKNOWN, lacks, strict=True)), F.col("status"))).drop(
            "user_known"
        )


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
