"""The front door on plain rows: by hand, against known effects, against the bootstrap; and what it refuses."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom

from almmta_spark.causal import front_door
from almmta_spark.causal.exclusion import check_exclusion
from almmta_spark.causal.nuisances import Nuisances, fit_nuisances, training_rows
from almmta_spark.causal.sample import Sample

# treatment, mediator, rows, rows with outcome 1
TABLE = [(0, 0, 60, 12), (0, 1, 20, 10), (1, 0, 10, 4), (1, 1, 30, 24)]


def rows_of(table):
    """treatment, mediator, outcome: one row per counted row."""
    return tuple(
        np.concatenate(columns)
        for columns in zip(
            *((np.full(n, t), np.full(n, m), np.arange(n) < events) for t, m, n, events in table), strict=True
        )
    )


def hidden_cause(rows, seed, direct=0.0):
    """U moves treatment and outcome; treatment acts through a binary mediator by .6 · .3 = .18, and by `direct`."""
    rng = np.random.default_rng(seed)
    u = rng.random(rows) < 0.5
    t = rng.random(rows) < 0.2 + 0.6 * u
    m = rng.random(rows) < 0.2 + 0.6 * t
    y = rng.random(rows) < 0.1 + 0.3 * m + 0.4 * u + direct * t
    return t, m, y


def trial(rows, seed, direct=0.0):
    """Randomised, three levels; treatment moves rows from level a to b and c, whose outcomes are higher."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, rows)
    t = rng.integers(0, 2, rows)
    m = np.clip(rng.integers(0, 3, rows) + (rng.random(rows) < 0.5) * t + (rng.random(rows) < 0.3) * x, 0, 2)
    y = rng.random(rows) < 0.1 + 0.2 * m + 0.1 * x + direct * t
    return t, np.array(["a", "b", "c"])[m], y, x


def with_covariates(rows, seed):
    """X and a hidden U drive treatment, X the mediator and its effect; returns the columns and the average effect."""
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(rows, 2)), rng.normal(size=rows)
    t = rng.random(rows) < expit(0.7 * x[:, 0] + u)
    law_NAM = np.stack([mediator_law(x, arm) for arm in (0, 1)], axis=1)
    m = (rng.random(rows)[:, None] > law_NAM[np.arange(rows), t.astype(int)].cumsum(axis=1)).sum(axis=1)
    level = np.array([0.0, 1.0, 3.0])
    y = level[m] + x[:, 0] + 0.5 * x[:, 1] + 2 * u + rng.normal(size=rows)
    return t, m, y, x, float(((law_NAM[:, 1] - law_NAM[:, 0]) @ level).mean())


def mediator_law(x, arm):
    score = np.column_stack((np.zeros(len(x)), arm + 0.5 * x[:, 0], 2 * arm - 1 + x[:, 1]))
    return np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)


# ---- by hand --------------------------------------------------------------------------------------------------------


