"""A day of exposures or signals, by user: validated, deduplicated, summed and sorted once, for all nights that read it.

What of the day a night's windows hold depends on the night, but only by parts of the day: windows begin at the same
times every day (Windows.cuts). So a row of `event_days` is all that a user did in one part, and what is left for a
night is to put a user's parts together. Items and users are snapshots that change from night to night: looking them up
is the night's, and so is capping a journey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import MOST_TOUCHPOINTS
from almmta_spark.logs import rules
from almmta_spark.logs.windows import Windows
from almmta_spark.tables import EXPOSURES, SIGNALS, Table

MAX_SIGNAL_NAMES = 1000
"""More distinct signal names than this are ids in the wrong column, not signals."""
MILLIONTHS = 1e6
"""Signal values are summed as integers of this unit: integer sums do not depend on the order of arrival."""
LARGEST_SUM = 2**63 - 1
"""What a sum that would be larger stays at."""
TOUCH = ("touch_ts", "touch_id", "item_id", "copies")
"""Parallel lists of a user's touches in a part of the day, newest first."""


class Counted(NamedTuple):
    """Input rows of one source, part, signal name and reason."""

    source: str
    part: int | None
    """Start of the part of the day, microseconds since 1970; None for refused rows."""
    signal: str | None
    reason: str | None
    """The rule that the rows break; None: none of their own."""
    rows: int
    kept: int
    """Those that are no more than MOST_TOUCHPOINTS touches of a user and part."""


def with_status(rows: DataFrame, table: Table) -> DataFrame:
    """Rows of a day of exposures or signals (with its ds), each with the rule of its own that it breaks, or USED."""
    of_table = {EXPOSURES: rules.exposure_rules, SIGNALS: rules.signal_rules}[table]
    return rows.withColumn("status", rules.first_broken(of_table(), F.lit(rules.USED)))


def by_user(rows: DataFrame, table: Table, windows: Windows, num_buckets: int) -> DataFrame:
    """`event_days` of rows of exposures or signals that have a status.

    Cost: one shuffle of the rows by user, one sort of them; a hot user's touches are cut to the newest
    MOST_TOUCHPOINTS of a part before they are collected. Equal rows whatever the order and the partitions of the input.
    """
    refused = F.col("status") != rules.USED
    json = F.to_json(F.struct(*table.column_names), {"ignoreNullFields": "false"})
    marked = (
        rows.withColumn("reason", F.when(refused, F.col("status")))
        .withColumn("refused", F.when(refused, json))
        .withColumn("part_ts", F.when(~refused, windows.part_ts(F.col("event_ts"))))
        # Of one user, or of none, there may be very many bad rows: they are spread by what they say.
        .withColumn("user_id", F.when(refused, F.xxhash64("refused")).otherwise(F.col("user_id")))
        .repartition(num_buckets, "user_id")
    )
    made = _touches(marked) if table == EXPOSURES else _sums(marked)
    there = {**{name: F.col(name) for name in made.columns}, "source": F.lit(table.name)}
    typed = [there.get(c.name, F.lit(None)).cast(c.type).alias(c.name) for c in tables.EVENT_DAYS.columns]
    return made.select(*typed)


def _touches(marked: DataFrame) -> DataFrame:
    """One row a user and part. Cost: one sort by user, part and time; windows and the grouping need no other."""
    keys = ["user_id", "part_ts", "reason", "refused"]
    order = F.when(F.col("reason").isNull(), -F.unix_micros("event_ts"))  # of a refused row it may overflow
    ordered = marked.withColumn("order", order).withColumn(
        "tie", F.bitwise_not(F.xxhash64("user_id", "item_id", "event_ts"))
    )
    newest_first = Window.partitionBy(*keys).orderBy("order", "tie")
    again = (F.lag("tie").over(newest_first) == F.col("tie")) & (F.lag("order").over(newest_first) == F.col("order"))
    ranked = (
        ordered.withColumn("kept", (F.dense_rank().over(newest_first) <= MOST_TOUCHPOINTS) & F.col("reason").isNull())
        .withColumn("again", F.coalesce(again, F.lit(False)))
        .withColumn("copies", F.count(F.lit(1)).over(Window.partitionBy(*keys, "order", "tie")).cast("int"))
    )
    kept, first = F.col("kept"), F.col("kept") & ~F.col("again")
    lists = {
        "touch_ts": F.col("event_ts"),
        "touch_id": F.bitwise_not("tie"),
        "item_id": F.col("item_id"),
        "copies": F.col("copies"),
    }
    return ranked.groupBy(*keys).agg(
        F.count(F.lit(1)).alias("num_rows"),
        F.count_if(kept).alias("num_kept"),
        *[F.collect_list(F.when(first, c)).alias(name) for name, c in lists.items()],
    )


