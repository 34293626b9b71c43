"""The whole evaluation of a small night: its tables, and what changes them."""

import dataclasses

import numpy as np
import pytest
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.causal import truth
from almmta_spark.config import Config, EvaluationConfig, TrainingConfig
from almmta_spark.evaluation import exact, grouped, stage
from tests.unit.evaluation.night import PLAN, half_width

CONF = Config(
    evaluation=EvaluationConfig(min_group_rows=5, bootstrap_replicates=20), training=TrainingConfig(ensemble=PLAN)
)
HISTORY = {"latent": [{"epoch": 1, "train_loss": 1.0}]}


@pytest.fixture(scope="module")
def found(small_night):
    return stage.evaluate(small_night.inputs, CONF, {"exposures": (2, 100)}, HISTORY)


def test_the_tables_are_as_declared_and_keyed(spark, found):
    for table, frame in found.frames(spark):
        rows = frame.collect()
        assert [(f.name, f.dataType.simpleString()) for f in frame.schema] == [(c.name, c.type) for c in table.columns]
        assert len({tuple(r[k] for k in table.key) for r in rows}) == len(rows) > 0


def test_every_method_is_measured_under_every_protocol(found):
    measured = {(r["method"], r["protocol"]) for r in found.auuc_by_bucket}
    methods = ("last_touch", "linear", "latent")
    protocols = tables.PROTOCOLS
    assert measured == {(m, p) for m in methods for p in protocols} | {("truth", p) for p in protocols[1:]}
    assert {r["propensity_bucket"] for r in found.auuc_by_bucket} == {-1, 0, 1}
    estimands = {r["protocol"]: r["estimand"] for r in found.grouped_uplift}
    assert estimands["exact"] == estimands["randomised"]
    assert all("not causal" in estimands[name] for name in grouped.OBSERVATIONAL_NAMES)


def test_a_nearly_right_method_is_near_the_oracle_and_above_the_heuristics(found):
    for bucket in (-1, 0, 1):
        of = {
            r["method"]: r["auuc_normalised"]
            for r in found.auuc_by_bucket
            if r["protocol"] == "exact" and r["propensity_bucket"] == bucket
        }
        assert of["latent"] > 0.95 and of["latent"] > max(of["linear"], of["last_touch"])


def test_scores_are_mean_effects_over_the_touches_of_the_group(found, small_night):
    """All of them; under the exact protocol those with a known effect, as its uplift is."""
    for row in found.grouped_uplift:
        if row["method"] == "latent":
            touches = small_night.touches
            touches = touches[touches.truth] if row["protocol"] == "exact" else touches
            of = touches[(touches.propensity_bucket == row["propensity_bucket"]) & (touches.cluster == row["cluster"])]
            assert row["score"] == pytest.approx(of.latent.mean(), abs=1e-9) and row["touches"] == len(of)


def test_truth_metrics_are_those_of_the_touches_with_known_effects(found, small_night):
    known = small_night.touches[small_night.touches.truth]
    rows = {r["metric"]: r for r in found.truth_metrics if r["method"] == "latent"}
    expected = truth.against_truth(known.latent, known.ett, known.journey_id)
    expected |= truth.against_truth(known.latent / 2, known.ate_x, known.journey_id, "_ate")
    expected["null_share"] = truth.null_share(known.latent, known.cluster > 0)
    for name, value in expected.items():
        assert rows[name]["value"] == pytest.approx(value, rel=1e-6) and rows[name]["n"] == len(known)
    assert {name for name in rows if not name.startswith("interval_")} == {*expected, "upload_auc_logged"}


def test_diagnostics_cover_what_the_night_has(found):
    names = {r["name"].split("/")[0] for r in found.diagnostics}
    assert names == {
        "withholding_rows_used", "withholding_shortfall", "withholding_decisions", "effective_sample_share",
        "propensity_calibration", "clipped_weight_share", "overfit", "proxy_reliability", "num_outcomes", "base_rate",
        "rejected_rate", "negative_control", "mediator_overlap", "random_subset_total", "random_subset_ranking",
        "hidden_confounder_total", "hidden_confounder_top", "direct_path_total", "direct_path_top",
        "impossible_exposure_share",
    }  # fmt: skip
    assert all(r["verdict"] in ("pass", "warn", "fail") and r["advice"] for r in found.diagnostics)


def test_every_figure_is_drawn(found):
    assert set(found.figures) == {
        "overlap.png", "uplift_exact.png", "uplift_randomised.png", "uplift_observational.png",
        "uplift_observational_doubly_robust.png", "estimated_vs_true.png", "effects_by_cluster.png",
        "training_curves.png",
    }  # fmt: skip


def test_rows_are_equal_to_the_last_bit_whatever_the_order_of_the_input(found, small_night):
    inputs = small_night.inputs
    shuffled = {
        name: getattr(inputs, name).repartition(5, F.xxhash64(F.lit(name), "user_id"))
        for name in ("attribution", "journeys", "propensities", "journey_scores", "decisions", "truth", "uploads")
    }
    again = stage.evaluate(dataclasses.replace(inputs, **shuffled), CONF, {"exposures": (2, 100)})
    assert again.rows == found.rows