def test_a_table_worked_out_by_hand():
    # 120 rows, P(T=1) = 1/3;  p(m=1|T) = 1/4, 3/4;  E[Y|m,T]: .2 .5 in arm 0, .4 .8 in arm 1.
    # eta(0) = .4/3 + .2 · 2/3 = .8/3, eta(1) = .8/3 + .5 · 2/3 = .6;  front door = 1/2 · (.6 - .8/3) = 1/6.
    # Sum phi^2 is that of three parts that are uncorrelated:
    #   outcome: factors (p(m|1) - p(m|0)) / p(m|T) are -2/3, 2 in arm 0 and -2, 2/3 in arm 1, so
    #     60 · .16 · 4/9 + 20 · .25 · 4 + 10 · .24 · 4 + 30 · .16 · 4/9 = 36
    #   mediator: var(eta|T) = 3/16 · (1/3)^2 = 1/48, so 40 · 9/48 + 80 · (9/4)/48 = 7.5 + 3.75
    #   treatment: 1/2 (E[Y|1,T] - E[Y|0,T]) = .15, .2 around 1/6, so 80/3600 + 40/900 = 1/15
    sample = Sample.of(*rows_of(TABLE))
    effect = front_door.front_door(sample)
    assert effect.effect == pytest.approx(1 / 6)
    assert effect.se == pytest.approx(np.sqrt(36 + 11.25 + 1 / 15) / 120)
    assert effect.influence_N.mean() == pytest.approx(0, abs=1e-12)
    assert effect.interval() == pytest.approx((1 / 6 - 1.959964 * effect.se, 1 / 6 + 1.959964 * effect.se), abs=1e-6)
    # On the treated: E[Y|T=1] = 28/40, less 3/4 · .4 + 1/4 · .8 = .5.  Sum phi^2:
    #   arm 1, factors 1 - p(m|0)/p(m|1) = -2, 2/3: 9 · (10 · .24 · 4 + 30 · .16 · 4/9 + 40 · 3/16 · .16) = 116.4
    #   arm 0, factor P(1)/P(0) / P(1) = 3/2: 9/4 · 80 · 3/16 · .16 = 5.4
    on_treated = front_door.front_door_ett(sample)
    assert on_treated.effect == pytest.approx(0.2)
    assert on_treated.se == pytest.approx(np.sqrt(116.4 + 5.4) / 120)
    # Difference in means: 28/40 - 22/80 = .425, error sqrt(.7 · .3 / 40 + .275 · .725 / 80).
    means = front_door.difference_in_means(sample)
    assert means.effect == pytest.approx(0.425)
    assert means.se == pytest.approx(np.sqrt(0.7 * 0.3 / 40 + 0.275 * 0.725 / 80))
    assert front_door.back_door(sample).effect == pytest.approx(0.425)


def test_standardisation_by_hand():
    # X=0: E[Y|1] - E[Y|0] = .5 - .25 in 8 rows; X=1: 1 - .5 in 6 rows; (8 · .25 + 6 · .5) / 14 = 5/14.
    x = np.repeat([0, 1], [8, 6])
    t = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1])
    y = np.array([1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1])
    sample = Sample.of(t, np.zeros(14), y, x)
    assert front_door.back_door(sample, fit_nuisances(sample, "cells")).effect == pytest.approx(5 / 14)


def test_what_goes_past_the_mediator_is_the_mean_of_the_effects_within_its_levels():
    # 0.425 - 1/6; q = 2/3 · (1/4, 3/4) + 1/3 · (3/4, 1/4) = (5/12, 7/12); 5/12 · .2 + 7/12 · .3.
    found = check_exclusion(Sample.of(*rows_of(TABLE)))
    assert found.past.effect == pytest.approx(0.425 - 1 / 6)
    assert found.past.effect == pytest.approx(5 / 12 * 0.2 + 7 / 12 * 0.3)
    assert [level.effect for level in found.levels] == pytest.approx([0.2, 0.3])
    # Within m=0: 70 rows, 16 events; sum (T - 1/7)(Y - 16/70) = 60 · 10 / 70 · .2. The products' squares by cell:
    # T=0: (1/7)^2 (12 · (54/70)^2 + 48 · (16/70)^2),  T=1: (6/7)^2 (4 · (54/70)^2 + 6 · (16/70)^2).
    hit, miss = (54 / 70) ** 2, (16 / 70) ** 2
    variance = (12 * hit + 48 * miss) / 49 + (4 * hit + 6 * miss) * 36 / 49
    assert found.levels[0].t == pytest.approx(60 * 10 / 70 * 0.2 / np.sqrt(variance))
    assert found.chi2 == pytest.approx(sum(level.t**2 for level in found.levels))
    assert found.df == 2


# ---- known effects --------------------------------------------------------------------------------------------------


def test_the_front_door_recovers_an_effect_that_the_others_miss():
    found = front_door.effects(Sample.of(*hidden_cause(40_000, seed=0)))
    assert found.front_door.effect == pytest.approx(0.18, abs=4 * found.front_door.se)
    assert found.front_door_ett.effect == pytest.approx(0.18, abs=4 * found.front_door_ett.se)
    assert found.front_door.se < 0.01
    for biased in (found.difference_in_means, found.back_door):
        assert biased.effect == pytest.approx(0.18 + 0.4 * 0.6, abs=0.02)  # E[U|T=1] - E[U|T=0] = .6
        assert biased.interval()[0] > 0.3