def _sums(marked: DataFrame) -> DataFrame:
    """Cost: an aggregation within the partitions."""
    accepted = F.col("reason").isNull()
    total = F.coalesce(F.try_sum(F.rint(F.col("value") * MILLIONTHS).cast("bigint")), F.lit(LARGEST_SUM))
    named = marked.withColumn("signal", F.when(accepted, F.col("signal"))).withColumn(
        "value", F.when(accepted, F.col("value")).otherwise(0.0)
    )
    return named.groupBy("user_id", "part_ts", "signal", "reason", "refused").agg(
        F.count(F.lit(1)).alias("num_rows"), F.count(F.lit(1)).alias("num_kept"), total.alias("millionths")
    )


def counted(days: DataFrame) -> list[Counted]:
    """Input rows behind rows of `event_days`. ValueError: signal names without end.

    Cost: one scan of five columns; a few dozen groups, at most some thousands, on the driver.
    """
    keys = ("source", "part_ts", "signal", "reason")
    groups = days.groupBy(*keys).agg(F.sum("num_rows").alias("rows"), F.sum("num_kept").alias("kept"))
    part = F.unix_micros("part_ts").alias("part")
    wanted = groups.select("source", part, "signal", "reason", "rows", "kept").orderBy(
        "signal", "source", "part", "reason"
    )
    found = [Counted(*row) for row in wanted.limit(8 * MAX_SIGNAL_NAMES).collect()]
    refuse_names_without_end({c.signal for c in found} - {None})
    return found


def refuse_names_without_end(names: set[Any]) -> None:
    """ValueError: more signal names than MAX_SIGNAL_NAMES."""
    if len(names) > MAX_SIGNAL_NAMES:
        raise ValueError(
            f"signals.signal must have at most {MAX_SIGNAL_NAMES} distinct names, has more (not shown, as they "
            "look like ids): write the kind of act there, not whose it was"
        )


def to_json(found: Sequence[Counted]) -> list[list[Any]]:
    """For a card; equal counts give equal lists."""
    return sorted((list(c) for c in found), key=str)


def from_json(raw: Sequence[Sequence[Any]]) -> list[Counted]:
    """Inverse of to_json."""
    return [Counted(*values) for values in raw]


def touches(days: DataFrame, windows: Windows) -> DataFrame:
    """user_id, item_id, event_ts, copies of the touches in the lookback window. Cost: a map."""
    accepted = F.col("reason").isNull() & (F.col("source") == EXPOSURES.name)
    inside = days.where(accepted & windows.in_lookback(F.col("part_ts")))
    listed = inside.select("user_id", F.inline(F.arrays_zip("touch_ts", "item_id", "copies")))
    return listed.withColumnRenamed("touch_ts", "event_ts")


def refused(days: DataFrame) -> DataFrame:
    """`rejected_rows` of the rows that break a rule of their own. Cost: a map."""
    repeated = days.where(F.col("reason").isNotNull()).withColumn("copy", times(F.col("num_rows")))
    return repeated.select("source", "reason", F.col("refused").alias("row"))


def times(number: Column) -> Column:
    """As many rows."""
    return F.explode(F.sequence(F.lit(1).cast("bigint"), number.cast("bigint")))
