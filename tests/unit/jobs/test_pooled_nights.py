"""Which nights are pooled, where an earlier one was killed between two of its tables."""

import json
from dataclasses import replace

import pytest
from pyspark.sql import functions as F

from almmta_spark import runner, spark_tables, storage, tables
from almmta_spark.config import Config, ExamplesConfig, JourneysConfig
from almmta_spark.night_log import Claim
from jobs import build_examples
from tests.nights import DS, items, journey, journeys, propensities, touch

KILLED, NEVER_RUN = "2026-01-14", "2026-01-13"
ORDER = (tables.JOURNEYS, tables.PROPENSITIES, tables.MATCHED_PAIRS)


@pytest.fixture
def conf(tmp_path):
    base = replace(Config(), warehouse=str(tmp_path / "warehouse"), pool_nights=3)
    return replace(base, journeys=JourneysConfig(max_touchpoints=4), examples=ExamplesConfig(num_row_groups=2))


def pooled(conf, ds, published):
    """What a night finds that sees nothing but the nights' logs and the cards of their tables."""
    for day, of_day in published.items():
        with Claim(None, conf, day) as claim:
            for table in of_day:
                said = spark_tables.Published(table.name, day, "v", 0, "", {})
                url = storage.join(spark_tables.folder(conf, table, day), "version=v.json")
                storage.write_text(None, url, json.dumps(said.__dict__))
                claim.draft[table.name] = "v"
            claim.publish()
    night = runner.Night(None, conf, ds, "build_examples")
    return night.pooled_nights(*ORDER), night.notes


@pytest.mark.parametrize("num_tables", [1, 2])
def test_a_night_killed_between_its_tables_is_left_out_and_named(conf, num_tables):
    nights, notes = pooled(conf, DS, {DS: ORDER, KILLED: ORDER[:num_tables]})
    assert nights == [DS]
    lacks = ", ".join(table.name for table in ORDER[num_tables:])
    assert notes["nights_not_pooled"] == (
        f"{NEVER_RUN} (without journeys, propensities, matched_pairs); {KILLED} (without {lacks}): "
        "run them again to have them pooled"
    )


def test_complete_nights_are_pooled_in_order(conf):
    nights = [NEVER_RUN, KILLED, DS]
    assert pooled(conf, DS, dict.fromkeys(nights, ORDER)) == (nights, {})


def test_the_night_itself_is_never_left_out_so_that_reading_it_says_what_it_lacks(conf):
    assert pooled(conf, DS, {DS: ORDER[:1]})[0] == [DS]


def test_training_examples_are_built_beside_a_night_that_was_killed(spark, conf):
    users = range(1, 31)
    rows = journeys(spark, [journey(u, [touch(u, 100, 5)], [(u, None)] if u % 4 == 0 else []) for u in users])
    spark_tables.write(rows, conf, tables.JOURNEYS, DS)
    spark_tables.write(rows.withColumn("journey_id", F.col("journey_id") + 1), conf, tables.JOURNEYS, KILLED)
    spark_tables.write(propensities(spark, users, [5, 6], [0, 1]), conf, tables.PROPENSITIES, DS)
    spark_tables.write(items(spark, [(100, 5, None)]), conf, tables.ITEM_CLUSTERS, DS)
    for table, meta in ((tables.MATCHED_PAIRS, None), (tables.ACCEPTED_UPLOADS, {"embedding_length": 0})):
        spark_tables.write(spark.createDataFrame([], table.ddl), conf, table, DS, meta)
    build_examples.run(runner.Night(spark, conf, DS, "build_examples"))
    assert spark_tables.published(spark, conf, tables.TRAINING_EXAMPLES, DS).rows == len(users)
