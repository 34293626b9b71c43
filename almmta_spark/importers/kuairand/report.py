"""What was found in the files, and what became of it."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.importers.kuairand.files import CREATING, MISSING, NUMBERS, SIGNALS, Raw


def dirt(raw: Raw, log: DataFrame) -> dict[str, int]:
    """Counts of the dirt in the files and in their accepted log rows. Cost: one shuffle of the log, five scans."""
    local = F.date_format(F.col("event_ts") + F.expr("INTERVAL 8 HOURS"), "yyyyMMdd").cast("int")
    flags = F.array(*[F.col(c) for c in (*SIGNALS, *CREATING)])
    seen = log.agg(
        F.count(F.lit(1)).alias("exposures"),
        F.count_if(F.col("duration_ms") == 0).alias("zero durations, kept: nothing reads them"),
        F.count_if(F.col("date") != local).alias("date is not the UTC+8 day of time_ms, which speaks"),
        F.count_if(F.exists(flags, lambda f: f.isNull() | ~f.isin(0, 1))).alias("flags not 0 or 1, read as no act"),
    ).first()
    assert seen is not None
    no_user = log.join(raw.users.select("user_id"), "user_id", "left_anti").count()
    no_item = log.join(raw.videos.select(F.col("video_id").alias("item_id")), "item_id", "left_anti").count()
    rows = raw.log.count()
    return {
        "log rows": rows,
        "log rows refused": rows - seen["exposures"],
        **seen.asDict(),
        **_copies(log),
        "exposures of users without features, kept: ingest refuses them": no_user,
        "exposures of videos without features, kept: ingest refuses them": no_item,
        **_snapshot_dirt(raw),
    }


def _copies(log: DataFrame) -> dict[str, int]:
    whole = F.xxhash64(*log.columns)
    touches = log.groupBy("user_id", "item_id", "event_ts").agg(
        F.count(F.lit(1)).alias("rows"), F.size(F.collect_set(whole)).alias("versions")
    )
    found = touches.agg(
        F.sum(F.col("rows") - F.col("versions")).alias("equal to another row on every column, kept: ingest drops them"),
        F.sum(F.col("rows") - 1).alias("of another row's user, video and time, the equal ones included"),
    ).first()
    assert found is not None
    return found.asDict()


def _snapshot_dirt(raw: Raw) -> dict[str, int]:
    numbers = F.array(*[F.col(c) for c in NUMBERS])
    people = raw.users.agg(
        F.count(F.lit(1)).alias("users"),
        F.sum(F.size(F.filter(numbers, lambda v: v == MISSING))).alias("user features of -124, now NaN"),
        F.sum(F.size(F.filter(numbers, F.isnull))).alias("user features missing, now NaN"),
    ).first()
    videos = raw.videos.agg(
        F.count(F.lit(1)).alias("videos"),
        F.count_if(F.isnull("tag")).alias("videos without a tag"),
        F.count_if(F.col("tag").contains(",")).alias("videos with several tags, of which the first is the cluster"),
    ).first()
    assert people is not None and videos is not None
    return {**people.asDict(), **videos.asDict()}
