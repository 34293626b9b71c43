"""Sums that do not depend on the order of arrival."""

import math

import numpy as np
import pytest
from pyspark.sql import functions as F

from almmta_spark.evaluation.fixed_point import collect, fixed_sum


def spark_sum(spark, values, partitions):
    frame = spark.createDataFrame([(float(v),) for v in values], "v double").repartition(partitions, "v")
    return frame.agg(fixed_sum(F.col("v")).alias("s")).first()["s"]


def test_sums_are_equal_to_the_last_bit_in_any_order_and_partitioning(spark):
    rng = np.random.default_rng(0)
    values = rng.normal(size=3000) * 10.0 ** rng.integers(-6, 4, 3000)
    shuffled = rng.permutation(values)
    assert sum(values.tolist()) != sum(shuffled.tolist())  # what plain addition does
    first = spark_sum(spark, values, 1)
    assert spark_sum(spark, shuffled, 5) == first
    assert first == pytest.approx(math.fsum(values), abs=3000 * 2.0**-41)


def test_empty_sums_are_zero_and_nulls_add_nothing(spark):
    frame = spark.createDataFrame([(1, None), (2, 0.5), (2, None)], "k int, v double")
    found = {r.k: r.s for r in frame.groupBy("k").agg(fixed_sum(F.col("v")).alias("s")).collect()}
    assert found == {1: 0.0, 2: 0.5}
    assert frame.where("k = 9").agg(fixed_sum(F.col("v")).alias("s")).first()["s"] == 0.0


def test_negative_terms_keep_their_sign(spark):
    assert spark_sum(spark, [-0.25, -1e-3, 2.0**-40], 2) == -0.25 + round(-1e-3 * 2**40) / 2**40 + 2.0**-40


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e12])
def test_a_term_that_does_not_fit_stops_the_job(spark, bad):
    with pytest.raises(Exception, match="CAST_OVERFLOW"):
        spark_sum(spark, [1.0, bad], 1)


def test_collected_nulls_are_nan(spark):
    found = collect(spark.createDataFrame([(1, None), (2, 0.5)], "k bigint, v double"))
    assert np.isnan(found["v"][0]) and found["v"][1] == 0.5
