"""last_touch, linear and time_decay on journeys small enough to check by hand."""

import pytest
from chispa.dataframe_comparer import assert_df_equality
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.baselines import heuristics
from tests import nights

METHODS = ("last_touch", "linear", "time_decay")
USER_WITH_UPLOAD, USER_WITHOUT, USER_OF_ONE = 1, 2, 3
EXPECTED_SHARES = {  # touches 12, 9 and 3 hours old; a half-life of 3 hours: 2^-3, 2^-2, 1
    "last_touch": [0.0, 0.0, 1.0],
    "linear": [1 / 3, 1 / 3, 1 / 3],
    "time_decay": [1 / 11, 2 / 11, 8 / 11],
}


@pytest.fixture(scope="module")
def journeys(spark):
    three = [nights.touch(11, 100, 0, 12), nights.touch(12, 200, 1, 9), nights.touch(13, 300, 0, 3)]
    return nights.journeys(
        spark,
        [
            nights.journey(USER_WITH_UPLOAD, three, uploads=[(5, None)]),
            nights.journey(USER_WITHOUT, [nights.touch(t[1] + 10, t[2], t[4], t[5]) for t in three]),
            nights.journey(USER_OF_ONE, [nights.touch(31, 100, 1, 20)], uploads=[(6, None)]),
        ],
    )


@pytest.fixture(scope="module")
def found(spark, journeys):
    propensities = nights.propensities(spark, [1, 2, 3], [0, 1], [4, 2])
    return heuristics.attribution(journeys, propensities, METHODS, half_life_hours=3.0).localCheckpoint()


def test_the_uploads_credit_is_shared_by_each_rule(spark, found):
    rows = [
        (USER_WITH_UPLOAD, touch, method, share)
        for method, shares in EXPECTED_SHARES.items()
        for touch, share in zip((11, 12, 13), shares, strict=True)
    ]
    rows += [(USER_WITHOUT, touch, method, 0.0) for method in METHODS for touch in (21, 22, 23)]
    rows += [(USER_OF_ONE, 31, method, 1.0) for method in METHODS]
    expected = spark.createDataFrame(rows, "user_id bigint, touch_id bigint, method string, removal_effect double")
    same = F.round("removal_effect", 12).alias("removal_effect")
    assert_df_equality(
        found.select("user_id", "touch_id", "method", same),
        expected.select("user_id", "touch_id", "method", same),
        ignore_row_order=True,
        ignore_nullable=True,
    )


def test_rows_have_the_attribution_schema_with_nulls_where_heuristics_know_nothing(found):
    assert found.columns == list(tables.ATTRIBUTION.column_names)
    rows = found.collect()
    for row in rows:
        assert row.credit == row.removal_effect == row.attribution_share
        assert row.p_outcome is None and row.p_outcome_deleted is None and row.removal_effect_lower is None
    required = [c.name for c in tables.ATTRIBUTION.columns if not c.nullable]
    assert all(row[name] is not None for row in rows for name in required)


def test_the_bucket_is_that_of_the_touchs_own_cluster(found):
    assert {(r.cluster, r.propensity_bucket) for r in found.collect()} == {(0, 4), (1, 2)}


def test_versions_depend_on_the_method_and_on_parameters_it_has():
    assert (
        heuristics.version("linear", 3.0) == heuristics.version("linear", 6.0) != heuristics.version("last_touch", 3.0)
    )
    assert heuristics.version("time_decay", 3.0) != heuristics.version("time_decay", 6.0)


def test_an_unknown_rule_is_refused(spark, journeys):
    with pytest.raises(ValueError, match=r"attribution\.baselines: 'u_shaped'"):
        heuristics.attribution(journeys, nights.propensities(spark, [1], [0], [0]), ["u_shaped"], 6.0)
