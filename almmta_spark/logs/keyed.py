"""Tables with a key: repeated rows count once, rows of one key that contradict each other are all refused.

To keep one of two contradictory rows would be a guess that depends on arrival; to refuse both is visible.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.logs.rules import USED


@dataclass(frozen=True)
class Keyed:
    """Rows of one keyed table with their status."""

    table: tables.Table
    rows: DataFrame
    """All columns of the table and `status`."""

    @property
    def used(self) -> DataFrame:
        return self.rows.where(F.col("status") == USED)

    def counted(self) -> DataFrame:
        """source, status, detail, count, repeated, conflicting (the last two: rows beyond the first of their key, and
        rows whose key has contradictory ones).

        Cost: one scan, and a shuffle of (key, status, 64-bit hash of the rest).
        """
        is_used, same = F.col("status") == USED, F.col("low") == F.col("high")
        has_no_cluster = F.col("cluster").isNull() if "cluster" in self.table.column_names else F.lit(False)
        per_key = _per_key(self.rows, self.table, "status", detail=F.max(F.when(has_no_cluster, F.lit("no_cluster"))))
        counts = {
            "count": F.sum("n"),
            "repeated": F.sum(F.when(is_used & same, F.col("n") - 1).otherwise(0)),
            "conflicting": F.sum(F.when(is_used & ~same, F.col("n")).otherwise(0)),
        }
        grouped = per_key.groupBy("status", "detail").agg(*[c.alias(name) for name, c in counts.items()])
        return grouped.select(F.lit(self.table.name).alias("source"), "status", "detail", *counts)

    def resolved(self, has_repeats: bool) -> DataFrame:
        """The used rows, one a key. Cost: none where there are no repeats, else a shuffle of the used rows by key."""
        if not has_repeats:
            return self.used.select(*self.table.column_names)
        one = _per_key(self.used, self.table, first=F.first(F.struct(*self.table.column_names)))
        return one.where(F.col("low") == F.col("high")).select("first.*")

    def conflicts(self) -> DataFrame:
        """The used rows whose key has contradictory ones. Cost: as resolved, joined back to the rows."""
        keys = _per_key(self.used, self.table).where(F.col("low") != F.col("high")).select(*self.table.key)
        return self.used.join(keys, list(self.table.key), "left_semi")


def _per_key(rows: DataFrame, table: tables.Table, *more_keys: str, **extra: Column) -> DataFrame:
    """n, low and high (of the hash of the columns beside the key) of each key; low = high where all rows are equal."""
    content = F.xxhash64(*[c for c in table.column_names if c not in table.key])
    found = {"n": F.count(F.lit(1)), "low": F.min(content), "high": F.max(content), **extra}
    return rows.groupBy(*table.key, *more_keys).agg(*[c.alias(name) for name, c in found.items()])
