"""The files the loader reads: equal-sized row groups, one a file, in a deterministic shuffled order.

A row's place is decided by a seeded hash of its journey_id. Exact cut points of that hash split the table into groups
whose sizes differ by at most one row; each group is one Spark partition, so one file with one row group.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

WRITE_OPTIONS = {"parquet.block.size": str(1 << 30), "maxRecordsPerFile": "0"}
"""One row group a file: its rows are bounded by examples.max_row_group_rows, not by bytes."""
_BINS_PER_GROUP = 16


def num_groups(num_rows: int, wanted: int, max_rows: int, num_ranks: int) -> int:
    """Row groups: at least `wanted`, at most max_rows a group, a multiple of num_ranks, none empty if rows suffice."""
    groups = max(wanted, -(-num_rows // max_rows))
    groups = -(-groups // num_ranks) * num_ranks
    most = max(num_rows // num_ranks, 1) * num_ranks
    return min(groups, most)


def laid_out(examples: DataFrame, num_rows: int, groups: int, seed: int) -> DataFrame:
    """The rows in `groups` partitions of equal size (+-1), each in hash order.

    Cost: two scans of journey_id alone for the cut points (the driver sees 16 counts and one cut a group), then one
    shuffle of the rows.
    """
    keyed = examples.withColumn("_order", F.xxhash64(F.lit(seed), F.lit("order"), "journey_id"))
    cuts = cut_points(keyed.select("_order"), num_rows, groups)
    spark = examples.sparkSession
    slots = _partition_keys(examples, groups)
    bins = _bins(groups)
    lookup = spark.createDataFrame(cuts_by_bin(cuts, bins), "_bin int, _first int, _cuts array<bigint>")
    slot = spark.createDataFrame(list(enumerate(slots)), "_group int, _slot bigint")
    group = F.col("_first") + F.size(F.filter("_cuts", lambda cut: cut <= F.col("_order")))
    return (
        keyed.withColumn("_bin", _bin_of(bins))
        .join(F.broadcast(lookup), "_bin")
        .withColumn("_group", group)
        .join(F.broadcast(slot), "_group")
        .repartition(groups, "_slot")
        .sortWithinPartitions("_order", "journey_id")
        .select(*examples.columns)
    )


def cut_points(orders: DataFrame, num_rows: int, groups: int) -> list[int]:
    """The groups - 1 values of _order at which a new group begins: rows are split evenly, to the row."""
    bins = _bins(groups)
    binned = orders.select("_order", _bin_of(bins).alias("_bin"))
    counts = np.zeros(bins, dtype=np.int64)
    for row in binned.groupBy("_bin").count().toLocalIterator():
        counts[row["_bin"]] = row["count"]
    if counts.sum() != num_rows:
        raise ValueError(
            f"table training_examples: must have a row a journey, got {counts.sum()} of {num_rows} journeys: tables "
            "journeys and propensities of a pooled night are of different runs, run that night again"
        )
    before = np.concatenate([[0], np.cumsum(counts)])
    begins = [num_rows * g // groups for g in range(1, groups)]
    at = [int(np.searchsorted(before, b, side="right")) - 1 for b in begins]
    wanted = [(b, int(begin - before[b])) for b, begin in zip(at, begins, strict=True)]
    if not wanted:
        return []
    asked = orders.sparkSession.createDataFrame(sorted(set(wanted)), "_bin int, _rank int")
    sorted_bins = (
        binned.join(F.broadcast(asked.select("_bin").distinct()), "_bin")
        .groupBy("_bin")
        .agg(F.sort_array(F.collect_list("_order")).alias("orders"))
    )
    picked = sorted_bins.join(F.broadcast(asked), "_bin").select(
        "_bin", "_rank", F.get("orders", F.col("_rank")).alias("cut")
    )
    cut_of = {(row["_bin"], row["_rank"]): int(row["cut"]) for row in picked.toLocalIterator()}
    return [cut_of[key] for key in wanted]


def _bins(groups: int) -> int:
    return max(64, _BINS_PER_GROUP * groups)


def _bin_of(bins: int) -> Column:
    """Bin of _order, ascending with it: the top 31 bits scaled to the number of bins."""
    top = F.shiftrightunsigned(F.col("_order").bitwiseXOR(F.lit(-(2**63))), 33)
    return F.shiftright(top * F.lit(bins), 31).cast("int")


def cuts_by_bin(cuts: Sequence[int], bins: int) -> list[tuple[int, int, list[int]]]:
    """(bin, group of its first row, cuts inside it) of every bin. Cuts ascend and their bins (as _bin_of) with them."""
    top = (np.array(cuts, dtype=np.int64) ^ np.int64(-(2**63))).view(np.uint64) >> np.uint64(33)
    bin_of = top.astype(np.int64) * bins >> 31
    begins = np.searchsorted(bin_of, np.arange(bins + 1)).tolist()
    return [(b, begins[b], list(cuts[begins[b] : begins[b + 1]])) for b in range(bins)]


def _partition_keys(df: DataFrame, groups: int) -> list[int]:
    """A key for each partition: repartition(groups, key) sends it there. Found by asking Spark's own hash."""
    span = 8 * groups + 64
    keys: dict[int, int] = {}
    while len(keys) < groups:
        ids = df.sparkSession.range(span).select("id", F.pmod(F.hash("id"), F.lit(groups)).alias("p"))
        keys = {row["p"]: row["first"] for row in ids.groupBy("p").agg(F.min("id").alias("first")).toLocalIterator()}
        span *= 4
    return [int(keys[p]) for p in range(groups)]
