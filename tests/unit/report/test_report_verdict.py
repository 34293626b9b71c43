"""What the checks of a night are said to mean."""

import pytest

from almmta_spark import config
from almmta_spark.evaluation import diagnostics, withholding
from almmta_spark.evaluation.matching import Lift
from almmta_spark.evaluation.overlap import BucketOverlap
from almmta_spark.evaluation.predictions import Fit, ModelFit
from almmta_spark.evaluation.sensitivity import Sensitivity
from almmta_spark.evaluation.subsets import Subsets
from almmta_spark.report import verdict as said
from almmta_spark.report.contents import Gate
from tests.unit.report.nights import CHECKS, DS, auuc, check, contents, night


def areas(found):
    return {area.name: area for area in found.areas}


def with_checks(*more, **changes):
    return said.verdict(contents(night(checks=[*CHECKS, *more], **changes)))


def test_a_night_whose_checks_pass_can_be_trusted():
    found = said.verdict(contents())
    assert (found.verdict, found.headline) == ("pass", "Last night can be trusted.")
    assert {a.answer for a in found.areas} == {"Yes"} and not found.warnings


def test_a_warning_is_answered_where_it_belongs_and_nowhere_else():
    found = with_checks(check("proxy_reliability/latent", "warn", advice="Proxies say little. Log more."))
    answers = {name: area.answer for name, area in areas(found).items()}
    assert answers == {"gate": "Yes", "ranking": "Yes", "size": "With care", "overlap": "Yes", "data": "Yes"}
    assert (
        areas(found)["size"].reasons == ("Proxies say little. (`proxy_reliability/latent` 0.500)",)
        and found.verdict == "warn"
    )


def test_a_refused_model_is_answered_first_with_every_reason():
    found = said.verdict(contents(gate=Gate(("It leaks.", "It is worse."), "2026-01-12", "2026-01-12")))
    first = found.areas[0]
    assert (found.verdict, found.headline) == ("warn", "Last night can be used with care.")
    assert (first.name, first.answer) == ("gate", "With care") and "champion of 2026-01-12 speaks" in first.reasons[0]
    assert first.reasons[1:] == ("It leaks.", "It is worse.")


def test_a_refused_model_that_speaks_for_want_of_a_champion_must_not_be_used():
    found = said.verdict(contents(gate=Gate(("It leaks.",), DS, None, "no earlier night has passed")))
    assert (found.areas[0].answer, found.headline) == ("No", "Last night must not be used.")
    assert found.areas[0].reasons[0].endswith("no champion can speak in its place: no earlier night has passed.")


def test_checks_that_say_the_same_are_told_together():
    found = with_checks(*(check(f"propensity_calibration/bucket={b}", "warn", value=b / 10) for b in (1, 2)))
    together = "Mend it. (`propensity_calibration/bucket=1` 0.100, `propensity_calibration/bucket=2` 0.200)"
    assert areas(found)["overlap"].reasons == (together,)


def test_the_worst_check_decides():
    found = with_checks(check("rejected_rate/uploads", "fail"), check("num_outcomes", "warn"))
    assert found.verdict == "fail" and areas(found)["data"].answer == "No"
    assert areas(found)["size"].answer == "With care"


def test_methods_that_are_only_compared_do_not_count():
    found = with_checks(check("overfit/backdoor", "fail"))
    assert found.verdict == "pass"
    assert [c.verdict for c in found.compared] == ["pass", "fail"]


def test_a_check_that_no_question_knows_counts_all_the_same():
    found = with_checks(check("refutation/permuted_outcome", "fail"))
    assert found.verdict == "fail" and areas(found)["other"].checks[0].name == "refutation/permuted_outcome"


def test_a_size_that_is_not_identified_is_no_size():
    advice = f"{diagnostics.NOT_IDENTIFIED}: nobody can tell. Declare a signal."
    found = with_checks(check("outcome_leak/latent", "warn", advice=advice))
    assert areas(found)["size"].answer == "No" and areas(found)["ranking"].answer == "Yes"
    assert (found.verdict, found.headline) == ("fail", "Last night can be used in part.")
    assert with_checks(check("rejected_rate/users", "fail")).headline == "Last night must not be used."


@pytest.mark.parametrize(
    ("value", "verdict", "sense"),
    [
        (5.0, "pass", "≥"),
        (1.0, "pass", "≤"),
        (1.0, "warn", "≥"),
        (5.0, "fail", "≤"),
        (3.0, "pass", ""),
        (None, "warn", ""),
    ],
)
def test_the_side_of_the_limit_follows_from_the_verdict(value, verdict, sense):
    assert said.Check("a", value, 3.0, verdict, "").sense == sense


