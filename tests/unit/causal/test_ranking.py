"""Curves and areas of ranked rows against published cases, each with its source and input, and what has no figure."""

import numpy as np
import pytest

from almmta_spark.causal import ranking


def summed(score, treated, outcome, weight=None):
    """[P, S] of every distinct score."""
    return ranking.ranked(score, treated, outcome, weight, max_steps=len(score) + 2).sums_CPS.sum(axis=0)


def points(score, treated, outcome, share="all"):
    """The curve in rows (share "all": of all, "treated": of the treated), as scikit-uplift has it; no empty step."""
    sums = summed(score, treated, outcome)
    sums = sums[(sums[:, 1] + sums[:, 3]) > 0]
    x, y = ranking.curve(sums, share)
    return x * len(score), y * (len(score) if share == "all" else np.sum(treated))


# ---- UpliftML -------------------------------------------------------------------------------------------------------

EIGHT_ROWS = {  # three steps of 3, 3 and 2 rows
    "score": [2, 2, 2, 1, 1, 1, 0, 0],
    "treated": [1, 1, 0, 1, 0, 0, 1, 0],
    "outcome": [1, 0, 0, 1, 0, 0, 0, 0],
}


def test_upliftmls_curve_and_qini_coefficient():
    """tests/test_evaluation.py, test_compute_qini_coefficient: fraction 0, .375, .75, 1 and ate 0, .1875, .5, .5 of
    counts 0, 3, 6, 8 give .0390625. The eight rows are ours: they have this curve."""
    x, y = ranking.curve(summed(**EIGHT_ROWS)[1:])  # nobody is above the best score
    np.testing.assert_allclose(x, [0, 0.375, 0.75, 1], atol=1e-15)
    np.testing.assert_allclose(y, [0, 0.1875, 0.5, 0.5], atol=1e-15)
    assert ranking.area_above_random(x, y) == pytest.approx(0.0390625, abs=1e-15)
    assert ranking.evaluate({"s": EIGHT_ROWS["score"]}, EIGHT_ROWS["treated"], EIGHT_ROWS["outcome"])["s"][
        "qini"
    ] == pytest.approx(0.0390625, abs=1e-12)


# ---- scikit-uplift --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "outcome", "uplift_points", "qini_points"),
    [
        ([0, 0, 0], [0, 1, 0], ([0, 3], [0, 1.5]), ([0, 3], [0, 1])),
        ([0, 1, 1], [0, 1, 2], ([0, 2, 3], [0, 3, 4.5]), ([0, 2, 3], [0, 3, 3])),
        ([0, 0, 0], [1, 1, 1], ([0, 3], [0, 0]), ([0, 3], [0, 0])),
    ],
)
def test_scikit_uplifts_small_curves(score, outcome, uplift_points, qini_points):
    """test_uplift_curve, test_qini_curve and their _hard cases (sklift/tests/test_metrics.py): treatment 0, 1, 1;
    scores by their ranks. The last case there is of the first's scores."""
    for share, expected in (("all", uplift_points), ("treated", qini_points)):
        found = points(score, [0, 1, 1], outcome, share)
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("share", "outcome", "expected"),
    [
        ("all", [0, 1, 0], ([0, 1, 2, 3], [0, 1, 2, 1.5])),
        ("all", [1, 1, 1], ([0, 2, 3], [0, 2, 0])),
        ("treated", [0, 1, 0], ([0, 1, 3], [0, 1, 1])),
        ("treated", [1, 1, 1], ([0, 2, 3], [0, 2, 0])),
    ],
)
def test_scikit_uplifts_small_perfect_curves(share, outcome, expected):
    """test_perfect_uplift_curve, test_perfect_qini_curve and their _hard cases: treatment 0, 1, 1."""
    total = summed([0, 0, 0], [0, 1, 1], outcome).sum(axis=0)
    sums = ranking.perfect_sums(total, share)
    x, y = ranking.curve(sums[(sums[:, 1] + sums[:, 3]) > 0], share)
    np.testing.assert_allclose((x * 3, y * (3 if share == "all" else 2)), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("outcome", "score", "treated", "uplift_auc", "qini_auc"),
    [
        ([1, 1], [0.1, 0.3], [0, 1], 1.0, 1.0),
        ([1, 1], [0.1, 0.3], [1, 0], -1.0, 0.0),
        ([0, 1], [0.1, 0.3], [1, 0], 0.0, 1.0),
        ([1, 0], [0.1, 0.3], [0, 1], 1.0, 1.0),
        ([0, 1, 2], [0.1, 0.3, 0.9], [0, 1, 0], -4 / 3, -0.5),
        ([0, 1, 2], [0.1, 0.3, 0.9], [1, 0, 1], 4 / 3, 0.75),
    ],
)
def test_scikit_uplifts_small_scores(outcome, score, treated, uplift_auc, qini_auc):
    """test_uplift_auc_score and test_qini_auc_score, with the perfect rankings of its formulas, which rank counts too:
    2 (y = t) + (y or t) and y t - y (1 - t)."""
    y, t = np.array(outcome, float), np.array(treated)
    rarer = y if np.sum((y == 1) & (t == 0)) > np.sum((y == 0) & (t == 1)) else t
    for share, best, expected in (
        ("all", 2 * (y == t) + rarer, uplift_auc),
        ("treated", y * t - y * (1 - t), qini_auc),
    ):
        gain, most = (ranking.area_above_random(*ranking.curve(summed(s, t, y), share)) for s in (score, best))
        assert gain / most == pytest.approx(expected, abs=1e-12)
        if set(outcome) == {0, 1}:
            found = ranking.evaluate({"s": score}, treated, outcome, share=share)["s"]
            assert found["auuc_normalised"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["binary", "count", "continuous"])
