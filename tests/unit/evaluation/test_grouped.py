"""Each protocol's sums in Spark against a slow loop over rows, and what the randomised one is for."""

from datetime import timedelta

import numpy as np
import pytest
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.evaluation import bootstrap, grouped
from tests.unit.evaluation.night import DS, INDEX_TS, frame, touch

DATA_ONLY = np.ones((1, bootstrap.NUM_CELLS), dtype=np.int64)
WINDOWS = grouped.Windows([DS], 24.0, 24.0)


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


def randomised(spark, inputs, **changes):
    args = {
        "journeys": inputs.journeys,
        "propensities": inputs.propensities,
        "item_clusters": inputs.item_clusters,
        "uploads": inputs.uploads,
        "windows": WINDOWS,
        "seed": 0,
    } | changes
    withholdings = args.pop("withholdings", inputs.withholdings)
    return grouped.randomised_rows(grouped.decisions(withholdings, args["windows"], 0.5), **args)


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
    sums = grouped.group_sums(counted(randomised(spark, small_night.inputs)), grouped.RANDOMISED)
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


def test_unusable_and_unplaced_decisions_are_marked_and_do_not_count(spark, small_night):
    at = INDEX_TS - timedelta(hours=2)
    user = int(small_night.decisions.user_id.iloc[0])
    clean = small_night.inputs.withholdings
    dirt = [
        {"user_id": user, "item_id": 100, "event_ts": at, "withheld": True, "p_withheld": None},
        {"user_id": user, "item_id": 100, "event_ts": at, "withheld": False, "p_withheld": None},  # decided both ways
        {"user_id": user, "item_id": 200, "event_ts": at, "withheld": True, "p_withheld": 1.0},  # not randomised
        {"user_id": user, "item_id": 999, "event_ts": at, "withheld": False, "p_withheld": 0.0},
        {"user_id": 5, "item_id": 100, "event_ts": at, "withheld": False, "p_withheld": None},  # unknown user
    ]
    outside = [
        {"user_id": user, "item_id": 300, "event_ts": INDEX_TS, "withheld": True, "p_withheld": None},
        {
            "user_id": user,
            "item_id": 300,
            "event_ts": INDEX_TS - timedelta(hours=25),
            "withheld": True,
            "p_withheld": None,
        },
    ]
    withholdings = clean.unionByName(clean).unionByName(frame(spark, tables.WITHHOLDINGS, dirt + outside))
    rows = randomised(spark, small_night.inputs, withholdings=withholdings).persist()
    assert rows.count() == len(small_night.decisions) + 4
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
    decided = [
        {"user_id": 1, "item_id": 100, "event_ts": at, "withheld": False, "p_withheld": 0.25},
        {"user_id": 1, "item_id": 101, "event_ts": at, "withheld": True, "p_withheld": 0.25},
    ]
    items = frame(spark, tables.ITEM_CLUSTERS, [{"item_id": 100, "cluster": 1}, {"item_id": 101, "cluster": 1}])
    uploads = frame(spark, tables.UPLOADS, [{"user_id": 1, "upload_id": 1, "event_ts": INDEX_TS + timedelta(hours=24)}])
    rows = grouped.randomised_rows(
        grouped.decisions(frame(spark, tables.WITHHOLDINGS, decided), WINDOWS, 0.5),
        journeys, propensities, items, uploads, WINDOWS, 0,
    ).collect()  # fmt: skip
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
        grouped.decisions(
            base.select("user_id", F.lit(1).cast("bigint").alias("item_id"), at.alias("event_ts"), "withheld"),
            WINDOWS,
            0.5,
        ),
        base.where("shown > 0").select("journey_id", F.array_repeat(F.lit(0), F.col("shown")).alias("touches")),
        base.select("journey_id", F.array(F.lit(0)).alias("cluster"), F.array(F.lit(0)).alias("propensity_bucket")),
        frame(spark, tables.ITEM_CLUSTERS, [{"item_id": 1, "cluster": 0}]),
        base.where("created").select(
            "user_id", F.timestamp_seconds(F.lit(INDEX_TS.timestamp() + 60)).alias("event_ts")
        ),
        WINDOWS,
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