def test_without_an_experiment_a_direct_path_may_be_there():
    found = said.verdict(contents(night(checks=[c for c in CHECKS if "withholding" not in c["name"]])))
    assert areas(found)["size"].answer == "With care"
    assert "direct path" in areas(found)["size"].reasons[0]


@pytest.mark.parametrize(
    ("protocol", "qini", "answer", "word"),
    [
        (
            "exact",
            (0.003, 0.001, 0.005),
            "Yes",
            "beats a random one (qini 3.00 per 1,000 touches, interval 1.00 to 5.00)",
        ),
        ("randomised", (0.003, -0.001, 0.005), "With care", "cannot be told from a random one"),
        ("randomised", (-0.003, -0.005, -0.001), "No", "worse than a random one"),
        ("observational", (0.003, 0.001, 0.005), "With care", "no causal evidence, the ranking beats"),
        ("observational", (-0.003, -0.005, -0.001), "With care", "no causal evidence, the ranking is worse"),
        ("randomised", (0.003, None, None), "With care", "nobody can say how sure"),
        ("randomised", (None, None, None), "No", "could not be measured: 0 measured clusters"),
    ],
)
def test_the_ranking_is_judged_by_the_interval_of_qini(protocol, qini, answer, word):
    row = auuc(protocol=protocol, qini=qini, undefined_reason="0 measured clusters")
    # where no protocol measures it, the observational one is the night's last word
    rows = [row, auuc(protocol="observational", qini=qini, undefined_reason="0 measured clusters")]
    area = areas(said.verdict(contents(night(areas=rows))))["ranking"]
    assert area.answer == answer and word in area.reasons[0]


def test_the_best_protocol_that_measures_anything_speaks():
    rows = [auuc(protocol="observational"), auuc(protocol="randomised", qini=(None, None, None))]
    assert contents(night(areas=rows)).protocol == "observational"
    assert contents(night(areas=[*rows, auuc(protocol="exact")])).protocol == "exact"


def test_rows_that_nobody_accounted_for_are_said():
    found = areas(said.verdict(contents(night(accounting={}))))["data"]
    assert found.answer == "With care" and "Nobody noted" in found.reasons[0]
    full = areas(said.verdict(contents(warnings=("Unknown signals: x.",))))["data"]
    assert full.reasons == (
        "All 3,600 input rows of 3 tables are accounted for; 21 were refused.",
        "Unknown signals: x.",
    )


def test_every_check_of_a_night_has_its_question():
    """All that evaluation writes, made by its own functions: none falls to the last question."""
    part = Fit(journeys=100, outcomes=9, log_likelihood=-9.0, gain=0.1, gain_sd=0.01)
    fits = {"latent": ModelFit(part, part, 0.2, 0.0)}
    compared = withholding.Comparison(0.01, 0.0, -0.1, 0.1, 500, 800.0)
    made = [
        *diagnostics.coverage_checks({"linear": 0.5}),
        *diagnostics.overlap_checks({0: BucketOverlap(10, 5, 5.0, 4.0, 0, 0)}),
        *diagnostics.model_checks(fits),
        *diagnostics.leak_checks(fits, anchored=True),
        *diagnostics.negative_control_checks({"latent": 1.0}),
        *diagnostics.mediator_overlap_checks({"latent": 0.5}),
        *diagnostics.placebo_checks({"latent": 1.0, **dict.fromkeys(config.PLACEBOS, 0.1)}),
        *diagnostics.outcome_checks(fits),
        *diagnostics.sensitivity_checks(Sensitivity("latent", 9.0, 0.5, 1.0, 1.0, 0.1, 0.1)),
        *diagnostics.subset_checks(Subsets("latent", 0.1, 0.9, 0.3)),
        *diagnostics.match_checks([Lift(1.0, 0.7, 100, 1.5, 1.4, 1.6)]),
        diagnostics.clip_check(5.0, auuc(), auuc()),
        *diagnostics.rejected_checks({"users": (0, 5)}, 0.05),
        *diagnostics.withholding_checks({"latent": compared}, 1.0),
    ]
    asked = {kind for _, _, kinds in said.QUESTIONS for kind in kinds}
    assert {c.name.partition("/")[0] for c in made} == asked
