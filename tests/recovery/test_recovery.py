"""Known effects come back: a small night, trained in memory, against the simulator's exact truth.

Bounds leave room for another torch or thread count; at n = 20,000 the magnitude is still shrunk.
"""

from __future__ import annotations

import numpy as np
import pytest

from almmta_spark.config import ModelConfig, TrainingConfig
from tests.recovery import harness

pytestmark = pytest.mark.long

NUM_USERS = 20_000


@pytest.fixture(scope="module")
def hard() -> harness.Night:
    return harness.simulate("hard", NUM_USERS, seed=1)


def scores(night: harness.Night, variant: str, conf: ModelConfig | None = None) -> harness.Scores:
    fitted = harness.fit(night, variant, conf or ModelConfig(), TrainingConfig(), seed=0)
    return harness.score(harness.estimated_effects(fitted.model, night), night)


def test_latent_recovers_the_effects_of_the_default_world():
    found = scores(harness.simulate("default", NUM_USERS, seed=1), "latent")
    assert found.within_journey_spearman >= 0.85, found
    assert found.relative_rmse <= 0.47, found
    assert 0.65 <= found.magnitude_ratio <= 1.20, found


def test_latent_recovers_truth_where_backdoor_cannot(hard):
    latent, backdoor = scores(hard, "latent"), scores(hard, "backdoor")
    assert latent.within_journey_spearman >= 0.80, latent
    assert latent.relative_rmse <= 0.60, latent
    assert backdoor.relative_rmse >= 1.3 * latent.relative_rmse, (latent, backdoor)
    assert backdoor.within_journey_spearman <= latent.within_journey_spearman - 0.2, (latent, backdoor)


def test_a_placebo_that_reads_other_journeys_proxies_finds_next_to_nothing(hard):
    fitted = harness.fit(hard, "placebo_proxies", ModelConfig(), TrainingConfig(), seed=0)
    invented = harness.estimated_effects(fitted.model, hard)
    assert 0 < np.abs(invented).sum() < 0.1 * np.abs(hard.effects).sum()