def test_intervals_cover_as_often_as_they_say():
    found = [front_door.effects(Sample.of(*hidden_cause(600, seed))) for seed in range(200)]
    fewest, most = binom.interval(0.999, 200, 0.95)
    for effects in ([f.front_door for f in found], [f.front_door_ett for f in found]):
        covered = sum(lower <= 0.18 <= upper for lower, upper in (e.interval() for e in effects))
        assert fewest <= covered <= most
    assert sum(f.difference_in_means.interval()[0] <= 0.18 for f in found) < 20


@pytest.mark.long
def test_intervals_of_a_trial_cover_with_cells_of_covariates():
    carried, past, fired = 0, 0, 0
    truth = 0.2 * (mean_level(1) - mean_level(0))
    for seed in range(200):
        direct = 0.1 * (seed % 2)  # added to every level alike, it leaves what the mediator carries as it was
        sample = Sample.of(*trial(800, seed, direct))
        found = check_exclusion(sample, fit_nuisances(sample, "cells"))
        carried += found.front_door.interval()[0] <= truth <= found.front_door.interval()[1]
        past += found.past.interval()[0] <= direct <= found.past.interval()[1]
        fired += not direct and not found.carries_everything
    fewest, most = binom.interval(0.999, 200, 0.95)
    assert fewest <= carried <= most
    assert fewest <= past <= most
    assert fired <= binom.ppf(0.999, 100, 0.05)


def mean_level(arm):
    """The expected level of `trial`, by listing what can happen."""
    return sum(
        0.5 / 3 * p * q * min(m + up * arm + more * x, 2)
        for x in (0, 1)
        for m in (0, 1, 2)
        for up, p in ((0, 0.5), (1, 0.5))
        for more, q in ((0, 0.7), (1, 0.3))
    )


@pytest.mark.long
def test_errors_are_those_of_the_bootstrap():
    columns = hidden_cause(2000, seed=1)
    found = front_door.effects(Sample.of(*columns))
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(400):
        row = rng.integers(0, 2000, 2000)
        again = front_door.effects(Sample.of(*(column[row] for column in columns)))
        draws.append([again.difference_in_means.effect, again.front_door.effect, again.front_door_ett.effect])
    errors = [found.difference_in_means.se, found.front_door.se, found.front_door_ett.se]
    np.testing.assert_allclose(np.std(draws, axis=0), errors, rtol=0.1)


def test_regressions_recover_an_effect_confounded_by_seen_and_hidden_causes():
    t, m, y, x, truth = with_covariates(8000, seed=0)
    sample = Sample.of(t, m, y, x)
    found = front_door.effects(sample)
    assert found.nuisances == "linear outcome regressions, 5 folds, seed 0"
    assert found.front_door.effect == pytest.approx(truth, abs=3 * found.front_door.se)
    assert found.front_door.se < 0.05
    assert abs(found.back_door.effect - truth) > 10 * found.back_door.se  # U is not in X
    assert abs(front_door.front_door(Sample.of(t, m, y)).effect - truth) > 3 * found.front_door.se  # X must be


def test_regressions_of_a_binary_outcome_agree_with_cells():
    columns = trial(6000, seed=3)
    sample = Sample.of(*columns)
    cells, regressions = fit_nuisances(sample, "cells"), fit_nuisances(sample, "regression")
    assert cells.description == "means of cells, 2 covariate strata"
    for method in (front_door.front_door, front_door.front_door_ett, front_door.back_door):
        one, other = method(sample, cells), method(sample, regressions)
        assert one.effect == pytest.approx(other.effect, abs=0.25 * one.se)
        assert one.se == pytest.approx(other.se, rel=0.02)


