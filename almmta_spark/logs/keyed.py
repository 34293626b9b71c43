"""Tables with a key: repeated rows count once, rows of one key that contradict each other are all refused.

To keep one of two contradictory rows would be a guess that depends on arrival; to refuse both is visible.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.logs import events
from almmta_spark.logs.rules import USED

DEDUPLICATED = "deduplicated"
CONFLICTING_ROWS = "conflicting"


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
        """source, status, detail, count of all rows, then of repeated and of contradictory ones among the used.

        Cost: a scan, and a shuffle of (key, 64-bit hash), 24 bytes a row.
        """
        has_no_cluster = F.col("cluster").isNull() if "cluster" in self.table.column_names else F.lit(False)
        detail = F.when(has_no_cluster, F.lit("no_cluster"))
        return events.counted(self.rows, self.table.name, detail).unionByName(self._repeats())

    def _repeats(self) -> DataFrame:
        per_key = self._per_key()
        same, n = F.col("low") == F.col("high"), F.col("n")
        repeated = F.sum(F.when(same, n - 1).otherwise(0)).alias(DEDUPLICATED)
        conflicting = F.sum(F.when(same, 0).otherwise(n)).alias(CONFLICTING_ROWS)
        both = per_key.agg(repeated, conflicting)
        pairs = F.array(*[F.struct(F.lit(c).alias("status"), F.col(c).alias("count")) for c in both.columns])
        return both.select(F.explode(pairs).alias("pair")).select(
            F.lit(self.table.name).alias("source"),
            "pair.status",
            F.lit(None).cast("string").alias("detail"),
            F.coalesce("pair.count", F.lit(0)).alias("count"),
        )

    def resolved(self, has_repeats: bool) -> DataFrame:
        """The used rows, one a key. Cost: none where there are no repeats, else a shuffle of the used rows by key."""
        if not has_repeats:
            return self.used.select(*self.table.column_names)
        row = F.struct(*self.table.column_names)
        one = self._grouped(F.first(row).alias("row")).where(F.col("low") == F.col("high"))
        return one.select("row.*")

    def conflicts(self) -> DataFrame:
        """The used rows whose key has contradictory ones. Cost: as resolved, joined back to the rows."""
        keys = self._per_key().where(F.col("low") != F.col("high")).select(*self.table.key)
        return self.used.join(keys, list(self.table.key), "left_semi")

    def _per_key(self) -> DataFrame:
        return self._grouped(F.count(F.lit(1)).alias("n"))

    def _grouped(self, extra: Column) -> DataFrame:
        content = F.xxhash64(*[c for c in self.table.column_names if c not in self.table.key])
        keys = [F.col(c) for c in self.table.key]
        return self.used.groupBy(*keys).agg(extra, F.min(content).alias("low"), F.max(content).alias("high"))
