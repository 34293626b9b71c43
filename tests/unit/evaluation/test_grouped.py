"""Each protocol's sums in Spark against a slow loop over rows, and what the randomised one is for."""

from datetime import timedelta

import numpy as np
import pytest
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.evaluation import bootstrap, grouped
from tests.unit.evaluation.night import DS, INDEX_TS, decided, frame, touch

DATA_ONLY = np.ones((1, bootstrap.NUM_CELLS), dtype=np.int64)


def uplifts(sums):
    keys = zip(sums.bucket_G.tolist(), sums.cluster_G.tolist(), strict=True)
    return dict(zip(keys, sums.uplift(DATA_ONLY)[0].tolist(), strict=True))


def slow_contrast(rows, treated, weight, outcome):
    def mean(part):
        return sum(w * y for w, y in zip(part[weight], part[outcome], strict=True)) / sum(part[weight])

    groups = {
        key: rows[(rows.bucket == key[0]) & (rows.cluster == key[1])]
        for key in set(zip(rows.bucket, rows.cluster, strict=True))
    }
    return {
        key: mean(g[g[treated]]) - mean(g[~g[treated]]) if 0 < g[treated].sum() < len(g) else np.nan
        for key, g in groups.items()
    }


def assert_equal_uplifts(found, expected):
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-9, nan_ok=True), key


def randomised(inputs, decisions):
    return grouped.randomised_rows(decisions, inputs.journeys, inputs.propensities, inputs.uploads, 0.5, seed=0)


def counted(rows):
    return rows.where("propensity_bucket is not null")


def test_exact_protocol_is_the_mean_effect_of_the_touches(spark, small_night):
    inputs = small_night.inputs
    rows = grouped.exact_rows(inputs.attribution.where("method = 'linear'"), inputs.truth, seed=0)
    known = small_night.touches[small_night.touches.truth]
    expected = known.groupby(["propensity_bucket", "cluster"]).ett.mean().to_dict()
    sums = grouped.group_sums(rows, grouped.EXACT)
    assert_equal_uplifts(uplifts(sums), expected)
    assert sums.rows_G.sum() == sums.counted_G.sum() == len(known)


def test_observational_protocol_is_the_weighted_contrast_of_journeys(spark, small_night):
    inputs = small_night.inputs
    sums = grouped.group_sums(
        grouped.observational_rows(inputs.journeys, inputs.propensities, seed=0), grouped.OBSERVATIONAL
    )
    assert_equal_uplifts(uplifts(sums), slow_contrast(small_night.pairs, "exposed", "weight", "outcome"))
    exposed = small_night.pairs.exposed.groupby([small_night.pairs.bucket, small_night.pairs.cluster])
    smaller = np.minimum(exposed.sum(), exposed.size() - exposed.sum())
    assert sums.counted_G.tolist() == smaller.tolist()


def test_randomised_protocol_contrasts_arms_by_inverse_selection_probability(spark, small_night):
    sums = grouped.group_sums(counted(randomised(small_night.inputs, small_night.inputs.decisions)), grouped.RANDOMISED)
    decisions = small_night.decisions
    assert_equal_uplifts(uplifts(sums), slow_contrast(decisions, "kept", "weight", "outcome"))
    together = slow_contrast(decisions.assign(bucket=0, cluster=0), "kept", "weight", "outcome")
    assert sums.overall(DATA_ONLY)[0] == pytest.approx(together[0, 0], abs=1e-9)
    assert sums.rows_G.sum() == len(decisions)
    # users whose only touch was withheld have no journey, and count
    with_journey = {r.user_id for r in small_night.inputs.journeys.select("user_id").collect()}
    assert (~decisions.user_id.isin(with_journey)).sum() >= 5


def test_sums_do_not_depend_on_partitioning(spark, small_night):
    inputs = small_night.inputs

    def sums(partitions):
        rows = grouped.observational_rows(
            inputs.journeys, inputs.propensities.repartition(partitions, F.col("user_id") * 31), seed=0
        )
        return grouped.group_sums(rows, grouped.OBSERVATIONAL)

    first, second = sums(1), sums(5)
    assert (first.sums_CGS == second.sums_CGS).all()
    weights = bootstrap.poisson_weights(0, 20)
    np.testing.assert_array_equal(first.uplift(weights), second.uplift(weights))


@pytest.mark.parametrize("protocol", ["exact", "randomised", "observational"])
def test_numpy_adds_single_rows_up_to_the_same_sums(small_night, protocol):
    inputs = small_night.inputs
    of, rows = {
        "exact": lambda: (
            grouped.EXACT,
            grouped.exact_rows(inputs.attribution.where("method = 'linear'"), inputs.truth, seed=0),
        ),
        "randomised": lambda: (grouped.RANDOMISED, counted(randomised(inputs, inputs.decisions))),
        "observational": lambda: (
            grouped.OBSERVATIONAL,
            grouped.observational_rows(inputs.journeys, inputs.propensities, seed=0),
        ),
    }[protocol]()
    local = rows.toPandas()
    columns = {name: local[name].to_numpy() for name in (*grouped.GROUP, "cell", "treated", "weight")}
    value = local.value.to_numpy()
    ones = np.ones(len(local), dtype=np.int64)
    found = grouped.added_up(
        of, **columns, rows=ones, weighted_value=value * columns["weight"], lowest=value, highest=value
    )
    expected = grouped.group_sums(rows, of)
    for name in ("bucket_G", "cluster_G", "rows_G", "counted_G", "lowest_G", "highest_G"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.sums_CGS, expected.sums_CGS, atol=1e-9)


