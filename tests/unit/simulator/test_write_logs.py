"""The simulator's tables in Spark."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from chispa import assert_df_equality
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import SimulatorConfig
from almmta_spark.simulator import write_logs
from almmta_spark.simulator.worlds import mechanism, signals_of

CONF = SimulatorConfig(num_users=200, num_nights=2, randomised_users=40, base_rate=0.2, duplicate_rate=0.05)
DS = "2026-01-15"
Night = dict[tuple[str, str], pd.DataFrame]


@pytest.fixture(scope="module")
def night(spark: Any) -> Night:
    """Every table and day."""
    collected = {}
    for table, day, df in write_logs.simulate(spark, CONF, 7, DS):
        declared = {c.name: c.type.replace(" ", "") for c in table.columns}
        assert {f.name: f.dataType.simpleString() for f in df.schema} == declared
        collected[table.name, day] = df.toPandas()
    return collected


def test_tables_do_not_depend_on_the_number_of_partitions(spark: Any) -> None:
    conf = SimulatorConfig(num_users=60, base_rate=0.5)
    two, five = ({t.name: f for t, _, f in write_logs.simulate(spark, conf, 7, DS, parts)} for parts in (2, 5))
    assert (two["exposures"].rdd.getNumPartitions(), five["exposures"].rdd.getNumPartitions()) == (2, 5)
    for name in ("exposures", "truth_attribution"):
        assert_df_equality(two[name].coalesce(1), five[name].coalesce(1), ignore_row_order=True)


def test_each_table_has_the_days_that_its_nights_need(night: Night) -> None:
    days: dict[str, list[str]] = {}
    for name, day in sorted(night):
        days.setdefault(name, []).append(day[-2:])
        assert len(night[name, day]) > 0, (name, day)
    assert days == {
        "exposures": ["13", "14"],
        "signals": ["12", "13", "14"],
        "uploads": ["14", "15"],
        "withholdings": ["13", "14"],
        "items": ["12"],
        "users": ["12"],
        "truth_attribution": ["14", "15"],
        "truth_clusters": ["14", "15"],
        "randomised_exposures": ["14", "15"],
        "randomised_uploads": ["14", "15"],
        "truth_randomised": ["14", "15"],
    }


def test_no_value_is_null_where_none_may_be(night: Night) -> None:
    for (name, _), rows in night.items():
        required = [c.name for c in tables.BY_NAME[name].columns if not c.nullable]
        assert not rows[required].isna().any().any(), name


def test_true_effects_join_the_exposures_by_the_hash_of_the_touch(spark: Any, night: Night) -> None:
    truth = night["truth_attribution", DS]
    touches = spark.createDataFrame(night["exposures", "2026-01-14"].drop_duplicates(), schema=tables.EXPOSURES.ddl)
    touch_ids = touches.select("user_id", F.xxhash64("user_id", "item_id", "event_ts").alias("touch_id")).toPandas()
    assert len(truth.merge(touch_ids, on=["user_id", "touch_id"])) == len(truth) > 300


def test_all_users_have_covariates_and_randomised_ones_no_logged_rows(night: Night) -> None:
    assert sorted(night["users", "2026-01-12"]["user_id"]) == list(range(240))
    for (name, _), rows in night.items():
        if name in ("exposures", "signals", "uploads", "truth_attribution", "withholdings"):
            assert rows["user_id"].max() < 200, name
    assert night["randomised_exposures", DS]["user_id"].min() >= 200


def test_experiments_and_truth_can_be_left_out(spark: Any) -> None:
    conf = SimulatorConfig(num_users=20, truth_share=0.0, withholding_share=0.0)
    names = {table.name for table, _, _ in write_logs.simulate(spark, conf, 7, DS)}
    assert names == {"items", "users", "exposures", "signals", "uploads", "truth_clusters"}


@pytest.mark.parametrize("world", ["signed", "random:5"])
def test_every_table_of_another_world_comes_about_and_items_are_its_own(spark: Any, world: str) -> None:
    conf = SimulatorConfig(
        world=world, num_users=150, randomised_users=40, base_rate=0.2, truth_share=0.5, withholding_share=0.5
    )
    rows = {table.name: df.toPandas() for table, _, df in write_logs.simulate(spark, conf, 7, DS)}
    exposures, items = rows["exposures"], rows["items"].set_index("item_id")
    assert set(exposures["item_id"]) <= set(items.index)
    assert set(rows["signals"]["signal"]) <= set(signals_of(world))
    assert len(rows["truth_randomised"]) == rows["randomised_exposures"]["user_id"].nunique()
    assert set(rows["truth_clusters"]["cluster"]) == set(items["cluster"])
    assert rows["users"]["covariates"].map(len).eq(mechanism(world).num_covariates).all()
    assert len(rows["withholdings"]) > 0
    assert (rows["truth_attribution"]["ett"] < 0).any()
