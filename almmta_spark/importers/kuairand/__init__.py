"""KuaiRand-Pure (Gao et al., CIKM 2022; CC BY-SA 4.0) as input tables.

exposure -> touch; is_click, long_view, is_like, is_profile_enter -> signals; is_comment or is_forward -> upload (the
log has no uploads: a comment or a forward is its creating act), with the content of the item acted on; first tag ->
cluster. event_ts is time_ms, and days are UTC; the files' own `date` is UTC+8.

Contents are learned from the watch sequences of the first days only, and dated the day after them, so that no night
sees a vector its own future has shaped: an item snapshot of the first day has no contents, and neither have uploads
before that day. The users file has no date; it stands as the state of the first day.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.importers.kuairand import files, log, snapshots
from almmta_spark.spark_tables import shift
from almmta_spark.tables import Table


def input_tables(raw: files.Raw, seed: int, content_days: int, last: str) -> Iterator[tuple[Table, str, DataFrame]]:
    """Each input table's days up to last: (table, ds, rows). Contents are learned from the first content_days days.

    Cost: two shuffles of the accepted log by day and by user, one Word2Vec task; a day's rows are then one cached task.
    """
    accepted = log.tidy(raw.log).filter(F.col("ds") <= last).repartition("ds").cache()
    days = [day for day, _ in log.days(accepted)]
    known_from = shift(days[0], content_days)
    if known_from > days[-1]:
        raise ValueError(
            f"--content-days must leave days after it: the log has {len(days)} up to {days[-1]}, got {content_days}"
        )
    vectors = snapshots.content(accepted, known_from, seed).cache()
    yield tables.USERS, days[0], snapshots.users(raw.users)
    yield tables.ITEMS, days[0], snapshots.items(raw.videos, None)
    yield tables.ITEMS, known_from, snapshots.items(raw.videos, vectors)
    by_day = (
        (tables.EXPOSURES, log.exposures(accepted)),
        (tables.SIGNALS, log.signals(accepted)),
        (tables.UPLOADS, log.uploads(accepted, vectors, known_from)),
    )
    for day in days:
        for table, rows in by_day:
            yield table, day, rows.filter(F.col("ds") == day)
