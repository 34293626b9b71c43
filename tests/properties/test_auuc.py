"""What must hold of any AUUC, whatever the groups."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from almmta_spark.causal import uplift

GROUPS = st.lists(
    st.tuples(st.integers(-5, 5), st.floats(-1, 1, width=32), st.integers(1, 1000)), min_size=2, max_size=30
)
UNHURRIED = settings(deadline=None)  # seconds say nothing on a busy machine
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def columns(groups):
    score, effect, population = (np.array(c) for c in zip(*groups, strict=True))
    return score.astype(float), effect.astype(float), population


@UNHURRIED
@given(GROUPS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(groups, random):
    shuffled = list(groups)
    random.shuffle(shuffled)
    np.testing.assert_allclose(uplift.auuc(*columns(shuffled)), uplift.auuc(*columns(groups)), **CLOSE)


@UNHURRIED
@given(GROUPS)
def test_only_the_ranking_of_the_score_matters(groups):
    score, effect, population = columns(groups)
    for increasing in (lambda s: 3 * s + 1, lambda s: s**3, np.exp, lambda s: np.log(s + 6)):
        assert uplift.auuc(increasing(score), effect, population) == uplift.auuc(score, effect, population)


@UNHURRIED
@given(GROUPS)
def test_no_ranking_beats_the_oracle_and_its_reverse_is_the_worst(groups):
    score, effect, population = columns(groups)
    normalised = uplift.auuc_normalised(score, effect, population)
    if np.isnan(normalised):
        assert np.ptp(effect) <= 1e-6
    else:
        assert -1 - 1e-6 <= normalised <= 1 + 1e-6
        assert uplift.auuc_normalised(effect, effect, population) == 1.0


@UNHURRIED
@given(GROUPS, st.integers(0, 29), st.floats(0.1, 0.9))
def test_splitting_a_group_in_two_changes_nothing(groups, which, share):
    score, effect, population = columns(groups)
    g = which % len(score)
    parts = np.append(population.astype(float), population[g] * share)
    parts[g] *= 1 - share
    split = uplift.auuc(np.append(score, score[g]), np.append(effect, effect[g]), parts)
    np.testing.assert_allclose(split, uplift.auuc(score, effect, population), **CLOSE)


@UNHURRIED
@given(GROUPS)
def test_a_score_that_knows_nothing_has_no_qini(groups):
    score, effect, population = columns(groups)
    np.testing.assert_allclose(uplift.qini(np.zeros_like(score), effect, population), 0, atol=1e-12)