def test_real_logs_of_pooled_nights_have_one_protocol_and_name_methods_with_holes(small_night):
    """No truth, no experiment, two nights, and a method that lacks a cluster."""
    inputs = small_night.inputs
    pooled = {
        name: getattr(inputs, name)
        .withColumn("ds", F.lit("2026-01-14"))
        .withColumn("journey_id", F.col("journey_id") + 1)
        .unionByName(getattr(inputs, name).withColumn("ds", F.lit("2026-01-15")))
        for name in ("attribution", "journeys", "propensities", "journey_scores")
    }
    pooled["attribution"] = pooled["attribution"].where("method != 'linear' or cluster > 0")
    absent = dict.fromkeys(("decisions", "uploads", "truth", "truth_clusters"))
    found = stage.evaluate(dataclasses.replace(inputs, **pooled, **absent), CONF)
    assert {(r["protocol"], r["method"]) for r in found.auuc_by_bucket} == {
        (protocol, method) for protocol in grouped.OBSERVATIONAL_NAMES for method in ("last_touch", "latent")
    }
    assert {r["metric"] for r in found.truth_metrics} == {"upload_auc_logged"}
    for protocol in grouped.OBSERVATIONAL_NAMES:
        of = [r["n"] for r in found.grouped_uplift if (r["method"], r["protocol"]) == ("latent", protocol)]
        assert sum(of) == 2 * len(small_night.pairs)
    (named,) = [r for r in found.diagnostics if r["name"] == "method_coverage/linear"]
    assert named["verdict"] == "warn" and 0.5 < named["value"] < 1


def test_intervals_are_measured_against_the_truth_of_touches_and_of_groups_means(found, small_night):
    known = small_night.touches[small_night.touches.truth]
    members = np.array(known.members.tolist())
    metrics = {r["metric"]: r["value"] for r in found.truth_metrics if r["method"] == "latent"}
    half = half_width(members.T, known.latent, known.chance)
    expected = truth.interval_metrics(known.latent, half, known.ett, 0.95)
    by_cluster = known.assign(**{f"m{i}": members[:, i] for i in range(PLAN.members)}).groupby("cluster")
    means = by_cluster[["latent", "ett", "chance", *(f"m{i}" for i in range(PLAN.members))]].mean()
    half = half_width(means.iloc[:, 3:].to_numpy().T, means.latent, means.chance)
    for suffix in ("_cluster", "_item"):  # one item a cluster
        expected |= truth.interval_metrics(means.latent, half, means.ett, 0.95, suffix)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert not any("interval" in r["metric"] for r in found.truth_metrics if r["method"] != "latent")


def test_large_truth_is_sampled_by_whole_users(small_night, monkeypatch):
    inputs = small_night.inputs
    known = small_night.touches[small_night.touches.truth]
    monkeypatch.setattr(exact, "MAX_TOUCHES", len(known) // 2)
    sample = exact.truth_sample(inputs.attribution, exact.sampled_truth(inputs.truth, 0), ["latent", "linear"])
    assert 0.35 * len(known) < len(sample.ett_N) < 0.65 * len(known)
    whole = known[known.journey_id.isin(sample.journey_N)]
    assert len(whole) == len(sample.ett_N)
    by_touch = known.set_index("touch_id").sort_index()
    assert np.isin(sample.estimate_N["latent"], by_touch.latent).all()


def test_a_sweep_of_clips_says_how_far_the_observational_auuc_moves(small_night, found):
    sweep = dataclasses.replace(CONF, evaluation=dataclasses.replace(CONF.evaluation, clip_sweep=(100.0, 0.8)))
    again = stage.evaluate(small_night.inputs, sweep)
    values = {r["name"]: r["value"] for r in again.diagnostics if r["name"].startswith("clip_sweep")}
    assert set(values) == {"clip_sweep/max_weight=100", "clip_sweep/max_weight=0.8"}
    assert values["clip_sweep/max_weight=100"] == 0 < values["clip_sweep/max_weight=0.8"]
    assert again.auuc_by_bucket == found.auuc_by_bucket
    assert not any(r["name"].startswith("clip_sweep") for r in found.diagnostics)


def test_an_experiment_without_uploads_is_refused(small_night):
    with pytest.raises(ValueError, match="uploads"):
        dataclasses.replace(small_night.inputs, uploads=None)


def test_no_attribution_is_refused(small_night):
    empty = small_night.inputs.attribution.limit(0)
    with pytest.raises(ValueError, match="table attribution"):
        stage.evaluate(dataclasses.replace(small_night.inputs, attribution=empty), CONF)


def test_every_output_table_is_among_the_declared_ones(found):
    assert {t for t, _ in found.rows} <= set(tables.OUTPUTS)


def test_decisions_that_ingest_refused_lower_the_share_that_is_used(small_night):
    inputs = dataclasses.replace(small_night.inputs, refused_decisions=len(small_night.decisions))
    used = {r["name"]: r["value"] for r in stage.evaluate(inputs, CONF).diagnostics}["withholding_rows_used"]
    assert used == pytest.approx(0.5)


def test_where_no_group_has_enough_touches_its_intervals_say_so():
    one = np.ones(3)
    members = np.ones((CONF.training.ensemble.members, 3))
    sums = {"latent": exact.ItemSums(np.arange(3), np.arange(3), one, one, one, one, members)}
    found = {row["metric"]: (row["value"], row["n"]) for row in exact.group_interval_rows(sums, CONF)}
    assert len(found) == 6 and set(found.values()) == {(None, 0)}