@pytest.mark.long
def test_intervals_from_regressions_cover():
    x = np.random.default_rng(99).normal(size=(200_000, 2))
    truth = ((mediator_law(x, 1) - mediator_law(x, 0)) @ [0, 1, 3]).mean()
    covered = 0
    for seed in range(40):
        lower, upper = front_door.front_door(Sample.of(*with_covariates(500, seed)[:4])).interval()
        covered += lower <= truth <= upper
    fewest, most = binom.interval(0.999, 40, 0.95)
    assert fewest <= covered <= most


def test_it_is_right_if_either_the_mediator_or_the_rest_is():
    # Two strata, a hidden cause; the true laws, then wrong ones in the place of some of them.
    rng = np.random.default_rng(5)
    rows = 40_000
    x, u = rng.integers(0, 2, rows), rng.random(rows) < 0.5
    t = rng.random(rows) < 0.2 + 0.3 * x + 0.4 * u
    m = rng.random(rows) < 0.2 + 0.2 * x + (0.2 + 0.3 * x) * t
    y = rng.random(rows) < 0.1 + (0.2 + 0.2 * x) * m + 0.3 * u
    truth = 0.5 * 0.2 * 0.2 + 0.5 * 0.5 * 0.4
    truth_ett = (0.4 * 0.2 * 0.2 + 0.7 * 0.5 * 0.4) / 1.1
    sample = Sample.of(t, m, y, x)
    right = fit_nuisances(sample, "cells")
    wrong_law = np.full((2, 2, 2), [0.75, 0.25])
    wrong_law[:, 1] = [0.3, 0.7]
    wrong_mean, wrong_share = np.full((2, 2, 2), 0.9), np.array([0.5, 0.8])
    by_mediator = Nuisances(right.stratum_N, wrong_share, right.mediator_SAM, wrong_mean)
    by_the_rest = Nuisances(right.stratum_N, right.propensity_S, wrong_law, right.outcome_SAM)
    by_none = Nuisances(right.stratum_N, wrong_share, wrong_law, right.outcome_SAM * [0.2, 1.5])
    for nuisances in (right, by_mediator, by_the_rest):
        one, on_treated = front_door.front_door(sample, nuisances), front_door.front_door_ett(sample, nuisances)
        assert one.effect == pytest.approx(truth, abs=4 * one.se)
        assert on_treated.effect == pytest.approx(truth_ett, abs=4 * on_treated.se)
        assert one.se < 0.01
    wrong = front_door.front_door(sample, by_none)
    assert abs(wrong.effect - truth) > 5 * wrong.se


def test_the_effect_on_the_treated_stands_where_only_they_can_have_the_mediator():
    # Half of the treated take it, those with U more often than not treated; the outcome rises by .3 if taken.
    rng = np.random.default_rng(2)
    u = rng.random(40_000) < 0.5
    t = rng.random(40_000) < 0.3 + 0.4 * u
    m = t & (rng.random(40_000) < 0.5)
    y = rng.random(40_000) < 0.1 + 0.3 * m + 0.4 * u
    sample = Sample.of(t, m, y)
    on_treated = front_door.front_door_ett(sample)
    assert on_treated.effect == pytest.approx(0.15, abs=4 * on_treated.se)
    assert front_door.difference_in_means(sample).effect > 0.25
    with pytest.raises(ValueError, match=r"level True has no rows in arm 0.*positivity.*front_door_ett"):
        front_door.front_door(sample)


# ---- exclusion ------------------------------------------------------------------------------------------------------


def test_a_direct_path_is_found_where_treatment_is_randomised():
    found = check_exclusion(Sample.of(*trial(8000, seed=0, direct=0.1)))
    assert not found.carries_everything
    assert found.past.effect == pytest.approx(0.1, abs=4 * found.past.se)
    assert found.past.p_value < 1e-6 and found.p_value < 1e-6
    assert "does not carry everything" in found.verdict
    assert all(abs(level.effect - 0.1) < 4 * level.se for level in found.levels)


def test_no_direct_path_is_found_where_there_is_none():
    found = check_exclusion(Sample.of(*trial(8000, seed=1)))
    assert found.carries_everything
    assert "No path past the mediator shows" in found.verdict
    assert abs(found.past.effect) < 0.02