@pytest.mark.parametrize("seed", range(3))
def test_scikit_uplifts_curves_on_random_rows_without_ties(kind, seed):
    """uplift_curve: (Y_t / N_t - Y_c / N_c) (N_t + N_c), qini_curve: Y_t - Y_c N_t / N_c over the first rows, an empty
    arm's quotient 0 (scikit-uplift, sklift/metrics/metrics.py)."""
    rng = np.random.default_rng(seed)
    score, treated = rng.permutation(400) / 7, rng.integers(0, 2, 400)
    outcome = {"binary": rng.integers(0, 2, 400), "count": rng.poisson(2, 400), "continuous": rng.normal(size=400)}[
        kind
    ]
    order = np.argsort(-score)
    t, y = treated[order], outcome[order].astype(float)
    num_t, num_c, y_t, y_c = np.cumsum(t), np.cumsum(1 - t), np.cumsum(y * t), np.cumsum(y * (1 - t))
    with np.errstate(all="ignore"):
        uplift = (np.nan_to_num(y_t / num_t) - np.nan_to_num(y_c / num_c)) * (num_t + num_c)
        qini = y_t - np.where(num_c > 0, y_c * num_t / num_c, 0)
    for share, expected in (("all", uplift), ("treated", qini)):
        x, found = points(score, treated, outcome, share)
        np.testing.assert_allclose(x, np.arange(401), atol=1e-9)
        tolerance = 1e-9 if kind == "continuous" else 1e-12  # there outcomes are counted in parts of 2^-40
        np.testing.assert_allclose(found[1:], expected, atol=tolerance * max(1, np.abs(expected).max()))


# ---- definitions ----------------------------------------------------------------------------------------------------


def simulated(rows=4000, seed=0):
    rng = np.random.default_rng(seed)
    score, treated = rng.normal(size=rows), rng.integers(0, 2, rows)
    outcome = (rng.random(rows) < 0.2 + 0.2 * treated * (score > 0)).astype(float)
    return score, treated, outcome, rng


def test_a_score_that_knows_the_effect_gains_and_its_reverse_loses_as_much():
    score, treated, outcome, _ = simulated()
    found = ranking.evaluate({"knows": score, "reversed": -score, "nothing": np.zeros(4000)}, treated, outcome)
    assert found["knows"]["qini_lower"] > 0 > found["reversed"]["qini_upper"]
    assert found["nothing"]["qini"] == pytest.approx(0, abs=1e-15)
    for of in found.values():
        assert of["auuc"] - of["qini"] == pytest.approx(of["uplift"] / 2)
        assert of["uplift_lower"] < of["uplift"] < of["uplift_upper"]
        assert of["n"] == 4000 and of["undefined_reason"] is None
    assert 0 < found["knows"]["auuc_normalised"] < 1


def test_scores_of_one_call_are_those_of_a_call_each():
    score, treated, outcome, rng = simulated(500)
    scores = {"a": score, "b": -score, "c": rng.integers(0, 3, 500)}
    together = ranking.evaluate(scores, treated, outcome)
    assert together == {name: ranking.evaluate({name: s}, treated, outcome)[name] for name, s in scores.items()}


def test_weights_count_rows():
    score, treated, outcome, rng = simulated(300)
    weight = rng.integers(1, 4, 300)
    repeated = (np.repeat(v, weight) for v in (score, treated, outcome))
    user = np.repeat(np.arange(300), weight)
    whole = ranking.evaluate({"s": score}, treated, outcome, weight, user=np.arange(300), max_steps=400)["s"]
    score, treated, outcome = repeated
    assert whole | {"n": 0} == ranking.evaluate({"s": score}, treated, outcome, user=user, max_steps=400)["s"] | {
        "n": 0
    }


