"""Journeys and propensities through a saved model in Spark, and the tables that come of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from chispa import assert_df_equality

pytest.importorskip("torch")

from almmta_spark import tables
from almmta_spark.config import AttributionConfig
from almmta_spark.inference import attribution
from almmta_spark.model import Batch, saved

INDEX_TS = datetime(2026, 1, 15, tzinfo=UTC)
CONF = AttributionConfig(rows_per_batch=8)


def touch(k: int, cluster: int, hours: float) -> tuple:
    return (INDEX_TS - timedelta(hours=hours), 1000 + k, 10 + k, 7, cluster, hours)


@pytest.fixture(scope="module")
def night(spark):
    """40 journeys of 1 to 4 touches and their propensities; a touch of cluster 5 lies in bucket 1, others in 0."""
    rng = np.random.default_rng(1)
    journeys, propensities = [], []
    for user in range(40):
        hours = np.sort(rng.uniform(0.5, 23, 1 + user % 4))[::-1].round(2)
        touches = [touch(4 * user + k, int(rng.choice([-3, 5, 40])), float(h)) for k, h in enumerate(hours)]
        proxies = [("draft", float(user % 3))] if user % 2 else []
        x = [float("nan") if user == 3 else float(user % 5), 0.5]
        journeys.append((user * 7 - 100, user, touches, x, user % 10 == 0, proxies, [], []))
        lying = ([-3, 5, 40], [False] * 3, [0.5] * 3, [0, 1, 0], [1.0] * 3)
        propensities.append((user * 7 - 100, user, user % 2, int(user % 8 == 0), *lying))
    journeys = [(*j[:4], int(j[4]), *j[5:]) for j in journeys]
    return (
        spark.createDataFrame(journeys, tables.JOURNEYS.ddl).coalesce(1),
        spark.createDataFrame(propensities, tables.PROPENSITIES.ddl).coalesce(1),
        spark.createDataFrame([], tables.ITEM_CLUSTERS.ddl),
    )


@pytest.fixture(scope="module")
def model(spark, saved_model):
    return attribution.read_model(spark, str(saved_model.folder))


@pytest.fixture(scope="module")
def rows(night, model):
    found = attribution.attribution_rows(attribution.score(*night, [model], CONF))
    assert [(f.name, f.dataType.simpleString()) for f in found.schema] == [
        (c.name, c.type) for c in tables.ATTRIBUTION.columns
    ]
    return found.orderBy("journey_id", "touch_ts").collect()


def test_every_touch_of_every_journey_has_one_row_that_names_its_model(night, rows, saved_model):
    journeys = {j["journey_id"]: j for j in night[0].collect()}
    wanted = [(j["journey_id"], t) for _, j in sorted(journeys.items()) for t in j["touches"]]
    names = ("touch_id", "item_id", "author_id", "cluster", "touch_ts")
    assert [(r["journey_id"], *[r[n] for n in names]) for r in rows] == [(i, *[t[n] for n in names]) for i, t in wanted]
    assert {(r["method"], r["model_version"]) for r in rows} == {("latent", saved_model.version)}
    assert all(r["outcome"] == journeys[r["journey_id"]]["outcome"] for r in rows)
    assert all(r["propensity_bucket"] == (r["cluster"] == 5) for r in rows)
    assert all(r["removal_effect_lower"] is None and r["removal_effect_upper"] is None for r in rows)


def test_several_models_speak_in_one_pass_each_as_it_would_alone(spark, night, model, saved_ensemble):
    members = saved_ensemble.fitted
    together = attribution.attribution_rows(attribution.score(*night, [model, members], CONF))
    alone = [attribution.attribution_rows(attribution.score(*night, [one], CONF)) for one in (model, members)]
    assert_df_equality(together, alone[0].unionByName(alone[1]), ignore_row_order=True)
    assert {r["model_version"] for r in together.select("model_version").collect()} == {model.version, members.version}


def test_models_that_learned_from_other_examples_are_refused(night, model):
    other = replace(model, variant="backdoor", spec=replace(model.spec, base_rate=0.5))
    with pytest.raises(ValueError, match="same training_examples, backdoor and latent have not"):
        attribution.score(*night, [model, other], CONF)


def test_effects_are_those_of_the_model_on_features_built_by_hand(night, rows, saved_model):
    loaded, spec, _ = saved.load(saved_model.folder)
    found = {(r["journey_id"], r["touch_id"]): r for r in rows}
    for journey in night[0].collect():
        touches, width = journey["touches"], spec.max_touchpoints
        pad = [0] * (width - len(touches))
        proxies = {s["signal"]: s["value"] for s in journey["outcome_proxies"]}
        x = (np.array(journey["covariates"]) - spec.covariate_mean) / spec.covariate_scale
        columns = {
            "journey_id": [journey["journey_id"]],
            "num_touches": [len(touches)],
            "covariates": [np.nan_to_num(x)],
            "outcome_proxies": [[proxies.get("draft", 0.0), 0.0]],
            "cluster_index": [[spec.clusters.index(t["cluster"]) for t in touches] + pad],
            "item_id": [[t["item_id"] for t in touches] + pad],
            "author_id": [[t["author_id"] for t in touches] + pad],
            "age_hours": [[t["age_hours"] for t in touches] + pad],
            "propensity_bucket": [[0] * width],
        }
        effects = loaded.effects(Batch.from_columns({k: np.array(v) for k, v in columns.items()}, spec))
        for k, t in enumerate(touches):
            row = found[journey["journey_id"], t["touch_id"]]
            assert row["removal_effect"] == pytest.approx(float(effects.removal_effect_BL[0, k]), abs=1e-6)
            assert row["p_outcome"] == pytest.approx(float(effects.p_outcome_B[0]), abs=1e-6)
            assert row["p_outcome_deleted"] == pytest.approx(row["p_outcome"] - row["removal_effect"], abs=1e-6)


def test_credit_is_the_positive_part_and_shares_sum_to_one_where_there_is_any(rows):
    journeys: dict[int, list] = {}
    for row in rows:
        journeys.setdefault(row["journey_id"], []).append(row)
    totals = {i: sum(r["credit"] for r in touches) for i, touches in journeys.items()}
    assert all(r["credit"] == max(r["removal_effect"], 0.0) for r in rows)
    for i, touches in journeys.items():
        assert sum(r["attribution_share"] for r in touches) == pytest.approx(1.0 if totals[i] > 0 else 0.0)
        assert all(r["attribution_share"] * totals[i] == pytest.approx(r["credit"]) for r in touches)
    assert min(r["removal_effect"] for r in rows) < 0 < max(totals.values())
    assert min(totals.values()) == 0


def test_neither_the_order_of_rows_nor_the_outcome_changes_a_bit(spark, night, model):
    journeys, propensities, items = night
    one = attribution.score(*night, [model], CONF)
    flipped = journeys.selectExpr(*[c if c != "outcome" else "1 - outcome AS outcome" for c in journeys.columns])
    shuffled = flipped.repartition(5, "touches").sortWithinPartitions("covariates")
    two = attribution.score(shuffled, propensities.repartition(3, "user_id"), items, [model], CONF)
    columns = ["journey_id", "p_outcome", "posterior_mean", "removal_effect", "p_outcome_deleted"]
    assert_df_equality(one.select(columns), two.select(columns), ignore_row_order=True)


@pytest.mark.parametrize(
    ("journeys", "tasks"), [(0, 1), (8192, 1), (8193, 2), (80_000_000, 9766), (10**9, 10_000), (10**11, 10_000)]
)
def test_a_night_is_scored_in_a_bounded_number_of_tasks(journeys, tasks):
    assert attribution.num_tasks(journeys, rows_per_batch=4096) == tasks


def test_journey_scores_come_from_the_same_frame_and_say_which_sample(night, model):
    journeys, propensities, items = night
    scored = attribution.score(*night, [model], CONF).cache()
    logged = {r["journey_id"]: r for r in attribution.journey_scores(scored).collect()}
    held_out = {r["journey_id"]: r["is_validation"] for r in propensities.collect()}
    assert {i: r["is_validation"] for i, r in logged.items()} == held_out
    assert {r["sample"] for r in logged.values()} == {"logged"}
    assert all(r[piece] is not None for r in logged.values() for piece in ("mu", "g0", "slope", "posterior_mean"))
    stand_ins = attribution.unknown_propensities(journeys, model.spec)
    drawn = attribution.score(journeys, stand_ins, items, [model], CONF)
    randomised = attribution.journey_scores(drawn, "randomised").collect()
    assert {(r["sample"], r["is_validation"]) for r in randomised} == {("randomised", 1)}
    assert {r["journey_id"]: r["p_outcome"] for r in randomised} == {i: r["p_outcome"] for i, r in logged.items()}


def test_a_night_without_a_model_is_named(spark, tmp_path):
    with pytest.raises(ValueError, match=r"no model file .*model\.json: run the job train for this night first"):
        attribution.read_model(spark, str(tmp_path))
