"""A scored night with a correction added, by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from chispa import assert_df_equality

from almmta_spark import tables
from almmta_spark.causal.calibration import Correction
from almmta_spark.inference import attribution, udf
from almmta_spark.inference.calibrated import corrected

INDEX_TS = datetime(2026, 1, 15, tzinfo=UTC)
CLUSTERS = np.array([-3, 5, 40])
SHIFTS = np.array([0.5, 0.0, -0.2])
MEMBERS = np.array([[0.4, 0.0, -0.3], [0.6, 0.0, -0.1]])
ADDED = Correction(CLUSTERS, SHIFTS, np.zeros(3), MEMBERS, fade_per_hour=0.1)
NOTHING = Correction(CLUSTERS, np.zeros(3), np.zeros(3), np.zeros((2, 3)), fade_per_hour=0.1)
LISTS = ("removal_effect", "removal_effect_ate", "p_outcome_deleted", "removal_effect_members")


def journey(number: int, touches: list[tuple[int, float]], effects: list[float], p: float, ensemble: bool) -> dict:
    """touches: (cluster, age_hours)."""
    return {
        "journey_id": number,
        "user_id": number,
        "outcome": 1,
        "is_validation": 0,
        "touches": [
            (INDEX_TS - timedelta(hours=hours), 10 * number + k, 7, 8, cluster, hours)
            for k, (cluster, hours) in enumerate(touches)
        ],
        "num_touches": len(touches),
        "propensity_bucket": [0] * len(touches),
        "p_outcome": p,
        "removal_effect": effects,
        "removal_effect_lower": [e - 0.01 if ensemble else None for e in effects],
        "removal_effect_upper": [e + 0.01 if ensemble else None for e in effects],
        "removal_effect_ate": [e / 2 if ensemble else None for e in effects],
        "p_outcome_deleted": [p - e for e in effects],
        "removal_effect_members": [[e - 0.01, e + 0.01] for e in effects] if ensemble else None,
        "method": "latent",
        "model_version": "v1",
    }


@pytest.fixture(scope="module")
def scored(spark):
    journeys = [
        journey(1, [(-3, 10.0), (5, 4.0), (40, 0.5)], [0.02, 0.01, 0.03], 0.2, ensemble=True),
        journey(2, [(40, 1.0)], [0.001], 0.002, ensemble=False),
        journey(3, [(-3, 0.25)], [0.79], 0.8, ensemble=True),
    ]
    known = "journey_id bigint, user_id bigint, outcome int, is_validation int"
    others = udf.SCHEMA.removeprefix("journey_id bigint, ")
    return spark.createDataFrame(journeys, f"{known}, touches array<{tables.TOUCH}>, {others}")


def rows_of(scored, correction):
    found = attribution.attribution_rows(corrected(scored, correction, "latent_calibrated"))
    return {r["touch_id"]: r for r in found.collect()}


def test_each_touch_gets_its_clusters_shift_at_its_age_and_chance(scored):
    before = {r["touch_id"]: r for r in attribution.attribution_rows(scored).collect()}
    for touch_id, row in rows_of(scored, ADDED).items():
        old = before[touch_id]
        at = CLUSTERS.tolist().index(row["cluster"])
        p = old["p_outcome_deleted"]
        scale = p * (1 - p) * np.exp(-0.1 * row["age_hours"])
        added = SHIFTS[at] * scale
        assert row["removal_effect"] == pytest.approx(old["removal_effect"] + added)
        assert row["p_outcome_deleted"] == pytest.approx(p - added) and row["p_outcome"] == old["p_outcome"]
        assert row["credit"] == max(row["removal_effect"], 0.0)
        if old["removal_effect_members"] is None:
            assert row["removal_effect_members"] is None and row["removal_effect_ate"] is None
        else:
            assert row["removal_effect_ate"] == pytest.approx(old["removal_effect_ate"] + added)
            members = np.array(old["removal_effect_members"]) + MEMBERS[:, at] * scale
            np.testing.assert_allclose(row["removal_effect_members"], members, rtol=1e-5)
        assert row["removal_effect_lower"] is None and row["method"] == "latent_calibrated"
        assert row["model_version"] != old["model_version"]


def test_shares_are_those_of_the_corrected_effects(scored):
    rows = [r for r in rows_of(scored, ADDED).values() if r["journey_id"] == 1]
    assert sum(r["attribution_share"] for r in rows) == pytest.approx(1.0)
    total = sum(r["credit"] for r in rows)
    assert all(r["attribution_share"] == pytest.approx(r["credit"] / total) for r in rows)


def test_no_touch_takes_more_than_the_chance_there_is(spark, scored):
    large = Correction(CLUSTERS, np.array([1e3, 0.0, -1e3]), np.zeros(3), MEMBERS, 0.0)
    for row in rows_of(scored, large).values():
        assert -1e-12 <= row["p_outcome_deleted"] <= 1 + 1e-12
        assert row["p_outcome_deleted"] == pytest.approx(row["p_outcome"] - row["removal_effect"])


def test_a_correction_of_nothing_changes_no_effect(scored):
    columns = ["journey_id", "user_id", "p_outcome", *LISTS]
    assert_df_equality(corrected(scored, NOTHING, "latent_calibrated").select(columns), scored.select(columns))


def test_another_correction_is_another_version(scored):
    versions = {r["model_version"] for c in (ADDED, NOTHING) for r in corrected(scored, c, "m").collect()}
    assert len(versions) == 2
