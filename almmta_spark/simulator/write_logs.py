"""The simulated platform's logs as Spark DataFrames, one a table and day, with the truth beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from almmta_spark import tables
from almmta_spark.config import SimulatorConfig
from almmta_spark.simulator import records
from almmta_spark.simulator.draws import build_world
from almmta_spark.simulator.hashing import Ints
from almmta_spark.simulator.world import World
from almmta_spark.tables import Table

USERS_AT_A_TIME = 8192
USERS_PER_PARTITION = 100_000


def simulate(
    spark: SparkSession, conf: SimulatorConfig, seed: int, ds: str, num_partitions: int | None = None
) -> Iterator[tuple[Table, str, DataFrame]]:
    """(table, day, rows) of num_nights nights, the last of them ds; what a user does depends on (seed, user, night).

    exposures, signals, uploads, withholdings: dated by the event. truth_* and randomised_*: dated by the night.
    items and users: one snapshot, of the day before the first night's lookback window.
    Cost: no shuffle, no cache; each table's day draws its users, 8,192 at a time in a Python worker.
    """
    nights = [records.shift(ds, -n) for n in reversed(range(conf.num_nights))]
    snapshot = records.shift(nights[0], -2)
    world = world_of(conf, seed)
    num = conf.num_users + conf.randomised_users
    parts = num_partitions or max(spark.sparkContext.defaultParallelism, -(-num // USERS_PER_PARTITION))
    users = spark.range(0, num, 1, parts)

    yield tables.ITEMS, snapshot, spark.createDataFrame(records.item_table(world), schema=tables.ITEMS.ddl)
    yield tables.USERS, snapshot, _rows(users, tables.USERS, partial(records.user_records, world, seed))
    for table in _tables(conf):
        for day in records.SOURCES[table.name].days(nights):
            yield table, day, _rows(users, table, partial(records.table_records, world, conf, seed, nights, table, day))
    for night in nights:
        yield tables.TRUTH_CLUSTERS, night, _truth_clusters(spark, world)


def world_of(conf: SimulatorConfig, seed: int) -> World:
    """The world that the settings name."""
    return build_world(conf.world, seed, conf.base_rate, conf.items_per_cluster)


def _tables(conf: SimulatorConfig) -> list[Table]:
    """The tables this configuration fills besides the snapshots."""
    empty = {
        tables.WITHHOLDINGS: conf.withholding_share == 0,
        tables.TRUTH_ATTRIBUTION: conf.truth_share == 0,
        tables.RANDOMISED_EXPOSURES: conf.randomised_users == 0,
        tables.RANDOMISED_UPLOADS: conf.randomised_users == 0,
        tables.TRUTH_RANDOMISED: conf.randomised_users == 0,
    }
    known = (tables.BY_NAME[name] for name in records.SOURCES)
    return [table for table in known if not empty.get(table, False)]


def _rows(users: DataFrame, table: Table, draw: Callable[[Ints], Iterator[pa.RecordBatch]]) -> DataFrame:
    """The table's rows of all users."""

    def draw_users(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for batch in batches:
            ids = batch.column(0).to_numpy()
            for start in range(0, len(ids), USERS_AT_A_TIME):
                yield from draw(ids[start : start + USERS_AT_A_TIME])

    rows = users.mapInArrow(draw_users, from_arrow_schema(records.schema(table)))
    if "touch_id" in table.column_names:
        rows = rows.withColumn("touch_id", F.xxhash64("user_id", "item_id", "event_ts"))
    return rows.select(*table.column_names)


def _truth_clusters(spark: SparkSession, world: World) -> DataFrame:
    clusters = np.arange(len(world.strength_K), dtype=np.int32)
    columns = pa.table({"cluster": clusters, "strength": world.active_K})
    return spark.createDataFrame(columns, schema=tables.TRUTH_CLUSTERS.ddl)
