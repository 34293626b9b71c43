"""What turns a candidate away, each rule alone, and how it is compared with the champion."""

from dataclasses import replace

import numpy as np
import pytest

from almmta_spark import tables
from almmta_spark.config import Config, EnsembleConfig, EvaluationConfig, GateConfig, TrainingConfig
from almmta_spark.evaluation import gate
from almmta_spark.evaluation.diagnostics import NOT_IDENTIFIED, Check
from tests.unit.evaluation.night import frame

ACCOUNTING = {"exposures": {"rows_in": 100, "used": 90, "rejected": 3, "deduplicated": 7}}
MUST_PASS = GateConfig().must_pass


def check(name, value=0.0, threshold=1.0, advice="Mend it. Then look again.", **more):
    return Check(name, value, threshold, advice, **more)


HEALTHY = [
    check("placebo_proxies", 0.01, 0.05),
    check("placebo_touch", 0.01, 0.05),
    check("overfit/latent"),
    check("outcome_leak/latent", 2.0, 10.0),
    check("champion_comparison/latent", 0.001, -0.005, low=True),
]


def decided(*more, accounting=ACCOUNTING, healthy=HEALTHY):
    return gate.decide(accounting, [*healthy, *more], MUST_PASS)


def test_a_candidate_whose_checks_pass_is_let_through():
    assert decided().passed and decided().reasons == ()


@pytest.mark.parametrize("kind", [kind for kind in MUST_PASS if kind != "outcome_leak"])
def test_a_warning_of_what_must_pass_refuses_with_its_name_and_value(kind):
    found = decided(check(f"{kind}/latent", 2.0))
    assert not found.passed and found.reasons == (f"Mend it. (`{kind}/latent` 2, limit 1)",)


def test_a_warning_of_anything_else_does_not_and_a_failure_does():
    assert decided(check("num_outcomes", 2.0)).passed
    assert decided(check("rejected_rate/users", 2.0, fails=1.5)).reasons == (
        "Mend it. (`rejected_rate/users` 2, limit 1)",
    )


def test_what_could_not_be_measured_has_not_passed():
    assert decided(check("mediator_overlap/latent", float("nan"))).reasons == (
        "Mend it. (`mediator_overlap/latent` unknown)",
    )


def test_a_leak_refuses_where_nobody_can_know_its_size_and_not_where_anchors_tell():
    assert decided(check("outcome_leak/latent", 50.0, 10.0, "Anchors tell. Effects are free of it.")).passed
    unknown = f"{NOT_IDENTIFIED}: nobody can tell by how much. Declare a signal."
    assert not decided(check("outcome_leak/latent", 50.0, 10.0, unknown)).passed


@pytest.mark.parametrize("name", gate.FITTED)
def test_a_refutation_that_was_not_fitted_refuses(name):
    found = decided(healthy=[c for c in HEALTHY if c.name != name])
    assert found.reasons == (f"{name} was not fitted, so nothing was refuted: name it in training.placebos.",)


def test_rows_that_nobody_accounts_for_refuse():
    lost = {"exposures": {**ACCOUNTING["exposures"], "used": 89}}
    assert decided(accounting=lost).reasons == ("Rows of exposures do not add up: 100 in, 99 accounted for.",)
    assert not decided(accounting={}).passed


def test_every_reason_is_told():
    found = decided(check("overfit/a", 2.0), check("negative_control/a", 9.0, 3.0), accounting={})
    assert len(found.reasons) == 3


# ---- candidate and champion ------------------------------------------------------------------------------------------

PLAN = EnsembleConfig(variants=("latent",), folds=2, repeats=2)
CONF = Config(training=TrainingConfig(ensemble=PLAN), evaluation=EvaluationConfig(bootstrap_replicates=200))
USERS = 3000


def scores(spark, of_champion=0.0, is_validation=lambda user: int(user % 5 == 0), noise=0.1):
    """Outcomes drawn from chances that the candidate knows up to noise; the champion errs by so much more (logit)."""
    rng = np.random.default_rng(0)
    logit = rng.normal(-2, 1, USERS)
    outcome = (rng.random(USERS) < 1 / (1 + np.exp(-logit))).astype(int)
    methods = {"latent": noise, gate.CHAMPION: noise + of_champion} if of_champion is not None else {"latent": noise}
    rows = []
    for method, error in methods.items():
        p = 1 / (1 + np.exp(-(logit + error * np.random.default_rng(1).normal(size=USERS))))
        for user in range(USERS):
            said = {"outcome": int(outcome[user]), "is_validation": is_validation(user), "p_outcome": float(p[user])}
            rows.append({"journey_id": user, "user_id": user, "method": method, **said})
    return frame(spark, tables.JOURNEY_SCORES, rows)


def test_without_a_champion_there_is_nothing_to_compare(spark):
    assert gate.comparison(scores(spark, of_champion=None), CONF) is None


def test_equal_predictions_are_no_reason(spark):
    found = gate.comparison(scores(spark), CONF)
    assert (found.name, found.value, found.verdict) == ("champion_comparison/latent", 0.0, "pass")


def test_a_candidate_that_predicts_better_passes_and_a_worse_one_does_not(spark):
    assert gate.comparison(scores(spark, of_champion=2.0), CONF).value > 0.05
    worse = gate.comparison(scores(spark, of_champion=-2.0, noise=2.1), CONF)
    assert worse.value < -0.05 and worse.verdict == "warn"


def test_little_worse_is_within_the_margin(spark):
    slightly = scores(spark, of_champion=-0.1, noise=0.2)
    assert gate.comparison(slightly, CONF).verdict == "pass"
    strict = replace(CONF, gate=GateConfig(margin=0.0), evaluation=EvaluationConfig(bootstrap_replicates=0))
    assert gate.comparison(slightly, strict).verdict == "warn", "without replicates the difference itself counts"


def test_single_fits_are_compared_on_the_held_out_and_an_ensemble_on_all(spark):
    """Differences on journeys that a single fit has learned from say nothing: with none held out nothing is known."""
    nobody = scores(spark, of_champion=2.0, is_validation=lambda user: 0)
    single = replace(CONF, training=TrainingConfig(ensemble=replace(PLAN, variants=())))
    assert gate.comparison(nobody, CONF).value > 0 and gate.comparison(nobody, single) is None
    both = scores(spark, of_champion=2.0)
    assert gate.comparison(both, single).value != gate.comparison(both, CONF).value


def test_the_base_rates_nats_are_those_of_each_journey():
    outcome = np.array([1, 0, 0, 1, 0])
    expected = -sum(np.log(0.4) if y else np.log(0.6) for y in outcome)
    assert gate.null_nats(np.array([5.0]), np.array([2.0]))[0] == pytest.approx(expected)
    assert np.isnan(gate.null_nats(np.array([5.0]), np.array([0.0]))[0])


def test_the_tables_rows_say_what_refused():
    rows = gate.gate_rows([check("overfit/latent", 2.0), check("num_outcomes", 2.0)], MUST_PASS)
    assert [(r["name"], r["verdict"], r["refuses"]) for r in rows] == [
        ("overfit/latent", "warn", True),
        ("num_outcomes", "warn", False),
    ]
    assert set(rows[0]) == set(tables.GATE.column_names)