def test_a_cause_that_mediator_and_outcome_share_shows_unless_it_is_given():
    rng = np.random.default_rng(0)
    x, t = rng.integers(0, 2, (2, 8000))
    m = rng.random(8000) < 0.1 + 0.4 * t + 0.4 * x
    y = rng.random(8000) < 0.1 + 0.2 * m + 0.4 * x
    assert check_exclusion(Sample.of(t, m, y, x)).carries_everything
    assert not check_exclusion(Sample.of(t, m, y)).carries_everything


def test_effects_that_cancel_over_levels_are_found_within_them():
    rng = np.random.default_rng(0)
    t, m = rng.integers(0, 2, (2, 4000))
    y = rng.normal(size=4000) + np.where(m == 1, 0.3, -0.3) * t
    found = check_exclusion(Sample.of(t, m, y))
    assert found.past.p_value > 0.01
    assert found.p_value < 1e-6
    assert not found.carries_everything


@pytest.mark.parametrize("method", ["cells", "regression"])
def test_treatment_randomised_within_covariates_is_checked_within_them(method):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 2, 6000)
    t = rng.random(6000) < 0.2 + 0.6 * x
    m = rng.random(6000) < 0.2 + 0.6 * t
    for direct in (0.0, 0.3):
        sample = Sample.of(t, m, m + 2 * x + direct * t + rng.normal(size=6000), x)
        found = check_exclusion(sample, fit_nuisances(sample, method), randomised="given_covariates")
        assert found.carries_everything == (direct == 0)
        assert found.df == (4 if method == "cells" else 2)
    assert not check_exclusion(sample, randomised="outright").carries_everything


def test_a_mediator_that_only_the_treated_can_have_is_checked_on_the_treated():
    rng = np.random.default_rng(4)
    t = rng.random(10_000) < 0.5
    m = t & (rng.random(10_000) < 0.4)
    for direct in (0.0, 0.1):
        found = check_exclusion(Sample.of(t, m, rng.random(10_000) < 0.2 + 0.3 * m + direct * t), estimand="ETT")
        assert found.carries_everything == (direct == 0)
        assert found.df == 1
        assert np.isnan(found.levels[1].t)


def test_an_outcome_that_the_mediator_fixes_leaves_nothing_to_test():
    t, m, _ = hidden_cause(500, seed=0)
    found = check_exclusion(Sample.of(t, m, m))
    assert found.past.effect == 0 and found.df == 0 and found.carries_everything
    assert "constant" in found.verdict


# ---- rows, weights, groups ------------------------------------------------------------------------------------------


def test_a_weight_is_a_number_of_equal_rows():
    t, m, y, x = trial(900, seed=2)
    number = np.random.default_rng(0).integers(1, 4, 900)
    weighted = Sample.of(t, m, y, x, weights=number)
    repeated = Sample.of(*(np.repeat(column, number) for column in (t, m, y, x)))
    one, other = front_door.effects(weighted), front_door.effects(repeated)
    for name in ("difference_in_means", "back_door", "front_door", "front_door_ett"):
        assert getattr(one, name).effect == pytest.approx(getattr(other, name).effect)
        assert getattr(one, name).se == pytest.approx(getattr(other, name).se)
    a, b = check_exclusion(weighted), check_exclusion(repeated)
    assert (a.chi2, a.df, a.past.se) == pytest.approx((b.chi2, b.df, b.past.se))


def test_repeating_every_row_within_its_group_adds_no_information():
    t, m, y, x = trial(800, seed=2)
    once, twice = Sample.of(t, m, y, x), [np.repeat(column, 2) for column in (t, m, y, x)]
    grouped = Sample.of(*twice, groups=np.repeat([f"user {i}" for i in range(800)], 2))
    assert front_door.front_door(grouped).se == pytest.approx(front_door.front_door(once).se)
    assert front_door.front_door(Sample.of(*twice)).se == pytest.approx(front_door.front_door(once).se / np.sqrt(2))
    one, other = check_exclusion(grouped), check_exclusion(once)
    assert (one.chi2, one.df, one.past.se) == pytest.approx((other.chi2, other.df, other.past.se))


