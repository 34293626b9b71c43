"""What Spark's own listener counted while something ran."""

import time

import pytest
from pyspark.sql import Window
from pyspark.sql import functions as F

from almmta_spark import spark_metrics
from almmta_spark.spark_metrics import Meter


def test_only_what_ran_since_counts_and_all_of_it_is_there(spark):
    spark.range(100).repartition(3, "id").count()
    meter = Meter(spark)
    assert meter.read()[1]["tasks"] == 0 and meter.read()[1]["skew"] is None
    spark.conf.set("spark.sql.adaptive.enabled", "false")  # which would run fewer tasks than five and three
    try:
        spark.range(0, 10_000, 1, 5).repartition(3, "id").write.format("noop").mode("overwrite").save()
    finally:
        spark.conf.unset("spark.sql.adaptive.enabled")
    seconds, cost = meter.read()
    assert seconds > 0 and cost["tasks"] == 8 and cost["forgotten_stages"] == 0
    assert cost["shuffle_read_bytes"] == cost["shuffle_write_bytes"] > 10_000  # eight bytes a row, compressed
    assert cost["spilled_memory_bytes"] == cost["spilled_disk_bytes"] == 0


def test_the_skew_is_that_of_the_stage_that_waits_longest_for_its_last_task(spark):
    def dawdle(longest, others):
        def doze(batches):  # here, so that the workers need not import this file
            for batch in batches:
                time.sleep(longest if 0 in batch.column(0).to_pylist() else others)
                yield batch

        return doze

    spark.range(0, 2, 1, 2).mapInArrow(dawdle(0, 0), "id long").count()  # starts Python's workers
    meter = Meter(spark)
    spark.range(0, 5, 1, 5).mapInArrow(dawdle(0.5, 0), "id long").count()  # one much longer than the others
    spark.range(0, 3, 1, 3).mapInArrow(dawdle(2, 1), "id long").count()  # which waits longer: twice a second
    assert 1.3 < meter.read()[1]["skew"] < 2.6  # where every task may be half a second late


def test_what_did_not_fit_into_memory_is_counted_as_spilled(spark):
    spill = {
        "spark.sql.windowExec.buffer.spill.threshold": "50",
        "spark.sql.windowExec.buffer.in.memory.threshold": "20",
    }
    for key, value in spill.items():
        spark.conf.set(key, value)
    try:
        meter = Meter(spark)
        over = Window.partitionBy(F.lit(1)).orderBy("id").rowsBetween(-1000, 1000)
        spark.range(0, 2000, 1, 1).select(F.sum("id").over(over).alias("s")).agg(F.sum("s")).collect()
        assert meter.read()[1]["spilled_disk_bytes"] > 0
    finally:
        for key in spill:
            spark.conf.unset(key)


def test_without_a_session_there_is_the_time_alone():
    seconds, cost = Meter(None).read()
    assert seconds >= 0 and cost == {} and spark_metrics.told(cost) == ""


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (12_345_678, "12.3 MB"), (3e15, "3000.0 TB")]
)
def test_bytes_are_said_in_a_unit_that_can_be_read(number, text):
    assert spark_metrics.size(number) == text


def test_what_was_forgotten_is_said():
    cost = {"tasks": 7, "shuffle_write_bytes": 10, "spilled_disk_bytes": 0, "skew": None, "forgotten_stages": 2}
    assert spark_metrics.told(cost) == ": 7 tasks, 10 B shuffled, 0 B spilled and what 2 forgotten Spark stages did"