def test_a_decision_without_a_propensity_is_kept_and_does_not_count(spark, small_night):
    nobody = {"user_id": 5, "item_id": 100, "event_ts": INDEX_TS - timedelta(hours=2), "withheld": False}
    other = decided(spark, [nobody | {"p_withheld": None, "cluster": 1, "ds": DS}])
    rows = randomised(small_night.inputs, small_night.inputs.decisions.unionByName(other)).persist()
    assert rows.count() == len(small_night.decisions) + 1
    sums = grouped.group_sums(counted(rows), grouped.RANDOMISED)
    assert_equal_uplifts(uplifts(sums), slow_contrast(small_night.decisions, "kept", "weight", "outcome"))


def test_two_decisions_of_one_user_share_the_selection(spark):
    """n = 3 touches (2 shown, 1 withheld), d = 2 of them decided: each weighs 3 / 2 / P(arm)."""
    at = INDEX_TS - timedelta(hours=5)
    journey = spark.range(1).select(F.xxhash64(F.lit(1).cast("bigint"), F.lit(DS))).first()[0]
    shown = [touch(11, 1, at), touch(12, 1, at)]
    journeys = frame(spark, tables.JOURNEYS, [{"journey_id": journey, "user_id": 1, "touches": shown, "outcome": 0}])
    propensities = frame(
        spark, tables.PROPENSITIES, [{"journey_id": journey, "user_id": 1, "cluster": [1], "propensity_bucket": [0]}]
    )
    both = {"user_id": 1, "event_ts": at, "p_withheld": 0.25, "cluster": 1, "ds": DS}
    arms = [both | {"item_id": 100, "withheld": False}, both | {"item_id": 101, "withheld": True}]
    uploads = spark.createDataFrame([(1, "2026-01-16")], "user_id bigint, ds string")  # of another night
    rows = grouped.randomised_rows(decided(spark, arms), journeys, propensities, uploads, 0.5, seed=0).collect()
    assert {r.treated: (r.weight, r.value) for r in rows} == {True: (1.5 / 0.75, 0.0), False: (1.5 / 0.25, 0.0)}


def test_randomised_uplift_is_unbiased_for_the_effect_per_exposed_touch(spark):
    """Touches of short journeys matter more here, and one touch a user is drawn: unweighted, short journeys count too
    much."""
    rng = np.random.default_rng(3)
    users, effect_of_journey = 6000, 0.7
    num_touches = rng.integers(1, 9, users)
    withheld = rng.random(users) < 0.5
    p_outcome = 0.1 + effect_of_journey * (num_touches - withheld) / num_touches
    outcome = rng.random(users) < p_outcome
    truth = effect_of_journey * users / num_touches.sum()  # each touch of a journey of n adds effect / n
    columns = zip(range(users), (num_touches - withheld).tolist(), withheld.tolist(), outcome.tolist(), strict=True)
    base = spark.createDataFrame(list(columns), "user_id bigint, shown int, withheld boolean, created boolean")
    base = base.withColumn("journey_id", F.xxhash64("user_id", F.lit(DS)))
    at = F.timestamp_seconds(F.lit(INDEX_TS.timestamp() - 3600))
    rows = grouped.randomised_rows(
        base.select(
            "user_id",
            F.lit(1).cast("bigint").alias("item_id"),
            at.alias("event_ts"),
            "withheld",
            F.lit(None).cast("double").alias("p_withheld"),
            F.lit(0).alias("cluster"),
            F.lit(DS).alias("ds"),
        ),
        base.where("shown > 0").select("journey_id", F.array_repeat(F.lit(0), F.col("shown")).alias("touches")),
        base.select("journey_id", F.array(F.lit(0)).alias("cluster"), F.array(F.lit(0)).alias("propensity_bucket")),
        base.where("created").select("user_id", F.lit(DS).alias("ds")),
        0.5,
        seed=0,
    )
    sums = grouped.group_sums(rows, grouped.RANDOMISED)
    replicates = sums.uplift(bootstrap.poisson_weights(0, 200))[:, 0]
    spread = replicates[1:].std()
    unweighted = outcome[~withheld].mean() - outcome[withheld].mean()
    assert abs(replicates[0] - truth) < 3 * spread
    assert unweighted - truth > 5 * spread
    lower, upper = bootstrap.interval(replicates, 0.95)
    assert lower < truth < upper
