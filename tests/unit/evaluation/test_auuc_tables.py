"""From a protocol's sums to the rows of grouped_uplift and auuc_by_bucket."""

import numpy as np
import pytest

from almmta_spark.causal import uplift
from almmta_spark.config import EvaluationConfig
from almmta_spark.evaluation import auuc, bootstrap, grouped

SETTINGS = EvaluationConfig(min_group_rows=10, bootstrap_replicates=100)


def sums(protocol, effects, rows=40, noise=0.0, seed=0):
    """Groups (0, 0..G-1) then (1, 0..G-1) with these mean effects, spread over the cells."""
    rng = np.random.default_rng(seed)
    effects = np.asarray(effects, float)
    num_groups = effects.size
    found = np.zeros((bootstrap.NUM_CELLS, num_groups, 4))
    cells = rng.integers(0, bootstrap.NUM_CELLS, (rows, num_groups))
    for g, effect in enumerate(effects.ravel()):
        np.add.at(found[:, g, 0], cells[:, g], effect + noise * rng.normal(size=rows))
        np.add.at(found[:, g, 1], cells[:, g], 1.0)
        found[:, g, 3] = 1.0 if protocol.has_control else 0.0
    bucket, cluster = np.divmod(np.arange(num_groups), effects.shape[-1])
    n = np.full(num_groups, rows)
    return grouped.GroupSums(protocol, bucket, cluster, n, n.copy(), np.zeros(num_groups), np.ones(num_groups), found)


def scores(by_method, shape):
    bucket, cluster = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
    touches = 10 + 5 * np.arange(len(bucket))
    return auuc.Scores(bucket, cluster, touches, {m: np.asarray(v, float).ravel() for m, v in by_method.items()}, {})


EFFECTS = [[0.1, 0.2, 0.4], [0.0, 0.3, 0.05]]


@pytest.fixture(scope="module")
def exact_rows():
    found = scores({"oracle": EFFECTS, "reversed": -np.array(EFFECTS), "equal": np.zeros((2, 3))}, (2, 3))
    measured = auuc.measure(found, sums(grouped.EXACT, EFFECTS, noise=0.05), SETTINGS, seed=0)
    return found, measured, list(auuc.auuc_rows(found, measured, found.by_method, 0.95))


def row(rows, method, bucket):
    (found,) = [r for r in rows if r["method"] == method and r["propensity_bucket"] == bucket]
    return found


@pytest.mark.parametrize("bucket", [-1, 0, 1])
def test_the_oracle_scores_one_the_reverse_minus_one_and_no_ranking_zero(exact_rows, bucket):
    _, measured, rows = exact_rows
    assert row(rows, "oracle", bucket)["auuc_normalised"] == pytest.approx(1.0, abs=1e-6)
    assert row(rows, "reversed", bucket)["auuc_normalised"] == pytest.approx(-1.0, abs=1e-6)
    assert row(rows, "equal", bucket)["auuc_normalised"] == pytest.approx(0.0, abs=1e-9)
    assert row(rows, "oracle", bucket)["n"] == measured.rows_G.sum() * (1 if bucket < 0 else 0.5)


def test_figures_are_those_of_the_curve_over_exposed_touches(exact_rows):
    found, measured, rows = exact_rows
    of = found.bucket_G == 1
    assert row(rows, "oracle", 1)["auuc"] == pytest.approx(
        float(uplift.auuc(found.by_method["oracle"][of], measured.uplift_RG[0, of], found.touches_G[of]))
    )


def test_intervals_hold_the_estimate_and_have_a_width(exact_rows):
    _, _, rows = exact_rows
    for r in rows:
        if r["method"] != "equal":
            assert r["auuc_lower"] < r["auuc"] < r["auuc_upper"]
        assert r["undefined_reason"] is None


def test_small_empty_and_one_armed_groups_are_named_and_left_out():
    found = scores({"m": [[1, 2, 3, 4, 5]]}, (1, 5))
    protocol = sums(grouped.RANDOMISED, [[0.1, 0.2, 0.3, 0.4]])  # no rows of cluster 4
    protocol.counted_G[0] = 9
    protocol.sums_CGS[:, 1, 3] = 0.0
    measured = auuc.measure(found, protocol, SETTINGS, seed=0)
    rows = list(auuc.grouped_rows(found, measured, found.by_method, 0.95))
    assert [r["undefined_reason"] for r in rows] == [
        "9 rows count towards min_group_rows = 10", "an arm has no rows", None, None, "no rows",
    ]  # fmt: skip
    assert [r["uplift"] is None for r in rows] == [True, True, False, False, True]
    (overall, bucket) = auuc.auuc_rows(found, measured, found.by_method, 0.95)
    assert overall["num_groups"] == bucket["num_groups"] == 2 and overall["n"] == 80


def test_sampled_protocols_have_qini_and_no_oracle():
    found = scores({"m": [[1, 2, 3]]}, (1, 3))
    measured = auuc.measure(found, sums(grouped.RANDOMISED, [[0.1, 0.2, 0.3]], noise=0.1), SETTINGS, seed=0)
    for r in auuc.auuc_rows(found, measured, found.by_method, 0.95):
        assert r["auuc_normalised"] is None and "no known oracle" in r["undefined_reason"]
        assert r["qini_lower"] < r["qini"] < r["qini_upper"]


def test_fewer_than_two_clusters_cannot_be_ranked():
    found = scores({"m": [[1.0]]}, (1, 1))
    measured = auuc.measure(found, sums(grouped.EXACT, [[0.1]]), SETTINGS, seed=0)
    for r in auuc.auuc_rows(found, measured, found.by_method, 0.95):
        assert r["auuc"] is None and r["qini"] is None and "a ranking needs 2" in r["undefined_reason"]


def test_equal_uplifts_leave_the_normalised_figure_undefined():
    found = scores({"m": [[1.0, 2.0]]}, (1, 2))
    measured = auuc.measure(found, sums(grouped.EXACT, [[0.25, 0.25]]), SETTINGS, seed=0)
    for r in auuc.auuc_rows(found, measured, found.by_method, 0.95):
        assert r["auuc_normalised"] is None and r["undefined_reason"] == "auuc_normalised: all clusters have one uplift"
        assert r["qini"] == pytest.approx(0.0, abs=1e-12)


def test_without_replicates_there_are_figures_and_no_intervals():
    found = scores({"m": EFFECTS}, (2, 3))
    settings = EvaluationConfig(min_group_rows=10, bootstrap_replicates=0)
    measured = auuc.measure(found, sums(grouped.EXACT, EFFECTS), settings, seed=0)
    for r in auuc.auuc_rows(found, measured, found.by_method, 0.95):
        assert r["auuc"] is not None and r["auuc_lower"] is None and r["auuc_upper"] is None


def test_outcomes_that_are_all_alike_rank_nothing_and_give_no_zero():
    found = scores({"m": [[1.0, 2.0, 3.0]]}, (1, 3))
    protocol = sums(grouped.RANDOMISED, [[0.1, 0.2, 0.3]])
    protocol.sums_CGS[..., 0::2] = 0.0
    protocol.highest_G[:2] = 0.0
    (overall, _) = auuc.auuc_rows(found, auuc.measure(found, protocol, SETTINGS, seed=0), found.by_method, 0.95)
    assert overall["qini"] == 0.0  # somebody of the third cluster uploaded
    protocol.highest_G[:] = 0.0
    for r in auuc.auuc_rows(found, auuc.measure(found, protocol, SETTINGS, seed=0), found.by_method, 0.95):
        assert r["auuc"] is None and r["qini"] is None and r["undefined_reason"].startswith("every outcome is 0")