def test_groups_stay_whole_in_the_folds():
    t, m, y, x, _ = with_covariates(400, seed=0)
    groups = np.arange(400) // 4
    folds = list(training_rows(Sample.of(t, m, y, x, groups=groups), folds=4, seed=0))
    assert np.array_equal(np.sum(folds, axis=0), np.full(400, 3))
    assert all(len(set(groups[train]) & set(groups[~train])) == 0 for train in folds)


def test_equal_seeds_give_equal_estimates():
    t, m, y, x, _ = with_covariates(500, seed=0)
    sample = Sample.of(t, m, y, x)
    one, same, other = (front_door.front_door(sample, fit_nuisances(sample, seed=s)).effect for s in (1, 1, 2))
    assert one == same != other


def test_a_constant_outcome_has_no_effect_and_no_error():
    found = front_door.effects(Sample.of([0, 0, 1, 1, 0, 1], [0, 1, 0, 1, 1, 1], [0.3] * 6))
    for effect in (found.difference_in_means, found.back_door, found.front_door, found.front_door_ett):
        assert effect.effect == 0 and effect.se == 0 and np.isnan(effect.p_value)
    t, m, _, x, _ = with_covariates(300, seed=0)
    assert front_door.front_door(Sample.of(t, m, np.ones(300), x)).effect == 0


def test_the_table_names_methods_estimands_and_nuisances():
    text = str(front_door.effects(Sample.of(*rows_of(TABLE))))
    assert "front_door           ETT         0.2000" in text
    assert "120 rows; nuisances: means of cells, no covariates; least P(T|X) 0.333, least p(m|T,X) 0.25" in text


# ---- what is refused ------------------------------------------------------------------------------------------------

T, M, Y = [0, 1, 0, 1], [0, 1, 1, 0], [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"treatment": [0, 1, 2, 1]}, r"treatment must be 0 or 1.*\[0.0, 1.0, 2.0\]"),
        ({"treatment": [1, 1, 1, 1]}, "treatment must have rows in both arms, got only 1"),
        ({"treatment": [0, 1, np.nan, 1]}, "treatment must be finite.*1 NaN.*row 2"),
        ({"treatment": []}, "treatment must be one column with rows"),
        ({"treatment": ["a", "b", "a", "b"]}, "treatment must hold numbers"),
        ({"mediator": [0, 1, 1]}, r"mediator must have one entry per row of treatment \(4\), got shape \(3,\)"),
        ({"mediator": [0.0, np.nan, 1, 1]}, "mediator must have a label in every row.*row 1"),
        ({"mediator": np.array(["a", None, "b", "b"], dtype=object)}, "mediator must have a label in every row.*row 1"),
        ({"mediator": np.array(["a", 1, "b", "b"], dtype=object)}, "mediator must have labels of one kind"),
        ({"outcome": [0, 1, np.inf, 1]}, "outcome must be finite"),
        ({"outcome": [[0], [1], [1], [0]]}, "outcome must have one entry per row"),
        ({"covariates": [[1.0, np.nan]] * 4}, "covariates must be finite.*impute"),
        ({"covariates": ["x"] * 4}, "covariates must hold numbers.*encode"),
        ({"weights": [1, 1, 0, 1]}, "weights must be > 0, got 0"),
        ({"groups": [1, 2]}, "groups must have one entry"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_by_name(columns, message):
    with pytest.raises(ValueError, match=message):
        Sample.of(**{"treatment": T, "mediator": M, "outcome": Y, **columns})


def test_a_level_without_rows_in_an_arm_is_named():
    with pytest.raises(
        ValueError, match=r"level 'draft' has no rows in arm 1, but occurs in the other arm.*positivity"
    ):
        front_door.effects(Sample.of([0, 0, 0, 1, 1], ["none", "draft", "open", "none", "open"], [*Y, 1.0]))
    with pytest.raises(ValueError, match=r"level 1 has no rows in arm 0 where covariates are \[7.0\]"):
        front_door.front_door(
            sample := Sample.of([0, 1, 0, 1, 0, 0, 1], [0, 0, 1, 1, 0, 0, 1], range(7), [5, 5, 5, 5, 7, 7, 7]),
            fit_nuisances(sample, "cells"),
        )


def test_a_deterministic_mediator_is_refused():
    t, _, y = hidden_cause(200, seed=0)
    with pytest.raises(ValueError, match="positivity"):
        front_door.front_door(Sample.of(t, t, y))


def test_a_stratum_with_one_arm_is_named():
    sample = Sample.of(T, M, Y, [1, 1, 2, 1])
    with pytest.raises(ValueError, match=r"arm 1 has no rows where covariates are \[2.0\]"):
        fit_nuisances(sample, "cells")


def test_a_level_in_a_single_fold_is_named():
    t, m, y, x, _ = with_covariates(300, seed=0)
    m[np.flatnonzero(t)[0]] = 9
    with pytest.raises(ValueError, match="level 9 of arm 1 falls into a single fold"):
        fit_nuisances(Sample.of(t, m, y, x), "regression")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propensity_S": np.array([1.0])}, "propensity_S must lie strictly between"),
        ({"mediator_SAM": np.full((1, 2, 2), 0.4)}, "probabilities that sum to 1"),
        ({"outcome_SAM": np.zeros((1, 2, 3))}, r"must both be \[1, 2, levels\]"),
        ({"outcome_SAM": np.full((1, 2, 2), np.nan)}, "outcome_SAM must be known"),
    ],
)
def test_nuisances_that_cannot_be_are_refused(changes, message):
    given = {"stratum_N": np.zeros(4, int), "propensity_S": np.array([0.5]), "mediator_SAM": np.full((1, 2, 2), 0.5)}
    with pytest.raises(ValueError, match=message):
        Nuisances(**{**given, "outcome_SAM": np.zeros((1, 2, 2)), **changes})


