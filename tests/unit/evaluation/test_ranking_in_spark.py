"""The Spark front of causal/ranking.py has its figures, to the last bit."""

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from almmta_spark.causal import bootstrap as core
from almmta_spark.causal import ranking as numpy_front
from almmta_spark.evaluation import bootstrap, ranking


def drawn(rows=3000, seed=0):
    rng = np.random.default_rng(seed)
    users = rng.integers(-(2**62), 2**62, rows // 3)
    found = pd.DataFrame({"user_id": rng.choice(users, rows), "kept": rng.random(rows) < 0.5})
    found["smooth"], found["coarse"] = rng.normal(size=rows), rng.integers(0, 3, rows)
    found["binary"] = (rng.random(rows) < 0.2 + 0.2 * found.kept * (found.smooth > 0)).astype(int)
    found["count"], found["amount"] = rng.poisson(1 + found.binary), rng.normal(size=rows) * (1 + found.binary)
    found["weight"] = rng.exponential(size=rows) + 0.1
    return found


@pytest.fixture(scope="module")
def local():
    return drawn()


@pytest.fixture(scope="module")
def rows(spark, local):
    return spark.createDataFrame(local).repartition(3).cache()


@pytest.mark.parametrize(
    ("outcome", "weight", "share"),
    [("binary", None, "all"), ("binary", "weight", "treated"), ("count", None, "treated"), ("amount", "weight", "all")],
)
def test_figures_are_those_of_numpy(rows, local, outcome, weight, share):
    settings = {"replicates": 20, "seed": 3, "share": share}
    found = ranking.evaluate(rows, ["smooth", "coarse"], "kept", outcome, weight, **settings)
    expected = numpy_front.evaluate(
        {name: local[name] for name in ("smooth", "coarse")},
        local.kept,
        local[outcome],
        None if weight is None else local[weight],
        local.user_id,
        **settings,
    )
    assert found == expected
    assert found["smooth"]["num_steps"] == 256 and found["coarse"]["num_steps"] == 3
    assert found["smooth"]["auuc_lower"] < found["smooth"]["auuc"] < found["smooth"]["auuc_upper"]


def test_partitions_order_and_an_increasing_transformation_leave_every_bit(rows):
    once = ranking.evaluate(rows, ["smooth"], "kept", "amount", "weight", replicates=20)
    moved = rows.withColumn("smooth", F.exp("smooth")).repartition(7, "amount")
    assert ranking.evaluate(moved, ["smooth"], "kept", "amount", "weight", replicates=20) == once


def test_large_inputs_are_cut_by_a_sample_of_users(rows, local, monkeypatch):
    monkeypatch.setattr(numpy_front, "SAMPLE_ROWS", 700)
    monkeypatch.setattr(ranking, "SAMPLE_ROWS", 700)
    found = ranking.evaluate(rows, ["smooth"], "kept", "binary", replicates=5)["smooth"]
    expected = numpy_front.evaluate({"s": local.smooth}, local.kept, local.binary, user=local.user_id, replicates=5)[
        "s"
    ]
    assert found == expected
    taken = core.sampled(local.user_id, 0, len(local), 700)
    assert 500 < taken.sum() < 900 and local.user_id[taken].isin(local.user_id[~taken]).sum() == 0
    whole = numpy_front.SAMPLE_ROWS
    monkeypatch.setattr(numpy_front, "SAMPLE_ROWS", 10 * whole)
    uncut = numpy_front.evaluate({"s": local.smooth}, local.kept, local.binary, user=local.user_id, replicates=5)["s"]
    assert found["auuc"] == pytest.approx(uncut["auuc"], abs=0.01 * abs(uncut["uplift"]))


@pytest.mark.parametrize("seed", [0, 7, -1, 2**40])
def test_users_have_the_cells_of_numpy(spark, seed):
    ids = [0, 1, -1, 2**63 - 1, -(2**63), 123456789]
    frame = spark.createDataFrame([(i,) for i in ids], "user_id bigint")
    found = frame.select("user_id", bootstrap.user_cell(F.col("user_id"), seed).alias("cell")).collect()
    by_id = {r.user_id: r.cell for r in found}
    assert [by_id[i] for i in ids] == core.user_cell(np.array(ids), seed).tolist()


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("kept", True, "no control rows"),
        ("binary", 1, "every outcome is 1"),
    ],
)
def test_what_cannot_be_measured_is_null_with_its_reason(rows, column, value, reason):
    found = ranking.evaluate(rows.withColumn(column, F.lit(value)), ["coarse"], "kept", "binary")["coarse"]
    assert found["auuc"] is None and reason in found["undefined_reason"]


def test_no_rows_are_null_with_their_reason(rows):
    found = ranking.evaluate(rows.limit(0), ["coarse"], "kept", "binary")["coarse"]
    assert found["auuc"] is None and found["undefined_reason"] == "no rows"


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("smooth", float("nan"), "column smooth must be finite"),
        ("binary", None, "column binary must be finite"),
        ("kept", 2, "column kept must be 0 or 1"),
        ("weight", 0.0, "column weight must be > 0"),
    ],
)
def test_rows_that_break_a_rule_are_refused_by_the_name_of_their_column(rows, column, value, says):
    wrong = rows.withColumn(column, F.when(F.col("coarse") == 0, F.lit(value)).otherwise(F.col(column).cast("double")))
    with pytest.raises(ValueError, match=says):
        ranking.evaluate(wrong, ["smooth"], "kept", "binary", "weight")
