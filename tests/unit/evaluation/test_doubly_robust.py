"""The doubly robust observational protocol in Spark against the same by pandas."""

import numpy as np
import pytest
from pyspark.sql import functions as F

from almmta_spark.causal import outcome_regression
from almmta_spark.evaluation import bootstrap, doubly_robust, grouped


def sums(inputs):
    rows = doubly_robust.doubly_robust_rows(inputs.journeys, inputs.propensities, seed=0)
    return grouped.group_sums(rows, grouped.DOUBLY_ROBUST)


def expectations(pairs):
    """mu_0 and mu_1 of every pair, by users of the other fold."""
    users, row = np.unique(pairs.user_id, return_inverse=True)
    first = pairs.drop_duplicates("user_id").set_index("user_id").loc[users]
    x, y = first.covariate.to_numpy()[:, None], first.outcome.to_numpy(float)
    mu = np.zeros((len(pairs), 2))
    for fold in (0, 1):
        of, others = (pairs.fold == fold).to_numpy(), (pairs.fold != fold).to_numpy()
        of_pairs = row[others], pairs.cluster.to_numpy()[others], pairs.exposed.to_numpy()[others]
        kept = np.unique(of_pairs[0])
        model = outcome_regression.fit(x[kept], y[kept], np.searchsorted(kept, of_pairs[0]), *of_pairs[1:])
        mu[of] = model.predict(x, row[of], pairs.cluster.to_numpy()[of])
    return mu


def test_uplift_is_expected_difference_plus_the_weighted_contrast_of_residuals(small_night):
    found, pairs = sums(small_night.inputs), small_night.pairs
    mu = expectations(pairs)
    pairs = pairs.assign(expected=mu[:, 1] - mu[:, 0])
    pairs["residual"] = pairs.outcome - np.where(pairs.exposed, mu[:, 1], mu[:, 0])
    uplift = found.uplift(np.ones((1, bootstrap.NUM_CELLS), dtype=np.int64))[0]
    weighted = grouped.group_sums(
        grouped.observational_rows(small_night.inputs.journeys, small_night.inputs.propensities, 0),
        grouped.OBSERVATIONAL,
    )
    np.testing.assert_array_equal(found.rows_G, weighted.rows_G)
    np.testing.assert_array_equal(found.counted_G, weighted.counted_G)
    assert set(found.highest_G) == {1.0} and set(found.lowest_G) == {0.0}
    for g, (bucket, cluster) in enumerate(zip(found.bucket_G, found.cluster_G, strict=True)):
        of = pairs[(pairs.bucket == bucket) & (pairs.cluster == cluster)]
        arms = [np.average(p.residual, weights=p.weight) for p in (of[of.exposed], of[~of.exposed])]
        assert uplift[g] == pytest.approx(of.expected.mean() + arms[0] - arms[1], abs=1e-7)


def test_partitions_leave_every_bit(small_night):
    inputs = small_night.inputs
    moved = {n: getattr(inputs, n).repartition(5, F.col("user_id") * 31) for n in ("journeys", "propensities")}
    again = grouped.group_sums(doubly_robust.doubly_robust_rows(**moved, seed=0), grouped.DOUBLY_ROBUST)
    np.testing.assert_array_equal(again.sums_CGS, sums(inputs).sums_CGS)


def test_a_sample_of_journeys_fits_the_regressions(small_night, monkeypatch):
    monkeypatch.setattr(doubly_robust, "MAX_FIT_JOURNEYS", 150)
    sampled = sums(small_night.inputs)
    monkeypatch.undo()
    whole = sums(small_night.inputs)
    np.testing.assert_array_equal(sampled.rows_G, whole.rows_G)
    assert (sampled.sums_CGS[..., 4] != whole.sums_CGS[..., 4]).any()
    np.testing.assert_array_equal(sampled.sums_CGS[..., 1], whole.sums_CGS[..., 1])
