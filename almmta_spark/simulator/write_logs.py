"""The simulated platform's logs as Spark DataFrames, one a table and day, with the truth beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from almmta_spark import tables
from almmta_spark.config import SimulatorConfig
from almmta_spark.simulator import records
from almmta_spark.simulator.draws import build_world
from almmta_spark.simulator.worlds import World
from almmta_spark.tables import Table

USERS_AT_A_TIME = 8192
USERS_PER_PARTITION = 100_000


def simulate(
    spark: SparkSession, conf: SimulatorConfig, seed: int, ds: str, num_partitions: int | None = None
) -> Iterator[tuple[Table, str, DataFrame]]:
    """(table, day, rows) of num_nights nights, the last of them ds; what a user does depends on (seed, user, night).

    exposures, signals, uploads, withholdings: dated by the event. truth_* and randomised_*: dated by the night.
    items and users: one snapshot, of the day before the first night's lookback window.
    Cost: users are drawn once (no shuffle, 8,192 at a time in a worker) and kept on disk in Spark's cache until the
    iterator ends; each table's day is a scan of that cache.
    """
    nights = [records.shift(ds, -n) for n in reversed(range(conf.num_nights))]
    world = build_world(conf.world, seed, conf.base_rate, conf.items_per_cluster)
    drawn = _draw(spark, world, conf, seed, nights, num_partitions).persist(StorageLevel.DISK_ONLY)
    try:
        snapshot = records.shift(nights[0], -2)
        yield tables.ITEMS, snapshot, spark.createDataFrame(records.item_table(world), schema=tables.ITEMS.ddl)
        yield tables.USERS, snapshot, _rows(drawn, tables.USERS, snapshot)
        for table, day in _days(conf, nights):
            yield table, day, _rows(drawn, table, day)
        for night in nights:
            yield tables.TRUTH_CLUSTERS, night, _truth_clusters(spark, world)
    finally:
        drawn.unpersist()


def _draw(
    spark: SparkSession, world: World, conf: SimulatorConfig, seed: int, nights: list[str], num_partitions: int | None
) -> DataFrame:
    num = conf.num_users + conf.randomised_users
    parts = num_partitions or max(spark.sparkContext.defaultParallelism, -(-num // USERS_PER_PARTITION))
    task = _task(world, conf, seed, nights)
    return spark.range(0, num, 1, parts).mapInArrow(task, from_arrow_schema(records.SCHEMA))


def _task(
    world: World, conf: SimulatorConfig, seed: int, nights: list[str]
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    snapshot = records.shift(nights[0], -2)

    def draw_users(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            ids = batch.column(0).to_numpy()
            for users in np.split(ids, range(USERS_AT_A_TIME, len(ids), USERS_AT_A_TIME)):
                yield records.user_records(seed, snapshot, users)
                for night in nights:
                    yield from records.night_records(world, conf, seed, night, users)

    return draw_users


def _days(conf: SimulatorConfig, nights: list[str]) -> Iterator[tuple[Table, str]]:
    """Each table's days: touches and proxies lie on the day before a night, intents on the one before that."""
    before = [records.shift(night, -1) for night in nights]
    yield from ((tables.EXPOSURES, day) for day in before)
    yield from ((tables.SIGNALS, day) for day in [records.shift(nights[0], -2), *before])
    yield from ((tables.UPLOADS, day) for day in nights)
    yield from ((tables.WITHHOLDINGS, day) for day in before if conf.withholding_share)
    yield from ((tables.TRUTH_ATTRIBUTION, night) for night in nights if conf.truth_share)
    for table in (tables.RANDOMISED_EXPOSURES, tables.RANDOMISED_UPLOADS):
        yield from ((table, night) for night in nights if conf.randomised_users)


def _rows(drawn: DataFrame, table: Table, day: str) -> DataFrame:
    rows = drawn.where((F.col("table") == table.name) & (F.col("day") == day))
    if "touch_id" in table.column_names:
        rows = rows.withColumn("touch_id", F.xxhash64("user_id", "item_id", "event_ts"))
    return rows.select(*table.column_names)


def _truth_clusters(spark: SparkSession, world: World) -> DataFrame:
    clusters = np.arange(len(world.strength_K), dtype=np.int32)
    columns = pa.table({"cluster": clusters, "strength": world.strength_K})
    return spark.createDataFrame(columns, schema=tables.TRUTH_CLUSTERS.ddl)