def test_counts_and_amounts_have_every_figure_but_the_normalised_one():
    score, treated, outcome, rng = simulated()
    found = ranking.evaluate({"s": score}, treated, rng.poisson(1 + 2 * outcome))["s"]
    assert found["auuc_normalised"] is None and "not 0 or 1" in found["undefined_reason"]
    assert found["qini_lower"] < found["qini"] < found["qini_upper"]
    in_cents = ranking.evaluate({"s": score}, treated, 100 * outcome)["s"]
    assert in_cents["auuc"] == pytest.approx(100 * ranking.evaluate({"s": score}, treated, outcome)["s"]["auuc"])


def test_many_scores_are_cut_into_steps_that_hardly_move_the_area():
    score, treated, outcome, _ = simulated(3000)
    cut, whole = (ranking.evaluate({"s": score}, treated, outcome, max_steps=m, replicates=0)["s"] for m in (256, 3001))
    assert cut["num_steps"] == 256 and whole["num_steps"] == 3000
    assert cut["auuc"] == pytest.approx(whole["auuc"], abs=0.002 * whole["uplift"])
    assert cut["uplift"] == whole["uplift"]


@pytest.mark.parametrize(
    ("treated", "outcome", "reason"),
    [
        ([1, 1, 1], [0, 1, 0], "no control rows"),
        ([0, 0, 0], [0, 1, 0], "no treated rows"),
        ([0, 1, 1], [0, 0, 0], "every outcome is 0"),
        ([], [], "no rows"),
    ],
)
def test_what_cannot_be_measured_is_null_with_its_reason_and_never_zero(treated, outcome, reason):
    found = ranking.evaluate({"s": np.arange(len(treated))}, treated, outcome)["s"]
    assert reason in found["undefined_reason"]
    assert all(found[f"{name}{side}"] is None for name in ranking.FIGURES for side in ("", "_lower", "_upper"))


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("score", [1, np.nan, 2], "score must be finite, got 1 rows"),
        ("treated", [0, 1, 2], "treated must be 0 or 1"),
        ("outcome", [0, np.inf, 1], "outcome must be finite"),
        ("weight", [1, 0, 1], "weight must be > 0"),
        ("user", [0.5, 1, 2], "user must hold integers"),
        ("outcome", [0, 1], "outcome must have one entry per score"),
    ],
)
def test_rows_that_break_a_rule_are_refused_by_name(column, values, says):
    columns = {"score": [1, 2, 3], "treated": [0, 1, 1], "outcome": [0, 1, 0], "weight": [1, 1, 1], "user": [1, 2, 3]}
    with pytest.raises(ValueError, match=says):
        ranking.ranked(**(columns | {column: values}))


# ---- ties -----------------------------------------------------------------------------------------------------------


def causalmls_auuc(score, treated, outcome):
    """auuc_score of causalml 0.18.0 (causalml/metrics/visualize.py: get_cumlift, get_cumgain): rows in falling order of
    score, those of equal score in the order that the sort leaves; gain = rows x (mean of treated - mean of others) from
    0 on, interpolated while an arm is empty; the mean of the gain over rows, divided by its end."""
    order = np.argsort(-score, kind="stable")
    t, y = treated[order], outcome[order]
    rows, num_t = np.arange(1, len(t) + 1), np.cumsum(t)
    both = (num_t > 0) & (num_t < rows)
    lift = np.cumsum(y * t)[both] / num_t[both] - np.cumsum(y * (1 - t))[both] / (rows - num_t)[both]
    gain = np.interp(np.append(0, rows), np.append(0, rows[both]), np.append(0, lift)) * np.append(0, rows)
    return (gain / gain[-1]).mean()


def two_valued(rows=20_000):
    _, treated, outcome, rng = simulated(rows)
    return rng.integers(0, 2, rows).astype(float), treated, outcome, rng


def test_a_two_valued_score_has_one_auuc_whatever_the_order_of_its_rows():
    """20,000 rows, 20 shuffles (issue 4): the spread of a curve that ranks ties by their place beside ours, 0.
    causalml 0.18.0 itself, on these very rows in the same 20 orders: .469 to .508 (its sort is not stable)."""
    score, treated, outcome, rng = two_valued()
    user = np.arange(len(score))
    ours, theirs = [], []
    for _ in range(20):
        order = rng.permutation(len(score))
        columns = score[order], treated[order], outcome[order]
        ours.append(ranking.evaluate({"s": columns[0]}, *columns[1:], user=user[order], replicates=20)["s"])
        theirs.append(causalmls_auuc(*columns))
    assert all(found == ours[0] for found in ours)
    assert np.ptp(theirs) > 0.01
