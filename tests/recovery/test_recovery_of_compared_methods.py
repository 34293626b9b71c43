"""The compared methods against the exact effects: where theory says that they fail, they do.

Bounds leave room for another torch or thread count.
"""

from __future__ import annotations

import pytest

from almmta_spark.config import ModelConfig, TrainingConfig
from tests.recovery import harness

pytestmark = pytest.mark.long

NUM_USERS = 20_000


def scores(night: harness.Night, variant: str) -> harness.Scores:
    fitted = harness.fit(night, variant, ModelConfig(), TrainingConfig(), seed=0)
    return harness.score(harness.estimated_effects(fitted.model, night), night)


@pytest.fixture(scope="module")
def hard() -> harness.Night:
    return harness.simulate("hard", NUM_USERS, seed=1)


@pytest.mark.parametrize("variant", ["balanced", "doubly_robust", "shapley_model"])
def test_adjusting_for_covariates_in_any_way_cannot_see_past_a_hidden_intent(variant, hard):
    """There the recommender serves intenders what does not inspire (back door: .14, .99)."""
    found = scores(hard, variant)
    assert found.within_journey_spearman <= 0.35, found
    assert found.relative_rmse >= 0.75, found


def test_an_adversary_against_the_outcome_takes_the_effect_out_of_the_mediator():
    """METHOD section 2, fact 3: a true mediator causes Y."""
    night = harness.simulate("default", NUM_USERS, seed=1)
    without, strong = scores(night, "paper_lambda_0"), scores(night, "paper_lambda_5")
    assert without.within_journey_spearman >= 0.85, without
    assert strong.within_journey_spearman <= without.within_journey_spearman - 0.02, (without, strong)
    assert strong.relative_rmse >= without.relative_rmse + 0.08, (without, strong)