def test_nuisances_of_another_sample_are_refused():
    sample = Sample.of(T, M, Y)
    with pytest.raises(ValueError, match="nuisances must be of this sample"):
        front_door.front_door(Sample.of([0, 1], [0, 0], [1, 2]), fit_nuisances(sample))
    law_SAM = np.array([[[1.0, 0.0], [0.5, 0.5]]])
    with pytest.raises(ValueError, match="what happened is possible"):
        front_door.front_door(sample, Nuisances(np.zeros(4, int), np.array([0.5]), law_SAM, np.zeros((1, 2, 2))))


def test_options_that_do_not_exist_are_refused():
    sample = Sample.of(T, M, Y)
    for call, message in (
        (lambda: fit_nuisances(sample, "trees"), "method must be"),
        (lambda: fit_nuisances(sample, "regression", folds=1), "folds must be between 2 and the 4"),
        (lambda: check_exclusion(sample, randomised="maybe"), "randomised must be"),
        (lambda: check_exclusion(sample, randomised="given_covariates", estimand="ETT"), "estimand must be"),
        (lambda: front_door.front_door(sample).interval(95), "confidence must lie between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# ---- the page that explains it --------------------------------------------------------------------------------------


def test_the_examples_of_the_page_print_what_it_says():
    page = Path(front_door.__file__).with_name("README.md")
    examples = "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S))
    told: list[str] = []
    test = doctest.DocTestParser().get_doctest(examples, {}, page.name, str(page), 0)
    results = doctest.DocTestRunner(verbose=False).run(test, out=told.append)
    assert results.attempted > 10 and results.failed == 0, "".join(told)


def test_a_direct_path_and_a_hidden_cause_may_write_the_same_logs():
    # P(t, m, y) of `hidden_cause` (effect .18), and of a world without U where T adds .24 directly (effect .42).
    def share(p, happens):
        return p if happens else 1 - p

    for t, m, y in np.ndindex(2, 2, 2):
        mediator = share(0.2 + 0.6 * t, m)
        hidden = sum(0.5 * share(0.2 + 0.6 * u, t) * mediator * share(0.1 + 0.3 * m + 0.4 * u, y) for u in (0, 1))
        direct = 0.5 * mediator * share(0.18 + 0.3 * m + 0.24 * t, y)
        assert hidden == pytest.approx(direct)
