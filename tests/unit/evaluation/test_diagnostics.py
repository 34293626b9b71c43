"""Verdicts: each check warns on its bad side and passes on its good one."""

import math

import pytest

from almmta_spark.evaluation import diagnostics
from almmta_spark.evaluation.overlap import BucketOverlap
from almmta_spark.evaluation.predictions import Fit, ModelFit
from almmta_spark.evaluation.withholding import Comparison

GOOD_FIT = ModelFit(Fit(9000, 900, -1.0, 0.10, 0.01), Fit(1000, 100, -1.0, 0.09, 0.01), 0.2, 1e-4)


def verdicts(checks):
    return {check.name: check.verdict for check in checks}


def test_a_healthy_night_passes_everything():
    bucket = BucketOverlap(pairs=1000, exposed=200, predicted=205.0, effective_exposed=150.0, clipped=3, impossible=0)
    checks = [
        *diagnostics.overlap_checks({0: bucket}),
        *diagnostics.model_checks({"latent": GOOD_FIT}),
        *diagnostics.outcome_checks({"latent": GOOD_FIT}),
        *diagnostics.rejected_checks({"exposures": (1, 1000)}, 0.05),
        *diagnostics.withholding_checks({"latent": Comparison(0.01, 0.001, -0.002, 0.004, 6000, 5000.0)}, 1.0),
    ]
    assert set(verdicts(checks).values()) == {"pass"}
    assert len(verdicts(checks)) == len(checks) == 12


def test_bad_overlap_warns_per_bucket():
    thin = BucketOverlap(pairs=1000, exposed=200, predicted=400.0, effective_exposed=20.0, clipped=100, impossible=200)
    empty = BucketOverlap(pairs=10, exposed=0, predicted=0.1, effective_exposed=0.0, clipped=0, impossible=0)
    found = verdicts(diagnostics.overlap_checks({0: thin, 1: empty}))
    assert set(found.values()) == {"warn"} and len(found) == 6


@pytest.mark.parametrize(
    ("training_gain", "held_out_gain", "noise", "verdict"),
    [(0.30, 0.05, 0.01, "warn"), (0.30, 0.05, 0.12, "pass"), (0.05, 0.30, 0.01, "pass"), (0.3, math.nan, 0.1, "warn")],
)
def test_overfit_warns_beyond_the_noise_of_the_held_out_half(training_gain, held_out_gain, noise, verdict):
    fit = ModelFit(
        Fit(9000, 900, -1.0, training_gain, 0.01), Fit(900, 90, -1.0, held_out_gain, noise), math.nan, math.nan
    )
    assert verdicts(diagnostics.model_checks({"m": fit})) == {"overfit/m": verdict}


def test_silent_proxies_warn():
    silent = ModelFit(GOOD_FIT.training, GOOD_FIT.held_out, 0.05, math.nan)
    assert verdicts(diagnostics.model_checks({"latent": silent}))["proxy_reliability/latent"] == "warn"


def test_a_placebo_that_finds_something_warns():
    claims = {"latent": 0.004, "placebo_proxies": 0.00004}
    (honest,) = diagnostics.placebo_checks(claims)
    assert (honest.name, honest.verdict, honest.value) == ("placebo_proxies", "pass", pytest.approx(0.01))
    assert verdicts(diagnostics.placebo_checks(claims | {"placebo_proxies": 0.001})) == {"placebo_proxies": "warn"}
    assert verdicts(diagnostics.placebo_checks(claims | {"placebo_proxies": 0.003})) == {"placebo_proxies": "fail"}
    assert verdicts(diagnostics.placebo_checks({"latent": 0.0, "placebo_proxies": 0.1})) == {"placebo_proxies": "warn"}
    unclear = {"latent": 0.004, "placebo_touch": 0.0004, "placebo_outcome": 0.0004}
    names = {"placebo_touch": "warn"}
    for num_outcomes, verdict in ((600, "pass"), (2000, "warn"), (10**6, "warn")):  # 3 / sqrt(600) = .12
        found = verdicts(diagnostics.placebo_checks(unclear, num_outcomes))
        assert found == names | {"placebo_outcome": verdict}
    assert list(diagnostics.placebo_checks({})) == list(diagnostics.placebo_checks({"latent": 0.1})) == []


def test_rejected_rows_warn_at_half_of_what_stops_the_night():
    found = verdicts(diagnostics.rejected_checks({"a": (1, 100), "b": (3, 100), "c": (6, 100), "d": (0, 0)}, 0.05))
    assert list(found.values()) == ["pass", "warn", "fail", "pass"]


def test_an_experiment_that_contradicts_the_model_warns_and_says_by_how_much():
    beside = Comparison(0.01, shortfall=0.02, lower=0.005, upper=0.035, decisions=900, decisions_needed=0.0)
    below = Comparison(0.02, shortfall=-0.02, lower=-0.035, upper=-0.005, decisions=900, decisions_needed=800.0)
    found = diagnostics.withholding_checks({"a": beside, "b": below}, 0.5, methods=("a", "b", "b_calibrated"))
    checks = {c.name: c for c in found}
    assert checks["withholding_rows_used"].verdict == "warn"
    for method in "ab":
        assert checks[f"withholding_shortfall/{method}"].verdict == "warn"
        assert checks[f"withholding_shortfall/{method}"].value == pytest.approx(0.005)
    assert "b_calibrated is corrected" in checks["withholding_shortfall/b"].advice
    assert "calibrated" not in checks["withholding_shortfall/a"].advice


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [(-0.019, -0.012, "fail"), (-0.012, -0.004, "warn"), (-0.004, 0.004, "pass"), (0.012, 0.019, "warn")],
)
def test_an_experiment_that_leaves_less_than_half_of_what_is_predicted_fails_the_night(lower, upper, verdict):
    found = Comparison(0.02, (lower + upper) / 2, lower, upper, decisions=9000, decisions_needed=800.0)
    assert verdicts(diagnostics.withholding_checks({"m": found}, 1.0))["withholding_shortfall/m"] == verdict


@pytest.mark.parametrize(
    ("needed", "says", "verdict", "value"),
    [
        (12345.6, "about 12,346 are needed", "warn", 900),
        (0.0, "more are needed", "warn", None),
        (800.0, "", "pass", 900),
    ],
)
def test_too_few_decisions_warn_and_say_how_many_are_needed(needed, says, verdict, value):
    quiet = Comparison(0.01, shortfall=0.002, lower=-0.02, upper=0.022, decisions=900, decisions_needed=needed)
    row = {c.name: c.row() for c in diagnostics.withholding_checks({"m": quiet}, 1.0)}["withholding_decisions/m"]
    assert (row["verdict"], row["value"]) == (verdict, value) and says in row["advice"]


def test_rows_have_nulls_and_not_nan():
    check = diagnostics.Check("x", math.nan, 1.0, "do")
    assert check.row() == {"name": "x", "value": None, "threshold": 1.0, "verdict": "warn", "advice": "do"}


@pytest.mark.parametrize(("anchored", "says"), [(True, "anchors tell"), (False, "SIZE NOT IDENTIFIED")])
def test_a_leak_of_uploads_into_their_proxies_is_called_and_says_whether_the_size_can_be_known(anchored, says):
    leaking = ModelFit(GOOD_FIT.training, GOOD_FIT.held_out, 0.2, 20 / 30_000)
    found = list(diagnostics.leak_checks({"latent": leaking, "quiet": GOOD_FIT}, anchored))
    assert verdicts(found) == {"outcome_leak/latent": "warn", "outcome_leak/quiet": "pass"}
    assert says in found[0].advice and found[0].value == pytest.approx(20)
