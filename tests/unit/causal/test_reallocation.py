"""Exposures given to the top: the curve, and who may judge it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almmta_spark.causal import jackknife, reallocation
from almmta_spark.config import EnsembleConfig

GROUPS = st.lists(st.tuples(st.integers(-5, 5), st.floats(-1, 1, width=32), st.integers(1, 1000)), min_size=1)
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=5)
UNHURRIED = settings(deadline=None)
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def columns(groups):
    score, mean, exposures = (np.array(c, float) for c in zip(*groups, strict=True))
    return score, exposures, (mean * exposures)[None]


def test_half_of_the_exposures_go_to_the_best_and_a_part_of_the_next():
    """40 exposures; half of them are all 10 of the best group and 10 of the 30 of the other."""
    given_to_top = reallocation.given_to_top([2.0, 1.0], [10, 30], [[5.0, 3.0], [10, 30]], [0.5, 1.0])
    np.testing.assert_allclose(given_to_top, [[5.0 + 1.0, 8.0], [20, 40]])
    np.testing.assert_allclose(reallocation.extra([2.0, 1.0], [10, 30], [[5.0, 3.0]], [0.5]), [[6.0 - 4.0]])


@UNHURRIED
@given(GROUPS)
def test_nothing_and_everything_have_no_extra(groups):
    np.testing.assert_allclose(reallocation.extra(*columns(groups), [0.0, 1.0]), 0, atol=1e-9)


@UNHURRIED
@given(GROUPS, SHARES, st.randoms(use_true_random=False))
def test_neither_the_order_of_groups_nor_the_scale_of_the_score_matters(groups, shares, random):
    score, exposures, sums = columns(groups)
    expected = reallocation.extra(score, exposures, sums, shares)
    order = np.array(random.sample(range(len(groups)), len(groups)))
    shuffled = reallocation.extra(np.exp(score[order]), exposures[order], sums[:, order], shares)
    np.testing.assert_allclose(shuffled, expected, **CLOSE)


@UNHURRIED
@given(GROUPS, SHARES)
def test_no_ranking_gets_more_than_the_one_by_the_effects_themselves(groups, shares):
    score, exposures, sums = columns(groups)
    best = reallocation.extra(sums[0] / exposures, exposures, sums, shares)
    assert (best >= reallocation.extra(score, exposures, sums, shares) - 1e-9).all()
    assert (best >= -1e-9).all()


@UNHURRIED
@given(GROUPS, SHARES, st.integers(0), st.floats(0.1, 0.9))
def test_a_group_cut_in_two_changes_nothing(groups, shares, which, part):
    score, exposures, sums = columns(groups)
    g = which % len(score)
    cut = [np.append(v, v[..., g : g + 1] * part, axis=-1) for v in (exposures, sums)]
    for whole in cut:
        whole[..., g] *= 1 - part
    found = reallocation.extra(np.append(score, score[g]), *cut, shares)
    np.testing.assert_allclose(found, reallocation.extra(score, exposures, sums, shares), **CLOSE)


@UNHURRIED
@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6))
def test_pseudo_values_of_means_are_what_the_left_out_users_say(of_fold):
    """Exactly so where estimates are means of folds of equal size; with two folds it is the other half's estimate."""
    by_split = np.array(of_fold).reshape(2, 3, 1)
    centre = by_split.mean(axis=1)[0]
    by_split = np.stack([by_split[0], by_split[1] - by_split[1].mean(0) + centre])  # two splits of one set of users
    fits = (by_split.sum(axis=1, keepdims=True) - by_split) / 2
    found = reallocation.pseudo_values(centre, fits.reshape(6, 1), num_folds=3)
    np.testing.assert_allclose(found, by_split.reshape(6, 1), atol=1e-12)
    halves = reallocation.pseudo_values([0.5], [[0.2], [0.8]], num_folds=2)
    np.testing.assert_allclose(halves, [[0.8], [0.2]])


def test_the_interval_of_a_fixed_ranking_is_the_jackknifes_own():
    fits = np.array([[1.0], [1.4], [0.9], [1.2], [1.3], [1.1]])
    pseudo = reallocation.pseudo_values(fits.mean(axis=0), fits, num_folds=3)
    expected = jackknife.half_width(fits, fits.mean(axis=0), 3, 0.95, 0.1)
    np.testing.assert_allclose(reallocation.half_width(pseudo, 3, 0.95, 0.1), expected)


# ---- the winner's curse ----------------------------------------------------------------------------------------------

FOLDS, NUM_GROUPS, SHARE = 5, 300, (0.1,)


def judged_by_left_out_users_and_by_all(rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """Pseudo-values, the naive figure, and the truth, of groups whose estimates are half noise."""
    exposures = rng.integers(5, 50, NUM_GROUPS).astype(float)
    truth = rng.normal(0, 1, NUM_GROUPS)
    of_fold = truth + rng.normal(0, np.sqrt(FOLDS), (FOLDS, NUM_GROUPS))
    fits, full = (of_fold.sum(0) - of_fold) / (FOLDS - 1), of_fold.mean(0)
    sums = np.vstack([full, fits]) * exposures
    pseudo = []
    for member, fit in enumerate(fits):
        extra = reallocation.extra(fit, exposures, sums, SHARE)
        pseudo.append(reallocation.pseudo_values(extra[0], extra[1:], FOLDS)[member])
    exact = [reallocation.extra(fit, exposures, truth[None] * exposures, SHARE)[0, 0] for fit in fits]
    naive = reallocation.extra(full, exposures, sums[:1], SHARE)[0, 0]
    return np.array(pseudo), naive, float(np.mean(exact))


@pytest.fixture(scope="module")
def judged():
    rng = np.random.default_rng(0)
    return [judged_by_left_out_users_and_by_all(rng) for _ in range(300)]


def test_users_who_did_not_rank_judge_a_ranking_rightly_and_those_who_did_too_well(judged):
    truth = np.array([exact for *_, exact in judged])
    fair, naive = (np.array(v) / truth.mean() for v in ([p.mean() for p, *_ in judged], [n for _, n, _ in judged]))
    error = (fair - truth / truth.mean()).std() / np.sqrt(len(judged))
    assert abs(fair.mean() - 1) < 3 * error < 0.05
    assert naive.mean() > 1.5  # half of the estimates' variance is noise


def test_its_interval_holds_the_truth(judged):
    """With the default allowance for what all fits share; .88 without it: half of what is ranked here is noise."""
    half = [reallocation.half_width(pseudo, FOLDS, 0.95, EnsembleConfig().shared_error)[0] for pseudo, *_ in judged]
    held = [abs(p.mean() - exact) <= h for (p, _, exact), h in zip(judged, half, strict=True)]
    assert 0.9 <= np.mean(held) <= 0.995, np.mean(held)
