"""The compared methods against the exact effects: where theory says that they fail, they do.

Bounds leave room for another torch or thread count.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.long


@pytest.mark.parametrize("variant", ["balanced", "doubly_robust", "shapley_model"])
def test_adjusting_for_covariates_in_any_way_cannot_see_past_a_hidden_intent(variant, scores):
    """There the recommender serves intenders what does not inspire (back door: .14, .99)."""
    found = scores("hard", variant)
    assert found.within_journey_spearman <= 0.35, found
    assert found.relative_rmse >= 0.75, found


def test_an_adversary_against_the_outcome_takes_the_effect_out_of_the_mediator(scores):
    """METHOD section 2, fact 3: a true mediator causes Y."""
    without, strong = scores("default", "paper_lambda_0"), scores("default", "paper_lambda_5")
    assert without.within_journey_spearman >= 0.85, without
    assert strong.within_journey_spearman <= without.within_journey_spearman - 0.02, (without, strong)
    assert strong.relative_rmse >= without.relative_rmse + 0.08, (without, strong)
