"""The strengths of a night are those at which its own rows, moved one by one, reach the target."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F
from scipy.optimize import brentq

from almmta_spark.causal import sensitivity as law
from almmta_spark.evaluation import diagnostics, sensitivity


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """400 touches of five clusters, the effect rising with the cluster; a chance of about .05."""
    rng = np.random.default_rng(3)
    cluster = rng.integers(0, 5, 400)
    deleted = rng.uniform(0.01, 0.1, 400)
    p = 1 / (1 + (1 - deleted) / deleted * np.exp(-(0.02 + 0.1 * cluster)))
    return pd.DataFrame({"cluster": cluster, "p_outcome": p, "p_outcome_deleted": deleted})


@pytest.fixture(scope="module")
def tables_of_the_night(spark, rows):
    ours = spark.createDataFrame(rows.assign(method="latent"))
    attribution = ours.unionByName(ours.withColumns({"method": F.lit("linear"), "p_outcome": F.lit(None)}))
    scores = [
        ("latent", "logged", 0.1, 0.6, 0.5),
        ("latent", "logged", 0.5, 1.0, -0.5),
        ("latent", "randomised", 0.5, 9.0, 0.0),
        ("backdoor", "logged", 0.1, 2.0, None),
    ]
    ddl = "method string, sample string, p_outcome double, slope double, posterior_mean double"
    return attribution, spark.createDataFrame(scores, ddl)


def top(rows: pd.DataFrame) -> pd.DataFrame:
    """Of the best cluster: it holds more than a tenth of the touches."""
    best = rows[rows.cluster == 4]
    assert len(best) > sensitivity.TOP * len(rows)
    return best


def test_strengths_are_those_at_which_the_touches_own_effects_reach_the_target(rows, tables_of_the_night):
    found = sensitivity.measure(*tables_of_the_night, "latent")
    effect, best = rows.p_outcome - rows.p_outcome_deleted, top(rows)
    assert found.uploads == pytest.approx(effect.sum())
    assert found.slope == pytest.approx((0.09 * 0.6 + 0.25 * 1.0) / 0.34)

    def excess(of: pd.DataFrame, target: float, law_of):
        return lambda strength: law_of(of.p_outcome, of.p_outcome_deleted, strength).mean() - target

    def direct(p, p_deleted, odds):
        return law.with_direct_path(p, p_deleted, -odds)

    expected = {
        "confounder_total": brentq(excess(rows, effect.mean() / 2, law.confounded_effect), 0, 1),
        "confounder_top": brentq(excess(best, effect.mean(), law.confounded_effect), 0, 1),
        "direct_total": brentq(excess(rows, effect.mean() / 2, direct), 0, 2),
        "direct_top": brentq(excess(best, effect.mean(), direct), 0, 2),
    }
    for name, strength in expected.items():
        assert getattr(found, name) == pytest.approx(strength, rel=0.02), name
    assert found.robustness(0.5) == law.robustness_value(0.5 * found.slope)


def test_the_top_is_worth_what_users_that_did_not_rank_it_say(tables_of_the_night):
    worth = [{"level": "cluster", "ranking": "latent", "share": 0.1, "uploads": 2.0, "extra_uploads": 0.2}]
    by_itself = sensitivity.measure(*tables_of_the_night, "latent")
    found = sensitivity.measure(*tables_of_the_night, "latent", worth)
    assert 0.08 < found.confounder_top < 0.12 < by_itself.confounder_top
    assert 0 < found.direct_top < by_itself.direct_top and found.direct_total == by_itself.direct_total
    worthless = [worth[0] | {"extra_uploads": -0.1}]
    assert sensitivity.measure(*tables_of_the_night, "latent", worthless).confounder_top == 0


@pytest.mark.parametrize("method", ["linear", "backdoor"])
def test_a_method_without_a_mediator_has_no_such_strength(tables_of_the_night, method):
    assert sensitivity.measure(*tables_of_the_night, method) is None


def test_checks_say_in_words_what_would_have_to_be_there():
    found = sensitivity.Sensitivity("latent", 1234.0, 0.8, 0.5, 0.1, 0.04, 0.004)
    checks = {c.name: c for c in diagnostics.sensitivity_checks(found)}
    assert {n: c.verdict for n, c in checks.items()} == {
        "hidden_confounder_total/latent": "pass",
        "hidden_confounder_top/latent": "warn",
        "direct_path_total/latent": "pass",
        "direct_path_top/latent": "warn",
    }
    assert "explains 19.8% of what else" in checks["hidden_confounder_total/latent"].advice
    assert "half of the 1,234 uploads" in checks["direct_path_total/latent"].advice
    assert "by 0.4% each" in checks["direct_path_top/latent"].advice
    assert "if it acted on those alone" in checks["direct_path_top/latent"].advice
