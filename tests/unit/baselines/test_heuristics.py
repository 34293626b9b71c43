"""The fixed rules on journeys small enough to check by hand."""

import pytest
from chispa.dataframe_comparer import assert_df_equality
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.baselines import heuristics, rows
from tests import nights

USER_WITH_UPLOAD, USER_WITHOUT, USER_OF_ONE, USER_OF_TWO = 1, 2, 3, 4
EXPECTED_SHARES = {  # touches 12, 9 and 3 hours old; a half-life of 3 hours: 2^-3, 2^-2, 1
    "first_touch": [1.0, 0.0, 0.0],
    "last_touch": [0.0, 0.0, 1.0],
    "linear": [1 / 3, 1 / 3, 1 / 3],
    "time_decay": [1 / 11, 2 / 11, 8 / 11],
    "position_based": [0.4, 0.2, 0.4],
}
SHARES_OF_TWO = {  # 8 and 2 hours old
    "first_touch": [1.0, 0.0],
    "last_touch": [0.0, 1.0],
    "linear": [0.5, 0.5],
    "time_decay": [1 / 5, 4 / 5],
    "position_based": [0.5, 0.5],
}


@pytest.fixture(scope="module")
def journeys(spark):
    three = [nights.touch(11, 100, 0, 12), nights.touch(12, 200, 1, 9), nights.touch(13, 300, 0, 3)]
    two = [nights.touch(41, 100, 0, 8), nights.touch(42, 200, 1, 2)]
    return nights.journeys(
        spark,
        [
            nights.journey(USER_WITH_UPLOAD, three, uploads=[(5, None)]),
            nights.journey(USER_WITHOUT, [nights.touch(t[1] + 10, t[2], t[4], t[5]) for t in three]),
            nights.journey(USER_OF_ONE, [nights.touch(31, 100, 1, 20)], uploads=[(6, None)]),
            nights.journey(USER_OF_TWO, two, uploads=[(7, None)]),
        ],
    )


@pytest.fixture(scope="module")
def found(spark, journeys):
    propensities = nights.propensities(spark, [1, 2, 3, 4], [0, 1], [4, 2])
    claims = [heuristics.claim(method, half_life_hours=3.0) for method in heuristics.WEIGHTS]
    return rows.attribution(journeys, propensities, claims).localCheckpoint()


def test_the_uploads_credit_is_shared_by_each_rule(spark, found):
    given = [
        (user, touch, method, share)
        for user, touches, table in (
            (USER_WITH_UPLOAD, (11, 12, 13), EXPECTED_SHARES),
            (USER_OF_TWO, (41, 42), SHARES_OF_TWO),
            (USER_OF_ONE, (31,), {method: [1.0] for method in EXPECTED_SHARES}),
            (USER_WITHOUT, (21, 22, 23), {method: [0.0] * 3 for method in EXPECTED_SHARES}),
        )
        for method, shares in table.items()
        for touch, share in zip(touches, shares, strict=True)
    ]
    expected = spark.createDataFrame(given, "user_id bigint, touch_id bigint, method string, removal_effect double")
    same = F.round("removal_effect", 12).alias("removal_effect")
    assert_df_equality(
        found.select("user_id", "touch_id", "method", same),
        expected.select("user_id", "touch_id", "method", same),
        ignore_row_order=True,
        ignore_nullable=True,
    )


def test_rows_have_the_attribution_schema_with_nulls_where_heuristics_know_nothing(found):
    assert found.columns == list(tables.ATTRIBUTION.column_names)
    for row in (collected := found.collect()):
        assert row.credit == row.removal_effect == pytest.approx(row.attribution_share, abs=1e-12)
        assert row.p_outcome is None and row.p_outcome_deleted is None and row.removal_effect_lower is None
    required = [c.name for c in tables.ATTRIBUTION.columns if not c.nullable]
    assert all(row[name] is not None for row in collected for name in required)


def test_the_bucket_is_that_of_the_touchs_own_cluster(found):
    assert {(r.cluster, r.propensity_bucket) for r in found.collect()} == {(0, 4), (1, 2)}


def test_position_based_credit_by_channel_is_the_hand_computation(spark):
    """Direct 2, search > email 3, search > social > email 5 (issue 4): 2, 3.5, 3.5 and 1."""
    direct, search, email, social = range(4)
    paths = [[direct]] * 2 + [[search, email]] * 3 + [[search, social, email]] * 5
    journeys = [
        nights.journey(user, [nights.touch(10 * user + i, 100, c, 9 - i) for i, c in enumerate(path)], [(user, None)])
        for user, path in enumerate(paths)
    ]
    propensities = nights.propensities(spark, range(10), range(4), [0] * 4)
    claims = [heuristics.claim("position_based", 6.0)]
    found = rows.attribution(nights.journeys(spark, journeys), propensities, claims)
    credit = {r.cluster: r.credit for r in found.groupBy("cluster").agg(F.sum("credit").alias("credit")).collect()}
    assert credit == pytest.approx({direct: 2, search: 3.5, email: 3.5, social: 1})


def credit_by_cluster(spark, paths, method, worth=None):
    """paths: (clusters in order, uploads of the journey)."""
    journeys = [
        nights.journey(user, [nights.touch(10 * user + i, 100, c, 9 - i) for i, c in enumerate(path)], uploads)
        for user, (path, uploads) in enumerate(paths)
    ]
    propensities = nights.propensities(spark, range(len(paths)), range(4), [0] * 4)
    found = rows.attribution(nights.journeys(spark, journeys), propensities, [heuristics.claim(method, 6.0, worth)])
    return {r.cluster: r.credit for r in found.groupBy("cluster").agg(F.sum("credit").alias("credit")).collect()}


def test_first_touch_credit_of_three_converting_paths(spark):
    """A>B>A>B>B>A, A>B>B>A>A and A>A, all converting (issue 4): A 3."""
    a, b = 0, 1
    paths = [([a, b, a, b, b, a], [(1, None)]), ([a, b, b, a, a], [(2, None)]), ([a, a], [(3, None)])]
    assert credit_by_cluster(spark, paths, "first_touch") == pytest.approx({a: 3, b: 0})


def test_every_upload_of_a_journey_is_shared_where_uploads_are_what_is_worth(spark):
    paths = [([0, 1], [(1, None), (2, None), (3, None)]), ([1], [])]
    assert credit_by_cluster(spark, paths, "linear") == pytest.approx({0: 0.5, 1: 0.5})
    assert credit_by_cluster(spark, paths, "linear", F.size("uploads")) == pytest.approx({0: 1.5, 1: 1.5})


def test_versions_depend_on_the_method_and_on_parameters_it_has(spark, journeys):
    def versions(half_life: float) -> dict[str, str]:
        claims = F.array(*[heuristics.claim(m, half_life).dropFields("effect") for m in heuristics.WEIGHTS])
        return dict(journeys.limit(1).select(F.inline(claims)).collect())

    three, six = versions(3.0), versions(6.0)
    assert {m for m in three if three[m] != six[m]} == {"time_decay"}
    assert len(set(three.values())) == len(three)
